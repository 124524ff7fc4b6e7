//! Whole runs over several destinations: a local one that is waited for, and S3 and SFTP that follow; one that is away
//! for a run, refuses, is full or comes later, and one that is alone in the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use tests::corpus::bytes::incompressible;
use tests::fault_proxy::{Fault, FaultProxy, Operation, Which};
use tests::places::{
    Stored, add_to_config, leave_only, make_bucket, s3_table, sftp_server, sftp_table,
};
use tests::processes;
use tests::s3_server::{S3Kind, S3Server};
use tests::shapes::{Outcome, exit};
use tests::small_disk::SmallDisk;
use tests::world::{HOST, World};

/// The longest a run may take that waits for a destination.
const RUN_MAX: Duration = Duration::from_secs(240);
/// The patience that runs have here which wait in vain, and what they wait at least: the pauses between attempts grow, and
/// the last one would end too late.
const PATIENCE: &str = "patience = \"20s\"";
const WAITED_AT_LEAST: Duration = Duration::from_secs(5);
/// How long something that is sure to happen may take on a busy machine.
const SURELY: Duration = Duration::from_secs(120);

/// One element of `destination ls --json`.
#[derive(Debug, Deserialize)]
struct DestinationLine {
    name: String,
    required: bool,
    objects_behind: u64,
    bytes_behind: u64,
    problem: Option<String>,
}

fn destinations(world: &World) -> Result<Vec<DestinationLine>> {
    world
        .coordinator(&["destination", "ls", "--json"])?
        .expect_code(exit::OK)?
        .json()
}

