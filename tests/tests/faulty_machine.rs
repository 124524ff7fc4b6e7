//! A machine that is not well: its clock is set, it sleeps, its disk is full, it goes down in the middle of a write. Backups go on
//! as far as they can, nothing that was committed is lost, nothing is dropped that the rules keep, and what was cut short is gone
//! on with. Each test names the rows of the fault list it covers.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use tests::changing_host::ChangingHost;
use tests::coordinator_process::{DEADLINE, Finished};
use tests::corpus::bytes::incompressible;
use tests::faulty_machine::{FaultyMachine, Step, can_sleep, points};
use tests::killer::seed;
use tests::places::{files_below, repository_in};
use tests::processes;
use tests::shapes::{RestoreReport, SnapshotLine, exit};
use tests::world::HOST;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const DAY_SECS: i64 = 24 * 3_600;
const TEN_YEARS_SECS: i64 = 3_652 * DAY_SECS;
/// Of all writes of a command, at how many it fails.
const POINTS: u64 = 8;
const RUN: [&str; 3] = ["run", HOST, "--json"];
const PRUNE: [&str; 4] = ["prune", HOST, "--yes", "--json"];

/// One element of `prune --json`.
#[derive(Debug, Deserialize)]
struct PruneReport {
    executed: bool,
    refused: Option<String>,
    forgotten: u64,
    condemned: Packs,
    removed: Packs,
    snapshots: Vec<PrunedSnapshot>,
}

#[derive(Debug, Deserialize)]
struct Packs {
    packs: u64,
}

#[derive(Debug, Deserialize)]
struct PrunedSnapshot {
    id: String,
    kept: bool,
    reasons: Vec<String>,
}

/// A host whose coordinator is on a machine that is not well.
struct Bench {
    host: ChangingHost,
    machine: FaultyMachine,
    outputs: u64,
}

impl Bench {
    /// Three snapshots were made.
    fn start(grace: &str) -> Result<Self> {
        let host = ChangingHost::new(grace)?;
        let machine = FaultyMachine::new(host.world.directory())?;
        let mut bench = Self {
            host,
            machine,
            outputs: 0,
        };
        for _ in 0..3 {
            bench.host.change()?;
            bench.run()?;
        }
        Ok(bench)
    }

    fn coordinator(&self, arguments: &[&str]) -> Result<Finished> {
        self.machine.coordinator(&self.host.world, arguments)
    }

    fn run(&mut self) -> Result<()> {
        let run = self.coordinator(&RUN)?.expect_code(exit::OK)?;
        self.host.committed(&run)
    }

    fn prune(&self, code: i32, more: &[&str]) -> Result<PruneReport> {
        let arguments = [&PRUNE[..], more].concat();
        let reports: Vec<PruneReport> = self.coordinator(&arguments)?.expect_code(code)?.json()?;
        reports.into_iter().next().context("a report")
    }

    fn snapshots(&self) -> Result<Vec<SnapshotLine>> {
        self.coordinator(&["snapshots", HOST, "--json"])?
            .expect_code(exit::OK)?
            .json()
    }

    /// Every snapshot restores to what it was; gives how many there are.
    fn expect_all(&mut self) -> Result<usize> {
        let listed = self.snapshots()?;
        for snapshot in &listed {
            self.outputs += 1;
            let out = self.host.world.output(&format!("out-{}", self.outputs));
            fs::create_dir_all(&out)?;
            let to = out.to_str().context("a path in UTF-8")?;
            let restore = ["restore", HOST, &snapshot.id, "--to", to, "--json"];
            let report: RestoreReport =
                self.coordinator(&restore)?.expect_code(exit::OK)?.json()?;
            ensure!(report.problem_count == 0, "{report:?}");
            self.host.expect_was(&snapshot.id, &out)?;
        }
        Ok(listed.len())
    }

    /// Everything that is stored is whole, and nothing that is needed is missing.
    fn expect_whole(&mut self) -> Result<()> {
        self.expect_all()?;
        self.coordinator(&["verify", HOST])?.expect_code(exit::OK)?;
        self.coordinator(&["scan", "--full", "--verify"])?
            .expect_code(exit::OK)?;
        Ok(())
    }

