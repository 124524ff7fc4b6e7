//! `bytes`: what each GiB costs, in time, memory and index, from one GiB up; for a TiB on paper, from the slopes.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;
use tests::sshd::{Sshd, SshdOptions};

use crate::data::mixed_tree;
use crate::isolation::Place;
use crate::options::BytesOptions;
use crate::rig::{Host, Rig};
use crate::slope::Slope;
use crate::table::{Results, Table, mib, number};
use crate::usage::Usage;

const GIB: u64 = 1 << 30;
const COLUMNS: [&str; 9] = [
    "GiB",
    "run",
    "seconds",
    "seconds a GiB",
    "processor seconds a GiB: coordinator, agent",
    "coordinator peak MiB",
    "agent peak MiB",
    "state KiB a GiB",
    "repository MiB a GiB",
];

/// One run.
#[derive(Debug, Serialize)]
struct Row {
    gib: u64,
    initial: bool,
    secs: f64,
    coordinator_bytes: u64,
    agent_bytes: u64,
    /// Index, catalog and the like after the run.
    state_bytes: u64,
    /// The repository after the run.
    repository_bytes: u64,
    usage: Usage,
}

/// Measures all sizes.
pub fn measure(place: &Place, options: &BytesOptions) -> Result<()> {
    let shown = json!({ "gib": options.gib, "file_mib": options.file_mib });
    let mut results = Results::new("bytes", shown);
    let mut table = Table::new("Cost of each GiB", &COLUMNS);
    let mut rows = Vec::new();
    let sshd = Sshd::start(&place.subdirectory("target")?, SshdOptions::default())?;
    let file_bytes = options.file_mib.max(1) << 20;
    for gib in &options.gib {
        eprintln!("bytes: making {gib} GiB");
        let data = place.directory.join("data");
        mixed_tree(&data, gib * GIB, file_bytes, *gib)?;
        let mut rig = Rig::new(&place.coordinator, &place.directory.join("coordinator"))?;
        rig.add(&Host {
            name: "host",
            address: None,
            sshd: &sshd,
            path: &data,
            lines: &[],
        })?;
        for initial in [true, false] {
            let cost = rig.run("host")?;
            let row = Row {
                gib: *gib,
                initial,
                secs: cost.wall_secs,
                coordinator_bytes: cost.coordinator_bytes(),
                agent_bytes: cost.agent_bytes(),
                state_bytes: rig.state_bytes()?,
                repository_bytes: rig.repository_bytes()?,
                usage: cost.usage,
            };
            table.push(cells(&row), &row)?;
            rows.push(row);
        }
        rig.remove()?;
        fs::remove_dir_all(&data).context("removing the data")?;
    }
    table.note(format!(
        "Files of {} MiB, half text, half incompressible. The second run finds nothing changed.",
        options.file_mib
    ));
    note_growth(&mut table, &rows);
    results.add(place, &table)
}

fn cells(row: &Row) -> Vec<String> {
    let each = |value: f64| number(value / row.gib as f64);
    vec![
        row.gib.to_string(),
        if row.initial { "first" } else { "unchanged" }.into(),
        number(row.secs),
        each(row.secs),
        format!(
            "{}, {}",
            each(row.usage.coordinator.cpu_secs),
            each(row.usage.agent.cpu_secs)
        ),
        mib(row.coordinator_bytes),
        mib(row.agent_bytes),
        each(row.state_bytes as f64 / 1024.0),
        each(row.repository_bytes as f64 / f64::from(1 << 20)),
    ]
}

/// Says how first runs grow, and what a TiB would come to.
fn note_growth(table: &mut Table, rows: &[Row]) {
    let line = |of: fn(&Row) -> f64| {
        let points: Vec<(f64, f64)> = rows
            .iter()
            .filter(|row| row.initial)
            .map(|row| (row.gib as f64, of(row)))
            .collect();
        Slope::through(&points)
    };
    // Windows and caches fill first: only the largest sizes tell how memory goes on.
    let last_line = |of: fn(&Row) -> f64| {
        let mut largest: Vec<&Row> = rows.iter().filter(|row| row.initial).collect();
        largest.sort_by_key(|row| std::cmp::Reverse(row.gib));
        largest.truncate(2);
        let points: Vec<(f64, f64)> = largest
            .iter()
            .map(|row| (row.gib as f64, of(row)))
            .collect();
        Slope::through(&points)
    };
    let (Some(secs), Some(coordinator), Some(agent), Some(state)) = (
        line(|row| row.secs),
        last_line(|row| row.coordinator_bytes as f64),
        last_line(|row| row.agent_bytes as f64),
        line(|row| row.state_bytes as f64),
    ) else {
        return;
    };
    let mebi = f64::from(1 << 20);
    table.note(format!(
        "First runs, a line through the points: {} s a GiB and {} s fixed (misfit {:.0} %), state {} KiB a GiB; between \
         the two largest: coordinator {} KiB a GiB, agent {} KiB a GiB. \
         On paper for 1 TiB: {} h, coordinator {} MiB, agent {} MiB, state {} MiB.",
        number(secs.per_unit),
        number(secs.fixed),
        secs.misfit * 100.0,
        number(state.per_unit / 1024.0),
        number(coordinator.per_unit / 1024.0),
        number(agent.per_unit / 1024.0),
        number(secs.at(1024.0) / 3600.0),
        number(coordinator.at(1024.0) / mebi),
        number(agent.at(1024.0) / mebi),
        number(state.at(1024.0) / mebi),
    ));
}
