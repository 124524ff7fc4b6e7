//! `upload`: first runs of a host whose only destination is far away, beside the same runs over the same line without its
//! delay, and over no line at all, in turn. What a plain client gets out of each server is measured the same way: a server
//! that is slow by itself would hide the delay.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;
use tests::sshd::{Sshd, SshdOptions};

use crate::data::random_tree;
use crate::isolation::Place;
use crate::long_link::{LinkNature, LongLink, congestion_control};
use crate::options::UploadOptions;
use crate::rig::Host;
use crate::stores::{StoreKind, Stores, Way};
use crate::table::{Results, Table, median, number, percent, spread};
use crate::usage::{Usage, cpu_cells};

/// Size of each file; the first is also what the plain SFTP client stores.
const FILE_BYTES: u64 = 256 << 20;
const MIB: u64 = 1 << 20;
/// The most bytes of a packet on the line.
const PACKET_BYTES: u64 = 65_536;
const COLUMNS: [&str; 10] = [
    "destination",
    "link",
    "plain client MB/s",
    "run MB/s (min · median · max)",
    "÷ same line without delay",
    "÷ no line",
    "seconds for 1 MiB",
    "MB/s beyond those (÷ without delay, ÷ no line)",
    "processor seconds: coordinator, agent, sshd, S3 server, line",
    "seconds",
];

/// A way to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// No line at all.
    None,
    /// The line without its delay.
    Idle,
    /// The line.
    Long,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
struct Run {
    /// Bytes stored a second, from the command's start to its end.
    rate: f64,
    secs: f64,
    stored_bytes: u64,
    usage: Usage,
}

/// All runs by one way.
#[derive(Debug, Clone, Serialize)]
struct Row {
    destination: StoreKind,
    /// What the line adds to each round trip; nothing without a line.
    rtt_ms: Option<u64>,
    measured_rtt_ms: Option<f64>,
    plain_rates: Vec<f64>,
    /// Runs of hardly any data: what a run takes whatever its size.
    small: Vec<Run>,
    runs: Vec<Run>,
}

impl Row {
    fn rate(&self) -> f64 {
        self.middle(|run| run.rate)
    }

    fn middle(&self, of: fn(&Run) -> f64) -> f64 {
        median(&self.runs.iter().map(of).collect::<Vec<_>>())
    }

    fn small_secs(&self) -> f64 {
        median(&self.small.iter().map(|run| run.secs).collect::<Vec<_>>())
    }

    /// Bytes a second without what a run takes whatever its size.
    fn steady_rate(&self) -> f64 {
        let secs = self.middle(|run| run.secs) - self.small_secs();
        self.middle(|run| run.stored_bytes as f64) / secs
    }
}

/// What is backed up.
struct Data {
    path: PathBuf,
    bytes: u64,
}

/// What stays the same.
struct Ends<'a> {
    place: &'a Place,
    options: &'a UploadOptions,
    stores: Stores,
    target: Sshd,
    data: Data,
    small: Data,
    congestion: String,
}

/// Measures SFTP and S3.
pub fn measure(place: &Place, options: &UploadOptions) -> Result<()> {
    let bytes = options.mib.max(1) * MIB;
    let data = |name, bytes| Data {
        path: place.directory.join(name),
        bytes,
    };
    let ends = Ends {
        place,
        options,
        stores: Stores::start(place, options.s3, bytes)?,
        target: Sshd::start(&place.subdirectory("target")?, SshdOptions::default())?,
        data: data("data", bytes),
        small: data("small", MIB),
        congestion: congestion_control()?,
    };
    for data in [&ends.data, &ends.small] {
        random_tree(&data.path, data.bytes, FILE_BYTES, 1)?;
    }
    let shown = json!({
        "mib": options.mib, "rtt_ms": options.rtt_ms, "mbit": options.mbit, "rounds": options.rounds, "s3": options.s3,
        "connections": options.connections, "congestion": ends.congestion,
    });
    let mut results = Results::new("upload", shown);
    let mut table = Table::new("First runs to a destination that is far away", &COLUMNS);
    for kind in options
        .to
        .iter()
        .copied()
        .filter(|kind| *kind != StoreKind::Directory)
    {
        let rows = ends.measure(kind)?;
        let [none, idle, _] = &rows;
        for row in &rows {
            table.push(cells(row, idle, none), row)?;
        }
    }
    table.note(format!(
        "{} MiB of incompressible data. MB is 10^6 bytes stored; a run's time is the whole command's, and it reads \
         everything back to verify it. Ratios are of medians. The plain client is OpenSSH's sftp with one file, or four \
         puts of 32 MiB at once. The line carries {}. Congestion control is {}.",
        options.mib,
        match options.mbit {
            0 => "what the machine can".into(),
            mbit => format!("{mbit} Mbit/s each way, with a queue of 100 ms"),
        },
        ends.congestion
    ));
    results.add(place, &table)
}