    fn packs(&self) -> Result<usize> {
        let repository = repository_in(&self.host.world.repository())?;
        Ok(files_below(&repository.join("packs"))?.len()
            + files_below(&repository.join("meta"))?.len())
    }

    /// A prune that would forget, condemn and remove says no, and does none of it.
    fn expect_refusal(&self, word: &str) -> Result<()> {
        let (packs, snapshots) = (self.packs()?, self.snapshots()?.len());
        let report = self.prune(exit::ERROR, &[])?;
        let why = report.refused.as_deref().unwrap_or_default();
        ensure!(!report.executed && why.contains(word), "{report:?}");
        ensure!(report.removed.packs == 0, "{report:?}");
        ensure!(self.packs()? == packs && self.snapshots()?.len() == snapshots);
        Ok(())
    }
}

/// What is condemned would be old enough by a clock that was set, and snapshots taken by it are there for ever; none of that drops
/// anything that the rules keep.
#[test]
fn f52_a_clock_that_is_set_stops_every_prune_and_no_backup() -> Result<()> {
    let mut bench = Bench::start("7d")?;
    let report = bench.prune(exit::OK, &[])?;
    ensure!(
        report.forgotten == 1 && report.condemned.packs > 0,
        "{report:?}"
    );
    for secs in [8 * DAY_SECS, -8 * DAY_SECS, -TEN_YEARS_SECS, TEN_YEARS_SECS] {
        bench.machine.set_clock(secs)?;
        bench.expect_refusal("clock")?;
        for _ in 0..2 {
            bench.host.change()?;
            bench.run().with_context(|| format!("{secs} s off"))?;
        }
        bench.expect_refusal("clock")?;
    }
    bench.machine.set_clock(0)?;
    bench.host.change()?;
    bench.run()?;
    bench.expect_refusal("one of the clocks was wrong")?;
    ensure!(bench.expect_all()? == 11);

    // A person says that it is right now: what was taken by another time than it is stays, and so do the last two.
    let report = bench.prune(exit::OK, &["--force-clock"])?;
    ensure!(report.executed && report.removed.packs == 0, "{report:?}");
    let kept = report.snapshots.iter().filter(|snapshot| snapshot.kept);
    let in_doubt = |reason: &String| reason.contains("its time is in doubt");
    let doubted = kept
        .clone()
        .filter(|snapshot| snapshot.reasons.iter().any(in_doubt));
    ensure!(doubted.count() == 8, "{report:?}");
    let newest = report.snapshots.last().context("a snapshot")?;
    ensure!(
        newest.kept && newest.id == bench.snapshots()?.last().context("it")?.id,
        "{report:?}"
    );
    // Once is enough, until a clock is wrong again.
    bench.host.change()?;
    bench.run()?;
    ensure!(bench.prune(exit::OK, &[])?.executed);
    bench.machine.set_clock(TEN_YEARS_SECS)?;
    bench.expect_refusal("clock")?;
    bench.machine.set_clock(0)?;
    ensure!(bench.prune(exit::OK, &[])?.executed);
    bench.expect_whole()
}

/// A second more or less is none, and three days of sleep are three days.
#[test]
fn f52_a_leap_second_and_a_sleep_stop_nothing() -> Result<()> {
    if !can_sleep() {
        return Ok(());
    }
    let mut bench = Bench::start("2d")?;
    ensure!(bench.prune(exit::OK, &[])?.condemned.packs > 0);
    for secs in [1, -1, 0] {
        bench.machine.set_clock(secs)?;
        bench.host.change()?;
        bench.run()?;
        let report = bench.prune(exit::OK, &[])?;
        ensure!(report.executed && report.removed.packs == 0, "{report:?}");
    }
    bench.machine.sleep(3 * DAY)?;
    let report = bench.prune(exit::OK, &[])?;
    ensure!(report.executed && report.removed.packs > 0, "{report:?}");
    bench.host.change()?;
    bench.run()?;
    bench.expect_whole()
}

