//! `verify`: reads everything that snapshots need back from storage, opens it and recomputes its keyed hashes.

use std::io::{self, Write};

use serde::Serialize;

use crate::catalog::selector::Selector;
use crate::cli::snapshot::VerifyArgs;
use crate::commands::hosts_meant::{hosts_meant, is_pattern};
use crate::commands::on_storage::{CommandError, open_coordinator, open_host};
use crate::commands::opened_snapshot::SnapshotCommandError;
use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::exit_code::ExitCode;
use crate::snapshot::verification::{Verification, VerifiedSnapshot, verify};
use crate::terminal::{count_text, error_line, size_text, write_json};

use jiff::tz::TimeZone;

/// `verify HOST [SNAP]`.
pub async fn verify_command(
    args: &VerifyArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let hosts = hosts_meant(std::slice::from_ref(&args.host), &config)?;
    let hosts: Vec<String> = hosts.iter().map(|host| host.name.to_string()).collect();
    let coordinator = open_coordinator(config, args.from.destination.as_deref()).await?;
    if !is_pattern(&args.host) {
        let (found, code) = verify_host(&coordinator, &args.host, args.snapshot.as_ref()).await?;
        write_verification(&args.host, &found, json, out)?;
        coordinator.close().await;
        return Ok(code);
    }
    let (mut values, mut worst) = (Vec::new(), ExitCode::Ok);
    for host in &hosts {
        let verified = verify_host(&coordinator, host, args.snapshot.as_ref()).await;
        // The others are verified all the same.
        let (found, code) = match verified {
            Ok(verified) => verified,
            Err(error) => (not_verified(&error), error.exit_code()),
        };
        worst = worst.worse(code);
        match (json, found.snapshots, found.errors.first()) {
            (true, ..) => values.push(found),
            (false, 0, Some(error)) => writeln!(out, "{host}: not verified: {error}")?,
            (false, ..) => write_verification(host, &found, false, out)?,
        }
    }
    if json {
        let values = hosts.iter().zip(&values);
        let values: Vec<_> = values
            .map(|(host, found)| VerifyJson::of(host, found))
            .collect();
        write_json(out, &values)?;
    }
    coordinator.close().await;
    Ok(worst)
}

/// What was found of one host, and the number that it ends with.
async fn verify_host(
    coordinator: &Coordinator,
    host: &str,
    selector: Option<&Selector>,
) -> Result<(Verification, ExitCode), SnapshotCommandError> {
    let (name, opened) = open_host(coordinator, host).await?;
    let catalog = &opened.catalog;
    let rows = match selector {
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
    if selector.is_none() && found.error_count == 0 && opened.log_problem.is_none() {
        let mut state = coordinator.state.lock().await;
        let noted = state.note_verified(&name, coordinator.clock.now());
        noted.map_err(CommandError::from)?;
    }
    let code = match opened.log_problem {
        Some(_) => ExitCode::Integrity, // There may be more.
        None => exit_code(&found),
    };
    Ok((found, code))
}

/// Nothing was looked at, and this is why.
fn not_verified(error: &SnapshotCommandError) -> Verification {
    Verification {
        errors: vec![error_line(error)],
        error_count: 1,
        ..Verification::default()
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

impl<'a> VerifyJson<'a> {
    fn of(host: &'a str, found: &'a Verification) -> Self {
        Self {
            host,
            outcome: if found.error_count == 0 {
                "ok"
            } else {
                "failed"
            },
            snapshots: found.snapshots,
            packs: found.packs,
            chunks: found.chunks,
            bytes: found.bytes,
            errors: &found.errors,
            error_count: found.error_count,
        }
    }
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
        return write_json(out, &VerifyJson::of(host, found));
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
