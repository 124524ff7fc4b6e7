//! `diff` and `changes`: what changed between two snapshots of a host. Streams: snapshots of any size are compared in
//! the same memory.

use std::io::{self, Write};

use formats::listing::entry::Entry;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::catalog::SnapshotRow;
use crate::cli::diff::{ChangesArgs, ComparedArgs, DiffArgs};
use crate::clock::{local, utc};
use crate::commands::ls::kind_word;
use crate::commands::opened_snapshot::{OpenedSnapshot, SnapshotCommandError};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::snapshot::difference::{Change, Differences, Facet, OneSided, Totals};
use crate::snapshot::listing::Listing;
use crate::snapshot::shown::shown_path;
use crate::terminal::{count_text, size_text};

/// `diff HOST SNAP [SNAP] [PATH…]`.
pub async fn diff_command(
    args: &DiffArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let destination = args.compared.from.destination.as_deref();
    let opened = OpenedSnapshot::open(config, &args.host, &args.snapshot, destination).await?;
    let before = (opened.row.clone(), opened.listing().await?);
    let after = opened.another(&args.compared.snapshot()).await?;
    compare([&before, &after], &args.compared, json, out).await?;
    opened.coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// `changes HOST [SNAP] [PATH…]`.
pub async fn changes_command(
    args: &ChangesArgs,
    config: Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let destination = args.compared.from.destination.as_deref();
    let selector = args.compared.snapshot();
    let opened = OpenedSnapshot::open(config, &args.host, &selector, destination).await?;
    let before = opened.previous().await?;
    let after = (opened.row.clone(), opened.listing().await?);
    compare([&before, &after], &args.compared, json, out).await?;
    opened.coordinator.close().await;
    Ok(ExitCode::Ok)
}

async fn compare(
    [before, after]: [&(SnapshotRow, Listing); 2],
    args: &ComparedArgs,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), SnapshotCommandError> {
    let listings = (before.1.clone(), after.1.clone());
    let differences = Differences::between(listings.0, listings.1, &args.paths()).await?;
    let rows = [&before.0, &after.0];
    match json {
        true => write_differences_json(differences, rows, args.stat, out).await,
        false => {
            let zone = TimeZone::system();
            write_differences(differences, rows, args.stat, &zone, out).await
        }
    }
}

/// Writes a line for each path that differs, then the totals.
async fn write_differences(
    mut differences: Differences,
    rows: [&SnapshotRow; 2],
    totals_alone: bool,
    zone: &TimeZone,
    out: &mut (dyn Write + Send),
) -> Result<(), SnapshotCommandError> {
    let [before, after] = rows.map(|row| {
        let id: String = row.id.to_string().chars().take(8).collect();
        format!("{id} ({})", local(row.started, zone))
    });
    writeln!(out, "{} from {before} to {after}", rows[0].host)?;
    while let Some((path, change)) = differences.next_change().await? {
        if !totals_alone {
            writeln!(out, "{}", line(&path, &change))?;
        }
    }
    Ok(write_totals(&differences.totals(), out)?)
}

fn line(path: &[u8], change: &Change) -> String {
    let path = shown_path(path);
    let (before, after, facets) = match change {
        Change::Added(_) => return format!("+ {path}"),
        Change::Removed(_) => return format!("- {path}"),
        Change::Changed {
            before,
            after,
            facets,
        } => (before, after, facets),
    };
    if facets.contains(&Facet::Type) {
        let words = [before, after].map(|entry| kind_word(entry.stat.kind));
        return format!("T {path} ({} to {})", words[0], words[1]);
    }
    let is_content = facets.iter().any(|facet| facet.is_content());
    // That other content has another time goes without saying.
    let told = facets
        .iter()
        .filter(|facet| !is_content || !matches!(facet, Facet::Content | Facet::Mtime));
    let told: Vec<&str> = told.map(|facet| facet.as_str()).collect();
    let letter = if is_content { 'M' } else { 'U' };
    match told.is_empty() {
        true => format!("{letter} {path}"),
        false => format!("{letter} {path} ({})", told.join(", ")),
    }
}

fn write_totals(totals: &Totals, out: &mut dyn Write) -> io::Result<()> {
    let one_sided = |side: &OneSided| {
        format!(
            "{} files, {} directories, {} others, {}",
            count_text(side.files),
            count_text(side.directories),
            count_text(side.others),
            size_text(side.bytes)
        )
    };
    writeln!(out, "added:     {}", one_sided(&totals.added))?;
    writeln!(out, "removed:   {}", one_sided(&totals.removed))?;
    if totals.moved > 0 {
        let moved = count_text(totals.moved);
        writeln!(out, "           {moved} files of these only moved")?;
    }
    writeln!(
        out,
        "changed:   {} contents, {} types, {} metadata alone",
        count_text(totals.content_changed),
        count_text(totals.type_changed),
        count_text(totals.metadata_changed)
    )?;
    writeln!(out, "unchanged: {}", count_text(totals.unchanged))
}

/// A compared snapshot in `--json`.
#[derive(Debug, Serialize)]
struct SnapshotJson {
    id: String,
    time: String,
}

impl SnapshotJson {
    fn of(row: &SnapshotRow) -> Self {
        Self {
            id: row.id.to_string(),
            time: utc(row.started),
        }
    }
}

/// One element of `changes` in `--json`.
#[derive(Debug, Serialize)]
struct ChangeJson {
    change: &'static str,
    path: String,
    /// What it is; what it was when it was removed.
    r#type: &'static str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_before: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_before: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    what: Vec<&'static str>,
}

impl ChangeJson {
    fn of(path: &[u8], change: &Change) -> Self {
        let one_sided = |change, entry: &Entry| Self {
            change,
            path: shown_path(path),
            r#type: kind_word(entry.stat.kind),
            size: entry.stat.size,
            type_before: None,
            size_before: None,
            what: Vec::new(),
        };
        match change {
            Change::Added(entry) => one_sided("added", entry),
            Change::Removed(entry) => one_sided("removed", entry),
            Change::Changed {
                before,
                after,
                facets,
            } => Self {
                type_before: Some(kind_word(before.stat.kind)),
                size_before: Some(before.stat.size),
                what: facets.iter().map(|facet| facet.as_str()).collect(),
                ..one_sided("changed", after)
            },
        }
    }
}

/// Writes one JSON object, with each change on a line of its own, so that it can be read as it comes.
async fn write_differences_json(
    mut differences: Differences,
    rows: [&SnapshotRow; 2],
    totals_alone: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), SnapshotCommandError> {
    let json = |value: &SnapshotJson| serde_json::to_string(value).map_err(io::Error::from);
    let host = serde_json::to_string(&rows[0].host).map_err(io::Error::from)?;
    let [before, after] = rows.map(SnapshotJson::of);
    write!(
        out,
        r#"{{"host":{host},"from":{},"to":{},"#,
        json(&before)?,
        json(&after)?
    )?;
    if !totals_alone {
        write!(out, r#""changes":["#)?;
    }
    let mut separator = "";
    while let Some((path, change)) = differences.next_change().await? {
        if totals_alone {
            continue;
        }
        writeln!(out, "{separator}")?;
        separator = ",";
        serde_json::to_writer(&mut *out, &ChangeJson::of(&path, &change))
            .map_err(io::Error::from)?;
    }
    if !totals_alone {
        writeln!(out, "],")?;
    }
    let totals = serde_json::to_string(&differences.totals()).map_err(io::Error::from)?;
    Ok(writeln!(out, r#""totals":{totals}}}"#)?)
}

#[cfg(test)]
mod tests;