#[test]
fn f52_a_daemon_backs_up_and_drops_nothing_whatever_its_clock_is_set_to() -> Result<()> {
    let mut bench = Bench::start("7d")?;
    let hosts = fs::read_to_string(bench.host.world.coordinator_dir().join("hosts.toml"))?;
    bench.host.world.write_hosts(&format!(
        "{hosts}schedule = \"*:*:0/2\"\nretry_delay = \"1s\"\n"
    ))?;
    bench
        .host
        .world
        .replace_config_line("#schedule = \"Sun", "schedule = \"*:*:1/2\"")?;
    // From before the daemon starts, so that no prune of it has a clock that is right.
    bench.machine.set_clock(TEN_YEARS_SECS)?;
    let daemon = bench.machine.start(&bench.host.world, &["daemon"])?;
    let mut known = bench.snapshots()?;
    for secs in [TEN_YEARS_SECS, 0, -TEN_YEARS_SECS, 3_600, 0] {
        bench.machine.set_clock(secs)?;
        let refusals = || daemon.stderr_so_far().matches("the prune refuses").count();
        let (more, before) = (known.len() + 1, refusals());
        processes::wait_until("a snapshot and a prune that refuses", DEADLINE, || {
            Ok(bench.snapshots()?.len() >= more && refusals() > before)
        })
        .with_context(|| format!("{secs} s off: {}", daemon.stderr_so_far()))?;
        let now = bench.snapshots()?;
        for snapshot in &known {
            ensure!(
                now.iter().any(|other| other.id == snapshot.id),
                "{secs} s off"
            );
        }
        known = now;
    }
    processes::signal(daemon.pid(), Signal::TERM)?;
    daemon.finish(2 * DEADLINE)?.expect_code(exit::OK)?;
    bench.host.world.expect_restores("latest", "after")?;
    Ok(())
}

/// A run that is open while its coordinator stands still, for longer than any grace: nothing of it is taken.
#[test]
fn f53_no_prune_passes_a_run_that_is_open_however_long_its_coordinator_sleeps() -> Result<()> {
    if !can_sleep() {
        return Ok(());
    }
    let mut bench = Bench::start("1h")?;
    ensure!(bench.prune(exit::OK, &[])?.condemned.packs > 0);
    let before = bench.packs()?;
    let large = incompressible(77, 160 << 20);
    fs::write(bench.host.world.source().join("large"), large)?;
    bench.host.change()?;
    let mut run = bench.machine.start(&bench.host.world, &RUN)?;
    processes::wait_until("a pack of the run", DEADLINE, || {
        ensure!(!run.has_ended()?, "{}", run.stderr_so_far());
        Ok(bench.packs()? > before)
    })?;
    processes::signal(run.pid(), Signal::STOP)?;
    for _ in 0..3 {
        bench.machine.sleep(3 * DAY)?;
        bench.coordinator(&PRUNE)?.expect_code(exit::LOCKED)?;
        bench
            .coordinator(&["undelete", HOST])?
            .expect_code(exit::LOCKED)?;
        bench.expect_all()?;
    }
    processes::signal(run.pid(), Signal::CONT)?;
    let run = run.finish(DEADLINE)?.expect_code(exit::OK)?;
    bench.host.committed(&run)?;
    bench.machine.sleep(HOUR)?;
    let report = bench.prune(exit::OK, &[])?;
    ensure!(report.removed.packs > 0, "{report:?}");
    bench.expect_whole()
}

/// The next command may be the next prune, or a run that finds again what was condemned just before the end.
#[test]
fn f10_f63_a_prune_that_dies_in_any_write_is_gone_on_with() -> Result<()> {
    if !can_sleep() {
        return Ok(());
    }
    let mut bench = Bench::start("1h")?;
    let seed = seed()?;
    let mut died = 0;
    let steps = bench.steps_of_a_prune()?;
    for (round, point) in (0u64..).zip(points(steps, POINTS, seed)) {
        let about = || format!("step {point} of {steps}");
        bench.have_much_to_prune()?;
        bench.machine.fail(Step::DiesIn(point))?;
        let prune = bench.coordinator(&PRUNE)?;
        bench.machine.be_well()?;
        match prune.signal {
            Some(_) => died += 1,
            None => drop(prune.expect_code(exit::OK).with_context(about)?),
        }
        if round % 2 == 0 {
            bench.host.change()?;
            bench.run().with_context(about)?;
        }
        bench.machine.sleep(2 * HOUR)?;
        bench.prune(exit::OK, &[]).with_context(about)?;
        let left = bench.expect_all().with_context(about)?;
        ensure!(left == 2, "{}: {left} are left", about());
    }
    eprintln!("{died} prunes died in one of {steps} steps");
    ensure!(died * 4 >= steps.min(POINTS) * 3, "only {died} died");
    bench.expect_whole()
}

