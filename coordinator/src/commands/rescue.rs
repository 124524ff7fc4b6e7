//! `rescue`: restores what can be restored from a partial set of packs, without log or index. Turns arguments into
//! a place and options, and what was found into an answer; the work is in [`crate::rescue`] and [`crate::restore`].

mod problem_file;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use append_server::places::table::DestinationTable;
use append_server::places::{FileFacts, Place};
use formats::listing::entry::EntryKind;
use formats::wire::control::names::Names;
use jiff::Timestamp;

use crate::cli::rescue::RescueArgs;
use crate::clock::utc;
use crate::commands::recover::table::{TableError, destination_table};
use crate::commands::rescue::problem_file::ProblemFile;
use crate::commands::restore::{Answer, draw_progress, metadata, overwrite, write_not_restored};
use crate::exit_code::ExitCode;
use crate::keyring::kit::read_kit;
use crate::keyring::{Keyring, KeyringError};
use crate::rescue::error::RescueError;
use crate::rescue::list::{ListedObject, list};
use crate::rescue::report::RescueReport;
use crate::rescue::run::{RescueRequest, Rescued, rescue};
use crate::rescue::shelf::Shelf;
use crate::restore::error::RestoreError;
use crate::restore::open_target::check_target;
use crate::restore::options::RestoreOptions;
use crate::restore::patterns::Patterns;
use crate::restore::run::{RestoreContext, restore};
use crate::restore::summary::{ProblemSink, Tally};
use crate::snapshot::shown::shown_path;
use crate::terminal::{count_text, size_text, write_json};

