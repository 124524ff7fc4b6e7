//! `history`: the last runs of hosts, the newest last.

use std::io::Write;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::backup::changes::Changes;
use crate::catalog::state::results::RunResult;
use crate::catalog::state::{RunRow, State};
use crate::cli::daemon::HistoryArgs;
use crate::clock::{local, utc};
use crate::commands::on_storage::CommandError;
use crate::commands::run::changes::{ChangesJson, changes_cell};
use crate::config::Config;
use crate::config::host::Host;
use crate::repository::layout::StateDir;
use crate::status::hosts_backed_up;
use crate::terminal::{
    Align, count_text, duration_text, size_text, visible, write_json, write_table,
};

/// One element of what `history --json` prints.
#[derive(Debug, Serialize)]
struct HistoryLine {
    host: String,
    run: String,
    started: String,
    finished: Option<String>,
    outcome: Option<&'static str>,
    error: Option<String>,
    snapshot: Option<String>,
    files: Option<u64>,
    bytes: Option<u64>,
    new_bytes: Option<u64>,
    problem_count: Option<u64>,
    changes: Option<ChangesJson>,
}

/// A run and what it came to.
struct Past {
    run: RunRow,
    result: Option<RunResult>,
    changes: Option<Changes>,
}

/// `history [HOST]`.
pub fn history_command(
    args: &HistoryArgs,
    config: &Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), CommandError> {
    let hosts: Vec<&Host> = match &args.host {
        Some(name) => vec![config.host(name)?],
        None => hosts_backed_up(config).collect(),
    };
    let state = State::open(&StateDir::new(&config.state_dir).state_file())?;
    let mut all = Vec::new();
    for host in hosts {
        for run in state.runs(host.name.as_str(), args.count)? {
            all.push(Past {
                result: state.result(run.run)?,
                changes: state.changes(run.run)?,
                run,
            });
        }
    }
    all.sort_by(|one, other| {
        let (one, other) = (&one.run, &other.run);
        (one.started, &one.host).cmp(&(other.started, &other.host))
    });
    if json {
        let lines: Vec<HistoryLine> = all.iter().map(line).collect();
        write_json(out, &lines)?;
        return Ok(());
    }
    let zone = TimeZone::system();
    let rows: Vec<Vec<String>> = all.iter().map(|run| row(run, &zone)).collect();
    write_table(out, &COLUMNS, &rows)?;
    Ok(())
}

fn line(past: &Past) -> HistoryLine {
    let Past {
        run,
        result,
        changes,
    } = past;
    let totals = result.map(|result| result.totals);
    HistoryLine {
        host: run.host.clone(),
        run: run.run.to_string(),
        started: utc(run.started),
        finished: run.finished.map(|(at, _)| utc(at)),
        outcome: run.finished.map(|(_, outcome)| outcome.as_str()),
        error: run.error.clone(),
        snapshot: result.map(|result| result.snapshot.to_string()),
        files: totals.map(|totals| totals.files),
        bytes: totals.map(|totals| totals.bytes),
        new_bytes: totals.map(|totals| totals.bytes_new),
        problem_count: totals.map(|totals| totals.problems),
        changes: changes.as_ref().map(ChangesJson::of),
    }
}

const COLUMNS: [(&str, Align); 9] = [
    ("host", Align::Left),
    ("started", Align::Left),
    ("took", Align::Right),
    ("outcome", Align::Left),
    ("snapshot", Align::Left),
    ("files", Align::Right),
    ("new", Align::Right),
    ("changes", Align::Left),
    ("error", Align::Left),
];

fn row(past: &Past, zone: &TimeZone) -> Vec<String> {
    let Past { run, result, .. } = past;
    let took = run.finished.map(|(at, _)| at.duration_since(run.started));
    let took = took.map(|took| duration_text(took.unsigned_abs()));
    vec![
        run.host.clone(),
        local(run.started, zone),
        took.unwrap_or_default(),
        run.finished
            .map_or("running or died".to_owned(), |(_, outcome)| {
                outcome.to_string()
            }),
        result
            .map(|result| result.snapshot.short().to_string())
            .unwrap_or_default(),
        result
            .map(|result| count_text(result.totals.files))
            .unwrap_or_default(),
        result
            .map(|result| size_text(result.totals.bytes_new))
            .unwrap_or_default(),
        past.changes.as_ref().map(changes_cell).unwrap_or_default(),
        run.error.as_deref().map(visible).unwrap_or_default(),
    ]
}
