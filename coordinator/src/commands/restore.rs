//! `restore`: brings a snapshot, or paths of it, back into a directory, and says what could not be brought
//! back. Turns arguments into options and a summary into an answer; the work is in [`crate::restore`].

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use formats::wire::control::names::Names;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::restore::{Overwrite as OverwriteArg, RestoreArgs, RestoreWhat};
use crate::commands::opened_snapshot::{OpenedSnapshot, SnapshotCommandError};
use crate::config::Config;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::restore::dry_run::{Action, PlannedObject, dry_run};
use crate::restore::options::{MetadataOptions, Overwrite, Owner, RestoreOptions};
use crate::restore::run::{RestoreContext, restore};
use crate::restore::summary::{RestoreOutcome, RestoreSummary};
use crate::snapshot::shown::shown_path;
use crate::terminal::{count_text, size_text, write_json};

/// How often progress is drawn on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How the answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// As one JSON object.
    pub json: bool,
    /// Without progress.
    pub quiet: bool,
}

/// `restore HOST SNAP --to DIR [PATH]…`.
pub async fn restore_command(
    args: &RestoreArgs,
    config: Config,
    answer: Answer,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let exclude = exclude_patterns(&args.what.exclude, &args.exclude_file)?;
    let opened = OpenedSnapshot::open(
        config,
        &args.host,
        &args.snapshot,
        args.from.destination.as_deref(),
    )
    .await?;
    opened.expect_kept()?;
    let listing = opened.listing().await?;
    let options = options(args, exclude, opened.snapshot.names.clone());
    let summary = if options.dry_run {
        let mut tell = |object: PlannedObject| match answer.json {
            true => Ok(()),
            false => write_planned(&object, out),
        };
        dry_run(listing, &options, &mut tell).await?
    } else {
        let context = RestoreContext::default();
        let drawing = draw_progress(answer, &context);
        let restored = restore(listing, options, context).await;
        if let Some((task, bar)) = drawing {
            task.abort();
            bar.finish_and_clear();
        }
        let told = What::Restored {
            snapshot: opened.row.id.to_string(),
            to: args.to.display().to_string(),
        };
        let event = Event::of_host(&args.host, told);
        opened.coordinator.events.tell(event);
        restored?
    };
    let report = RestoreJson {
        host: &args.host,
        snapshot: opened.row.id.to_string(),
        dry_run: args.dry_run,
        summary: &summary,
    };
    match answer.json {
        true => write_json(out, &report)?,
        false => write_summary(&report, out)?,
    }
    opened.coordinator.close().await;
    Ok(exit_code(&summary))
}

fn options(args: &RestoreArgs, exclude: Vec<String>, names: Names) -> RestoreOptions {
    RestoreOptions {
        to: args.to.clone(),
        paths: args
            .paths
            .iter()
            .map(|path| path.as_bytes().to_vec())
            .collect(),
        overwrite: args.overwrite.map(overwrite),
        include: args.what.include.clone(),
        exclude,
        dry_run: args.dry_run,
        metadata: metadata(&args.what, args.numeric_ids),
        names,
        sync: true,
    }
}

/// What of each object is restored.
pub(crate) fn metadata(what: &RestoreWhat, numeric_ids: bool) -> MetadataOptions {
    MetadataOptions {
        owner: match (what.no_owner, numeric_ids) {
            (true, _) => Owner::Nobody,
            (false, true) => Owner::Numeric,
            (false, false) => Owner::ByName,
        },
        devices: !what.no_devices,
        setuid: !what.no_setuid,
        xattrs: !what.no_xattrs,
    }
}

/// The policy that an argument means.
pub(crate) fn overwrite(when: OverwriteArg) -> Overwrite {
    match when {
        OverwriteArg::Always => Overwrite::Always,
        OverwriteArg::IfChanged => Overwrite::IfChanged,
        OverwriteArg::IfNewer => Overwrite::IfNewer,
        OverwriteArg::Never => Overwrite::Never,
    }
}

