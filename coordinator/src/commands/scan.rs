//! `scan`: looks at every destination, heals, prolongs locks, and tells what was found.

use std::io::{self, Write};

use append_server::destination::DestinationName;
use serde::Serialize;

use crate::cli::scan::ScanArgs;
use crate::commands::on_storage::{CommandError, open_coordinator};
use crate::config::Config;
use crate::coordinator::{Coordinator, OpenError};
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::scan::{
    Depth, DestinationScan, RepositoryScan, ScanOptions, ScanState, scan_repository,
};
use crate::storage::error::StorageError;
use crate::terminal::{Align, count_text, error_line, size_text, write_json, write_table};

/// `scan` failed.
#[derive(Debug, thiserror::Error)]
pub enum ScanCommandError {
    /// The coordinator, or no such host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The append-server.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The append-server has none, or is of another version.
    #[error("the append-server tells of no destination: is it of the same version?")]
    NoDestination,
    /// The state, or what was read before.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// No such destination.
    #[error("there is no destination {name:?}: there are {known}")]
    NoSuchDestination {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl ScanCommandError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Command(error) => error.exit_code(),
            Self::NoSuchDestination { .. } => ExitCode::NotFound,
            _ => ExitCode::Error,
        }
    }
}

/// `scan [HOST]`.
pub async fn scan_command(
    args: &ScanArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, ScanCommandError> {
    let coordinator = open_coordinator(config, None).await?;
    let names = repositories(&coordinator, args.host.as_deref()).await?;
    let destinations = destinations(&coordinator, args.destination.as_deref()).await?;
    let options = options(args);
    let mut state = ScanState::open(&coordinator.state_dir.scan_file())?;
    let mut scans = Vec::new();
    for name in names {
        let found = scan_repository(&coordinator, &name, &destinations, options, &mut state).await;
        match found {
            Ok(found) => scans.extend(found),
            // The others are scanned, and told of, all the same.
            Err(error) => scans.push(RepositoryScan {
                error: Some(error_line(&error)),
                is_integrity: error.is_integrity(),
                name,
                ..RepositoryScan::default()
            }),
        }
    }
    let told = scans.iter().flat_map(RepositoryScan::events);
    told.for_each(|event| coordinator.events.tell(event));
    if json {
        let lines: Vec<_> = scans.iter().map(RepositoryJson::of).collect();
        write_json(out, &lines)?;
    } else if scans.is_empty() {
        writeln!(out, "nothing to scan: nothing was backed up yet")?;
    } else {
        for scan in &scans {
            write_scan(scan, out)?;
        }
    }
    coordinator.close().await;
    Ok(exit_code(&scans))
}

fn options(args: &ScanArgs) -> ScanOptions {
    let depth = match (args.full, args.percent, args.new) {
        (true, _, _) => Depth::Whole,
        (_, Some(percent), _) => Depth::Percent(percent),
        (_, _, true) => Depth::New,
        _ => Depth::Names,
    };
    ScanOptions {
        depth,
        verify: args.verify,
        repair: args.repair,
        extend_locks: args.extend_locks,
        locks_max: args.locks_max,
        budget_bytes: args.budget.map(|size| size.bytes()),
    }
}

async fn repositories(
    coordinator: &Coordinator,
    host: Option<&str>,
) -> Result<Vec<String>, ScanCommandError> {
    let known = coordinator.state.lock().await.repositories()?;
    let Some(host) = host else {
        return Ok(known.into_iter().map(|known| known.name).collect());
    };
    let host = coordinator.config.host(host).map_err(CommandError::from)?;
    let name = host.repository.to_string();
    if !known.iter().any(|known| known.name == name) {
        let host = host.name.to_string();
        return Err(CommandError::from(OpenError::NoRepository { host }).into());
    }
    Ok(vec![name])
}

async fn destinations(
    coordinator: &Coordinator,
    only: Option<&str>,
) -> Result<Vec<DestinationName>, ScanCommandError> {
    let all = coordinator.storage.destination_names();
    if all.is_empty() {
        // Not told when it was asked: the reason is.
        coordinator.storage.destinations().await?;
        return Err(ScanCommandError::NoDestination);
    }
    let Some(only) = only else {
        return Ok(all.to_vec());
    };
    let found = all.iter().find(|name| name.to_string() == only).cloned();
    found.map(|name| vec![name]).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(ToString::to_string).collect();
        ScanCommandError::NoSuchDestination {
            name: only.to_owned(),
            known: names.join(", "),
        }
    })
}

