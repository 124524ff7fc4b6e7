//! Prune against real destinations: what is forgotten goes, everything kept restores byte for byte after each step, whatever is
//! killed in between, whatever runs beside it, and from the log alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::FlockOperation;
use serde::Deserialize;
use tests::compare::expect_equal;
use tests::corpus::bytes::incompressible;
use tests::history::{History, write};
use tests::places::{
    add_to_config, files_below, make_bucket, repository_in, s3_table, sftp_server, sftp_table,
};
use tests::s3_server::{S3Kind, S3Server};
use tests::shapes::exit;
use tests::sshd::{Sshd, SshdOptions, namespaces_work};
use tests::world::{HOST, World, WorldOptions, below, copy_tree};

/// Longer than the grace of these tests.
const PAST_GRACE: Duration = Duration::from_millis(2_200);

#[derive(Debug, Default, Deserialize)]
struct Packs {
    packs: u64,
}

#[derive(Debug, Deserialize)]
struct StillThere {
    destination: String,
    packs: u64,
    problem: Option<String>,
}

/// One element of `prune --json`.
#[derive(Debug, Deserialize)]
struct PruneReport {
    executed: bool,
    refused: Option<String>,
    forgotten: u64,
    dead: Packs,
    repacked: Packs,
    orphans: Packs,
    condemned: Packs,
    removed: Packs,
    still_there: Vec<StillThere>,
    snapshots: Vec<PrunedSnapshot>,
}

#[derive(Debug, Deserialize)]
struct PrunedSnapshot {
    kept: bool,
    reasons: Vec<String>,
}

fn world_with(keep: &str, floor: u32) -> Result<World> {
    let world = World::with(WorldOptions {
        host_lines: vec![format!("keep = {keep}"), format!("keep_floor = {floor}")],
        ..WorldOptions::default()
    })?;
    world.replace_config_line("#grace = ", "grace = \"1s\"")?;
    Ok(world)
}

fn prune(world: &World, code: i32, more: &[&str]) -> Result<PruneReport> {
    let arguments = [&["prune", HOST, "--json"], more].concat();
    let reports: Vec<PruneReport> = world.coordinator(&arguments)?.expect_code(code)?.json()?;
    reports.into_iter().next().context("a report")
}

fn pruned(world: &World) -> Result<PruneReport> {
    let report = prune(world, exit::OK, &["--yes"])?;
    ensure!(report.executed, "{report:?}");
    Ok(report)
}

/// Every snapshot that is listed restores to what it was.
fn expect_all(history: &mut History, world: &World) -> Result<usize> {
    let listed = world.snapshots()?;
    for snapshot in &listed {
        let out = world.restore(&snapshot.id, &history.fresh_output())?;
        history.expect(world, &snapshot.id, &out)?;
    }
    Ok(listed.len())
}

fn packs_of(repository: &Path) -> Result<usize> {
    let folder = repository_in(repository)?;
    Ok(files_below(&folder.join("packs"))?.len() + files_below(&folder.join("meta"))?.len())
}

