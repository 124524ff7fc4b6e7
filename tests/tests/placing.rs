//! Hosts that are kept at some destinations and not at others: what is on the disks and in the bucket proves it, scans miss
//! nothing there, prunes go on, and what is named again is filled before it counts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use tests::compare::expect_equal;
use tests::corpus::bytes::incompressible;
use tests::fault_proxy::{Fault, FaultProxy, Operation, Which};
use tests::places::{Stored, add_to_config, files_below, leave_only, make_bucket, s3_table};
use tests::processes;
use tests::s3_server::{S3Kind, S3Server};
use tests::shapes::{Outcome, RunReport, SnapshotLine, exit};
use tests::world::{HOST, World, WorldOptions, below};

/// The host that is kept at some destinations alone.
const OTHER: &str = "other";
/// How long something that is sure to happen may take on a busy machine.
const SURELY: Duration = Duration::from_secs(120);
/// Longer than the grace of these tests.
const PAST_GRACE: Duration = Duration::from_millis(2_200);

/// One element of `destination ls --json`.
#[derive(Debug, Deserialize)]
struct DestinationLine {
    name: String,
    not_kept: Vec<String>,
    objects_behind: u64,
    problem: Option<String>,
}

/// One element of `scan --json`.
#[derive(Debug, Deserialize)]
struct ScanReport {
    repository: String,
    outcome: String,
    destinations: Vec<DestinationReport>,
}

#[derive(Debug, Deserialize)]
struct DestinationReport {
    name: String,
    not_kept: bool,
    objects: u64,
    missing: u64,
}

fn destination(world: &World, name: &str) -> Result<DestinationLine> {
    let lines: Vec<DestinationLine> = world
        .coordinator(&["destination", "ls", "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    let line = lines.into_iter().find(|line| line.name == name);
    line.with_context(|| format!("no destination {name}"))
}

/// hosts.toml with a second host, whose table ends with this line.
fn write_hosts(world: &World, line: &str) -> Result<()> {
    let first = world.hosts_toml(
        &world.sshd().address().to_string(),
        &world.sshd().fingerprint()?,
    )?;
    let second = first.replace(&format!("[host.{HOST}]"), &format!("[host.{OTHER}]"));
    world.write_hosts(&format!("{first}\n{second}{line}\n"))
}

fn run_other(world: &World) -> Result<()> {
    world.coordinator(&["run", OTHER])?.expect_code(exit::OK)?;
    Ok(())
}

fn expect_other_restores(world: &World, name: &str) -> Result<()> {
    let output = world.output(name);
    let to = output.to_str().context("UTF-8")?;
    world
        .coordinator(&["restore", OTHER, "latest", "--to", to])?
        .expect_code(exit::OK)?;
    expect_equal(&world.source(), &below(&output, &world.source()))
}

/// The scan of one repository.
fn scan(world: &World, host: &str, code: i32, more: &[&str]) -> Result<ScanReport> {
    let arguments = [&["scan", host, "--json"], more].concat();
    let scans: Vec<ScanReport> = world.coordinator(&arguments)?.expect_code(code)?.json()?;
    let scan = scans.into_iter().next().context("a repository")?;
    ensure!(scan.repository == host, "{scan:?}");
    Ok(scan)
}

fn at<'a>(scan: &'a ScanReport, name: &str) -> Result<&'a DestinationReport> {
    let mut all = scan.destinations.iter();
    all.find(|here| here.name == name).context("a destination")
}

/// A directory that is not waited for.
fn disk_table(directory: &Path) -> String {
    format!(
        "[[destination]]\nname = \"disk\"\nurl = \"file://{}\"\nrequired = false\n",
        directory.display()
    )
}

/// The repositories of which a destination has anything.
async fn repositories(stored: &Stored) -> Result<BTreeSet<String>> {
    let objects = stored.objects().await?;
    let folders = objects.keys().filter_map(|name| name.split('/').next());
    Ok(folders.map(str::to_owned).collect())
}

