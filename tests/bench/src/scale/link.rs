//! `link`: an initial run over a long link beside one plain `ssh cat` of the same files over the same link, in turn. The
//! link without delay comes first, to show that the line itself is not what limits the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use serde_json::json;
use tests::sshd::{Sshd, SshdOptions};

use crate::data::random_tree;
use crate::delay_line::Counts;
use crate::isolation::Place;
use crate::long_link::{
    LISTEN_LINE, LinkNature, LongLink, NEAR_DEVICE, TARGET, TargetNetwork, congestion_control,
};
use crate::options::LinkOptions;
use crate::rig::{Host, RUN_MAX, Rig};
use crate::table::{Results, Table, median, number};
use crate::wire_monitor::{Crossed, WireMonitor};

/// Bytes of the stream that shows how much data a case can carry in its time.
const PROBE_BYTES: u64 = 8 << 20;
/// Size of each file.
const FILE_BYTES: u64 = 64 << 20;
const MIB: u64 = 1 << 20;
const COLUMNS: [&str; 10] = [
    "link",
    "congestion control",
    "data MiB",
    "`ssh cat` MB/s",
    "run MB/s",
    "run ÷ cat",
    "cat's middle MB/s",
    "run's middle MB/s",
    "middle ÷ middle",
    "transport",
];

/// A link to measure over.
#[derive(Debug, Clone)]
struct Case {
    rtt_ms: u64,
    loss_permille: u64,
    congestion: String,
}

/// One transfer.
#[derive(Debug, Clone, Copy, Serialize)]
struct Transfer {
    /// Bytes of the file, or bytes stored, for each second from start to end.
    rate: f64,
    /// Bytes on the wire for each second of its middle.
    middle_rate: f64,
    wire_bytes: u64,
    secs: f64,
}

/// What a case came to.
#[derive(Debug, Serialize)]
struct Row {
    rtt_ms: u64,
    measured_rtt_ms: f64,
    loss_permille: u64,
    congestion: String,
    data_bytes: u64,
    cat: Vec<Transfer>,
    run: Vec<Transfer>,
    ratio: f64,
    middle_ratio: f64,
    transport: String,
    /// To the target, and back.
    line: [Counts; 2],
}

/// Both ends, and what is the same in all cases.
struct Ends {
    sshd: Sshd,
    network: TargetNetwork,
    rig: Rig,
    directory: PathBuf,
    runs: usize,
}

/// Measures all cases.
pub fn measure(place: &Place, options: &LinkOptions) -> Result<()> {
    let network = TargetNetwork::new(&place.directory)?;
    let sshd = Sshd::start(
        &place.subdirectory("target")?,
        SshdOptions {
            config: vec![LISTEN_LINE.into()],
            setup: vec![network.sshd_setup()],
            ..SshdOptions::default()
        },
    )?;
    let mut ends = Ends {
        sshd,
        network,
        rig: Rig::new(&place.coordinator, &place.directory.join("coordinator"))?,
        directory: place.directory.clone(),
        runs: 0,
    };
    let shown = json!({
        "rtt_ms": options.rtt_ms, "loss_permille": options.loss_permille, "mib": options.mib,
        "case_secs": options.case_secs, "repeats": options.repeats,
    });
    let mut results = Results::new("link", shown);
    let mut table = Table::new("An initial run beside one plain stream", &COLUMNS);
    for case in cases(options)? {
        let row = ends.measure(&case, options)?;
        table.push(cells(&row), &row)?;
    }
    table.note(
        "Incompressible data. MB is 10^6 bytes; a run's are those stored, and its time is the whole command's. \
         The middle is what crossed the wire between a quarter and 95 % of all that did, headers and all.",
    );
    results.add(place, &table)
}

fn cases(options: &LinkOptions) -> Result<Vec<Case>> {
    let mut controls = options.congestion.clone();
    if controls.is_empty() {
        controls.push(congestion_control()?);
    }
    let mut cases = Vec::new();
    for congestion in controls {
        let case = |rtt_ms, loss_permille| Case {
            rtt_ms,
            loss_permille,
            congestion: congestion.clone(),
        };
        if cases.is_empty() {
            cases.push(case(0, 0));
        }
        cases.push(case(options.rtt_ms, 0));
        if options.loss_permille > 0 {
            cases.push(case(options.rtt_ms, options.loss_permille));
        }
    }
    Ok(cases)
}