/// `destination test` of each kind says what it found.
fn expect_trials(world: &World) -> Result<()> {
    for (name, words) in [
        ("local", ["overwriting", "is refused"]),
        ("s3", ["conditional writes", "enforced"]),
        ("nas", ["fsync@openssh.com", "has it"]),
    ] {
        let tested = world
            .coordinator(&["destination", "test", name])?
            .expect_code(exit::OK)?
            .stdout_text();
        println!("{tested}");
        for word in words {
            ensure!(tested.contains(word), "{name}: {tested}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_holds_up_no_run_and_catches_up_by_itself() -> Result<()> {
    let world = World::new()?;
    for name in ["one", "two"] {
        fs::write(world.source().join(name), incompressible(7, 3 << 20))?;
    }
    let dir = tests::world::temporary_directory()?;
    let mut s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    s3.stop()?;
    let nas = tests::world::temporary_directory()?;
    let sshd = sftp_server(&nas.path().join("sshd"))?;
    add_to_config(&world, &s3_table(&s3.endpoint(), false))?;
    let root = nas.path().join("root").display().to_string();
    let nas_table = sftp_table(&sshd, &root)?;
    add_to_config(&world, &nas_table)?;

    // S3 is down for the whole run, and the NAS has no root yet: the run is as good as any.
    let report = world.run()?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    let lines = destinations(&world)?;
    ensure!(lines.len() == 3 && lines[0].required, "{lines:?}");
    for line in &lines[1..] {
        ensure!(
            line.objects_behind >= 3 && line.bytes_behind > 3 << 20,
            "{} should be behind: {line:?}",
            line.name
        );
    }

    // Back again, with nothing but the next call of any command to notice it.
    s3.launch()?;
    make_bucket(&s3).await?;
    world
        .coordinator(&["destination", "create", "nas"])?
        .expect_code(exit::OK)?;
    wait_until_nobody_is_behind(&world)?;
    for name in ["s3", "nas"] {
        let synced = world
            .coordinator(&["destination", "sync", name])?
            .expect_code(exit::OK)?
            .stdout_text();
        ensure!(synced.contains("it lacked 0 objects"), "{synced}");
    }

    // The next run brings what is new to all three before it ends.
    fs::write(world.source().join("three"), incompressible(8, 2 << 20))?;
    world.run()?;
    let lines = destinations(&world)?;
    ensure!(
        lines.iter().all(|line| line.objects_behind == 0),
        "{lines:?}"
    );

    expect_trials(&world)?;

    // Each of them is enough for a restore when the first is gone.
    let local = world.repository();
    fs::rename(&local, local.with_extension("gone"))?;
    for (name, table) in [("s3", s3_table(&s3.endpoint(), true)), ("nas", nas_table)] {
        leave_only(&world, &table)?;
        world
            .expect_restores("latest", name)
            .with_context(|| format!("from {name} alone"))?;
        let verified = world.verify()?;
        ensure!(verified.outcome == Outcome::Ok, "{name}: {verified:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_alone_is_enough_for_runs_and_restores() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(9, 3 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&s3).await?;
    add_to_config(&world, "")?;
    leave_only(&world, &s3_table(&s3.endpoint(), true))?;
    world.run()?;
    fs::write(world.source().join("two"), incompressible(10, 1 << 20))?;
    world.run()?;
    world.expect_restores("latest", "latest")?;
    Ok(())
}

#[test]
fn too_few_copies_fail_a_run_with_that_reason() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), "one")?;
    add_to_config(&world, &s3_table("http://127.0.0.1:1", false))?;
    world.replace_config_line("#min_copies", "min_copies = 3")?;
    // More copies than destinations can never be.
    world
        .coordinator(&["run", tests::world::HOST])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["min_copies = 3", "2"])?;
    Ok(())
}

/// A directory as a destination; waited for when nothing else is said.
fn disk_table(name: &str, directory: &Path, more: &str) -> String {
    format!(
        "[[destination]]\nname = \"{name}\"\nurl = \"file://{}\"\n{more}\n",
        directory.display()
    )
}

/// Waits until nobody is behind, with nothing but questions how they are doing.
fn wait_until_nobody_is_behind(world: &World) -> Result<()> {
    let start = Instant::now();
    loop {
        let lines = destinations(world)?;
        let done = |line: &DestinationLine| line.objects_behind == 0 && line.problem.is_none();
        if lines.iter().all(done) {
            return Ok(());
        }
        ensure!(start.elapsed() < SURELY, "{lines:?}");
    }
}

#[test]
fn a_disk_that_is_not_mounted_is_behind_and_is_not_believed_before_it_has_everything() -> Result<()>
{
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(11, 1 << 20))?;
    let disk = world.directory().join("disk");
    let plain = fs::read_to_string(world.config())?;
    let follows = disk_table("disk", &disk, "required = false");
    world.write_config(&format!("{plain}\n{follows}"))?;
    world.run()?;
    let lines = destinations(&world)?;
    ensure!(
        lines[1].objects_behind >= 3 && lines[1].problem.is_some(),
        "{lines:?}"
    );

    // Waited for from now on, and empty: what there is is still there, and it is filled before anything else.
    let table = disk_table("disk", &disk, "");
    world.write_config(&format!("{plain}\n{table}"))?;
    world
        .coordinator(&["destination", "create", "disk"])?
        .expect_code(exit::OK)?;
    ensure!(world.snapshots()?.len() == 1, "the other one has it");
    world.run()?;
    fs::rename(world.repository(), world.directory().join("gone"))?;
    leave_only(&world, &table)?;
    world.expect_restores("latest", "from-disk")?;
    Ok(())
}

/// The order of README: a table, `create`, `test`, `sync`. Before the last, no run claims a copy that is none.
#[test]
fn a_required_disk_that_is_added_later_is_filled_before_it_counts() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(12, 3 << 20))?;
    world.run()?;
    let disk = world.directory().join("disk");
    let table = disk_table("disk", &disk, "");
    add_to_config(&world, &table)?;
    for command in ["create", "test"] {
        world
            .coordinator(&["destination", command, "disk"])?
            .expect_code(exit::OK)?;
    }
    fs::write(world.source().join("two"), incompressible(13, 1 << 20))?;
    let report = world.run_expecting(exit::ERROR)?;
    ensure!(
        report.outcome == Outcome::Failed && report.snapshot.is_none(),
        "{report:?}"
    );
    let error = report.error.context("a reason")?;
    for words in ["disk", "lacks", "coordinator destination sync disk"] {
        ensure!(error.contains(words), "{error}");
    }
    ensure!(world.snapshots()?.len() == 1);

    world
        .coordinator(&["destination", "sync", "disk"])?
        .expect_code(exit::OK)?;
    let report = world.run()?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    fs::rename(world.repository(), world.directory().join("gone"))?;
    leave_only(&world, &table)?;
    ensure!(world.snapshots()?.len() == 2);
    world.expect_restores("latest", "from-disk")?;
    ensure!(world.verify()?.outcome == Outcome::Ok);
    Ok(())
}

