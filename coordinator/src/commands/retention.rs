//! `prune`, `forget`, `undelete` and `pin`: shows what is planned, asks, has it done, and tells what came of it. Decides nothing
//! of its own.

use std::io::{self, BufRead as _, IsTerminal as _, Write};

use serde::Serialize;

use crate::catalog::thinning::Dropped;
use crate::cli::retention::{ForgetArgs, PinCommand, PruneArgs, UndeleteArgs};
use crate::clock::{Clock as _, SystemClock, utc};
use crate::commands::hosts_meant::hosts_meant;
use crate::commands::on_storage::{CommandError, open_coordinator};
use crate::config::Config;
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::exit_code::ExitCode;
use crate::retention::acts::{ActError, forget, pin, undelete};
use crate::retention::brakes::Force;
use crate::retention::error::PruneError;
use crate::retention::kept_at::{KeepingPlace, only_at};
use crate::retention::lock::RepositoryLockError;
use crate::retention::prune::{PruneOptions, prune_host};
use crate::retention::report::{KeptThere, Packs, PruneReport};
use crate::retention::simulate::{Simulated, Simulation, SimulationError, simulate};
use crate::retention::thin::places_of;
use crate::terminal::{Align, count_text, error_line, size_text, write_json, write_table};

/// A command of retention failed.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The coordinator, or no such host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A prune.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// Another act.
    #[error(transparent)]
    Act(#[from] ActError),
    /// The repository's lock.
    #[error(transparent)]
    Lock(#[from] RepositoryLockError),
    /// A simulation.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A host without rules.
    #[error("host {host} has no keep rules to simulate: set keep in {file}")]
    NoRules {
        /// The host.
        host: String,
        /// Where it is defined.
        file: String,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl RetentionError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Command(error) => error.exit_code(),
            Self::Prune(error) => error.exit_code(),
            Self::Act(error) => error.exit_code(),
            Self::Lock(error) if error.is_held() => ExitCode::Locked,
            _ => ExitCode::Error,
        }
    }
}