/// That the disk is not filled is told wherever one looks, and is neither an attack nor what ends a prune.
fn expect_told_of(world: &World) -> Result<()> {
    run_other(world)?;
    let problem = destination(world, "disk")?.problem.unwrap_or_default();
    ensure!(
        problem.contains("coordinator destination sync disk"),
        "{problem}"
    );
    let status = world.coordinator(&["status"])?;
    let status = status.expect_code(exit::OK)?.stdout_text();
    ensure!(status.contains("disk not filled"), "{status}");
    let listed = world.coordinator(&["destination", "ls"])?;
    let listed = listed.expect_code(exit::OK)?.stdout_text();
    ensure!(listed.contains("not filled"), "{listed}");
    write_hosts(world, "keep = { last = 9 }")?;
    let pruned = world.coordinator(&["prune", OTHER, "--yes"])?;
    let pruned = pruned.expect_code(exit::OK)?.stdout_text();
    ensure!(pruned.contains("disk is not filled"), "{pruned}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_stored_where_it_is_kept_and_nowhere_else() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(31, 2 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&s3).await?;
    let disk = world.directory().join("disk");
    add_to_config(
        &world,
        &format!("{}\n{}", s3_table(&s3.endpoint(), false), disk_table(&disk)),
    )?;
    world
        .coordinator(&["destination", "create", "disk"])?
        .expect_code(exit::OK)?;
    write_hosts(&world, "destinations = [\"s3\"]")?;
    world.run()?;
    run_other(&world)?;
    fs::write(world.source().join("two"), incompressible(32, 1 << 20))?;
    run_other(&world)?;
    for name in ["s3", "disk"] {
        ensure!(destination(&world, name)?.objects_behind == 0, "{name}");
    }
    ensure!(destination(&world, "disk")?.not_kept == [OTHER]);
    ensure!(destination(&world, "s3")?.not_kept.is_empty());

    let (local, bucket) = (Stored::Directory(world.repository()), Stored::bucket(&s3));
    let on_disk = Stored::Directory(disk.clone());
    let here = repositories(&local).await?;
    ensure!(here.len() == 2 && repositories(&bucket).await? == here);
    let theirs = repositories(&on_disk).await?;
    ensure!(theirs.len() == 1, "{theirs:?}");

    // Nothing is missing there, and nothing is brought there.
    for more in [&[][..], &["--full", "--repair"]] {
        let scan = scan(&world, OTHER, exit::OK, more)?;
        ensure!(scan.outcome == "ok", "{scan:?}");
        let left_out = at(&scan, "disk")?;
        ensure!(
            left_out.not_kept && left_out.objects + left_out.missing == 0,
            "{scan:?}"
        );
        ensure!(
            !at(&scan, "s3")?.not_kept && at(&scan, "s3")?.objects > 3,
            "{scan:?}"
        );
    }
    let table = world.coordinator(&["scan"])?.expect_code(exit::OK)?;
    ensure!(table.stdout_text().contains("not kept there"), "{table:?}");
    ensure!(!at(&scan(&world, HOST, exit::OK, &[])?, "disk")?.not_kept);
    let synced = world.coordinator(&["destination", "sync", "disk"])?;
    let synced = synced.expect_code(exit::OK)?.stdout_text();
    ensure!(synced.contains("it lacked 0 objects"), "{synced}");
    ensure!(
        synced.contains("1 repositories are not kept there"),
        "{synced}"
    );
    ensure!(repositories(&on_disk).await? == theirs);
    expect_other_restores(&world, "other")?;
    world.restore("latest", "first")?;

    // Named again: what is missing is told, and filled, and then it is enough alone.
    write_hosts(&world, "")?;
    let missing = scan(&world, OTHER, exit::INTEGRITY, &[])?;
    ensure!(at(&missing, "disk")?.missing > 3, "{missing:?}");
    expect_told_of(&world)?;
    world
        .coordinator(&["destination", "sync", "disk"])?
        .expect_code(exit::OK)?;
    ensure!(destination(&world, "disk")?.problem.is_none());
    ensure!(scan(&world, OTHER, exit::OK, &["--full"])?.outcome == "ok");
    ensure!(repositories(&on_disk).await? == here);
    fs::rename(world.repository(), world.directory().join("gone"))?;
    leave_only(&world, &disk_table(&disk))?;
    expect_other_restores(&world, "from-disk")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_is_dropped_when_the_daemon_takes_the_change() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(33, 1 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&s3).await?;
    let proxy = FaultProxy::start(s3.address())?;
    add_to_config(&world, &s3_table(&proxy.endpoint(), false))?;
    write_hosts(&world, "")?;
    run_other(&world)?;
    ensure!(destination(&world, "s3")?.objects_behind == 0);
    let bucket = Stored::bucket(&s3);
    let before = bucket.objects().await?;
    proxy.plan(Which::all(Operation::Put), Fault::refuse(503, "SlowDown"));

    let daemon = world.start(&["daemon"])?;
    processes::wait_until("the daemon", SURELY, || {
        let status = world.coordinator(&["status"])?.expect_code(exit::OK)?;
        Ok(status.stdout_text().contains("configuration"))
    })?;
    fs::write(world.source().join("two"), incompressible(34, 1 << 20))?;
    run_other(&world)?;
    ensure!(destination(&world, "s3")?.objects_behind >= 3);
    // What the files say is one thing, what the daemon goes by another.
    write_hosts(&world, "destinations = []")?;
    ensure!(destination(&world, "s3")?.objects_behind >= 3);
    world.coordinator(&["reload"])?.expect_code(exit::OK)?;
    ensure!(destination(&world, "s3")?.objects_behind == 0);

    proxy.forget_plan();
    fs::write(world.source().join("three"), incompressible(35, 1 << 20))?;
    run_other(&world)?;
    world.run()?;
    processes::signal(daemon.pid(), Signal::TERM)?;
    daemon.finish(SURELY)?.expect_code(exit::OK)?;
    ensure!(destination(&world, "s3")?.objects_behind == 0);
    let mut after = bucket.objects().await?;
    ensure!(after.len() > before.len(), "the other host is kept there");
    after.retain(|name, _| before.keys().any(|known| known[..32] == name[..32]));
    ensure!(after == before, "something came, or went");
    ensure!(scan(&world, OTHER, exit::OK, &[])?.outcome == "ok");
    expect_other_restores(&world, "other")
}

#[test]
fn a_prune_removes_where_a_host_was_kept_before_and_misses_nothing_there() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec!["keep = { last = 1 }".into(), "keep_floor = 1".into()],
        ..WorldOptions::default()
    })?;
    world.replace_config_line("#grace = ", "grace = \"1s\"")?;
    let (disk, never) = (
        world.directory().join("disk"),
        world.directory().join("never"),
    );
    let tables = [
        disk_table(&disk),
        disk_table(&never).replace("\"disk\"", "\"never\""),
    ];
    add_to_config(&world, &tables.join("\n"))?;
    for name in ["disk", "never"] {
        world
            .coordinator(&["destination", "create", name])?
            .expect_code(exit::OK)?;
    }
    let changed = world.source().join("changed");
    write_hosts(&world, "destinations = [\"disk\"]")?;
    for seed in [36, 37] {
        fs::write(&changed, incompressible(seed, 2 << 20))?;
        run_other(&world)?;
    }
    let packs = |of: &Path| -> Result<usize> {
        let files = files_below(of)?;
        Ok(files
            .iter()
            .filter(|path| path.to_string_lossy().contains("/packs/"))
            .count())
    };
    let before = packs(&disk)?;
    ensure!(before >= 2 && packs(&never)? == 0);

    write_hosts(&world, "destinations = []")?;
    fs::write(&changed, incompressible(38, 2 << 20))?;
    run_other(&world)?;
    ensure!(packs(&disk)? == before);
    for _ in 0..2 {
        let pruned = world.coordinator(&["prune", OTHER, "--yes"])?;
        println!("{}", pruned.expect_code(exit::OK)?.stdout_text());
        std::thread::sleep(PAST_GRACE);
    }
    ensure!(packs(&disk)? < before, "what is dead stays there");
    ensure!(scan(&world, OTHER, exit::OK, &["--full"])?.outcome == "ok");
    expect_other_restores(&world, "pruned")
}