/// `rescue` failed.
#[derive(Debug, thiserror::Error)]
pub enum RescueCommandError {
    /// The kit.
    #[error(transparent)]
    Kit(#[from] KeyringError),
    /// What was said of the destination.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table that came of it.
    #[error("--destination and --set make no destination")]
    Keys(#[from] toml::de::Error),
    /// A key of the table.
    #[error("--destination and --set make no destination")]
    Place(#[from] append_server::places::PlaceError),
    /// The destination cannot be opened.
    #[error(
        "for a directory of pack files that is no destination any more, write its path without file://"
    )]
    NoRoot(#[source] append_server::places::OpenError),
    /// The destination cannot be opened.
    #[error(transparent)]
    Open(append_server::places::OpenError),
    /// The list of problems.
    #[error("could not write the problems to {}", path.display())]
    Problems {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The rescue itself.
    #[error(transparent)]
    Rescue(#[from] RescueError),
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl RescueCommandError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kit(error) if error.is_wrong_key() => ExitCode::WrongKey,
            Self::Rescue(error) => error.exit_code(),
            _ => ExitCode::Error,
        }
    }
}

/// `rescue`.
pub async fn rescue_command(
    args: &RescueArgs,
    answer: Answer,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, RescueCommandError> {
    let began = Instant::now();
    // Everything that can be refused is, before anything far away is asked.
    let options = options(args);
    if args.to.is_some() {
        check_target(&options).map_err(RescueError::from)?;
    }
    let patterns = Patterns::new(&args.what.include, &args.what.exclude);
    let patterns = patterns.map_err(|error| RescueError::from(RestoreError::from(error)))?;
    let master = read_kit(&args.kit)?;
    let keyring = Keyring::from_master(&master, recovery_user());
    let shelf = open_shelf(args)?;
    let problems = args.problems.as_deref().map(ProblemFile::create);
    let problems = problems.transpose()?.map(Arc::new);
    let sink = problems.clone().map(|file| file as Arc<dyn ProblemSink>);
    let context = RestoreContext {
        tally: Arc::new(Tally::telling(sink)),
        ..RestoreContext::default()
    };
    let request = RescueRequest {
        shelf: &shelf,
        keyring: &keyring,
        repository: args.repository,
        epoch: args.epoch,
        work: &work_dir(args)?,
    };
    let rescued = rescue(&request, &context.tally).await?;
    tell_better_way(&rescued);
    if args.to.is_some() {
        let drawing = draw_progress(answer, &context);
        let restored = restore(rescued.listing.clone(), options, context.clone()).await;
        if let Some((task, bar)) = drawing {
            task.abort();
            bar.finish_and_clear();
        }
        restored.map_err(RescueError::from)?;
    } else {
        let mut tell = |object: ListedObject<'_>| match answer.json {
            true => Ok(()),
            false => write_listed(&object, out),
        };
        list(&rescued.listing, patterns, &context.tally, &mut tell).await?;
    }
    if let Some(problems) = problems {
        problems.finish()?;
    }
    let report = report(args, &shelf, rescued, &context.tally, began);
    match answer.json {
        true => write_json(out, &report)?,
        false => write_report(&report, out)?,
    }
    Ok(report.exit_code())
}

/// Whose keys these are said to be, for messages.
fn recovery_user() -> formats::object::UserName {
    "recovery".parse().expect("it is a user's name")
}

fn options(args: &RescueArgs) -> RestoreOptions {
    RestoreOptions {
        to: args.to.clone().unwrap_or_default(),
        paths: Vec::new(),
        overwrite: args.overwrite.map(overwrite),
        include: args.what.include.clone(),
        exclude: args.what.exclude.clone(),
        dry_run: args.list,
        metadata: metadata(&args.what, true),
        names: Names::default(),
        sync: true,
    }
}

/// The path of a directory is one of pack files, anything else a destination as in coordinator.toml.
fn open_shelf(args: &RescueArgs) -> Result<Shelf, RescueCommandError> {
    let url = args.destination.as_str();
    if !url.contains("://") && Path::new(url).is_dir() {
        return Ok(Shelf::folder(Path::new(url))?);
    }
    let text = destination_table(url, &args.set)?.to_string();
    let table: DestinationTable = toml::from_str(&text)?;
    // What was typed on the command line was shown to others already; a file's mode says nothing about it.
    let facts = FileFacts {
        directory: Path::new("/"),
        is_private: true,
    };
    let place = Place::read(&table, facts)?;
    let opened = place.open().map_err(|error| match error {
        error @ append_server::places::OpenError::Root { .. } => RescueCommandError::NoRoot(error),
        error => RescueCommandError::Open(error),
    })?;
    Ok(Shelf::destination(place.url, opened))
}

fn work_dir(args: &RescueArgs) -> io::Result<PathBuf> {
    if let Some(work) = &args.work {
        return Ok(work.clone());
    }
    let Some(to) = &args.to else {
        return Ok(std::env::temp_dir());
    };
    let to = std::path::absolute(to)?;
    Ok(to.parent().unwrap_or(&to).to_owned())
}

/// Says it before hours are spent: the counts at the end would come too late.
fn tell_better_way(rescued: &Rescued) {
    if let Some(intact) = &rescued.intact {
        tracing::warn!(
            host = intact.host,
            time = intact.time,
            "the log and its last snapshot's listing are whole: `coordinator recover`, then `restore`, brings \
             that snapshot back as it was, without what was deleted before it"
        );
    }
}

fn report(
    args: &RescueArgs,
    shelf: &Shelf,
    rescued: Rescued,
    tally: &Tally,
    began: Instant,
) -> RescueReport {
    RescueReport {
        place: shelf.name.clone(),
        repository: rescued.repository.to_string(),
        packs: rescued.packs,
        pages: rescued.pages,
        intact: rescued.intact,
        dry_run: args.list,
        summary: tally.summary(),
        seconds: began.elapsed().as_secs_f64(),
    }
}

fn write_listed(object: &ListedObject<'_>, out: &mut dyn Write) -> io::Result<()> {
    let state = match (object.is_whole, object.entry.stat.kind) {
        (false, _) => "LOST",
        (true, EntryKind::Directory) => "dir",
        (true, _) => "whole",
    };
    let stat = &object.entry.stat;
    let time = Timestamp::new(stat.mtime.seconds, 0);
    let time = time.map_or_else(|_| "-".to_owned(), utc);
    let size = size_text(stat.size);
    let path = shown_path(&object.path);
    writeln!(out, "{state:<5}  {size:>10}  {time:>20}  {path}")
}

/// Writes the report for people.
fn write_report(report: &RescueReport, out: &mut dyn Write) -> io::Result<()> {
    let (packs, pages, summary) = (&report.packs, &report.pages, &report.summary);
    writeln!(
        out,
        "repository {} at {}: {} of {} packs opened, {} pages with {} entries read",
        report.repository,
        report.place,
        count_text(packs.opened),
        count_text(packs.found),
        count_text(pages.read),
        count_text(pages.entries),
    )?;
    for refused in &packs.refused {
        writeln!(out, "  {}: {}", refused.pack, refused.text)?;
    }
    let more = packs.refused_count - packs.refused.len() as u64;
    for (count, what) in [
        (more, "more packs do not open"),
        (
            packs.known_missing.unwrap_or_default(),
            "data packs that once were are not there",
        ),
        (
            packs.pruned.unwrap_or_default(),
            "data packs were removed by prune, as the log tells",
        ),
        (
            packs.unnamed.unwrap_or_default(),
            "data packs are of a run that failed, or of one whose listing may be gone",
        ),
        (pages.damaged, "pieces of listings are damaged"),
        (
            pages.known_missing,
            "pages of listings are not there: what they listed is unknown",
        ),
        (
            pages.pruned,
            "files of forgotten snapshots are left out, of which prune removed something",
        ),
    ] {
        if count > 0 {
            writeln!(out, "  {} {what}", count_text(count))?;
        }
    }
    writeln!(
        out,
        "{} files and {} directories, {}{}",
        count_text(summary.files),
        count_text(summary.directories),
        size_text(summary.bytes),
        if report.dry_run {
            " could be restored, as far as packs are there"
        } else {
            " restored and checked"
        },
    )?;
    write_not_restored(summary, "; --problems FILE keeps all", out)
}