/// The number to end with: what is damaged outweighs what could not be looked at, and that what was healed.
fn exit_code(scans: &[RepositoryScan]) -> ExitCode {
    if scans.iter().any(RepositoryScan::is_damaged) {
        ExitCode::Integrity
    } else if scans.iter().any(RepositoryScan::is_incomplete) {
        ExitCode::Error
    } else if scans.iter().any(RepositoryScan::was_healed) {
        ExitCode::Warnings
    } else {
        ExitCode::Ok
    }
}

/// One element of what `scan --json` prints.
#[derive(Debug, Serialize)]
struct RepositoryJson<'a> {
    repository: &'a str,
    outcome: &'static str,
    problems: &'a [String],
    destinations: &'a [DestinationScan],
    snapshots_checked: u64,
    lost: &'a [String],
    found_again: &'a [String],
    lost_files: &'a [String],
    lost_file_count: u64,
    error: Option<&'a str>,
}

impl<'a> RepositoryJson<'a> {
    fn of(scan: &'a RepositoryScan) -> Self {
        Self {
            repository: &scan.name,
            outcome: outcome(scan),
            problems: &scan.problems,
            destinations: &scan.destinations,
            snapshots_checked: scan.snapshots_checked,
            lost: &scan.lost,
            found_again: &scan.found_again,
            lost_files: &scan.lost_files,
            lost_file_count: scan.lost_file_count,
            error: scan.error.as_deref(),
        }
    }
}

fn outcome(scan: &RepositoryScan) -> &'static str {
    if scan.is_damaged() {
        "damaged"
    } else if scan.is_incomplete() {
        "incomplete"
    } else if scan.was_healed() {
        "healed"
    } else {
        "ok"
    }
}

fn write_scan(scan: &RepositoryScan, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{}: {}; {} snapshots looked through",
        scan.name,
        outcome(scan),
        count_text(scan.snapshots_checked)
    )?;
    let heads = [
        "destination",
        "objects",
        "read",
        "bytes",
        "missing",
        "damaged",
        "healed",
        "on its way",
        "unknown",
        "locks",
    ];
    let aligned = |(place, head)| match place {
        0 => (head, Align::Left),
        _ => (head, Align::Right),
    };
    let columns: Vec<_> = heads.into_iter().enumerate().map(aligned).collect();
    let rows: Vec<_> = scan.destinations.iter().map(row).collect();
    write_table(out, &columns, &rows)?;
    for problem in scan.problems.iter().chain(&scan.error) {
        writeln!(out, "  {problem}")?;
    }
    for here in &scan.destinations {
        for problem in here.problems.iter().chain(&here.error) {
            writeln!(out, "  {}: {problem}", here.name)?;
        }
        for line in about_locks(here) {
            writeln!(out, "  {}: {line}", here.name)?;
        }
    }
    for lost in &scan.lost {
        writeln!(out, "  lost everywhere: {lost}")?;
    }
    for found in &scan.found_again {
        writeln!(out, "  was lost, and is there again: {found}")?;
    }
    for file in &scan.lost_files {
        writeln!(out, "  cannot be restored: {file}")?;
    }
    let listed = scan.lost_files.len() as u64;
    if scan.lost_file_count > listed {
        writeln!(
            out,
            "  and {} more",
            count_text(scan.lost_file_count - listed)
        )?;
    }
    Ok(())
}

/// What there is to say of locks besides how many were prolonged.
fn about_locks(here: &DestinationScan) -> Vec<String> {
    let mut lines = Vec::new();
    if here.locks_at_limit > 0 {
        lines.push(format!(
            "{} locks reach as far as lock_max allows, and their objects are still needed: whoever may remove objects can \
             remove them when they end; a larger lock_max prolongs them",
            count_text(here.locks_at_limit)
        ));
    }
    if here.locks_longer > 0 {
        lines.push(format!(
            "{} locks are longer than `retain` makes them: another program prolonged them, or `retain` was longer once",
            count_text(here.locks_longer)
        ));
    }
    if here.locks_held > 0 {
        lines.push(format!(
            "{} objects are under a legal hold besides, and stay until a person lifts it",
            count_text(here.locks_held)
        ));
    }
    if here.locks_left {
        lines.push(format!(
            "{} locks were looked at; the next scan goes on there",
            count_text(here.locks_seen)
        ));
    }
    lines
}

fn row(here: &DestinationScan) -> Vec<String> {
    if here.not_kept {
        return vec![here.name.clone(), "not kept there".to_owned()];
    }
    vec![
        here.name.clone(),
        count_text(here.objects),
        count_text(here.read),
        size_text(here.bytes_read),
        count_text(here.missing),
        count_text(here.damaged),
        count_text(here.healed),
        count_text(here.pending),
        count_text(here.unknown),
        count_text(here.locks_renewed),
    ]
}