/// An append-server of its own, with these settings and a second destination, which is a directory.
fn world_with_server_and_disk(settings: &str) -> Result<(World, PathBuf)> {
    let mut world = World::with(WorldOptions {
        separate_append_server: true,
        ..WorldOptions::default()
    })?;
    fs::write(world.source().join("one"), incompressible(39, 1 << 20))?;
    let disk = world.directory().join("disk");
    let table = disk_table(&disk);
    add_to_config(&world, &table)?;
    world
        .coordinator(&["destination", "create", "disk"])?
        .expect_code(exit::OK)?;
    let server = world.directory().join("append-server.toml");
    let text = fs::read_to_string(&server)?;
    fs::write(&server, format!("{settings}\n{text}\n{table}"))?;
    world.start_append_server()?;
    Ok((world, disk))
}

#[test]
fn a_server_of_its_own_is_told_and_keeps_it() -> Result<()> {
    let (mut world, disk) = world_with_server_and_disk("")?;
    write_hosts(&world, "destinations = []")?;
    run_other(&world)?;
    world.start_append_server()?;
    fs::write(world.source().join("two"), incompressible(40, 1 << 20))?;
    run_other(&world)?;
    ensure!(destination(&world, "disk")?.objects_behind == 0);
    let stored = files_below(&disk)?;
    ensure!(stored.len() == 1, "more than its marker: {stored:?}");
    world.run()?;
    processes::wait_until("the disk", SURELY, || {
        Ok(destination(&world, "disk")?.objects_behind == 0)
    })?;
    ensure!(files_below(&disk)?.len() > 3);
    ensure!(scan(&world, OTHER, exit::OK, &[])?.outcome == "ok");
    expect_other_restores(&world, "other")
}