/// `prune [HOST…]`.
pub async fn prune_command(
    args: &PruneArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RetentionError> {
    let hosts: Vec<Host> = match args.all {
        true => config
            .hosts
            .values()
            .filter(|host| host.keep.is_some())
            .cloned()
            .collect(),
        false => hosts_meant(&args.hosts, &config)?
            .into_iter()
            .cloned()
            .collect(),
    };
    if args.simulate.is_some() {
        return simulate_hosts(args, &config, &hosts, json, out);
    }
    let coordinator = open_coordinator(config, None).await?;
    let mut reports = Vec::new();
    let mut worst = ExitCode::Ok;
    for host in &hosts {
        match prune_one(args, &coordinator, host, json, out).await {
            Ok(report) => {
                if report.refused.is_some() {
                    worst = worst.max(ExitCode::Error);
                }
                reports.push(report);
            }
            // The others are pruned all the same.
            Err(error) if hosts.len() > 1 => {
                worst = worst.max(error.exit_code());
                let mut report = PruneReport {
                    host: host.name.to_string(),
                    repository: host.repository.to_string(),
                    ..PruneReport::default()
                };
                report.refused = Some(error_line(&error));
                if !json {
                    write_report(&report, out)?;
                }
                reports.push(report);
            }
            Err(error) => return Err(error),
        }
    }
    if json {
        write_json(out, &reports)?;
    }
    coordinator.close().await;
    Ok(worst)
}

async fn prune_one(
    args: &PruneArgs,
    coordinator: &Coordinator,
    host: &Host,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<PruneReport, RetentionError> {
    let force = Force {
        shrink: args.force_shrink,
        clock: args.force_clock,
    };
    let show = PruneOptions {
        execute: false,
        force,
    };
    let execute = PruneOptions {
        execute: true,
        force,
    };
    if args.yes {
        let report = prune_host(coordinator, host, execute).await?;
        if !json {
            write_report(&report, out)?;
        }
        return Ok(report);
    }
    let planned = prune_host(coordinator, host, show).await?;
    if !json {
        write_report(&planned, out)?;
    }
    let asks = !args.dry_run && !json && planned.refused.is_none() && io::stdin().is_terminal();
    if !asks || !confirmed(out)? {
        return Ok(planned);
    }
    let report = prune_host(coordinator, host, execute).await?;
    write_outcome(&report, out)?;
    Ok(report)
}

fn confirmed(out: &mut dyn Write) -> io::Result<bool> {
    write!(out, "do it? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn write_report(report: &PruneReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} snapshots, {} are kept, {} forgotten",
        report.host,
        count_text(report.snapshots.len() as u64),
        count_text(report.snapshots.len() as u64 - report.forgotten),
        count_text(report.forgotten)
    )?;
    let columns = [
        ("snapshot", Align::Left),
        ("time", Align::Left),
        ("", Align::Left),
        ("reason", Align::Left),
    ];
    let rows: Vec<Vec<String>> = report
        .snapshots
        .iter()
        .map(|snapshot| {
            let mut reasons = snapshot.reasons.join(", ");
            if !snapshot.counts {
                reasons.push_str(" (does not count)");
            }
            if snapshot.kept && !snapshot.kept_at.is_empty() {
                reasons.push_str(&format!("; only at {}", snapshot.kept_at.join(", ")));
            }
            vec![
                snapshot.id.chars().take(8).collect(),
                snapshot.local_time.clone(),
                if snapshot.kept { "keep" } else { "forget" }.to_owned(),
                reasons.trim_start().to_owned(),
            ]
        })
        .collect();
    write_table(out, &columns, &rows)?;
    write_outcome(report, out)
}

fn packs_text(packs: Packs) -> String {
    format!(
        "{} packs, {}",
        count_text(packs.packs),
        size_text(packs.bytes)
    )
}

fn write_outcome(report: &PruneReport, out: &mut dyn Write) -> io::Result<()> {
    if let Some(refused) = &report.refused {
        writeln!(out, "  refused: {refused}")?;
    }
    let lines = [
        ("needed by nothing", report.dead),
        ("written anew without what is dead in them", report.repacked),
        ("of runs that died, known to nobody", report.orphans),
        ("condemned now", report.condemned),
        ("written for that", report.written),
        ("condemned earlier", report.waiting),
        ("old enough to be removed", report.ripe),
        ("copies removed", report.removed),
    ];
    for (what, packs) in lines.iter().filter(|(_, packs)| packs.packs > 0) {
        writeln!(out, "  {what}: {}", packs_text(*packs))?;
    }
    for there in &report.destinations {
        write_kept_there(there, out)?;
    }
    if report.put_off > 0 {
        let packs = count_text(report.put_off);
        writeln!(out, "  put off by the append-server: {packs} packs")?;
    }
    for still in &report.still_there {
        let why = still.problem.as_deref().unwrap_or("its time has not come");
        writeln!(
            out,
            "  still at {}: {} ({why})",
            still.destination,
            packs_text(still.packs)
        )?;
    }
    if report.uploads_aborted > 0 {
        writeln!(
            out,
            "  unfinished uploads ended: {}",
            count_text(report.uploads_aborted)
        )?;
    }
    for note in &report.notes {
        writeln!(out, "  {note}")?;
    }
    Ok(())
}

fn write_kept_there(there: &KeptThere, out: &mut dyn Write) -> io::Result<()> {
    let rules = there.keep.as_deref().unwrap_or("the host's rules");
    write!(
        out,
        "  {} keeps {} snapshots by {rules}",
        there.destination,
        count_text(there.snapshots)
    )?;
    if there.dropped > 0 {
        write!(out, "; {} are dropped there", count_text(there.dropped))?;
    }
    let lines = [
        ("needed by nothing there", there.dead),
        ("condemned there earlier", there.waiting),
        ("old enough to be removed", there.ripe),
    ];
    for (what, packs) in lines.iter().filter(|(_, packs)| packs.packs > 0) {
        write!(out, "; {what}: {}", packs_text(*packs))?;
    }
    writeln!(out)
}

/// One element of what `prune --simulate --json` prints.
#[derive(Debug, Serialize)]
struct SimulatedJson {
    host: String,
    runs: u64,
    most: usize,
    until: String,
    left: Vec<SimulatedSnapshot>,
}

#[derive(Debug, Serialize)]
struct SimulatedSnapshot {
    time: String,
    reasons: Vec<String>,
    /// Where it is kept, where not at all of the host's destinations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept_at: Vec<String>,
}

fn simulate_hosts(
    args: &PruneArgs,
    config: &Config,
    hosts: &[Host],
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RetentionError> {
    let mut all = Vec::new();
    for host in hosts {
        let keep = host.keep.filter(|keep| !keep.is_empty());
        keep.ok_or_else(|| RetentionError::NoRules {
            host: host.name.to_string(),
            file: host.defined_at.file.display().to_string(),
        })?;
        let places = places_of(config, host, &Dropped::new());
        let simulated = simulate(&Simulation {
            places: places.clone(),
            floor: host.keep_floor,
            zone: config.prune.timezone.zone(),
            from: SystemClock.now(),
            span: args.simulate.unwrap_or(args.every),
            every: args.every,
        })?;
        if !json {
            write_simulated(host, &simulated, &places, out)?;
        }
        all.push(simulated_json(host, &simulated, &places));
    }
    if json {
        write_json(out, &all)?;
    }
    Ok(ExitCode::Ok)
}

fn simulated_json(host: &Host, simulated: &Simulated, places: &[KeepingPlace]) -> SimulatedJson {
    let left = simulated.left.iter().map(|kept| SimulatedSnapshot {
        time: utc(kept.candidate.at),
        reasons: kept.reasons.clone(),
        kept_at: only_at(kept, places),
    });
    SimulatedJson {
        host: host.name.to_string(),
        runs: simulated.runs,
        most: simulated.most,
        until: utc(simulated.until),
        left: left.collect(),
    }
}

fn write_simulated(
    host: &Host,
    simulated: &Simulated,
    places: &[KeepingPlace],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(
        out,
        "{}: after {} runs {} snapshots are left, and there were never more than {}",
        host.name,
        count_text(simulated.runs),
        count_text(simulated.left.len() as u64),
        count_text(simulated.most as u64)
    )?;
    let columns = [("time", Align::Left), ("reason", Align::Left)];
    let rows: Vec<Vec<String>> = simulated
        .left
        .iter()
        .map(|kept| {
            let mut reasons = kept.reasons.join(", ");
            let only = only_at(kept, places);
            if !only.is_empty() {
                reasons.push_str(&format!("; only at {}", only.join(", ")));
            }
            vec![utc(kept.candidate.at), reasons]
        })
        .collect();
    write_table(out, &columns, &rows)?;
    for place in places.iter().filter(|place| place.has_own) {
        let left = simulated.left.iter();
        let there = left.filter(|kept| kept.at.contains(&place.name)).count();
        let there = count_text(there as u64);
        writeln!(out, "  {there} of them at {}", place.name)?;
    }
    Ok(())
}

/// `forget HOST SNAP`.
pub async fn forget_command(
    args: &ForgetArgs,
    config: Config,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RetentionError> {
    let host = config.host(&args.host).map_err(CommandError::from)?.clone();
    let coordinator = open_coordinator(config, None).await?;
    let zone = jiff::tz::TimeZone::system();
    let row = forget(&coordinator, &host, &args.snapshot, &zone).await?;
    writeln!(
        out,
        "forgot snapshot {} of {}; `coordinator undelete {} {}` brings it back while its packs are there",
        row.id.short(),
        utc(row.started),
        host.name,
        row.id.short()
    )?;
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// `undelete HOST [SNAP]`.
pub async fn undelete_command(
    args: &UndeleteArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RetentionError> {
    let host = config.host(&args.host).map_err(CommandError::from)?.clone();
    let coordinator = open_coordinator(config, None).await?;
    let zone = jiff::tz::TimeZone::system();
    let rows = undelete(&coordinator, &host, args.snapshot.as_ref(), &zone).await?;
    if json {
        let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
        write_json(out, &ids)?;
    } else {
        for row in &rows {
            writeln!(
                out,
                "snapshot {} of {} is back",
                row.id.short(),
                utc(row.started)
            )?;
        }
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// One element of what `pin ls --json` prints.
#[derive(Debug, Serialize)]
struct PinJson {
    host: String,
    snapshot: String,
    time: String,
    since: String,
    reason: String,
}

/// `pin add | rm | ls`.
pub async fn pin_command(
    command: &PinCommand,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RetentionError> {
    let (host, selector, reason) = match command {
        PinCommand::Ls(args) => return pin_ls(args.host.as_deref(), config, json, out).await,
        PinCommand::Add(args) => (&args.host, &args.snapshot, Some(args.reason.as_str())),
        PinCommand::Rm(args) => (&args.host, &args.snapshot, None),
    };
    let host = config.host(host).map_err(CommandError::from)?.clone();
    let coordinator = open_coordinator(config, None).await?;
    let zone = jiff::tz::TimeZone::system();
    let row = pin(&coordinator, &host, selector, &zone, reason).await?;
    let what = match reason {
        Some(_) => "is pinned",
        None => "is not pinned any more",
    };
    writeln!(
        out,
        "snapshot {} of {} {what}",
        row.id.short(),
        utc(row.started)
    )?;
    coordinator.close().await;
    Ok(ExitCode::Ok)
}

async fn pin_ls(
    only: Option<&str>,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RetentionError> {
    let hosts: Vec<Host> = match only {
        Some(name) => vec![config.host(name).map_err(CommandError::from)?.clone()],
        None => config.hosts.values().cloned().collect(),
    };
    let coordinator = open_coordinator(config, None).await?;
    let mut pins = Vec::new();
    for host in &hosts {
        let opened = coordinator.find(host).await.map_err(CommandError::from)?;
        let Some(opened) = opened else { continue };
        let name = host.name.to_string();
        let catalog = &opened.catalog;
        let rows = catalog.snapshots(Some(&name)).map_err(CommandError::from)?;
        for pin in catalog.pinned().map_err(CommandError::from)? {
            if let Some(row) = rows.iter().find(|row| row.id == pin.snapshot) {
                pins.push(PinJson {
                    host: name.clone(),
                    snapshot: row.id.to_string(),
                    time: utc(row.started),
                    since: utc(pin.at),
                    reason: pin.reason,
                });
            }
        }
    }
    if json {
        write_json(out, &pins)?;
    } else {
        let columns = [
            ("host", Align::Left),
            ("snapshot", Align::Left),
            ("time", Align::Left),
            ("pinned since", Align::Left),
            ("reason", Align::Left),
        ];
        let rows: Vec<Vec<String>> = pins
            .into_iter()
            .map(|pin| {
                let short = pin.snapshot.chars().take(8).collect();
                vec![pin.host, short, pin.time, pin.since, pin.reason]
            })
            .collect();
        write_table(out, &columns, &rows)?;
    }
    coordinator.close().await;
    Ok(ExitCode::Ok)
}
