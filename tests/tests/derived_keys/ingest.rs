//! Keys that only add: a coordinator without any key that opens what is stored backs up, knows unchanged files again, builds upon
//! nothing that somebody else may have condemned, and refuses every command that would read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use formats::keys::bundle::{KeyBundle, Role, Unlock};
use formats::keys::derive::Use;
use formats::keys::secret::FileKey;
use formats::limits::INLINE_EXTENTS_MAX;
use tests::compare::expect_equal;
use tests::coordinator_process::Finished;
use tests::corpus::bytes::incompressible;
use tests::places::{files_below, repository_in};
use tests::shapes::{RunReport, SnapshotLine, exit};
use tests::world::{HOST, World, below, copy_tree};

use super::{DeriveReport, coordinator, recover_with_kit, world_with_admin, write_private};

/// After this time what was written is no longer taken for what may still change.
const SETTLING: Duration = Duration::from_millis(3_200);
/// Longer than the grace of these tests.
const PAST_GRACE: Duration = Duration::from_millis(2_200);

/// What such keys are refused for.
const OPENING: &[&[&str]] = &[
    &["restore", HOST, "latest", "--to", "/nowhere"],
    &["export", HOST, "latest"],
    &["ls", HOST, "latest", "/"],
    &["cat", HOST, "latest", "/x"],
    &["show", HOST, "latest"],
    &["diff", HOST, "latest~1"],
    &["verify", HOST],
    &["scan", "--full", "--verify"],
    &["prune", HOST, "--dry-run"],
    &["forget", HOST, "latest"],
    &["undelete", HOST],
    &["pin", "add", HOST, "latest"],
    &["key", "derive", "another", "--role", "ingest"],
];

/// What they do beside `run`.
const WORKING: &[&[&str]] = &[
    &["status"],
    &["history", HOST],
    &["snapshots", HOST],
    &["scan", "--full"],
    &["scan", "--full", "--repair"],
    &["destination", "ls"],
    &["lease", "ls"],
    &["audit", "head"],
    &["config", "check"],
    &["hold", "ls"],
];

/// A coordinator whose other keys are off its machine.
struct Ingest {
    world: World,
    password: PathBuf,
    /// The configuration with the keys that were taken away.
    full: PathBuf,
    offline: PathBuf,
    /// What the host had at each snapshot, by its id.
    trees: BTreeMap<String, PathBuf>,
}

impl Ingest {
    fn new() -> Result<Self> {
        let (world, password) = world_with_admin()?;
        world.replace_config_line("#grace = ", "grace = \"1s\"")?;
        let hosts = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
        let table = host_table(&hosts)?;
        let keeping = format!("{table}keep = {{ last = 50 }}\nkeep_floor = 1\n");
        world.write_hosts(&hosts.replace(table, &keeping))?;
        write(&world, "before", 1, 1 << 20)?;
        let mut trees = BTreeMap::new();
        keep(&world, world.run()?, &mut trees)?;
        let derive = ["key", "derive", "ingest", "--role", "ingest", "--json"];
        let derived: DeriveReport = coordinator(&world.config(), &password, &derive)?
            .expect_code(exit::OK)?
            .json()?;
        ensure!(
            derived.key_file.is_some() && derived.repositories == 1 && derived.added == 0,
            "{derived:?}"
        );
        let keys = world.coordinator_dir().join("keys");
        let offline = world.directory().join("offline");
        fs::create_dir(&offline)?;
        for name in ["daemon.bundle", "daemon.key", "admin.bundle"] {
            fs::rename(keys.join(name), offline.join(name))?;
        }
        let kit = "recovery-kit.txt";
        fs::rename(world.coordinator_dir().join(kit), offline.join(kit))?;
        let text = fs::read_to_string(world.config())?;
        let full = world.coordinator_dir().join("full.toml");
        let offline_text = offline.display().to_string();
        write_private(
            &full,
            &text.replace("\"keys/", &format!("\"{offline_text}/")),
        )?;
        let own = text
            .replace("keys/daemon.", "keys/ingest.")
            .replace("user = \"daemon\"", "user = \"ingest\"");
        world.write_config(&own)?;
        Ok(Self {
            world,
            password,
            full,
            offline,
            trees,
        })
    }

    fn run(&mut self) -> Result<RunReport> {
        let report = self.world.run()?;
        keep(&self.world, report.clone(), &mut self.trees)?;
        Ok(report)
    }

    fn full(&self, arguments: &[&str]) -> Result<Finished> {
        coordinator(&self.full, &self.password, arguments)
    }