/// The run of the other host fails, and says what it waited for in vain.
fn expect_other_waits_in_vain(world: &World, words: &[&str]) -> Result<()> {
    let ended = world.coordinator_within(SURELY, &["run", OTHER, "--json"])?;
    let report: RunReport = ended.expect_code(exit::ERROR)?.json()?;
    ensure!(
        report.outcome == Outcome::Failed && report.snapshot.is_none(),
        "{report:?}"
    );
    let error = report.error.context("a reason")?;
    ensure!(words.iter().all(|word| error.contains(word)), "{error}");
    Ok(())
}

fn snapshots_of_other(world: &World) -> Result<usize> {
    let snapshots = world.coordinator(&["snapshots", OTHER, "--json"])?;
    let snapshots: Vec<SnapshotLine> = snapshots.expect_code(exit::OK)?.json()?;
    Ok(snapshots.len())
}

/// What `status --json` says of a host.
fn status_of(world: &World, host: &str) -> Result<serde_json::Value> {
    let status = world.coordinator(&["status", host, "--json"])?;
    let status: serde_json::Value = status.expect_code(exit::OK)?.json()?;
    Ok(status["hosts"][0].clone())
}

/// Waits until it has everything, with nothing but questions how it is doing.
fn wait_for_s3(world: &World) -> Result<()> {
    processes::wait_until("the bucket", SURELY, || {
        Ok(destination(world, "s3")?.objects_behind == 0)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_must_be_everywhere_waits_for_each_place_and_others_do_not() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(41, 1 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    make_bucket(&s3).await?;
    let proxy = FaultProxy::start(s3.address())?;
    let disk = world.directory().join("disk");
    let tables = [s3_table(&proxy.endpoint(), false), disk_table(&disk)];
    add_to_config(&world, &tables.join("\n"))?;
    world
        .coordinator(&["destination", "create", "disk"])?
        .expect_code(exit::OK)?;
    write_hosts(&world, "commit = \"all\"")?;
    run_other(&world)?;
    world.run()?;
    let explained = world.coordinator(&["host", "explain", OTHER])?;
    let explained = explained.expect_code(exit::OK)?.stdout_text();
    ensure!(
        explained.contains("on 3 of them") && explained.contains("local, s3, disk"),
        "{explained}"
    );

    // It takes nothing, and then no record: nothing of the one host is called stored, and the other goes on.
    world.replace_config_line("#patience", "patience = \"5s\"")?;
    proxy.plan(Which::all(Operation::Put), Fault::refuse(503, "SlowDown"));
    fs::write(world.source().join("two"), incompressible(42, 1 << 20))?;
    expect_other_waits_in_vain(&world, &["commit = all", "s3"])?;
    ensure!(snapshots_of_other(&world)? == 1, "it shows what it has not");
    world.run()?;
    ensure!(destination(&world, "s3")?.objects_behind >= 3);
    ensure!(destination(&world, "disk")?.objects_behind == 0);
    let (first, other) = (status_of(&world, HOST)?, status_of(&world, OTHER)?);
    ensure!(other["commit"] == "all" && first["commit"] == "any");
    // Without a daemon, too.
    ensure!(first["behind"][0]["destination"] == "s3", "{first}");
    proxy.forget_plan();
    wait_for_s3(&world)?;
    proxy.plan(
        Which::all(Operation::Put).with("/log/"),
        Fault::refuse(403, "AccessDenied"),
    );
    expect_other_waits_in_vain(&world, &["commit = all", "s3", "/log/"])?;
    ensure!(snapshots_of_other(&world)? == 1, "its record is not there");

    proxy.forget_plan();
    world.replace_config_line("patience", "#patience")?;
    run_other(&world)?;
    wait_for_s3(&world)?;
    let here = Stored::Directory(world.repository()).objects().await?;
    ensure!(
        repositories(&Stored::Directory(world.repository()))
            .await?
            .len()
            == 2
    );
    for stored in [Stored::bucket(&s3), Stored::Directory(disk)] {
        ensure!(stored.objects().await? == here, "{stored:?}");
    }
    expect_other_restores(&world, "other")
}

#[test]
fn a_server_of_its_own_waits_for_every_place_too() -> Result<()> {
    let (mut world, disk) = world_with_server_and_disk("patience_secs = 5")?;
    write_hosts(&world, "commit = 2")?;
    run_other(&world)?;
    let here = files_below(&world.repository())?.len();
    ensure!(files_below(&disk)?.len() == here);

    let away = world.directory().join("away");
    fs::rename(&disk, &away)?;
    world.start_append_server()?;
    fs::write(world.source().join("two"), incompressible(44, 1 << 20))?;
    expect_other_waits_in_vain(&world, &["commit = 2", "disk"])?;
    world.run()?;
    fs::rename(&away, &disk)?;
    world.start_append_server()?;
    run_other(&world)?;
    processes::wait_until("the disk", SURELY, || {
        Ok(destination(&world, "disk")?.objects_behind == 0)
    })?;
    let output = world.output("from-disk");
    let to = output.to_str().context("UTF-8")?;
    let from_disk = [
        "restore",
        OTHER,
        "latest",
        "--destination",
        "disk",
        "--to",
        to,
    ];
    world.coordinator(&from_disk)?.expect_code(exit::OK)?;
    expect_equal(&world.source(), &below(&output, &world.source()))
}
