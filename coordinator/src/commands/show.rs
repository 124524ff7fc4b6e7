//! `show`: one snapshot's record: times, totals, the host's facts as it told them, problems.

use std::io::{self, Write};

use formats::ids::RecordId;
use formats::log::snapshot::Snapshot;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::backup::changes::Changes;
use crate::catalog::state::holds::Hold;
use crate::cli::snapshot::ShowArgs;
use crate::clock::{from_nanos, local, utc};
use crate::commands::on_storage::CommandError;
use crate::commands::opened_snapshot::{OpenedSnapshot, SnapshotCommandError};
use crate::commands::run::changes::{ChangesJson, changes_text, write_changed_paths};
use crate::commands::run::summary::{ProblemJson, problems_listed};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::retention::holds::hold_text;
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
    let shown = Shown {
        id,
        sequence,
        snapshot: &opened.snapshot,
        dropped_at: opened.dropped_at()?,
        holding: holding(&opened).await?,
        changes: changes(&opened).await?,
    };
    write_snapshot(&shown, zone.as_ref(), out)?;
    opened.coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// A snapshot, and what it is shown with.
struct Shown<'a> {
    id: RecordId,
    sequence: u64,
    snapshot: &'a Snapshot,
    /// Destinations that do not keep it any more, while others do.
    dropped_at: Vec<String>,
    holding: Holding,
    /// What its run found changed, if this coordinator knows.
    changes: Option<Changes>,
}

/// What holds say of a snapshot.
struct Holding {
    /// Its run looked wrong.
    held: bool,
    /// The holds on its host.
    holds: Vec<Hold>,
}

async fn holding(opened: &OpenedSnapshot) -> Result<Holding, CommandError> {
    let (host, run) = (&opened.row.host, opened.row.run);
    let state = opened.coordinator.state.lock().await;
    Ok(Holding {
        held: state.held_runs(host)?.contains(&run),
        holds: state.holds(Some(host))?,
    })
}

async fn changes(opened: &OpenedSnapshot) -> Result<Option<Changes>, CommandError> {
    let state = opened.coordinator.state.lock().await;
    Ok(state.changes(opened.row.run)?)
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
    changes: Option<ChangesJson>,
    system: String,
    hostname: String,
    machine_id: String,
    agent: String,
    dropped_at: Vec<String>,
    holds: Vec<String>,
}

impl SnapshotJson {
    fn of(shown: &Shown<'_>, zone: &TimeZone) -> Self {
        let Shown {
            snapshot, holding, ..
        } = shown;
        let totals = &snapshot.totals;
        Self {
            id: shown.id.to_string(),
            seq: shown.sequence,
            host: snapshot.host.clone(),
            run: snapshot.run.to_string(),
            time: utc(from_nanos(snapshot.committed_nanos)),
            started: utc(from_nanos(snapshot.started_nanos)),
            committed: utc(from_nanos(snapshot.committed_nanos)),
            parent: snapshot.parent.map(|parent| parent.to_string()),
            verified: snapshot.verified,
            outcome: outcome_word(shown),
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
            changes: shown.changes.as_ref().map(ChangesJson::of),
            system: visible(&snapshot.facts.system),
            hostname: visible(&snapshot.facts.hostname),
            machine_id: visible(&snapshot.facts.machine_id),
            agent: visible(&snapshot.agent),
            dropped_at: shown.dropped_at.clone(),
            holds: holding
                .holds
                .iter()
                .map(|hold| hold_text(hold, zone))
                .collect(),
        }
    }
}

fn outcome_word(shown: &Shown<'_>) -> &'static str {
    match shown.snapshot.totals.problems {
        _ if shown.holding.held => "held",
        0 => "ok",
        _ => "warnings",
    }
}

/// Writes a snapshot's record: for people in a time zone, or without one as JSON.
fn write_snapshot(
    shown: &Shown<'_>,
    zone: Option<&TimeZone>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let json = SnapshotJson::of(shown, zone.unwrap_or(&TimeZone::UTC));
    let Some(zone) = zone else {
        return write_json(out, &json);
    };
    let snapshot = shown.snapshot;
    let time = |nanos| local(from_nanos(nanos), zone);
    let lines = [
        ("snapshot", json.id),
        ("number", json.seq.to_string()),
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
    if let Some(changes) = &shown.changes {
        writeln!(out, "{:<12} {}", "changes", changes_text(changes))?;
        write_changed_paths(changes, out)?;
    }
    if !json.dropped_at.is_empty() {
        writeln!(out, "{:<12} {}", "not kept at", json.dropped_at.join(" "))?;
    }
    for hold in &json.holds {
        writeln!(out, "{:<12} {hold}", "on hold")?;
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
