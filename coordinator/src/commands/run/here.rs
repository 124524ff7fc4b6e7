//! `run` of several hosts in this process: as many at once as the configuration says, and one of each concurrency key.

use std::io::{self, Write};
use std::sync::Arc;

use jiff::SignedDuration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backup::progress::{Counts, Progress, Stop};
use crate::backup::report::RunReport;
use crate::backup::run::{RunOptions, run_host};
use crate::backup::threaded::spawn;
use crate::cli::GlobalArgs;
use crate::cli::run::RunArgs;
use crate::clock::{Clock, utc};
use crate::commands::run::by_daemon::{refused_json, write_all_json};
use crate::commands::run::live::{Display, watch};
use crate::commands::run::summary::{result_json, write_summary};
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::exit_code::ExitCode;
use crate::logging::Screen;
use crate::schedule::outlook::Record;
use crate::schedule::roster::{Asked, Roster};
use crate::schedule::timing::Timing;

/// Backs the hosts up, and writes what became of each; gives the number to end with.
pub async fn run_hosts(
    coordinator: Coordinator,
    hosts: Vec<Host>,
    args: &RunArgs,
    stop: &CancellationToken,
    global: &GlobalArgs,
    screen: &Screen,
    out: &mut (dyn Write + Send),
) -> io::Result<ExitCode> {
    let coordinator = Arc::new(coordinator);
    let clock = Arc::clone(&coordinator.clock);
    let now = clock.now();
    let parallel = coordinator.config.limits.max_parallel;
    let mut roster = Roster::new(usize::try_from(parallel).unwrap_or(usize::MAX));
    let (mut all, mut worst) = (Vec::new(), ExitCode::Ok);
    for host in &hosts {
        if let Some(why) = closed(host, args, clock.as_ref()) {
            screen.tell(&why);
            worst = worst.worse(ExitCode::Error);
            all.push(refused_json(host.name.as_str(), &why));
            continue;
        }
        // By hand: of its timing, the key alone counts.
        let timing = Timing {
            calendar: None,
            ..host.timing.clone()
        };
        let name = host.name.to_string();
        roster.put(&name, timing, Record::new(now));
        roster.ask(Asked {
            host: name,
            first: false,
        });
    }
    let mut tasks = JoinSet::new();
    loop {
        // Once interrupted, those that go on end, and no other begins.
        let due = match stop.is_cancelled() {
            true => Vec::new(),
            false => roster.poll_asked(clock.now()),
        };
        for name in due {
            if let Some(host) = hosts.iter().find(|host| host.name.as_str() == name) {
                let (coordinator, host, args) =
                    (Arc::clone(&coordinator), host.clone(), args.clone());
                let (display, stop) = (Display::choose(global, screen, &name), stop.clone());
                spawn(&mut tasks, move || {
                    run_one(coordinator, host, args, stop, display)
                });
            }
        }
        let Some(joined) = tasks.join_next().await else {
            break;
        };
        let (report, counts) = joined.map_err(io::Error::other)?;
        roster.ended(&report.host, None, None, clock.now());
        worst = worst.worse(report.exit_code());
        all.push(result_json(&report, &counts));
        screen
            .bars()
            .suspend(|| write_summary(&report, &counts, global, out, &mut io::stderr()))?;
    }
    write_all_json(all, false, global, out)?;
    if let Some(coordinator) = Arc::into_inner(coordinator) {
        coordinator.close().await;
    }
    Ok(worst)
}

/// Why a host may not be backed up now, unless it is asked for all the same.
pub fn closed(host: &Host, args: &RunArgs, clock: &dyn Clock) -> Option<String> {
    let now = clock.now();
    if args.outside_window || host.timing.is_open(now) {
        return None;
    }
    let opens = host.timing.opens(now).map(utc).unwrap_or_default();
    Some(format!(
        "the window of {} is closed until {opens}: use --outside-window to run it all the same",
        host.name
    ))
}

/// What is asked of a run by hand.
pub fn options(host: &Host, args: &RunArgs) -> RunOptions {
    RunOptions {
        full_read: args.full_read,
        outside_window: args.outside_window && host.timing.window.is_some(),
        ..RunOptions::default()
    }
}

/// A run that is asked to stop when its host's window closes.
pub async fn within_window<T>(
    run: impl Future<Output = T>,
    host: &Host,
    args: &RunArgs,
    clock: &dyn Clock,
    progress: &Progress,
) -> T {
    let closes = host.timing.closes(clock.now());
    let Some(closes) = closes.filter(|_| !args.outside_window) else {
        return run.await;
    };
    let left = closes.duration_since(clock.now()).max(SignedDuration::ZERO);
    let mut run = std::pin::pin!(run);
    // Losing the timer is safe: it only matters while the run goes on.
    tokio::select! {
        result = &mut run => return result,
        () = tokio::time::sleep(left.unsigned_abs()) => progress.ask_to_stop(Stop::WindowClosed),
    }
    run.await
}

/// A run that is asked to stop when whoever started it has had enough. It is waited for: what its host's hooks are promised
/// is done then.
pub async fn until_interrupted<T>(
    run: impl Future<Output = T>,
    stop: &CancellationToken,
    progress: &Progress,
) -> T {
    let mut run = std::pin::pin!(run);
    // Losing the token's arm is safe: it only matters while the run goes on.
    tokio::select! {
        result = &mut run => return result,
        () = stop.cancelled() => progress.ask_to_stop(Stop::Cancelled),
    }
    run.await
}

async fn run_one(
    coordinator: Arc<Coordinator>,
    host: Host,
    args: RunArgs,
    stop: CancellationToken,
    display: Display,
) -> (RunReport, Counts) {
    let progress = Arc::new(Progress::default());
    let clock = Arc::clone(&coordinator.clock);
    let options = options(&host, &args);
    let run = run_host(&coordinator, &host, options, &progress);
    let run = within_window(run, &host, &args, clock.as_ref(), &progress);
    let run = until_interrupted(run, &stop, &progress);
    let report = watch(run, &progress, display).await;
    (report, progress.counts())
}
