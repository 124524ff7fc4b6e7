//! What a run came to, for people and as JSON. Paths from the host are escaped; never more than a few
//! problems are listed, and their true number is always told.

use std::fs;
use std::io::{self, Write};

use formats::wire::control::problem::{Problem, ProblemKind};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::backup::progress::Counts;
use crate::backup::report::{CommittedRun, RunReport};
use crate::catalog::state::Outcome;
use crate::cli::GlobalArgs;
use crate::clock::{from_nanos, local, utc};
use crate::commands::run::changes::{ChangesJson, changes_text};
use crate::snapshot::shown::shown_path;
use crate::terminal::{
    count_text, duration_text, error_line, size_text, visible, write_error, write_json,
};

/// The problems that are listed.
pub const PROBLEMS_LISTED_MAX: usize = 20;

/// What `run --json` prints.
#[derive(Debug, Serialize)]
pub struct RunJson {
    host: String,
    outcome: &'static str,
    snapshot: Option<SnapshotJson>,
    files: u64,
    directories: u64,
    bytes_read: u64,
    new_bytes: u64,
    stored_bytes: u64,
    problems: Vec<ProblemJson>,
    problem_count: u64,
    changes: Option<ChangesJson>,
    held: Option<String>,
    warnings: Vec<WarningJson>,
    duration_secs: f64,
    agent_rss_bytes: u64,
    agent_cpu_secs: f64,
    coordinator_rss_bytes: u64,
    transport: Option<&'static str>,
    left_behind: Vec<String>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct WarningJson {
    kind: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct SnapshotJson {
    id: String,
    seq: u64,
    time: String,
}

/// A problem as JSON has it; a restore reports its own in the same form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemJson {
    /// The escaped absolute path.
    pub path: String,
    /// The kind, as one word.
    pub kind: &'static str,
    /// The cause, for people.
    pub text: String,
}

impl ProblemJson {
    /// A problem of a snapshot.
    pub fn of(problem: &Problem) -> Self {
        Self {
            path: shown_path(&problem.path),
            kind: kind_word(problem.kind),
            text: problem_text(problem),
        }
    }
}

/// The first problems, as many as are listed.
pub fn problems_listed(problems: &[Problem]) -> Vec<ProblemJson> {
    let first = problems.iter().take(PROBLEMS_LISTED_MAX);
    first.map(ProblemJson::of).collect()
}

/// The word for a kind of problem.
pub fn kind_word(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::SourceMissing => "source_missing",
        ProblemKind::Unreadable => "unreadable",
        ProblemKind::Vanished => "vanished",
        ProblemKind::Changed => "changed",
        ProblemKind::BeyondLimit => "beyond_limit",
        ProblemKind::Other => "other",
    }
}

fn problem_text(problem: &Problem) -> String {
    let attempt = visible(&problem.text);
    let errno = i32::try_from(problem.errno).unwrap_or(0);
    match (errno, attempt.is_empty()) {
        (0, _) => attempt,
        (errno, true) => io::Error::from_raw_os_error(errno).to_string(),
        (errno, false) => format!("{attempt}: {}", io::Error::from_raw_os_error(errno)),
    }
}

/// What `run --json` prints, as a value.
pub fn result_json(report: &RunReport, counts: &Counts) -> serde_json::Value {
    serde_json::to_value(run_json(report, counts)).unwrap_or_default()
}

/// What people read at the end: the result, and what is wrong.
pub fn result_texts(report: &RunReport, counts: &Counts) -> (String, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let written = write_result_texts(report, counts, &mut out, &mut errors);
    debug_assert!(written.is_ok(), "writing to memory cannot fail");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(out), text(errors))
}

/// Writes the run's JSON object; a failed run has one, too.
pub fn write_json_report(
    report: &RunReport,
    counts: &Counts,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_json(out, &run_json(report, counts))
}

