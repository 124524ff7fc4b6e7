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
        let found = verify_host(&coordinator, &args.host, args.snapshot.as_ref()).await?;
        let outcome = HostOutcome::Read(found);
        match json {
            true => write_json(out, &VerifyJson::of(&args.host, &outcome))?,
            false => write_outcome(&args.host, &outcome, out)?,
        }
        coordinator.close().await;
        return Ok(outcome.exit_code());
    }
    let (mut outcomes, mut worst) = (Vec::new(), ExitCode::Ok);
    for host in hosts {
        // The others are verified all the same.
        let outcome = match verify_host(&coordinator, &host, args.snapshot.as_ref()).await {
            Ok(found) => HostOutcome::Read(found),
            Err(error) => HostOutcome::NotVerified(error),
        };
        worst = worst.worse(outcome.exit_code());
        match json {
            true => outcomes.push((host, outcome)),
            false => write_outcome(&host, &outcome, out)?,
        }
    }
    if json {
        let outcomes = outcomes.iter();
        let values: Vec<_> = outcomes
            .map(|(host, outcome)| VerifyJson::of(host, outcome))
            .collect();
        write_json(out, &values)?;
    }
    coordinator.close().await;
    Ok(worst)
}

/// What came of a host.
#[derive(Debug)]
enum HostOutcome {
    /// Its snapshots were read back, and this was found.
    Read(Verification),
    /// Nothing was looked at, and this is why.
    NotVerified(SnapshotCommandError),
}

impl HostOutcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Read(found) if found.error_count == 0 => "ok",
            Self::Read(_) => "failed",
            Self::NotVerified(_) => "not_verified",
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read(found) if found.error_count == 0 => ExitCode::Ok,
            Self::Read(_) => ExitCode::Integrity,
            Self::NotVerified(error) => error.exit_code(),
        }
    }
}

/// What was found of one host.
async fn verify_host(
    coordinator: &Coordinator,
    host: &str,
    selector: Option<&Selector>,
) -> Result<Verification, SnapshotCommandError> {
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
    let mut elsewhere = 0;
    for row in rows {
        let id = row.id;
        let read = coordinator.is_kept_elsewhere(&opened, id);
        match (read.map_err(CommandError::from)?, selector) {
            (None, _) => {}
            (Some(read), Some(_)) => {
                let id = id.short();
                return Err(SnapshotCommandError::KeptElsewhere { id, read });
            }
            (Some(_), None) => {
                elsewhere += 1;
                continue;
            }
        }
        let snapshot = catalog.needed_of(&row).map_err(CommandError::from)?;
        let snapshot =
            snapshot.ok_or_else(|| SnapshotCommandError::NoRecord { id: id.to_string() })?;
        snapshots.push(VerifiedSnapshot { id, snapshot });
    }
    if elsewhere > 0 {
        tracing::info!(
            host = name.as_str(),
            snapshots = elsewhere,
            "not read: kept at other destinations alone"
        );
    }
    let reader = coordinator.chunk_reader(&opened)?;
    let mut found = verify(&reader, &snapshots).await?;
    if let Some(problem) = &opened.log_problem {
        // There may be snapshots that it does not show.
        found.error(format!("the log cannot be read to its end: {problem}"));
    }
    if selector.is_none() && found.error_count == 0 && elsewhere == 0 {
        let mut state = coordinator.state.lock().await;
        let noted = state.note_verified(&name, coordinator.clock.now());
        noted.map_err(CommandError::from)?;
    }
    Ok(found)
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
    errors: Vec<String>,
    error_count: u64,
}

impl<'a> VerifyJson<'a> {
    fn of(host: &'a str, outcome: &HostOutcome) -> Self {
        let why;
        let found = match outcome {
            HostOutcome::Read(found) => found,
            HostOutcome::NotVerified(error) => {
                why = Verification {
                    errors: vec![error_line(error)],
                    error_count: 1,
                    ..Verification::default()
                };
                &why
            }
        };
        Self {
            host,
            outcome: outcome.word(),
            snapshots: found.snapshots,
            packs: found.packs,
            chunks: found.chunks,
            bytes: found.bytes,
            errors: found.errors.clone(),
            error_count: found.error_count,
        }
    }
}

/// Writes what came of a host.
fn write_outcome(host: &str, outcome: &HostOutcome, out: &mut dyn Write) -> io::Result<()> {
    let found = match outcome {
        HostOutcome::Read(found) => found,
        HostOutcome::NotVerified(error) => {
            return writeln!(out, "{host}: not verified: {}", error_line(error));
        }
    };
    writeln!(
        out,
        "{host}: {} snapshots, {} packs, {} chunks, {} read back and recomputed: {}",
        count_text(found.snapshots),
        count_text(found.packs),
        count_text(found.chunks),
        size_text(found.bytes),
        match found.error_count {
            0 => "all good",
            _ => "DAMAGED",
        },
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{HostOutcome, VerifyJson, write_outcome};
    use crate::commands::opened_snapshot::SnapshotCommandError;
    use crate::exit_code::ExitCode;
    use crate::snapshot::verification::Verification;

    fn shown(outcome: &HostOutcome) -> (String, serde_json::Value, ExitCode) {
        let mut text = Vec::new();
        write_outcome("web1", outcome, &mut text).unwrap();
        let json = serde_json::to_value(VerifyJson::of("web1", outcome)).unwrap();
        (String::from_utf8(text).unwrap(), json, outcome.exit_code())
    }

    #[test]
    fn damage_before_anything_was_read_is_not_taken_for_a_host_that_was_not_looked_at() {
        let mut found = Verification::default();
        found.error("the listing is damaged".to_owned());
        let (text, json, code) = shown(&HostOutcome::Read(found));
        assert!(
            text.contains("DAMAGED\n  the listing is damaged\n"),
            "{text}"
        );
        assert_eq!(
            (json["outcome"].as_str(), code),
            (Some("failed"), ExitCode::Integrity)
        );
        let error = SnapshotCommandError::First {
            id: "ab".to_owned(),
        };
        let (text, json, code) = shown(&HostOutcome::NotVerified(error));
        assert!(
            text.starts_with("web1: not verified: snapshot ab"),
            "{text}"
        );
        assert_eq!(json["outcome"], "not_verified");
        assert_eq!(json["error_count"], 1);
        assert_eq!(code, ExitCode::NotFound);
    }
}