impl Ends {
    fn measure(&mut self, case: &Case, options: &LinkOptions) -> Result<Row> {
        eprintln!("link: {case:?}");
        let nature = LinkNature {
            round_trip: Duration::from_millis(case.rtt_ms),
            loss_permille: case.loss_permille,
            bits_per_sec: 0,
            congestion: &case.congestion,
        };
        let link = LongLink::up(&self.network, &self.directory, nature)?;
        let measured_rtt_ms = link.measured_round_trip_ms()?;
        let data = self.directory.join("data");
        let data_bytes = self.prepare(&data, options)?;
        let (mut cats, mut runs, mut transport) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..options.repeats.max(1) {
            cats.push(self.cat(&data, data_bytes)?);
            let (run, carried_by) = self.run(&data, data_bytes)?;
            runs.push(run);
            transport = carried_by;
        }
        fs::remove_dir_all(&data).context("removing a case's data")?;
        let middle = |transfers: &[Transfer], of: fn(&Transfer) -> f64| {
            median(&transfers.iter().map(of).collect::<Vec<_>>())
        };
        Ok(Row {
            rtt_ms: case.rtt_ms,
            measured_rtt_ms,
            loss_permille: case.loss_permille,
            congestion: case.congestion.clone(),
            data_bytes,
            ratio: middle(&runs, |one| one.rate) / middle(&cats, |one| one.rate),
            middle_ratio: middle(&runs, |one| one.middle_rate)
                / middle(&cats, |one| one.middle_rate),
            cat: cats,
            run: runs,
            transport,
            line: link.down()?,
        })
    }

    /// Makes as much data as a plain stream carries in the case's time.
    fn prepare(&self, data: &Path, options: &LinkOptions) -> Result<u64> {
        random_tree(data, PROBE_BYTES, FILE_BYTES, 0)?;
        let probe = self.cat(data, PROBE_BYTES)?;
        fs::remove_dir_all(data).context("removing the probe's data")?;
        let rate = probe.middle_rate.max(probe.rate);
        let affordable = (rate * options.case_secs as f64) as u64 / MIB * MIB;
        let bytes = affordable.clamp(PROBE_BYTES, (options.mib * MIB).max(PROBE_BYTES));
        random_tree(data, bytes, FILE_BYTES, 1)?;
        Ok(bytes)
    }

    fn cat(&self, data: &Path, bytes: u64) -> Result<Transfer> {
        let (host, port) = TARGET.split_once(':').context("the target's address")?;
        let key = self.sshd.identity_file();
        let monitor = WireMonitor::start(NEAR_DEVICE)?;
        let start = Instant::now();
        let mut child = Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "Compression=no"])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "LogLevel=ERROR", "-p", port, "-i"])
            .arg(key)
            .arg(format!("root@{host}"))
            .arg(format!("cat {}/*/*", data.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting ssh")?;
        let status = loop {
            if let Some(status) = child.try_wait().context("waiting for ssh")? {
                break status;
            }
            if start.elapsed() > RUN_MAX {
                child.kill().context("ending ssh")?;
                child.wait().context("waiting for ssh")?;
                bail!("ssh was not done after {RUN_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let secs = start.elapsed().as_secs_f64();
        let crossed = monitor.stop()?;
        ensure!(status.success(), "ssh ended with {status}");
        ensure!(
            crossed.bytes >= bytes,
            "{} bytes crossed the link where {bytes} were sent: they took another way",
            crossed.bytes
        );
        Ok(transfer(bytes, secs, crossed))
    }

    /// An initial run: each is a host of its own, with a repository of its own.
    fn run(&mut self, data: &Path, bytes: u64) -> Result<(Transfer, String)> {
        self.runs += 1;
        let name = format!("far{}", self.runs);
        self.rig.add(&Host {
            name: &name,
            address: Some(TARGET),
            sshd: &self.sshd,
            path: data,
            lines: &[],
        })?;
        let monitor = WireMonitor::start(NEAR_DEVICE)?;
        let cost = self.rig.run(&name);
        let crossed = monitor.stop()?;
        let cost = cost?;
        ensure!(
            cost.report.bytes_read == bytes,
            "the run read {} bytes of {bytes}",
            cost.report.bytes_read
        );
        let transport = cost.report.transport.clone().unwrap_or_default();
        let stored = cost.report.stored_bytes;
        Ok((transfer(stored, cost.wall_secs, crossed), transport))
    }
}

fn transfer(bytes: u64, secs: f64, crossed: Crossed) -> Transfer {
    Transfer {
        rate: bytes as f64 / secs,
        middle_rate: crossed.middle_rate,
        wire_bytes: crossed.bytes,
        secs,
    }
}

fn cells(row: &Row) -> Vec<String> {
    let rates = |transfers: &[Transfer], of: fn(&Transfer) -> f64| {
        let all: Vec<f64> = transfers.iter().map(|one| of(one) / 1e6).collect();
        let low = all.iter().copied().fold(f64::INFINITY, f64::min);
        let high = all.iter().copied().fold(0.0, f64::max);
        format!(
            "{} ({}–{})",
            number(median(&all)),
            number(low),
            number(high)
        )
    };
    let link = format!(
        "{} ms ({} measured), {} % loss",
        row.rtt_ms,
        number(row.measured_rtt_ms),
        row.loss_permille as f64 / 10.0
    );
    vec![
        link,
        row.congestion.clone(),
        (row.data_bytes / MIB).to_string(),
        rates(&row.cat, |one| one.rate),
        rates(&row.run, |one| one.rate),
        format!("{:.0} %", row.ratio * 100.0),
        rates(&row.cat, |one| one.middle_rate),
        rates(&row.run, |one| one.middle_rate),
        format!("{:.0} %", row.middle_ratio * 100.0),
        row.transport.clone(),
    ]
}