/// The names and bytes of the log's records in a destination.
async fn log_of(stored: &Stored) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut objects = stored.objects().await?;
    objects.retain(|name, _| name.contains("/log/"));
    Ok(objects)
}

/// A required bucket refuses everything, then only the record of the log: neither run is called good, nothing of theirs is
/// shown, and the next one leaves both destinations alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_required_destination_refuses_fails_and_leaves_no_hole() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(14, 2 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&s3).await?;
    let proxy = FaultProxy::start(s3.address())?;
    add_to_config(&world, &s3_table(&proxy.endpoint(), true))?;
    world.replace_config_line("#patience", PATIENCE)?;
    world.run()?;

    let refused = |name: &'static str, bytes: Vec<u8>| -> Result<Duration> {
        fs::write(world.source().join(name), bytes)?;
        let start = Instant::now();
        let report = world.run_within(RUN_MAX, exit::ERROR, &[])?;
        let took = start.elapsed();
        ensure!(
            report.outcome == Outcome::Failed && report.snapshot.is_none(),
            "{report:?}"
        );
        let error = report.error.context("a reason")?;
        ensure!(error.contains("s3"), "{error}");
        ensure!(world.snapshots()?.len() == 1, "it shows what it has not");
        Ok(took)
    };
    proxy.plan(Which::all(Operation::Put), Fault::refuse(503, "SlowDown"));
    let took = refused("two", incompressible(15, 2 << 20))?;
    ensure!(took >= WAITED_AT_LEAST, "it gave up after {took:?}");

    proxy.forget_plan();
    proxy.plan(
        Which::all(Operation::Put).with("/log/"),
        Fault::refuse(403, "AccessDenied"),
    );
    refused("three", incompressible(16, 1 << 20))?;
    let local = Stored::Directory(world.repository());
    let bucket = Stored::bucket(&s3);
    let (here, there) = (log_of(&local).await?, log_of(&bucket).await?);
    // Beside a lease and the host's settings.
    ensure!(
        here.len() == 4 && there.len() == 3,
        "the record is where it was refused, or nowhere: {} and {}",
        here.len(),
        there.len()
    );
    let lines = destinations(&world)?;
    ensure!(
        lines[1].objects_behind == 1 && lines[1].problem.is_some(),
        "{lines:?}"
    );

    proxy.forget_plan();
    let report = world.run()?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    ensure!(log_of(&local).await? == log_of(&bucket).await?);
    ensure!(log_of(&bucket).await?.len() == 5);
    leave_only(&world, &s3_table(&proxy.endpoint(), true))?;
    fs::rename(world.repository(), world.directory().join("gone"))?;
    ensure!(world.snapshots()?.len() == 3);
    world.expect_restores("latest", "from-s3")?;
    ensure!(world.verify()?.outcome == Outcome::Ok);
    Ok(())
}

/// `min_copies` asks for a follower that is away: the run waits for it, and is no success without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_the_copies_it_needs_and_fails_without_them() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(17, 2 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let mut s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    s3.stop()?;
    add_to_config(&world, &s3_table(&s3.endpoint(), false))?;
    world.replace_config_line("#min_copies", "min_copies = 2")?;
    world.replace_config_line("#patience", PATIENCE)?;
    let start = Instant::now();
    let report = world.run_within(RUN_MAX, exit::ERROR, &[])?;
    ensure!(start.elapsed() >= WAITED_AT_LEAST);
    ensure!(
        report.outcome == Outcome::Failed && report.snapshot.is_none(),
        "{report:?}"
    );
    let error = report.error.context("a reason")?;
    ensure!(
        error.contains("min_copies = 2") && error.contains("s3"),
        "{error}"
    );
    ensure!(world.snapshots()?.is_empty());

    s3.launch()?;
    make_bucket(&s3).await?;
    let report = world.run()?;
    ensure!(report.outcome == Outcome::Ok, "{report:?}");
    world.replace_config_line("min_copies", "min_copies = 1")?;
    leave_only(&world, &s3_table(&s3.endpoint(), true))?;
    fs::rename(world.repository(), world.directory().join("gone"))?;
    world.expect_restores("latest", "from-s3")?;
    Ok(())
}

