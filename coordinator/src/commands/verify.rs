//! `verify`: reads everything that snapshots need back from storage, opens it and recomputes its keyed hashes.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::snapshot::VerifyArgs;
use crate::commands::on_storage::{CommandError, open_coordinator, open_host};
use crate::commands::opened_snapshot::SnapshotCommandError;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::snapshot::verification::{Verification, VerifiedSnapshot, verify};
use crate::terminal::{count_text, size_text, write_json};

use jiff::tz::TimeZone;

/// `verify HOST [SNAP]`.
pub async fn verify_command(
    args: &VerifyArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let coordinator = open_coordinator(config, args.from.destination.as_deref()).await?;
    let (name, opened) = open_host(&coordinator, &args.host).await?;
    let catalog = &opened.catalog;
    let is_all = args.snapshot.is_none();
    let rows = match &args.snapshot {
        Some(selector) => {
            let row = catalog.resolve(Some(&name), selector, &TimeZone::system());
            vec![row.map_err(CommandError::from)?]
        }
        None => catalog.snapshots(Some(&name)).map_err(CommandError::from)?,
    };
    let mut snapshots = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.id;
        let snapshot = catalog.needed_of(&row).map_err(CommandError::from)?;
        let snapshot =
            snapshot.ok_or_else(|| SnapshotCommandError::NoRecord { id: id.to_string() })?;
        snapshots.push(VerifiedSnapshot { id, snapshot });
    }
    let reader = coordinator.chunk_reader(&opened)?;
    let found = verify(&reader, &snapshots).await?;
    write_verification(&name, &found, json, out)?;
    if is_all && found.error_count == 0 && opened.log_problem.is_none() {
        let mut state = coordinator.state.lock().await;
        let noted = state.note_verified(&name, coordinator.clock.now());
        noted.map_err(CommandError::from)?;
    }
    coordinator.close().await;
    match opened.log_problem {
        Some(_) => Ok(ExitCode::Integrity), // There may be more.
        None => Ok(exit_code(&found)),
    }
}

/// The number to end with.
pub fn exit_code(found: &Verification) -> ExitCode {
    match found.error_count {
        0 => ExitCode::Ok,
        _ => ExitCode::Integrity,
    }
}

/// What `verify --json` prints.
#[derive(Debug, Serialize)]
struct VerifyJson<'a> {
    host: &'a str,
    outcome: &'static str,
    snapshots: u64,
    packs: u64,
    chunks: u64,
    bytes: u64,
    errors: &'a [String],
    error_count: u64,
}

/// Writes what was found.
pub fn write_verification(
    host: &str,
    found: &Verification,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let is_good = found.error_count == 0;
    if json {
        let value = VerifyJson {
            host,
            outcome: if is_good { "ok" } else { "failed" },
            snapshots: found.snapshots,
            packs: found.packs,
            chunks: found.chunks,
            bytes: found.bytes,
            errors: &found.errors,
            error_count: found.error_count,
        };
        return write_json(out, &value);
    }
    writeln!(
        out,
        "{host}: {} snapshots, {} packs, {} chunks, {} read back and recomputed: {}",
        count_text(found.snapshots),
        count_text(found.packs),
        count_text(found.chunks),
        size_text(found.bytes),
        if is_good { "all good" } else { "DAMAGED" },
    )?;
    for error in &found.errors {
        writeln!(out, "  {error}")?;
    }
    let listed = found.errors.len() as u64;
    if found.error_count > listed {
        writeln!(out, "  and {} more", count_text(found.error_count - listed))?;
    }
    Ok(())
}