    /// Every snapshot that this configuration's coordinator lists restores to what the host had, and verifies.
    fn expect_all(&self, config: &Path, count: usize) -> Result<()> {
        let call = |arguments: &[&str]| coordinator(config, &self.password, arguments);
        let listed: Vec<SnapshotLine> = call(&["snapshots", HOST, "--json"])?
            .expect_code(exit::OK)?
            .json()?;
        ensure!(listed.len() == count, "{listed:?}");
        let place = tempfile::tempdir_in(self.world.directory())?;
        for line in &listed {
            let out = place.path().join(&line.id);
            let to = out.display().to_string();
            call(&["restore", HOST, &line.id, "--to", &to])?.expect_code(exit::OK)?;
            let tree = self
                .trees
                .get(&line.id)
                .context("a snapshot of this test")?;
            expect_equal(tree, &below(&out, &self.world.source()))?;
        }
        call(&["verify", HOST])?.expect_code(exit::OK)?;
        call(&["scan", "--full", "--verify"])?.expect_code(exit::OK)?;
        Ok(())
    }
}

/// The first line of the host's table, which must be there to be replaced.
fn host_table(hosts: &str) -> Result<&'static str> {
    const TABLE: &str = "[host.web1]\n";
    ensure!(hosts.contains(TABLE), "{hosts}");
    Ok(TABLE)
}

fn keep(world: &World, report: RunReport, trees: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let id = report.snapshot.context("a snapshot")?.id;
    let copy = world.directory().join(format!("tree-{id}"));
    copy_tree(&world.source(), &copy)?;
    trees.insert(id, copy);
    Ok(())
}

fn write(world: &World, name: &str, seed: u64, bytes: usize) -> Result<()> {
    Ok(fs::write(
        world.source().join(name),
        incompressible(seed, bytes),
    )?)
}

/// A file whose list of chunks is on a page of its own: chunks are a few hundred kilobytes on average.
fn large() -> usize {
    usize::try_from(INLINE_EXTENTS_MAX).unwrap_or(64) * (768 << 10)
}

#[test]
fn a_coordinator_that_opens_nothing_backs_up_and_everything_is_there_for_who_opens() -> Result<()> {
    let mut ingest = Ingest::new()?;
    write(&ingest.world, "large", 2, large())?;
    let directory = ingest.world.source().join("directory");
    fs::create_dir(&directory)?;
    std::os::unix::fs::symlink("../before", directory.join("link"))?;
    fs::hard_link(ingest.world.source().join("before"), directory.join("name"))?;
    thread::sleep(SETTLING);
    // Nothing is remembered yet: all is read, and what the full keys stored is not stored again.
    let first = ingest.run()?;
    ensure!(
        first.bytes_read == first_bytes() && first.new_bytes == large() as u64,
        "{first:?}"
    );
    let idle = ingest.run()?;
    ensure!(
        idle.bytes_read == 0 && idle.new_bytes == 0 && idle.stored_bytes < 64 << 10,
        "{idle:?}"
    );
    write(&ingest.world, "changed", 3, 100_000)?;
    let changed = ingest.run()?;
    ensure!(
        changed.bytes_read == 100_000 && changed.new_bytes == 100_000,
        "{changed:?}"
    );

    for opening in OPENING {
        coordinator(&ingest.world.config(), &ingest.password, opening)?
            .expect_code(exit::WRONG_KEY)?
            .expect_stderr(&["user ingest", "open nothing"])?;
    }
    for working in WORKING {
        ingest.world.coordinator(working)?.expect_code(exit::OK)?;
    }
    expect_no_key_that_opens(&ingest.world)?;

    // The same machine with the full keys, and one that has only the kit.
    ingest.expect_all(&ingest.full, 4)?;
    let vault = recovered(&ingest)?;
    ingest.expect_all(&vault, 4)
}

/// What the first run reads: the new file and the one of before.
fn first_bytes() -> u64 {
    (large() + (1 << 20)) as u64
}

/// The bundle that is left has none, and no other file of keys is there.
fn expect_no_key_that_opens(world: &World) -> Result<()> {
    let keys = world.coordinator_dir().join("keys");
    let mut names = Vec::new();
    for path in files_below(&keys)? {
        names.push(path.file_name().context("a name")?.to_owned());
    }
    names.sort();
    ensure!(names == ["ingest.bundle", "ingest.key"], "{names:?}");
    let text = fs::read_to_string(keys.join("ingest.key"))?;
    let key = FileKey::from_bytes(formats::ids::parse_hex(text.trim()).context("64 digits")?);
    let sealed = fs::read(keys.join("ingest.bundle"))?;
    let (_, bundle) = KeyBundle::open(&sealed, &Unlock::File(&key))?;
    ensure!(bundle.role() == Role::Write && bundle.master().is_none());
    for opening in [Use::Data, Use::Meta, Use::Log] {
        ensure!(bundle.root(opening).is_none(), "{opening:?}");
    }
    Ok(())
}

/// A second coordinator from the kit alone; its configuration.
fn recovered(ingest: &Ingest) -> Result<PathBuf> {
    let kit = ingest.offline.join("recovery-kit.txt");
    let (_, dir) = recover_with_kit(&ingest.world, &kit)?;
    Ok(dir.join("coordinator.toml"))
}