#[test]
fn a_follower_whose_disk_is_full_stops_nobody_and_catches_up_when_there_is_room() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(18, 9 << 20))?;
    let directory = tests::world::temporary_directory()?;
    let (full, other) = (
        directory.path().join("full"),
        directory.path().join("other"),
    );
    fs::create_dir(&full)?;
    let disk = SmallDisk::mount(&full, 2 << 10)?;
    let table = disk_table("full", &full.join("root"), "required = false");
    let other_table = disk_table("other", &other, "required = false");
    add_to_config(&world, &format!("{table}\n{other_table}"))?;
    for name in ["full", "other"] {
        world
            .coordinator(&["destination", "create", name])?
            .expect_code(exit::OK)?;
    }
    for (name, seed) in [("two", 19), ("three", 20)] {
        fs::write(world.source().join(name), incompressible(seed, 1 << 20))?;
        let report = world.run()?;
        ensure!(report.outcome == Outcome::Ok, "{report:?}");
        let lines = destinations(&world)?;
        let problem = lines[1].problem.as_deref().unwrap_or_default();
        ensure!(
            lines[1].objects_behind > 0 && problem.contains("full"),
            "{lines:?}"
        );
        ensure!(lines[2].objects_behind == 0, "{lines:?}");
    }
    world.expect_restores("latest", "meanwhile")?;

    disk.resize(64 << 10)?;
    wait_until_nobody_is_behind(&world)?;
    fs::rename(world.repository(), world.directory().join("gone"))?;
    for (name, table) in [("full", table), ("other", other_table)] {
        leave_only(&world, &table)?;
        ensure!(world.snapshots()?.len() == 2, "{name}");
        world.expect_restores("latest", name)?;
    }
    Ok(())
}

/// A daemon that answers, and what `status` says of each host's lag meanwhile.
fn behind_by_host(world: &World) -> Result<BTreeMap<String, Option<Vec<serde_json::Value>>>> {
    let daemon = world.start(&["daemon"])?;
    let mut found = BTreeMap::new();
    processes::wait_until("the daemon's answer", SURELY, || {
        let status = world.coordinator(&["status", "--json"])?;
        let status: serde_json::Value = status.expect_code(exit::OK)?.json()?;
        for host in status["hosts"].as_array().into_iter().flatten() {
            let name = host["host"].as_str().unwrap_or_default().to_owned();
            found.insert(name, host["behind"].as_array().cloned());
        }
        Ok(!status["daemon"].is_null())
    })?;
    let table = world.coordinator(&["status"])?.expect_code(exit::OK)?;
    println!("{}", table.stdout_text());
    processes::signal(daemon.pid(), Signal::TERM)?;
    daemon.finish(SURELY)?.expect_code(exit::OK)?;
    Ok(found)
}

#[test]
fn status_tells_of_which_host_a_destination_lacks_something() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(12, 1 << 20))?;
    let hosts = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
    let second = hosts.replace(&format!("[host.{HOST}"), "[host.other");
    world.write_hosts(&format!("{hosts}\n{second}"))?;
    let disk = world.directory().join("disk");
    let follows = disk_table("disk", &disk, "required = false");
    let plain = fs::read_to_string(world.config())?;
    world.write_config(&format!("{plain}\n{follows}"))?;
    world.run()?;
    // Without a daemon the queue says it.
    let status = world.coordinator(&["status"])?.expect_code(exit::OK)?;
    let status = status.stdout_text();
    ensure!(
        !status.contains('?') && status.contains("disk 1."),
        "{status}"
    );

    let behind = behind_by_host(&world)?;
    let lags = behind[HOST].clone().context("the daemon can say")?;
    ensure!(
        lags.len() == 1 && lags[0]["destination"] == "disk",
        "{lags:?}"
    );
    ensure!(
        lags[0]["objects_behind"].as_u64() >= Some(3)
            && lags[0]["bytes_behind"].as_u64() > Some(1 << 20),
        "{lags:?}"
    );
    ensure!(
        behind["other"].as_ref().is_some_and(Vec::is_empty),
        "{behind:?}"
    );

    world
        .coordinator(&["destination", "create", "disk"])?
        .expect_code(exit::OK)?;
    wait_until_nobody_is_behind(&world)?;
    let behind = behind_by_host(&world)?;
    ensure!(
        behind[HOST].as_ref().is_some_and(Vec::is_empty),
        "{behind:?}"
    );
    Ok(())
}
