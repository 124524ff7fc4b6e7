//! `entries`: what each entry costs, from ten thousand to ten million. The coordinator's part is measured with a
//! synthetic agent, whose listing needs no files; the agent's part with the real one and real files in memory. Each
//! listing is backed up twice: the second time nothing has changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;
use tests::sshd::{Sshd, SshdOptions};

use crate::isolation::Place;
use crate::options::EntriesOptions;
use crate::real_tree::RealTree;
use crate::rig::{Cost, Host, Rig};
use crate::slope::Slope;
use crate::synthetic_agent::MACHINE;
use crate::synthetic_tree::source;
use crate::table::{Results, Table, mib, number};
use crate::usage::Usage;

/// What is told on paper when it was not measured.
const PAPER_ENTRIES: u64 = 10_000_000;
const COLUMNS: [&str; 9] = [
    "entries",
    "run",
    "seconds",
    "µs an entry",
    "coordinator peak MiB",
    "coordinator's processor µs an entry",
    "agent peak MiB",
    "state bytes an entry",
    "repository bytes an entry",
];

/// One run of one listing.
#[derive(Debug, Serialize)]
struct Row {
    entries: u64,
    initial: bool,
    secs: f64,
    coordinator_bytes: u64,
    agent_bytes: u64,
    /// Growth of index, catalog and the like.
    state_bytes: i64,
    /// Growth of the repository.
    repository_bytes: i64,
    usage: Usage,
}

/// Measures all listings.
pub fn measure(place: &Place, options: &EntriesOptions) -> Result<()> {
    let shown = json!({ "entries": options.entries, "real_entries": options.real_entries });
    let mut results = Results::new("entries", shown);
    let synthetic = wanted(&options.entries);
    if !synthetic.is_empty() {
        let table = synthetic_listings(place, &synthetic)?;
        results.add(place, &table)?;
    }
    let real = wanted(&options.real_entries);
    if !real.is_empty() {
        let table = real_trees(place, &real)?;
        results.add(place, &table)?;
    }
    Ok(())
}

fn wanted(counts: &[u64]) -> Vec<u64> {
    let mut counts: Vec<u64> = counts.iter().copied().filter(|count| *count > 0).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// Listings told by the synthetic agent, on a target that calls its machine by another name.
fn synthetic_listings(place: &Place, counts: &[u64]) -> Result<Table> {
    let directory = place.subdirectory("synthetic")?;
    let uname = fake_uname(&directory)?;
    let sshd = Sshd::start(
        &place.subdirectory("synthetic-target")?,
        SshdOptions {
            setup: vec![format!(
                "mount --bind {} \"$(readlink -f \"$(command -v uname)\")\"",
                uname.display()
            )],
            ..SshdOptions::default()
        },
    )?;
    let mut rig = Rig::new(&place.coordinator, &directory.join("coordinator"))?;
    let agents = directory.join("agents");
    fs::create_dir(&agents)?;
    let own = std::env::current_exe().context("asking for this program's path")?;
    fs::copy(own, agents.join(format!("target-agent-{MACHINE}")))
        .context("copying this program as an agent")?;
    rig.set_agents_directory(&agents)?;
    let mut rows = Vec::new();
    let mut table = Table::new("Listings told by a synthetic agent", &COLUMNS);
    for entries in counts {
        let listing = Listing {
            name: format!("synthetic{entries}"),
            sshd: &sshd,
            path: &source(*entries),
            lines: &["transport = \"stdio\""],
        };
        both_runs(&mut rig, &listing, &mut table, &mut rows)?;
    }
    rig.remove()?;
    table.note(
        "Empty files, 1,000 in a folder, all metadata; the agent's memory and time here are the synthetic agent's.",
    );
    note_growth(&mut table, &rows);
    Ok(table)
}

/// Real trees in memory, walked by the real agent.
fn real_trees(place: &Place, counts: &[u64]) -> Result<Table> {
    let directory = place.subdirectory("real")?;
    let mut rows = Vec::new();
    let mut table = Table::new(
        "Real trees of empty files, walked by the real agent",
        &COLUMNS,
    );
    for entries in counts {
        eprintln!("entries: making {entries} files");
        let tree = RealTree::new(&directory.join("tree"), *entries)?;
        let target = place.subdirectory(&format!("real-target{entries}"))?;
        // A target sees the filesystems that were mounted when it started.
        let sshd = Sshd::start(&target, SshdOptions::default())?;
        let mut rig = Rig::new(&place.coordinator, &directory.join("coordinator"))?;
        let listing = Listing {
            name: format!("real{entries}"),
            sshd: &sshd,
            path: tree.path(),
            lines: &[],
        };
        both_runs(&mut rig, &listing, &mut table, &mut rows)?;
        rig.remove()?;
        drop(sshd);
    }
    table.note("Empty files on a memory filesystem, 1,000 in a folder.");
    note_growth(&mut table, &rows);
    Ok(table)
}

struct Listing<'a> {
    name: String,
    sshd: &'a Sshd,
    path: &'a Path,
    lines: &'a [&'a str],
}