/// The patterns given, then those of files: one a line, without empty lines and comments.
fn exclude_patterns(
    given: &[String],
    files: &[PathBuf],
) -> Result<Vec<String>, SnapshotCommandError> {
    let mut patterns = given.to_vec();
    for path in files {
        let text =
            std::fs::read_to_string(path).map_err(|source| SnapshotCommandError::PatternFile {
                path: path.clone(),
                source,
            })?;
        let lines = text.lines().map(str::trim_end);
        patterns.extend(
            lines
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
    }
    Ok(patterns)
}

/// Draws counts while the restore goes on; nothing where standard error is no terminal.
pub(crate) fn draw_progress(
    answer: Answer,
    context: &RestoreContext,
) -> Option<(tokio::task::JoinHandle<()>, ProgressBar)> {
    if answer.json || answer.quiet {
        return None;
    }
    let bar = ProgressBar::new_spinner();
    let (tally, drawn) = (std::sync::Arc::clone(&context.tally), bar.clone());
    let task = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(DRAW_EVERY);
        loop {
            ticks.tick().await;
            let so_far = tally.summary();
            drawn.set_message(format!(
                "{} files, {} restored, {} problems",
                count_text(so_far.files + so_far.skipped),
                size_text(so_far.bytes),
                count_text(so_far.problem_count),
            ));
            drawn.tick();
        }
    });
    Some((task, bar))
}

fn write_planned(object: &PlannedObject, out: &mut dyn Write) -> io::Result<()> {
    let action = match object.action {
        Action::Create => "create ",
        Action::Replace => "replace",
        Action::Skip => "keep   ",
    };
    writeln!(out, "{action} {}", shown_path(&object.path))
}

/// What `restore --json` prints.
#[derive(Debug, Serialize)]
pub struct RestoreJson<'a> {
    /// The host.
    pub host: &'a str,
    /// The snapshot's whole id.
    pub snapshot: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Counts and problems.
    #[serde(flatten)]
    pub summary: &'a RestoreSummary,
}

/// Writes the summary for people.
pub fn write_summary(report: &RestoreJson<'_>, out: &mut dyn Write) -> io::Result<()> {
    let summary = report.summary;
    writeln!(
        out,
        "{} {}: {} files and {} directories, {}{}",
        report.host,
        report.snapshot.get(..8).unwrap_or(&report.snapshot),
        count_text(summary.files),
        count_text(summary.directories),
        size_text(summary.bytes),
        if report.dry_run {
            " would be restored"
        } else {
            " restored and checked"
        },
    )?;
    if summary.skipped > 0 {
        writeln!(out, "  {} kept as they were", count_text(summary.skipped))?;
    }
    write_not_restored(summary, "", out)
}

/// Writes what was left out and what went wrong; `where_rest_is` says where the problems are that are not listed.
pub(crate) fn write_not_restored(
    summary: &RestoreSummary,
    where_rest_is: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    if summary.left_out > 0 {
        writeln!(out, "  {} left out as asked", count_text(summary.left_out))?;
    }
    if summary.problem_count > 0 {
        writeln!(out, "  {} problems:", count_text(summary.problem_count))?;
    }
    for problem in &summary.problems {
        writeln!(out, "  {}: {}", problem.path, problem.text)?;
    }
    let more = summary
        .problem_count
        .saturating_sub(summary.problems.len() as u64);
    if more > 0 {
        writeln!(out, "  and {} more{where_rest_is}", count_text(more))?;
    }
    Ok(())
}

/// The number to end with.
pub fn exit_code(summary: &RestoreSummary) -> ExitCode {
    match summary.outcome {
        RestoreOutcome::Ok => ExitCode::Ok,
        RestoreOutcome::Warnings => ExitCode::Warnings,
        RestoreOutcome::Failed if summary.found_damage() => ExitCode::Integrity,
        RestoreOutcome::Failed => ExitCode::Error,
    }
}