/// What only a forgotten snapshot has goes, once its grace is over.
fn forget_and_prune(call: &dyn Fn(&[&str]) -> Result<Finished>, snapshot: &str) -> Result<()> {
    call(&["forget", HOST, snapshot])?.expect_code(exit::OK)?;
    call(&["prune", HOST, "--yes"])?.expect_code(exit::OK)?;
    thread::sleep(PAST_GRACE);
    call(&["prune", HOST, "--yes"])?.expect_code(exit::OK)?;
    Ok(())
}

#[test]
fn nothing_is_built_upon_that_others_may_have_condemned() -> Result<()> {
    let mut ingest = Ingest::new()?;
    write(&ingest.world, "comes-back", 4, large())?;
    let doomed = ingest.run()?.snapshot.context("a snapshot")?.id;
    fs::remove_file(ingest.world.source().join("comes-back"))?;
    ingest.run()?;

    // With the full keys on the same machine what was condemned is known.
    let same = |arguments: &[&str]| ingest.full(arguments);
    forget_and_prune(&same, &doomed)?;
    ingest.trees.remove(&doomed);
    write(&ingest.world, "comes-back", 4, large())?;
    let again = ingest.run()?;
    ensure!(again.new_bytes == large() as u64, "{again:?}");
    let doomed = again.snapshot.context("a snapshot")?.id;
    fs::remove_file(ingest.world.source().join("comes-back"))?;
    ingest.run()?;
    ingest.expect_all(&ingest.full, 4)?;

    // A coordinator elsewhere takes the lease, and nobody here can read what it does.
    let vault = recovered(&ingest)?;
    let settings = fs::read_to_string(&vault)?;
    let grace = settings.lines().find(|line| line.starts_with("#grace = "));
    let grace = grace.context("the sample's grace")?;
    write_private(&vault, &settings.replacen(grace, "grace = \"1s\"", 1))?;
    let elsewhere = |arguments: &[&str]| coordinator(&vault, &ingest.password, arguments);
    elsewhere(&["lease", "take", "--all"])?.expect_code(exit::OK)?;
    elsewhere(&["hold", "release", "*"])?.expect_code(exit::OK)?;
    forget_and_prune(&elsewhere, &doomed)?;
    ingest.trees.remove(&doomed);
    ingest
        .world
        .coordinator(&["run", HOST])?
        .expect_code(exit::LOCKED)?
        .expect_stderr(&["lease take web1"])?;
    let taken = ingest.world.coordinator(&["lease", "take", HOST])?;
    taken.expect_code(exit::OK)?;
    write(&ingest.world, "comes-back", 4, large())?;
    let whole = ingest.run()?;
    ensure!(whole.new_bytes == first_bytes(), "{whole:?}");
    thread::sleep(SETTLING);
    ingest.run()?;
    let idle = ingest.run()?;
    ensure!(idle.bytes_read == 0 && idle.new_bytes == 0, "{idle:?}");
    ingest.expect_all(&vault, 6)?;
    // With the full keys it reads what it could not, and has the same history.
    ingest.expect_all(&ingest.full, 6)
}

#[test]
fn a_log_that_was_rolled_back_and_settings_that_need_reading_are_refused() -> Result<()> {
    let mut ingest = Ingest::new()?;
    ingest.run()?;
    let log = repository_in(&ingest.world.repository())?.join("log");
    let hosts = ingest.world.coordinator_dir().join("hosts.toml");
    let text = fs::read_to_string(&hosts)?;
    let source = ingest.world.source();
    let keeping = format!("keep_deleted = [\"{}/**\"]", source.display());
    let table = host_table(&text)?;
    ingest
        .world
        .write_hosts(&text.replace(table, &format!("{table}{keeping}\n")))?;
    ingest
        .world
        .coordinator(&["config", "check"])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["keep_deleted", "role write"])?;
    ingest
        .world
        .coordinator(&["run", HOST])?
        .expect_code(exit::WRONG_KEY)?
        .expect_stderr(&["keep_deleted"])?;

    // A new host has no repository, and these keys make none: the full keys do.
    let second = text.replace(table, "[host.web2]\n");
    ingest.world.write_hosts(&format!("{text}\n{second}"))?;
    ingest
        .world
        .coordinator(&["run", "web2"])?
        .expect_code(exit::WRONG_KEY)?
        .expect_stderr(&["first run with the full keys"])?;
    ingest.full(&["run", "web2"])?.expect_code(exit::OK)?;
    ingest
        .world
        .coordinator(&["run", "web2"])?
        .expect_code(exit::OK)?;

    ingest.world.write_hosts(&text)?;
    let mut records = files_below(&log)?;
    records.sort();
    let last = records.last().context("a record")?;
    fs::remove_file(last)?;
    ingest
        .world
        .coordinator(&["run", HOST])?
        .expect_code(exit::INTEGRITY)?
        .expect_stderr(&["rolled back"])?;
    Ok(())
}