impl Ends<'_> {
    fn measure(&self, kind: StoreKind) -> Result<[Row; 3]> {
        let links = [Link::None, Link::Idle, Link::Long];
        let mut rows = links.map(|link| Row {
            destination: kind,
            rtt_ms: self.rtt_ms(link),
            measured_rtt_ms: None,
            plain_rates: Vec::new(),
            small: Vec::new(),
            runs: Vec::new(),
        });
        for round in 1..=self.options.rounds.max(1) {
            for (link, row) in links.into_iter().zip(&mut rows) {
                eprintln!("upload: {}, {link:?}, round {round}", kind.name());
                self.turn(link, row)?;
            }
        }
        Ok(rows)
    }

    fn rtt_ms(&self, link: Link) -> Option<u64> {
        match link {
            Link::None => None,
            Link::Idle => Some(0),
            Link::Long => Some(self.options.rtt_ms),
        }
    }

    /// One plain upload and one run, with whatever line belongs there.
    fn turn(&self, link: Link, row: &mut Row) -> Result<()> {
        let Some(rtt_ms) = self.rtt_ms(link) else {
            row.plain_rates
                .push(self.plain(row.destination, Way::Straight)?);
            self.runs(row, Way::Straight)?;
            return Ok(());
        };
        let nature = LinkNature {
            round_trip: Duration::from_millis(rtt_ms),
            loss_permille: 0,
            bits_per_sec: self.options.mbit * 1_000_000,
            congestion: &self.congestion,
        };
        let line = LongLink::up(self.stores.network(), &self.place.directory, nature)?;
        row.measured_rtt_ms = Some(line.measured_round_trip_ms()?);
        row.plain_rates
            .push(self.plain(row.destination, Way::Line)?);
        let stored_bytes = self.runs(row, Way::Line)?;
        let [there, _] = line.down()?;
        ensure!(
            there.packets * PACKET_BYTES >= stored_bytes,
            "{} packets crossed the line for {stored_bytes} bytes: they took another way",
            there.packets
        );
        // A line of a rate of its own has a queue that fills, as any router's does.
        ensure!(
            there.overflowed == 0 || self.options.mbit > 0,
            "the line lost packets: {there:?}"
        );
        Ok(())
    }

    /// A small run and a whole one; gives what the latter stored.
    fn runs(&self, row: &mut Row, way: Way) -> Result<u64> {
        row.small.push(self.run(row.destination, way, &self.small)?);
        let run = self.run(row.destination, way, &self.data)?;
        let stored_bytes = run.stored_bytes;
        row.runs.push(run);
        Ok(stored_bytes)
    }

    fn plain(&self, kind: StoreKind, way: Way) -> Result<f64> {
        match kind {
            StoreKind::S3 => {
                let bytes = self.options.mib.min(FILE_BYTES / MIB) * MIB;
                let rate = self.stores.bucket(way)?.plain_upload(bytes)?;
                self.stores.collect_garbage()?;
                Ok(rate)
            }
            _ => self
                .stores
                .plain_sftp_upload(&self.data.path.join("0000/000000"), way),
        }
    }

    /// A first run of a coordinator of its own, all of which is removed afterwards.
    fn run(&self, kind: StoreKind, way: Way, data: &Data) -> Result<Run> {
        const NAME: &str = "far";
        let mut rig = self.stores.rig(self.place, NAME, &[kind], way)?;
        let limits = self
            .options
            .connections
            .map(|count| format!("limits = {{ tunnel_connections = {count} }}"));
        rig.add(&Host {
            name: "host",
            address: None,
            sshd: &self.target,
            path: &data.path,
            lines: &limits.as_deref().into_iter().collect::<Vec<_>>(),
        })?;
        let cost = rig.run("host")?;
        let bytes = data.bytes;
        ensure!(
            cost.report.bytes_read == bytes && cost.report.stored_bytes >= bytes,
            "the run read {} bytes and stored {}, of {bytes}",
            cost.report.bytes_read,
            cost.report.stored_bytes
        );
        rig.remove()?;
        self.stores.clear(NAME)?;
        Ok(Run {
            rate: cost.report.stored_bytes as f64 / cost.wall_secs,
            secs: cost.wall_secs,
            stored_bytes: cost.report.stored_bytes,
            usage: cost.usage,
        })
    }
}

fn cells(row: &Row, idle: &Row, none: &Row) -> Vec<String> {
    let rates: Vec<f64> = row.runs.iter().map(|run| run.rate / 1e6).collect();
    let plain: Vec<f64> = row.plain_rates.iter().map(|rate| rate / 1e6).collect();
    let secs: Vec<f64> = row.runs.iter().map(|run| run.secs).collect();
    let usages: Vec<Usage> = row.runs.iter().map(|run| run.usage).collect();
    let link = match (row.rtt_ms, row.measured_rtt_ms) {
        (Some(rtt), Some(measured)) => format!("line, {rtt} ms ({} measured)", number(measured)),
        _ => "no line".into(),
    };
    vec![
        row.destination.name().into(),
        link,
        number(median(&plain)),
        spread(&rates),
        percent(row.rate() / idle.rate()),
        percent(row.rate() / none.rate()),
        number(row.small_secs()),
        format!(
            "{} ({}, {})",
            number(row.steady_rate() / 1e6),
            percent(row.steady_rate() / idle.steady_rate()),
            percent(row.steady_rate() / none.steady_rate())
        ),
        cpu_cells(&usages),
        number(median(&secs)),
    ]
}
