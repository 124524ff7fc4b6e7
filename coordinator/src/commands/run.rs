//! `run`: shows a run while it goes on, and what came of it. Decides nothing about the run itself: that is
//! `backup::run`.

pub mod by_daemon;
pub mod changes;
pub mod choose;
pub mod here;
pub mod live;
pub mod pace;
pub mod summary;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::backup::error::RunError;
use crate::backup::progress::Progress;
use crate::backup::report::RunReport;
use crate::backup::run::{RunOptions, run_host};
use crate::cli::GlobalArgs;
use crate::cli::run::RunArgs;
use crate::clock::Clock;
use crate::commands::run::here::{options, until_interrupted, within_window};
use crate::commands::run::live::{Display, watch};
use crate::commands::run::summary::{write_json_report, write_summary};
use crate::config::Config;
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::exit_code::ExitCode;
use crate::logging::Screen;

/// Backs a host up and presents the run, from unlocking the keys on.
pub async fn run_command(
    config: &Config,
    host: &Host,
    args: &RunArgs,
    clock: Arc<dyn Clock>,
    stop: &CancellationToken,
    presentation: Presentation<'_>,
) -> io::Result<ExitCode> {
    let progress = Arc::new(Progress::default());
    let options = options(host, args);
    let run = open_and_run(config, host, options, Arc::clone(&clock), &progress);
    let run = within_window(run, host, args, clock.as_ref(), &progress);
    let run = until_interrupted(run, stop, &progress);
    present_run(host.name.as_str(), run, &progress, presentation).await
}

/// One run with a coordinator opened for it alone.
pub async fn open_and_run(
    config: &Config,
    host: &Host,
    options: RunOptions,
    clock: Arc<dyn Clock>,
    progress: &Arc<Progress>,
) -> RunReport {
    let began = Instant::now();
    // Losing the opening is safe: nothing has begun.
    let opened = tokio::select! {
        opened = Coordinator::open(config.clone(), clock) => opened.map_err(RunError::from),
        why = progress.stopped() => Err(why.into()),
    };
    match opened {
        Ok(coordinator) => {
            let report = run_host(&coordinator, host, options, progress).await;
            coordinator.close().await;
            report
        }
        Err(error) => RunReport {
            host: host.name.to_string(),
            result: Err(error),
            duration: began.elapsed(),
            transport: None,
            agent_memory: 0,
            agent_cpu: Duration::ZERO,
            left_behind: Vec::new(),
            warnings: Vec::new(),
        },
    }
}

/// Where a run is shown.
pub struct Presentation<'a> {
    /// How much, and in which form.
    pub global: &'a GlobalArgs,
    /// Where progress is drawn.
    pub screen: &'a Screen,
    /// Gets the result.
    pub out: &'a mut (dyn Write + Send),
    /// Gets what is wrong.
    pub errors: &'a mut (dyn Write + Send),
}

/// Watches a run to its end, writes what came of it, and gives the number to end with.
pub async fn present_run(
    host: &str,
    run: impl Future<Output = RunReport>,
    progress: &Progress,
    presentation: Presentation<'_>,
) -> io::Result<ExitCode> {
    let Presentation {
        global,
        screen,
        out,
        errors,
    } = presentation;
    let report = watch(run, progress, Display::choose(global, screen, host)).await;
    let counts = progress.counts();
    if global.json {
        write_json_report(&report, &counts, out)?;
    }
    write_summary(&report, &counts, global, out, errors)?;
    Ok(report.exit_code())
}

#[cfg(test)]
mod tests;