fn both_runs(
    rig: &mut Rig,
    listing: &Listing<'_>,
    table: &mut Table,
    rows: &mut Vec<Row>,
) -> Result<()> {
    rig.add(&Host {
        name: &listing.name,
        address: None,
        sshd: listing.sshd,
        path: listing.path,
        lines: listing.lines,
    })?;
    for initial in [true, false] {
        let before = (rig.state_bytes()?, rig.repository_bytes()?);
        let cost = rig.run(&listing.name)?;
        let after = (rig.state_bytes()?, rig.repository_bytes()?);
        let row = row(
            &cost,
            initial,
            [grown(before.0, after.0), grown(before.1, after.1)],
        );
        table.push(cells(&row), &row)?;
        rows.push(row);
    }
    Ok(())
}

fn grown(before: u64, after: u64) -> i64 {
    after.cast_signed() - before.cast_signed()
}

fn row(cost: &Cost, initial: bool, [state_bytes, repository_bytes]: [i64; 2]) -> Row {
    Row {
        entries: cost.report.files + cost.report.directories,
        initial,
        secs: cost.wall_secs,
        coordinator_bytes: cost.coordinator_bytes(),
        agent_bytes: cost.agent_bytes(),
        state_bytes,
        repository_bytes,
        usage: cost.usage,
    }
}

fn cells(row: &Row) -> Vec<String> {
    let each = |value: f64| number(value / row.entries as f64);
    vec![
        row.entries.to_string(),
        if row.initial { "first" } else { "unchanged" }.into(),
        number(row.secs),
        each(row.secs * 1e6),
        mib(row.coordinator_bytes),
        each(row.usage.coordinator.cpu_secs * 1e6),
        mib(row.agent_bytes),
        each(row.state_bytes as f64),
        each(row.repository_bytes as f64),
    ]
}

/// Says how time and memory grow, and what ten million would come to when they were not measured.
fn note_growth(table: &mut Table, rows: &[Row]) {
    let measured = rows.iter().map(|row| row.entries).max().unwrap_or_default();
    for initial in [true, false] {
        let line = |of: fn(&Row) -> f64| {
            let points: Vec<(f64, f64)> = rows
                .iter()
                .filter(|row| row.initial == initial)
                .map(|row| (row.entries as f64, of(row)))
                .collect();
            Slope::through(&points)
        };
        // Windows and caches fill first: only the largest listings tell how memory goes on.
        let last_line = |of: fn(&Row) -> f64| last_points(rows, initial, of);
        let (Some(secs), Some(coordinator), Some(agent)) = (
            line(|row| row.secs),
            last_line(|row| row.coordinator_bytes as f64),
            last_line(|row| row.agent_bytes as f64),
        ) else {
            return;
        };
        let run = if initial { "First" } else { "Unchanged" };
        let mut text = format!(
            "{run} runs, a line through the points: {} µs an entry and {} s fixed (misfit {:.0} %); \
             between the two largest: coordinator {} bytes an entry, agent {} bytes an entry.",
            number(secs.per_unit * 1e6),
            number(secs.fixed),
            secs.misfit * 100.0,
            number(coordinator.per_unit),
            number(agent.per_unit),
        );
        if measured < PAPER_ENTRIES / 100 * 99 {
            let at = PAPER_ENTRIES as f64;
            text.push_str(&format!(
                " On paper for {PAPER_ENTRIES} entries: {} s, coordinator {} MiB, agent {} MiB.",
                number(secs.at(at)),
                number(coordinator.at(at) / f64::from(1 << 20)),
                number(agent.at(at) / f64::from(1 << 20)),
            ));
        }
        table.note(text);
    }
}

/// The line through the two largest listings.
fn last_points(rows: &[Row], initial: bool, of: fn(&Row) -> f64) -> Option<Slope> {
    let mut largest: Vec<&Row> = rows.iter().filter(|row| row.initial == initial).collect();
    largest.sort_by_key(|row| std::cmp::Reverse(row.entries));
    largest.truncate(2);
    let points: Vec<(f64, f64)> = largest
        .iter()
        .map(|row| (row.entries as f64, of(row)))
        .collect();
    Slope::through(&points)
}

/// A `uname` for the target alone, so that it is sent the synthetic agent.
fn fake_uname(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("uname");
    fs::write(&path, format!("#!/bin/sh\necho Linux {MACHINE}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
