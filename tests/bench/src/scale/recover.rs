//! `recover`: a repository of many small snapshots, stored in a directory, on an SFTP server and on an S3 server alike, and
//! a coordinator built anew from each of them, in turn.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tests::shapes::exit;
use tests::sshd::{Sshd, SshdOptions};

use crate::data::random_tree;
use crate::isolation::Place;
use crate::options::RecoverOptions;
use crate::rig::{Host, RUN_MAX, Rig};
use crate::stores::{StoreKind, Stores, Way};
use crate::table::{Results, Table, median, number, spread};
use crate::usage::{Sampler, Usage, cpu_cells};

/// Size of each file.
const FILE_BYTES: u64 = 8 << 10;
/// What the stores may come to: packs are padded, and small.
const STORED_BYTES_MAX: u64 = 512 << 20;
/// What the repository is called in the stores.
const NAME: &str = "many";
const COLUMNS: [&str; 6] = [
    "from",
    "snapshots",
    "packs, data and meta",
    "seconds (min · median · max)",
    "packs a second",
    "processor seconds: coordinator, agent, sshd, S3 server, bench",
];

/// What `recover --json` prints.
#[derive(Debug, Deserialize)]
struct Report {
    repositories: Vec<Recovered>,
}

#[derive(Debug, Deserialize)]
struct Recovered {
    snapshots: u64,
    packs: u64,
    problems: Vec<String>,
}

/// One recovery.
#[derive(Debug, Clone, Serialize)]
struct Recovery {
    secs: f64,
    packs: u64,
    usage: Usage,
}

/// All recoveries from one place.
#[derive(Debug, Serialize)]
struct Row {
    from: StoreKind,
    snapshots: u64,
    recoveries: Vec<Recovery>,
}

/// Measures all kinds.
pub fn measure(place: &Place, options: &RecoverOptions) -> Result<()> {
    let stores = Stores::start(place, options.s3, STORED_BYTES_MAX)?;
    let rig = fill(place, &stores, options)?;
    let mut rows = StoreKind::ALL.map(|from| Row {
        from,
        snapshots: options.snapshots,
        recoveries: Vec::new(),
    });
    let into = place.directory.join("recovered");
    for round in 1..=options.rounds.max(1) {
        for row in &mut rows {
            eprintln!("recover: from {}, round {round}", row.from.name());
            let recovery = recover(&stores, &rig, row.from, &into, options)?;
            row.recoveries.push(recovery);
        }
    }
    let shown = json!({
        "snapshots": options.snapshots, "files": options.files, "rounds": options.rounds, "s3": options.s3,
    });
    let mut results = Results::new("recover", shown);
    let mut table = Table::new("A coordinator built anew", &COLUMNS);
    for row in &rows {
        table.push(cells(row), row)?;
    }
    table.note(format!(
        "One repository; each snapshot added {} files of {} KiB, with a data pack and a meta pack of its own. Without delay; \
         a recovery's time is the whole command's.",
        options.files,
        FILE_BYTES >> 10
    ));
    results.add(place, &table)
}

/// Makes the repository: a run for each snapshot, to all three places at once.
fn fill(place: &Place, stores: &Stores, options: &RecoverOptions) -> Result<Rig> {
    let target = Sshd::start(&place.subdirectory("target")?, SshdOptions::default())?;
    let data = place.subdirectory("data")?;
    let mut rig = stores.rig(place, NAME, &StoreKind::ALL, Way::Straight)?;
    rig.add(&Host {
        name: "host",
        address: None,
        sshd: &target,
        path: &data,
        lines: &[],
    })?;
    for snapshot in 0..options.snapshots {
        if snapshot % 50 == 0 {
            eprintln!(
                "recover: making snapshot {} of {}",
                snapshot + 1,
                options.snapshots
            );
        }
        let fresh = data.join(format!("{snapshot:06}"));
        random_tree(&fresh, options.files * FILE_BYTES, FILE_BYTES, snapshot)?;
        rig.run("host")?;
    }
    Ok(rig)
}

fn recover(
    stores: &Stores,
    rig: &Rig,
    from: StoreKind,
    into: &Path,
    options: &RecoverOptions,
) -> Result<Recovery> {
    let sampler = Sampler::start(rig.coordinator())?;
    let finished = stores.recover(rig, (from, NAME), into)?.finish(RUN_MAX);
    let usage = sampler.stop()?;
    let finished = finished?.expect_code(exit::OK)?;
    let secs = finished.duration.as_secs_f64();
    let report: Report = finished.json()?;
    let found = report.repositories.first().context("a repository")?;
    ensure!(
        found.snapshots == options.snapshots && found.problems.is_empty(),
        "{found:?}"
    );
    fs::remove_dir_all(into).context("removing what was recovered")?;
    Ok(Recovery {
        secs,
        packs: found.packs,
        usage,
    })
}

fn cells(row: &Row) -> Vec<String> {
    let secs: Vec<f64> = row.recoveries.iter().map(|one| one.secs).collect();
    let usages: Vec<Usage> = row.recoveries.iter().map(|one| one.usage).collect();
    let packs = row.recoveries.first().map_or(0, |one| one.packs);
    vec![
        row.from.name().into(),
        row.snapshots.to_string(),
        packs.to_string(),
        spread(&secs),
        number(packs as f64 / median(&secs)),
        cpu_cells(&usages),
    ]
}