#[test]
fn what_is_forgotten_goes_and_what_is_kept_restores() -> Result<()> {
    let world = world_with("{ last = 2 }", 1)?;
    let mut history = History::five(&world)?;
    let before = packs_of(&world.repository())?;

    let shown = prune(&world, exit::OK, &["-n"])?;
    ensure!(!shown.executed && shown.forgotten == 3, "{shown:?}");
    ensure!(shown.dead.packs + shown.repacked.packs > 0, "{shown:?}");
    ensure!(expect_all(&mut history, &world)? == 5, "nothing was done");

    let first = pruned(&world)?;
    ensure!(
        first.forgotten == 3 && first.condemned.packs > 0,
        "{first:?}"
    );
    let reasons: Vec<&[String]> = first
        .snapshots
        .iter()
        .filter(|snapshot| snapshot.kept)
        .map(|snapshot| snapshot.reasons.as_slice())
        .collect();
    ensure!(reasons.len() == 2 && reasons.iter().all(|reasons| !reasons.is_empty()));
    ensure!(
        packs_of(&world.repository())? >= before,
        "nothing is removed yet"
    );
    ensure!(expect_all(&mut history, &world)? == 2);
    world.verify()?;

    std::thread::sleep(PAST_GRACE);
    let second = pruned(&world)?;
    ensure!(
        second.forgotten == 0 && second.removed.packs > 0,
        "{second:?}"
    );
    ensure!(packs_of(&world.repository())? < before);
    ensure!(expect_all(&mut history, &world)? == 2);
    world.verify()?;
    world
        .coordinator(&["scan", "--full", "--verify"])?
        .expect_code(exit::OK)?;

    // A coordinator that knows nothing but the log knows the same.
    world.forget_caches()?;
    ensure!(expect_all(&mut history, &world)? == 2);
    world.verify()?;
    world
        .coordinator(&["scan", "--full"])?
        .expect_code(exit::OK)?;
    let report = world.run()?;
    ensure!(report.new_bytes == 0, "what is stored is known: {report:?}");

    // Nothing is left to do, however often.
    std::thread::sleep(PAST_GRACE);
    pruned(&world)?;
    let last = pruned(&world)?;
    ensure!(last.forgotten == 0 && last.condemned.packs == 0, "{last:?}");
    Ok(())
}

