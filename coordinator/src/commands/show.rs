//! `show`: one snapshot's record: times, totals, the host's facts as it told them, problems.

use std::io::{self, Write};

use formats::ids::RecordId;
use formats::log::snapshot::Snapshot;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::snapshot::ShowArgs;
use crate::clock::{from_nanos, local, utc};
use crate::commands::opened_snapshot::{OpenedSnapshot, SnapshotCommandError};
use crate::commands::run::summary::{ProblemJson, problems_listed};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::snapshot::shown::shown_path;
use crate::terminal::{count_text, size_text, visible, write_json};

/// `show HOST SNAP`.
pub async fn show_command(
    args: &ShowArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let opened = OpenedSnapshot::open(
        config,
        &args.host,
        &args.snapshot,
        args.from.destination.as_deref(),
    )
    .await?;
    let (id, sequence) = (opened.row.id, opened.row.sequence);
    let zone = (!json).then(TimeZone::system);
    write_snapshot(id, sequence, &opened.snapshot, zone.as_ref(), out)?;
    opened.coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// What `show --json` prints.
#[derive(Debug, Serialize)]
struct SnapshotJson {
    id: String,
    seq: u64,
    host: String,
    run: String,
    time: String,
    started: String,
    committed: String,
    parent: Option<String>,
    verified: bool,
    outcome: &'static str,
    sources: Vec<String>,
    files: u64,
    directories: u64,
    bytes: u64,
    bytes_read: u64,
    new_bytes: u64,
    stored_bytes: u64,
    problems: Vec<ProblemJson>,
    problem_count: u64,
    system: String,
    hostname: String,
    machine_id: String,
    agent: String,
}

impl SnapshotJson {
    fn of(id: RecordId, seq: u64, snapshot: &Snapshot) -> Self {
        let totals = &snapshot.totals;
        Self {
            id: id.to_string(),
            seq,
            host: snapshot.host.clone(),
            run: snapshot.run.to_string(),
            time: utc(from_nanos(snapshot.committed_nanos)),
            started: utc(from_nanos(snapshot.started_nanos)),
            committed: utc(from_nanos(snapshot.committed_nanos)),
            parent: snapshot.parent.map(|parent| parent.to_string()),
            verified: snapshot.verified,
            outcome: outcome_word(snapshot),
            sources: snapshot
                .sources
                .iter()
                .map(|path| shown_path(path))
                .collect(),
            files: totals.files + totals.others,
            directories: totals.directories,
            bytes: totals.bytes,
            bytes_read: totals.bytes_read,
            new_bytes: totals.bytes_new,
            stored_bytes: totals.bytes_stored,
            problems: problems_listed(&snapshot.problems),
            problem_count: totals.problems,
            system: visible(&snapshot.facts.system),
            hostname: visible(&snapshot.facts.hostname),
            machine_id: visible(&snapshot.facts.machine_id),
            agent: visible(&snapshot.agent),
        }
    }
}

fn outcome_word(snapshot: &Snapshot) -> &'static str {
    match snapshot.totals.problems {
        0 => "ok",
        _ => "warnings",
    }
}

/// Writes a snapshot's record: for people in a time zone, or without one as JSON.
pub fn write_snapshot(
    id: RecordId,
    sequence: u64,
    snapshot: &Snapshot,
    zone: Option<&TimeZone>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let json = SnapshotJson::of(id, sequence, snapshot);
    let Some(zone) = zone else {
        return write_json(out, &json);
    };
    let time = |nanos| local(from_nanos(nanos), zone);
    let lines = [
        ("snapshot", json.id),
        ("number", sequence.to_string()),
        ("host", json.host),
        ("started", time(snapshot.started_nanos)),
        ("committed", time(snapshot.committed_nanos)),
        ("parent", json.parent.unwrap_or_else(|| "none".to_owned())),
        (
            "verified",
            if snapshot.verified { "yes" } else { "no" }.to_owned(),
        ),
        ("sources", json.sources.join(" ")),
        ("files", count_text(json.files)),
        ("directories", count_text(json.directories)),
        ("size", size_text(json.bytes)),
        ("read", size_text(json.bytes_read)),
        ("new", size_text(json.new_bytes)),
        ("stored", size_text(json.stored_bytes)),
        ("system", json.system),
        ("hostname", json.hostname),
        ("agent", json.agent),
        ("problems", count_text(json.problem_count)),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<12} {value}")?;
    }
    for problem in &json.problems {
        writeln!(
            out,
            "  {} ({}): {}",
            problem.path, problem.kind, problem.text
        )?;
    }
    let listed = json.problems.len() as u64;
    if json.problem_count > listed {
        writeln!(
            out,
            "  and {} more",
            count_text(json.problem_count - listed)
        )?;
    }
    Ok(())
}