fn run_json(report: &RunReport, counts: &Counts) -> RunJson {
    let so_far = RunJson {
        host: report.host.clone(),
        outcome: "failed",
        snapshot: None,
        files: counts.files,
        directories: 0,
        bytes_read: counts.bytes_read,
        new_bytes: counts.bytes_new,
        stored_bytes: counts.bytes_verified,
        problems: Vec::new(),
        problem_count: counts.problems,
        changes: None,
        held: None,
        warnings: report
            .warnings
            .iter()
            .map(|warning| WarningJson {
                kind: warning.kind.as_str(),
                text: visible(&warning.text),
            })
            .collect(),
        duration_secs: report.duration.as_secs_f64(),
        agent_rss_bytes: report.agent_memory,
        agent_cpu_secs: report.agent_cpu.as_secs_f64(),
        coordinator_rss_bytes: peak_memory_bytes(),
        transport: report.transport,
        left_behind: report
            .left_behind
            .iter()
            .map(|left| visible(left))
            .collect(),
        error: None,
    };
    match &report.result {
        Err(error) => RunJson {
            error: Some(error_line(error)),
            ..so_far
        },
        Ok(run) => RunJson {
            outcome: report.outcome_of(run).as_str(),
            held: run.held.clone(),
            snapshot: Some(SnapshotJson {
                id: run.id.to_string(),
                seq: run.sequence,
                time: utc(from_nanos(run.committed_nanos)),
            }),
            files: run.totals.files + run.totals.others,
            directories: run.totals.directories,
            bytes_read: run.totals.bytes_read,
            new_bytes: run.totals.bytes_new,
            stored_bytes: run.totals.bytes_stored,
            problems: problems_listed(&run.problems),
            problem_count: run.totals.problems,
            changes: run.changes.as_ref().map(ChangesJson::of),
            ..so_far
        },
    }
}

/// The most memory this process has had at once; 0 where the kernel does not say.
pub fn peak_memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Writes what people read at the end: the result to `out`, unless it was asked for as JSON or not at all,
/// and what is wrong to `errors`.
pub fn write_summary(
    report: &RunReport,
    counts: &Counts,
    global: &GlobalArgs,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<()> {
    match global.json || global.quiet {
        true => write_result_texts(report, counts, &mut io::sink(), errors),
        false => write_result_texts(report, counts, out, errors),
    }
}

fn write_result_texts(
    report: &RunReport,
    counts: &Counts,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<()> {
    match &report.result {
        Err(error) => {
            writeln!(
                errors,
                "{}: failed after {} in step \"{}\"; no snapshot was committed",
                report.host,
                duration_text(report.duration),
                counts.step.text()
            )?;
            write_error(errors, error)?;
        }
        Ok(run) => {
            write_result(report, run, out)?;
            write_problems(&report.host, run, errors)?;
            if let Some(why) = &run.held {
                let host = &report.host;
                writeln!(
                    errors,
                    "{host}: this looks wrong, and {host} is on hold until `coordinator hold release {host}`: {why}"
                )?;
            }
        }
    }
    for warning in &report.warnings {
        let (kind, text) = (warning.kind.as_str(), visible(&warning.text));
        writeln!(errors, "{}: {kind}: {text}", report.host)?;
    }
    for left in &report.left_behind {
        writeln!(
            errors,
            "{}: left on the host: {}",
            report.host,
            visible(left)
        )?;
    }
    Ok(())
}

fn write_result(report: &RunReport, run: &CommittedRun, out: &mut dyn Write) -> io::Result<()> {
    let totals = &run.totals;
    let outcome = match report.outcome_of(run) {
        Outcome::Warnings => {
            let warnings = report.warnings.len() as u64;
            format!("warnings({})", count_text(totals.problems + warnings))
        }
        outcome => outcome.to_string(),
    };
    let time = local(from_nanos(run.committed_nanos), &TimeZone::system());
    writeln!(
        out,
        "{}: {outcome}, snapshot {} of {time}, in {}",
        report.host,
        run.id.short(),
        duration_text(report.duration)
    )?;
    writeln!(
        out,
        "  {} files, {} directories, {}",
        count_text(totals.files + totals.others),
        count_text(totals.directories),
        size_text(totals.bytes)
    )?;
    writeln!(
        out,
        "  {} read, {} new, {} stored",
        size_text(totals.bytes_read),
        size_text(totals.bytes_new),
        size_text(totals.bytes_stored)
    )?;
    if let Some(changes) = &run.changes {
        writeln!(out, "  {}", changes_text(changes))?;
    }
    let transport = report.transport.unwrap_or("none");
    writeln!(
        out,
        "  transport {transport}, memory at most {} on the host and {} here, CPU time {} on the host",
        size_text(report.agent_memory),
        size_text(peak_memory_bytes()),
        duration_text(report.agent_cpu)
    )
}

fn write_problems(host: &str, run: &CommittedRun, errors: &mut dyn Write) -> io::Result<()> {
    if run.totals.problems == 0 {
        return Ok(());
    }
    let listed = problems_listed(&run.problems);
    let count = count_text(run.totals.problems);
    writeln!(
        errors,
        "{host}: {count} could not be backed up as they should:"
    )?;
    for problem in &listed {
        let kind = problem.kind.replace('_', " ");
        writeln!(errors, "  {}: {kind}: {}", problem.path, problem.text)?;
    }
    let more = run.totals.problems.saturating_sub(listed.len() as u64);
    if more > 0 {
        writeln!(
            errors,
            "  and {} more: `coordinator show {host} {}`",
            count_text(more),
            run.id.short()
        )?;
    }
    Ok(())
}