#[test]
fn undelete_brings_everything_back_until_it_is_removed() -> Result<()> {
    let world = world_with("{ last = 1 }", 1)?;
    world.replace_config_line("grace = ", "grace = \"7d\"")?;
    let mut history = History::five(&world)?;
    pruned(&world)?;
    ensure!(expect_all(&mut history, &world)? == 1);
    let back: Vec<String> = world
        .coordinator(&["undelete", HOST, "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(back.len() == 4, "{back:?}");
    ensure!(expect_all(&mut history, &world)? == 5);
    world.verify()?;
    world.forget_caches()?;
    ensure!(
        expect_all(&mut history, &world)? == 5,
        "the log says so too"
    );

    // Once it is removed it is gone, and that is said.
    world.replace_config_line("grace = ", "grace = \"1s\"")?;
    pruned(&world)?;
    std::thread::sleep(PAST_GRACE);
    ensure!(pruned(&world)?.removed.packs > 0);
    world
        .coordinator(&["undelete", HOST])?
        .expect_code(exit::NOT_FOUND)?;
    ensure!(expect_all(&mut history, &world)? == 1);
    Ok(())
}

/// Between condemning and removing, a run finds again what was condemned: it is stored anew, and what is removed is not needed.
#[test]
fn a_run_builds_upon_nothing_that_is_condemned() -> Result<()> {
    let world = world_with("{ last = 1 }", 1)?;
    let mut history = History::five(&world)?;
    pruned(&world)?;
    // The content that only the forgotten first snapshot had.
    write(&world, "first", 2, 5 << 20)?;
    history.run(&world)?;
    std::thread::sleep(PAST_GRACE);
    ensure!(pruned(&world)?.removed.packs > 0);
    ensure!(expect_all(&mut history, &world)? == 1);
    world.verify()?;
    std::thread::sleep(PAST_GRACE);
    pruned(&world)?;
    world.forget_caches()?;
    ensure!(expect_all(&mut history, &world)? == 1);
    Ok(())
}

#[test]
fn a_prune_waits_for_nobody_and_nobody_is_pruned_under_his_feet() -> Result<()> {
    let world = world_with("{ last = 1 }", 1)?;
    let mut history = History::five(&world)?;
    let lock = world
        .coordinator_dir()
        .join(format!("state/locks/{HOST}.use"));
    let run = fs::File::open(&lock)?;
    rustix::fs::flock(&run, FlockOperation::LockShared)?;
    world
        .coordinator(&["prune", HOST, "--yes"])?
        .expect_code(exit::LOCKED)?;
    drop(run);

    // Prunes all through a run, one after another.
    write(&world, "large", 77, 96 << 20)?;
    let mut running = world.start(&["run", HOST, "--json"])?;
    let mut pruned_beside = 0;
    while !running.has_ended()? {
        let beside = world.coordinator(&["prune", HOST, "--yes", "--json"])?;
        ensure!(
            [Some(exit::OK), Some(exit::LOCKED)].contains(&beside.code),
            "{beside:?}"
        );
        pruned_beside += 1;
    }
    let report: tests::shapes::RunReport = running
        .finish(Duration::from_secs(60))?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(pruned_beside > 0);
    history.remember(&world, &report)?;
    std::thread::sleep(PAST_GRACE);
    pruned(&world)?;
    expect_all(&mut history, &world)?;
    world.verify()?;
    Ok(())
}

/// Killed at any moment, a prune is gone on with by the next one, and nothing kept is touched.
#[test]
fn a_prune_that_is_killed_is_gone_on_with() -> Result<()> {
    let world = world_with("{ last = 2 }", 1)?;
    let mut history = History::five(&world)?;
    for round in 0..10u64 {
        write(&world, "changes", 100 + round, 2 << 20)?;
        history.run(&world)?;
        let mut killed = world.start(&["prune", HOST, "--yes"])?;
        std::thread::sleep(Duration::from_millis(60 + 45 * round));
        killed.kill()?;
        if round % 3 == 2 {
            expect_all(&mut history, &world)?;
        }
    }
    std::thread::sleep(PAST_GRACE);
    pruned(&world)?;
    std::thread::sleep(PAST_GRACE);
    pruned(&world)?;
    ensure!(expect_all(&mut history, &world)? == 2);
    world.verify()?;
    world
        .coordinator(&["scan", "--full", "--verify"])?
        .expect_code(exit::OK)?;
    world.forget_caches()?;
    ensure!(expect_all(&mut history, &world)? == 2);
    Ok(())
}

#[test]
fn a_prune_that_is_not_sure_refuses_and_says_why() -> Result<()> {
    let world = World::new()?;
    write(&world, "file", 1, 1 << 20)?;
    for _ in 0..2 {
        world.run()?;
    }
    let refused = prune(&world, exit::ERROR, &["--yes"])?;
    ensure!(
        refused
            .refused
            .as_deref()
            .unwrap_or_default()
            .contains("no keep rules"),
        "{refused:?}"
    );
    ensure!(refused.snapshots.iter().all(|snapshot| snapshot.kept));
    let hosts = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
    for (keep, said) in [
        ("{ daily = -1 }", "no number of snapshots"),
        ("{ dayly = 1 }", "dayly"),
        ("{ within = \"3x\" }", "3x"),
    ] {
        world.write_hosts(&format!("{hosts}keep = {keep}\n"))?;
        let finished = world.coordinator(&["prune", HOST, "--yes"])?;
        finished.expect_code(exit::ERROR)?.expect_stderr(&[said])?;
    }
    // Something that a kept snapshot needs is not there.
    world.write_hosts(&format!("{hosts}keep = {{ last = 1 }}\nkeep_floor = 1\n"))?;
    let meta = files_below(&repository_in(&world.repository())?.join("meta"))?;
    let aside = world.directory().join("aside");
    fs::create_dir(&aside)?;
    for (number, file) in meta.iter().enumerate() {
        fs::rename(file, aside.join(number.to_string()))?;
    }
    let refused = prune(&world, exit::ERROR, &["--yes"])?;
    ensure!(
        !refused.executed && refused.refused.is_some(),
        "{refused:?}"
    );
    ensure!(world.snapshots()?.len() == 2);
    Ok(())
}

#[test]
fn pinned_snapshots_stay_and_single_ones_can_be_forgotten() -> Result<()> {
    let world = world_with("{ last = 1 }", 1)?;
    let mut history = History::five(&world)?;
    let oldest = world.snapshots()?.first().context("a snapshot")?.id.clone();
    world
        .coordinator(&["pin", "add", HOST, &oldest, "--reason", "audit"])?
        .expect_code(exit::OK)?;
    world
        .coordinator(&["forget", HOST, &oldest])?
        .expect_code(exit::ERROR)?;
    world
        .coordinator(&["forget", HOST, "latest"])?
        .expect_code(exit::ERROR)?;
    pruned(&world)?;
    std::thread::sleep(PAST_GRACE);
    pruned(&world)?;
    ensure!(expect_all(&mut history, &world)? == 2);
    let pins = world.coordinator(&["pin", "ls"])?.expect_code(exit::OK)?;
    ensure!(pins.stdout_text().contains("audit"));
    world
        .coordinator(&["pin", "rm", HOST, &oldest])?
        .expect_code(exit::OK)?;
    world
        .coordinator(&["forget", HOST, &oldest])?
        .expect_code(exit::OK)?;
    ensure!(expect_all(&mut history, &world)? == 1);
    world
        .coordinator(&["undelete", HOST, &oldest])?
        .expect_code(exit::OK)?;
    ensure!(expect_all(&mut history, &world)? == 2);
    Ok(())
}

#[test]
fn packs_that_nobody_knows_go_after_the_grace() -> Result<()> {
    let world = world_with("{ last = 2 }", 1)?;
    let mut history = History::five(&world)?;
    let junk = incompressible(99, 70_000);
    let id = blake3::hash(&junk).to_hex().to_string();
    let folder = repository_in(&world.repository())?
        .join("packs")
        .join(&id[..2]);
    fs::create_dir_all(&folder)?;
    let orphan = folder.join(&id);
    fs::write(&orphan, &junk)?;
    ensure!(pruned(&world)?.orphans.packs == 1);
    for _ in 0..3 {
        ensure!(orphan.exists() || packs_of(&world.repository())? > 0);
        std::thread::sleep(PAST_GRACE);
        pruned(&world)?;
    }
    ensure!(!orphan.exists());
    ensure!(expect_all(&mut history, &world)? == 2);
    Ok(())
}

#[tokio::test]
async fn every_destination_is_pruned_but_where_a_lock_or_a_rule_forbids_it() -> Result<()> {
    let world = world_with("{ last = 1 }", 1)?;
    let sftp = sftp_server(&world.directory().join("nas"))?;
    let nas = world.directory().join("nas-store");
    fs::create_dir(&nas)?;
    let nas_table = sftp_table(&sftp, &nas.display().to_string())?;
    add_to_config(&world, &nas_table)?;
    world
        .coordinator(&["destination", "create", "nas"])?
        .expect_code(exit::OK)?;
    fs::create_dir(world.directory().join("s3"))?;
    let server = S3Server::start(S3Kind::Moto, &world.directory().join("s3"))?;
    make_bucket(&server).await?;
    add_to_config(&world, &s3_table(&server.endpoint(), false))?;
    let kept = world.directory().join("kept-store");
    fs::create_dir(&kept)?;
    let kept_table = format!(
        "[[destination]]\nname = \"kept\"\nurl = \"file://{}\"\nrequired = false\nallow_delete = false\n",
        kept.display()
    );
    add_to_config(&world, &kept_table)?;
    world
        .coordinator(&["destination", "create", "kept"])?
        .expect_code(exit::OK)?;

    let mut history = History::five(&world)?;
    let before = packs_of(&kept)?;
    ensure!(before == packs_of(&nas)? && before == packs_of(&world.repository())?);
    pruned(&world)?;
    std::thread::sleep(PAST_GRACE);
    let mut report = pruned(&world)?;
    ensure!(report.removed.packs > 0, "{report:?}");
    // This S3 server fails now and then when several ask at once; what failed is done by the next prune.
    for _ in 0..8 {
        if report.still_there.is_empty() {
            break;
        }
        report = pruned(&world)?;
    }
    ensure!(report.still_there.is_empty(), "{report:?}");
    ensure!(packs_of(&nas)? == packs_of(&world.repository())?);
    ensure!(packs_of(&nas)? < before && packs_of(&kept)? >= before);
    let stored = tests::places::Stored::bucket(&server).objects().await?;
    let packs = stored
        .keys()
        .filter(|name| name.contains("/packs/") || name.contains("/meta/"));
    ensure!(packs.count() == packs_of(&nas)?);
    ensure!(expect_all(&mut history, &world)? == 1);
    for destination in ["nas", "s3", "kept", "local"] {
        let out = world
            .output(&format!("from-{destination}"))
            .display()
            .to_string();
        let arguments = [
            "restore",
            HOST,
            "latest",
            "--to",
            &out,
            "--destination",
            destination,
        ];
        world.coordinator(&arguments)?.expect_code(exit::OK)?;
        expect_equal(&world.source(), &below(Path::new(&out), &world.source()))?;
    }
    // What was removed is not brought back by a synchronisation from where it stayed.
    world
        .coordinator(&["destination", "sync", "nas"])?
        .expect_code(exit::OK)?;
    ensure!(packs_of(&nas)? == packs_of(&world.repository())?);
    Ok(())
}

#[tokio::test]
async fn what_is_locked_is_kept_without_an_error_and_tried_again() -> Result<()> {
    let world = world_with("{ last = 1 }", 1)?;
    fs::create_dir(world.directory().join("s3"))?;
    let server = S3Server::start(S3Kind::Moto, &world.directory().join("s3"))?;
    let client = tests::s3_server::admin(&server);
    client
        .create_bucket()
        .bucket(tests::places::BUCKET)
        .object_lock_enabled_for_bucket(true)
        .send()
        .await?;
    let table = format!(
        "{}retain = \"30d\"\nretain_mode = \"compliance\"\n",
        s3_table(&server.endpoint(), true)
    );
    add_to_config(&world, &table)?;
    let mut history = History::five(&world)?;
    pruned(&world)?;
    std::thread::sleep(PAST_GRACE);
    for _ in 0..2 {
        let report = pruned(&world)?;
        let locked = report
            .still_there
            .iter()
            .find(|still| still.destination == "s3");
        let locked = locked.context("it is locked there")?;
        ensure!(locked.packs > 0, "{report:?}");
        let problem = locked.problem.as_deref().unwrap_or_default();
        ensure!(problem.contains("is locked until"), "{report:?}");
    }
    ensure!(expect_all(&mut history, &world)? == 1);
    world.coordinator(&["scan"])?.expect_code(exit::OK)?;
    Ok(())
}

/// A policy that keeps nothing, or says nothing that can be understood, keeps everything.
#[test]
fn m80_a_policy_that_is_empty_or_not_understood_keeps_all_and_refuses_to_prune() -> Result<()> {
    let world = World::new()?;
    let mut history = History::five(&world)?;
    let good = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
    let before = packs_of(&world.repository())?;
    for keep in ["{}", "{ last = 0 }", "{ daily = 0, yearly = 0 }"] {
        world.write_hosts(&format!("{good}keep = {keep}\nkeep_floor = 1\n"))?;
        for more in [
            &["--yes"][..],
            &["--yes", "--force-shrink", "--force-clock"],
        ] {
            let refused = prune(&world, exit::ERROR, more)?;
            let why = refused.refused.as_deref().unwrap_or_default();
            ensure!(why.contains("none that keeps anything"), "{refused:?}");
            ensure!(!refused.executed && refused.snapshots.iter().all(|one| one.kept));
        }
    }
    for (keep, said) in [
        ("{ last = -1 }", "no number of snapshots"),
        ("{ daily = 14, weekly = -8 }", "no number of snapshots"),
        ("{ last = 99999999999 }", "no number of snapshots"),
        ("{ last = 1.5 }", "last"),
        ("{ last = \"all\" }", "last"),
        ("{ within = \"-3d\" }", "-3d"),
        ("{ within = \"3 fortnights\" }", "3 fortnights"),
        ("{ within = \"3\" }", "within"),
        ("{ within = \"\" }", "within"),
        ("{ within = 3 }", "within"),
        ("{ last = 1, within = \"9999999999999d\" }", "within"),
        ("{ last = 1, forever = true }", "forever"),
        ("\"14d\"", "keep"),
        ("[1]", "keep"),
    ] {
        world.write_hosts(&format!("{good}keep = {keep}\nkeep_floor = 1\n"))?;
        for arguments in [
            &["prune", HOST, "--yes"][..],
            &["prune", "--all", "--yes"],
            &["daemon"],
        ] {
            let finished = world.coordinator(arguments)?;
            let finished = finished.expect_code(exit::ERROR);
            finished
                .and_then(|finished| finished.expect_stderr(&["hosts.toml", said]))
                .with_context(|| format!("{arguments:?} with keep = {keep}"))?;
        }
    }
    world.write_hosts(&good)?;
    ensure!(expect_all(&mut history, &world)? == 5 && packs_of(&world.repository())? == before);
    Ok(())
}

const HOSTS: usize = 5;
const ROUNDS: usize = 10;
const LONG: Duration = Duration::from_secs(100);

/// Hosts on machines of their own that share a repository, and what each was like at its snapshots.
struct Fleet {
    world: World,
    names: Vec<String>,
    was: BTreeMap<String, (PathBuf, PathBuf)>,
    // They end with this value.
    _machines: Vec<Sshd>,
}

impl Fleet {
    fn start() -> Result<Self> {
        let world = world_with("{ last = 2 }", 1)?;
        let names: Vec<String> = (0..HOSTS).map(|host| format!("host{host}")).collect();
        let mut hosts = String::new();
        let mut machines = Vec::new();
        for name in &names {
            let source = world.source().join(name);
            fs::create_dir(&source)?;
            let directory = world.directory().join(format!("sshd-{name}"));
            fs::create_dir(&directory)?;
            let apart = "for d in /dev/shm /tmp; do mount -t tmpfs -o mode=1777 tmpfs $d; done";
            let options = SshdOptions {
                setup: vec![apart.into()],
                ..SshdOptions::default()
            };
            let machine = Sshd::start(&directory, options)?;
            hosts.push_str(&format!(
                "[host.{name}]\naddress = \"{}\"\nuser = \"root\"\nidentity_file = {:?}\n\
                 host_key = [\"{}\"]\npaths = [{source:?}]\nrepository = \"shared\"\n\
                 keep = {{ last = 2 }}\nkeep_floor = 1\n",
                machine.address(),
                machine.identity_file(),
                machine.fingerprint()?,
            ));
            machines.push(machine);
        }
        world.write_hosts(&hosts)?;
        Ok(Self {
            world,
            names,
            was: BTreeMap::new(),
            _machines: machines,
        })
    }

    /// What one host has now another had some rounds ago, when it may have been condemned.
    fn change(&self, round: u64) -> Result<()> {
        for (number, name) in (0u64..).zip(&self.names) {
            let source = self.world.source().join(name);
            let shared = incompressible((round + number) % 7, 300 << 10);
            fs::write(source.join("shared"), shared)?;
            let own = incompressible(1_000 + round * 10 + number, 100 << 10);
            fs::write(source.join("own"), own)?;
        }
        Ok(())
    }

    /// Backs up every host at once, while two prunes and a restore are under way; gives how many of each were done.
    fn round(&mut self, round: usize) -> Result<[usize; 3]> {
        let host = |number: usize| self.names[number % HOSTS].as_str();
        let prune = |number| {
            let arguments = ["prune", host(number), "--yes", "--json"];
            self.world.start(&arguments)
        };
        let mut prunes = vec![prune(round)?];
        let runs = self.names.iter();
        let runs = runs.map(|name| self.world.start(&["run", name, "--json"]));
        let runs = runs.collect::<Result<Vec<_>>>()?;
        prunes.push(prune(round + 1)?);
        fs::create_dir_all(self.world.directory().join("output"))?;
        let to = self.world.output(&format!("beside-{round}"));
        let to = to.display().to_string();
        let restore = ["restore", host(round + 2), "latest", "--to", &to];
        let restore = self.world.start(&restore)?;
        let mut done = [0; 3];
        for (name, run) in self.names.iter().zip(runs) {
            let finished = run.finish(LONG)?.expect_code(exit::OK)?;
            let report: tests::shapes::RunReport = finished.json()?;
            let source = self.world.source().join(name);
            let copy = format!("was-{name}-{round}");
            let copy = self.world.directory().join(copy);
            copy_tree(&source, &copy)?;
            let id = report.snapshot.context("a snapshot")?.id;
            self.was.insert(id, (source, copy));
            done[0] += 1;
        }
        for prune in prunes {
            let finished = prune.finish(LONG)?;
            let allowed = [Some(exit::OK), Some(exit::LOCKED), Some(exit::NOT_FOUND)];
            ensure!(allowed.contains(&finished.code), "{finished:?}");
            done[1] += usize::from(finished.code == Some(exit::OK));
        }
        let finished = restore.finish(LONG)?;
        ensure!(
            round == 0 || finished.code == Some(exit::OK),
            "{finished:?}"
        );
        done[2] += usize::from(finished.code == Some(exit::OK));
        Ok(done)
    }

    /// The last two snapshots of every host are there, and restore to what it was.
    fn expect_all(&self) -> Result<()> {
        for name in &self.names {
            let listed = self.world.coordinator(&["snapshots", name, "--json"])?;
            let listed: Vec<tests::shapes::SnapshotLine> = listed.expect_code(exit::OK)?.json()?;
            ensure!(listed.len() == 2, "{name}: {listed:?}");
            for snapshot in listed {
                let out = self.world.output(&snapshot.id);
                let to = out.display().to_string();
                self.world
                    .coordinator(&["restore", name, &snapshot.id, "--to", &to])?
                    .expect_code(exit::OK)?;
                let was = self.was.get(&snapshot.id);
                let (source, copy) = was.context("a snapshot of this test")?;
                expect_equal(copy, &below(&out, source))?;
            }
        }
        Ok(())
    }
}

/// Hosts that share a repository are backed up at once, while it is pruned and restored from.
#[test]
fn f62_fifty_runs_beside_prunes_and_restores_lose_nothing() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let mut fleet = Fleet::start()?;
    let mut done = [0; 3];
    for round in 0..ROUNDS {
        fleet.change(round as u64)?;
        let more = fleet.round(round)?;
        done = std::array::from_fn(|place| done[place] + more[place]);
    }
    std::thread::sleep(PAST_GRACE);
    let prune = ["prune", "--all", "--yes", "--json"];
    let finished = fleet.world.coordinator(&prune)?;
    let last: Vec<PruneReport> = finished.expect_code(exit::OK)?.json()?;
    let removed: u64 = last.iter().map(|report| report.removed.packs).sum();
    ensure!(removed > 0, "{last:?}");
    let [runs, prunes, restores] = done;
    eprintln!("{runs} runs, beside {prunes} prunes and {restores} restores");
    ensure!(runs == HOSTS * ROUNDS && restores > 0);
    fleet.expect_all()?;
    fleet
        .world
        .coordinator(&["scan", "--full", "--verify"])?
        .expect_code(exit::OK)?;
    Ok(())
}
