//! `together`: first runs to a directory, to an SFTP server, to an S3 server, each alone, and to all three at once, in turn.
//! What is waited for is the slowest; what the three cost together in processor time is told beside it, because that is
//! shared.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;
use tests::sshd::{Sshd, SshdOptions};

use crate::data::random_tree;
use crate::isolation::Place;
use crate::options::TogetherOptions;
use crate::rig::Host;
use crate::stores::{StoreKind, Stores, Way};
use crate::table::{Results, Table, median, number, percent, spread};
use crate::usage::{MachineTime, Usage, cpu_cells};

/// Size of each file.
const FILE_BYTES: u64 = 64 << 20;
const MIB: u64 = 1 << 20;
const COLUMNS: [&str; 7] = [
    "destinations",
    "seconds (min · median · max)",
    "MB/s",
    "÷ slowest alone",
    "processor seconds: coordinator, agent, sshd, S3 server, bench",
    "all of these",
    "cores busy, of the whole machine",
];

/// One run.
#[derive(Debug, Clone, Serialize)]
struct Run {
    secs: f64,
    stored_bytes: u64,
    usage: Usage,
    /// Processor seconds of the whole machine, others' work included.
    machine_cpu_secs: f64,
}

/// All runs to the same destinations.
#[derive(Debug, Clone, Serialize)]
struct Row {
    destinations: Vec<StoreKind>,
    runs: Vec<Run>,
}

impl Row {
    fn secs(&self) -> f64 {
        self.middle(|run| run.secs)
    }

    fn middle(&self, of: impl Fn(&Run) -> f64) -> f64 {
        median(&self.runs.iter().map(of).collect::<Vec<_>>())
    }
}

/// What stays the same.
struct Ends<'a> {
    place: &'a Place,
    stores: Stores,
    target: Sshd,
    data: PathBuf,
    bytes: u64,
}

/// Measures each alone, and all of them.
pub fn measure(place: &Place, options: &TogetherOptions) -> Result<()> {
    let bytes = options.mib.max(1) * MIB;
    let ends = Ends {
        place,
        stores: Stores::start(place, options.s3, bytes)?,
        target: Sshd::start(&place.subdirectory("target")?, SshdOptions::default())?,
        data: place.directory.join("data"),
        bytes,
    };
    random_tree(&ends.data, bytes, FILE_BYTES, 2)?;
    let mut rows: Vec<Row> = StoreKind::ALL
        .iter()
        .map(std::slice::from_ref)
        .chain([&StoreKind::ALL[..]])
        .map(|kinds| Row {
            destinations: kinds.to_vec(),
            runs: Vec::new(),
        })
        .collect();
    for round in 1..=options.rounds.max(1) {
        for row in &mut rows {
            eprintln!("together: {:?}, round {round}", row.destinations);
            row.runs.push(ends.run(&row.destinations)?);
        }
    }
    let slowest = rows
        .iter()
        .filter(|row| row.destinations.len() == 1)
        .map(Row::secs)
        .fold(0.0, f64::max);
    let shown = json!({ "mib": options.mib, "rounds": options.rounds, "s3": options.s3 });
    let mut results = Results::new("together", shown);
    let mut table = Table::new("Three destinations at once", &COLUMNS);
    for row in &rows {
        table.push(cells(row, slowest), row)?;
    }
    table.note(format!(
        "{} MiB of incompressible data, every destination required and without delay. A run's time is the whole \
         command's, and it reads everything back to verify it. Ratios are of medians.",
        options.mib
    ));
    results.add(place, &table)
}

impl Ends<'_> {
    /// A first run of a coordinator of its own, all of which is removed afterwards.
    fn run(&self, kinds: &[StoreKind]) -> Result<Run> {
        const NAME: &str = "together";
        let mut rig = self.stores.rig(self.place, NAME, kinds, Way::Straight)?;
        rig.add(&Host {
            name: "host",
            address: None,
            sshd: &self.target,
            path: &self.data,
            lines: &[],
        })?;
        let machine = MachineTime::now()?;
        let cost = rig.run("host")?;
        let machine_cpu_secs = machine.since()?;
        ensure!(
            cost.report.bytes_read == self.bytes,
            "the run read {} bytes of {}",
            cost.report.bytes_read,
            self.bytes
        );
        rig.remove()?;
        self.stores.clear(NAME)?;
        Ok(Run {
            secs: cost.wall_secs,
            stored_bytes: cost.report.stored_bytes,
            usage: cost.usage,
            machine_cpu_secs,
        })
    }
}

fn cells(row: &Row, slowest: f64) -> Vec<String> {
    let names: Vec<&str> = row.destinations.iter().map(|kind| kind.name()).collect();
    let secs: Vec<f64> = row.runs.iter().map(|run| run.secs).collect();
    let usages: Vec<Usage> = row.runs.iter().map(|run| run.usage).collect();
    vec![
        names.join(" + "),
        spread(&secs),
        number(row.middle(|run| run.stored_bytes as f64 / run.secs / 1e6)),
        percent(row.secs() / slowest),
        cpu_cells(&usages),
        number(row.middle(|run| run.usage.cpu_secs())),
        number(row.middle(|run| run.machine_cpu_secs / run.secs)),
    ]
}
