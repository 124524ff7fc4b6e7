//! A daemon that is killed once a run's snapshot is in the log, and before it could note that anywhere: the next one finds it there,
//! and does not back up the same occasion a second time. So does whatever run comes first.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use tests::calendar::in_seconds;
use tests::coordinator_process::Running;
use tests::fault_proxy::{Fault, FaultProxy, Gate, Operation, Which};
use tests::places::leave_only_behind_proxy;
use tests::processes;
use tests::s3_server::S3Server;
use tests::shapes::exit;
use tests::world::{HOST, World};

const DEADLINE: Duration = Duration::from_secs(60);
/// How long a daemon is watched that should do nothing: longer than the retry's delay.
const WATCHED: Duration = Duration::from_secs(4);

/// One element of `history --json`.
#[derive(Debug, Deserialize)]
struct HistoryLine {
    outcome: Option<String>,
}

fn outcomes(world: &World) -> Result<Vec<String>> {
    let finished = world.coordinator(&["history", "--json"])?;
    let lines: Vec<HistoryLine> = finished.expect_code(exit::OK)?.json()?;
    let outcomes = lines.into_iter().map(|line| line.outcome);
    Ok(outcomes
        .map(|outcome| outcome.unwrap_or("running".into()))
        .collect())
}

/// A host that was backed up before and is due once more, in a few seconds.
fn due_soon(world: &World, more: &str) -> Result<()> {
    fs::write(world.source().join("file"), "first")?;
    world.run()?;
    fs::write(world.source().join("file"), "second")?;
    let address = world.sshd().address().to_string();
    let hosts = world.hosts_toml(&address, &world.sshd().fingerprint()?)?;
    let schedule = in_seconds(5)?;
    world.write_hosts(&format!(
        "{hosts}schedule = \"{schedule}\"\nretry_delay = \"1s\"\n{more}"
    ))
}

fn kill(mut daemon: Running) -> Result<()> {
    daemon.kill()?;
    ensure!(daemon.finish(DEADLINE)?.signal.is_some());
    Ok(())
}

/// A daemon that is started now has nothing to do, and knows what the one before has done.
fn expect_done(world: &World, outcomes_expected: &[&str]) -> Result<()> {
    let mut daemon = world.start(&["daemon"])?;
    let start = Instant::now();
    while start.elapsed() < WATCHED {
        ensure!(!daemon.has_ended()?, "{}", daemon.stderr_so_far());
        std::thread::sleep(Duration::from_millis(100));
    }
    processes::signal(daemon.pid(), Signal::TERM)?;
    daemon.finish(DEADLINE)?.expect_code(exit::OK)?;
    let found = outcomes(world)?;
    ensure!(found == outcomes_expected, "{found:?}");
    ensure!(world.snapshots()?.len() == outcomes_expected.len());
    world.expect_restores("latest", "after")?;
    Ok(())
}

/// A daemon is killed once its snapshot's record is stored, and before it hears that. Gives what it is stored with.
async fn die_while_the_record_is_answered(world: &World) -> Result<(S3Server, FaultProxy)> {
    let (server, proxy) = leave_only_behind_proxy(world).await?;
    due_soon(world, "")?;
    let gate = Gate::default();
    // The first one is of the host's new settings.
    let record = Which::all(Operation::Put).with("/log/").after(1).times(1);
    proxy.plan(record, Fault::HoldAfter(gate.clone()));
    let daemon = world.start(&["daemon"])?;
    processes::wait_until("the snapshot's record", DEADLINE, || Ok(gate.is_reached()))?;
    kill(daemon)?;
    gate.open();
    Ok((server, proxy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_whose_record_is_written_and_not_answered_is_found_in_the_log() -> Result<()> {
    let world = World::new()?;
    let _storage = die_while_the_record_is_answered(&world).await?;
    expect_done(&world, &["ok", "warnings"])
}

/// The run by hand comes before the next daemon, and is the one to find out what became of the run before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_by_hand_before_the_daemon_returns_does_not_undo_what_was_committed() -> Result<()> {
    let world = World::new()?;
    let _storage = die_while_the_record_is_answered(&world).await?;
    world.run()?;
    let log = world.coordinator(&["audit", "log", "--json"])?;
    let log = log.expect_code(exit::OK)?.stdout_text();
    ensure!(log.contains("the coordinator died once"), "{log}");
    expect_done(&world, &["ok", "warnings", "ok"])
}

#[test]
fn a_death_in_the_hooks_after_a_run_does_not_undo_it() -> Result<()> {
    let world = World::new()?;
    let mark = world.directory().join("hook-began");
    let hook = format!(
        "[[host.{HOST}.hook]]\non = \"finally\"\nrun = [\"sh\", \"-c\", \"touch {}; exec sleep 20\"]\n",
        mark.display()
    );
    due_soon(&world, &hook)?;
    let daemon = world.start(&["daemon"])?;
    processes::wait_until("the hook", DEADLINE, || Ok(Path::exists(&mark)))?;
    kill(daemon)?;
    expect_done(&world, &["ok", "warnings"]).context("after the hook")
}