#[test]
fn f15_a_disk_that_is_full_from_any_write_of_a_run_on_loses_nothing() -> Result<()> {
    let mut bench = Bench::start("7d")?;
    bench.host.change()?;
    bench.machine.be_well()?;
    bench.run()?;
    let steps = bench.machine.steps()?;
    let mut failed = 0;
    for point in points(steps, POINTS, seed()?) {
        let about = || format!("step {point} of {steps}");
        bench.host.change()?;
        bench.machine.fail(Step::FullFrom(point))?;
        let run = bench.coordinator(&RUN)?;
        bench.machine.be_well()?;
        match run.code {
            Some(exit::OK) => bench.host.committed(&run)?,
            _ => {
                failed += 1;
                bench.expect_full(run).with_context(about)?;
                bench.host.may_have_committed()?;
            }
        }
        bench.run().with_context(about)?;
        bench
            .host
            .world
            .expect_restores("latest", &format!("at-{point}"))?;
        fs::remove_dir_all(bench.host.world.output(&format!("at-{point}")))?;
        let snapshots = bench.snapshots()?;
        bench.host.settle_doubt(&snapshots)?;
    }
    eprintln!("{failed} runs failed for one of {steps} steps");
    ensure!(failed * 2 >= steps.min(POINTS), "only {failed} failed");
    bench.expect_whole()
}

#[test]
fn f15_a_disk_that_is_full_from_any_write_of_a_prune_on_loses_nothing() -> Result<()> {
    if !can_sleep() {
        return Ok(());
    }
    let mut bench = Bench::start("1h")?;
    let steps = bench.steps_of_a_prune()?;
    let mut failed = 0;
    for point in points(steps, POINTS / 2, seed()?) {
        let about = || format!("step {point} of {steps}");
        bench.have_much_to_prune()?;
        bench.machine.fail(Step::FullFrom(point))?;
        let prune = bench.coordinator(&PRUNE)?;
        bench.machine.be_well()?;
        if prune.code != Some(exit::OK) {
            failed += 1;
            bench.expect_full(prune).with_context(about)?;
        }
        bench.host.change()?;
        bench.run().with_context(about)?;
        bench.machine.sleep(2 * HOUR)?;
        bench.prune(exit::OK, &[]).with_context(about)?;
        bench.expect_all().with_context(about)?;
    }
    eprintln!("{failed} prunes failed for one of {steps} steps");
    ensure!(failed > 0);
    bench.expect_whole()
}

impl Bench {
    /// Snapshots to forget, packs to condemn and to write anew, and others whose grace is over.
    fn have_much_to_prune(&mut self) -> Result<()> {
        self.host.change()?;
        self.run()?;
        self.machine.sleep(2 * HOUR)
    }

    /// How many steps such a prune takes.
    fn steps_of_a_prune(&mut self) -> Result<u64> {
        self.prune(exit::OK, &[])?;
        self.have_much_to_prune()?;
        self.machine.be_well()?;
        let report = self.prune(exit::OK, &[])?;
        ensure!(
            report.forgotten > 0 && report.condemned.packs > 0 && report.removed.packs > 0,
            "{report:?}"
        );
        self.machine.steps()
    }

    /// What ended for want of room says so.
    fn expect_full(&self, ended: Finished) -> Result<()> {
        ensure!(ended.code == Some(exit::ERROR), "{ended:?}");
        let told = ended.stderr_text();
        let words = ["space", "full", "look at its disk"];
        ensure!(words.iter().any(|word| told.contains(word)), "{told}");
        Ok(())
    }
}
