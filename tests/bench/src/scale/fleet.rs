//! `fleet`: one host alone, then many at once, each with a target, data and a repository of its own. The command line
//! takes one host, so many at once are as many coordinators at once, under one configuration.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tests::shapes::RunReport;
use tests::sshd::{Sshd, SshdOptions};

use crate::data::mixed_tree;
use crate::isolation::Place;
use crate::options::FleetOptions;
use crate::rig::{Host, RUN_MAX, Rig, good_report};
use crate::table::{Results, Table, median, mib, number};
use crate::usage::{Sampler, Usage};

const MIB: u64 = 1 << 20;
/// Size of each file.
const FILE_BYTES: u64 = 4 * MIB;
/// How often one host alone is measured; the median counts.
const ALONE_REPEATS: usize = 3;
const COLUMNS: [&str; 10] = [
    "hosts",
    "seconds",
    "MB/s read, all hosts",
    "÷ alone",
    "coordinator peak MiB, largest",
    "all coordinators' peaks MiB",
    "all coordinators at one time MiB",
    "agent peak MiB, largest",
    "all agents' peaks MiB",
    "processor seconds for each GiB",
];

/// What so many hosts came to.
#[derive(Debug, Serialize)]
struct Row {
    hosts: usize,
    secs: f64,
    bytes_read: u64,
    stored_bytes: u64,
    rate: f64,
    ratio_to_one: f64,
    usage: Usage,
}

struct Target {
    sshd: Sshd,
    data: PathBuf,
}

/// Measures one host, then as many as asked for.
pub fn measure(place: &Place, options: &FleetOptions) -> Result<()> {
    let most = options.hosts.iter().copied().max().unwrap_or(1).max(1);
    let targets = (0..most)
        .map(|number| target(place, number, options.mib * MIB))
        .collect::<Result<Vec<_>>>()?;
    let shown = json!({ "hosts": options.hosts, "mib": options.mib });
    let mut results = Results::new("fleet", shown);
    let mut table = Table::new("Hosts at once", &COLUMNS);
    let mut alone = (0..ALONE_REPEATS)
        .map(|_| together(place, targets.get(..1).unwrap_or_default()))
        .collect::<Result<Vec<_>>>()?;
    let rate = median(&alone.iter().map(|row| row.rate).collect::<Vec<_>>());
    // The row that is the median; the other two show in the spread.
    let spread: Vec<f64> = alone.iter().map(|row| row.rate / 1e6).collect();
    alone.retain(|row| (row.rate - rate).abs() < f64::EPSILON * rate);
    for mut row in alone.into_iter().take(1) {
        row.ratio_to_one = 1.0;
        table.push(cells(&row), &row)?;
    }
    for hosts in &options.hosts {
        let chosen = targets.get(..*hosts).unwrap_or(&targets);
        let mut row = together(place, chosen)?;
        row.ratio_to_one = row.rate / rate;
        table.push(cells(&row), &row)?;
    }
    table.note(format!(
        "{} MiB for each host, half text, half incompressible; initial runs. One host alone, {ALONE_REPEATS} times: {} MB/s. \
         Each host is a coordinator process of its own. All targets are on this machine.",
        options.mib,
        spread.iter().map(|rate| number(*rate)).collect::<Vec<_>>().join(", ")
    ));
    results.add(place, &table)
}

fn target(place: &Place, number: usize, bytes: u64) -> Result<Target> {
    let data = place.directory.join(format!("data{number}"));
    mixed_tree(&data, bytes, FILE_BYTES, number as u64 + 1)?;
    let directory = place.subdirectory(&format!("target{number}"))?;
    let sshd = Sshd::start(&directory, SshdOptions::default())?;
    Ok(Target { sshd, data })
}

/// Initial runs of all of these, all at the same time, with a coordinator's directory of their own.
fn together(place: &Place, targets: &[Target]) -> Result<Row> {
    eprintln!("fleet: {} hosts", targets.len());
    let mut rig = Rig::new(&place.coordinator, &place.directory.join("coordinator"))?;
    let names: Vec<String> = (0..targets.len())
        .map(|number| format!("h{number}"))
        .collect();
    for (name, target) in names.iter().zip(targets) {
        rig.add(&Host {
            name,
            address: None,
            sshd: &target.sshd,
            path: &target.data,
            lines: &[],
        })?;
    }
    let sampler = Sampler::start(rig.coordinator())?;
    let start = Instant::now();
    let running = names
        .iter()
        .map(|name| rig.start(name))
        .collect::<Result<Vec<_>>>()?;
    let finished = running
        .into_iter()
        .map(|one| one.finish(RUN_MAX))
        .collect::<Vec<_>>();
    let secs = start.elapsed().as_secs_f64();
    let usage = sampler.stop()?;
    let reports = finished
        .into_iter()
        .map(|one| good_report(one?))
        .collect::<Result<Vec<RunReport>>>()
        .context("one of the hosts")?;
    rig.remove()?;
    let sum = |of: fn(&RunReport) -> u64| reports.iter().map(of).sum::<u64>();
    let bytes_read = sum(|report| report.bytes_read);
    ensure!(bytes_read > 0, "nothing was read");
    Ok(Row {
        hosts: targets.len(),
        secs,
        bytes_read,
        stored_bytes: sum(|report| report.stored_bytes),
        rate: bytes_read as f64 / secs,
        ratio_to_one: 0.0,
        usage,
    })
}

fn cells(row: &Row) -> Vec<String> {
    let usage = &row.usage;
    let cpu = usage.coordinator.cpu_secs + usage.agent.cpu_secs + usage.sshd.cpu_secs;
    vec![
        row.hosts.to_string(),
        number(row.secs),
        number(row.rate / 1e6),
        format!("{:.0} %", row.ratio_to_one * 100.0),
        mib(usage.coordinator.peak_max),
        mib(usage.coordinator.peak_sum),
        mib(usage.coordinator.together_max),
        mib(usage.agent.peak_max),
        mib(usage.agent.peak_sum),
        number(cpu / (row.bytes_read as f64 / f64::from(1 << 30))),
    ]
}
