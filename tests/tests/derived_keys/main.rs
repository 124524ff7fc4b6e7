//! Keys that only read: a second machine restores and verifies with them everything that there is and that comes later, and every
//! command that would write is refused there before it begins. Keys that only add are in [`ingest`].

mod ingest;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tests::compare::expect_equal;
use tests::coordinator_process::{Finished, Running, binary};
use tests::corpus::bytes::incompressible;
use tests::places::{Stored, repository_in};
use tests::shapes::{SnapshotLine, exit};
use tests::world::{HOST, World, WorldOptions, below, copy_tree};

const PASSWORD: &str = "correct horse battery staple";
const USER: &str = "vault";

/// What reading keys are good for, beside `restore` and `cat`.
const READING: &[&[&str]] = &[
    &["ls", HOST, "latest", "/"],
    &["show", HOST, "latest"],
    &["diff", HOST, "latest~1"],
    &["verify", HOST],
    &["scan", "--full", "--verify"],
    &["export", HOST, "latest"],
    &["hold", "ls"],
    &["pin", "ls"],
    &["lease", "ls"],
    &["audit", "head"],
    &["destination", "ls"],
];

/// What they are refused for.
const WRITING: &[&[&str]] = &[
    &["run", HOST],
    &["daemon"],
    &["prune", "--all", "--yes"],
    &["forget", HOST, "latest"],
    &["undelete", HOST],
    &["pin", "add", HOST, "latest"],
    &["hold", "add", HOST, "--reason", "x"],
    &["lease", "take", "--all"],
    &["host", "accept-identity", HOST],
    &["scan", "--full", "--repair"],
    &["scan", "--extend-locks"],
    &["key", "derive", "another", "--role", "verify"],
];

/// What `key derive --json` prints.
#[derive(Debug, Deserialize)]
struct DeriveReport {
    user: String,
    key_file: Option<PathBuf>,
    repositories: u64,
    added: u64,
}

/// What `recover --json` prints of what this looks at.
#[derive(Debug, Deserialize)]
struct RecoverReport {
    role: String,
    repositories: Vec<Recovered>,
}

#[derive(Debug, Deserialize)]
struct Recovered {
    name: Option<String>,
    problems: Vec<String>,
}

/// A world with an admin, whose password is in a file.
fn world_with_admin() -> Result<(World, PathBuf)> {
    let outside = tests::world::temporary_directory()?;
    let file = outside.path().join("password");
    write_private(&file, PASSWORD)?;
    let world = World::with(WorldOptions {
        init_arguments: vec!["--admin-password-file".into(), file.display().to_string()],
        ..WorldOptions::default()
    })?;
    let password = world.directory().join("password");
    write_private(&password, PASSWORD)?;
    Ok((world, password))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// `coordinator -c CONFIG …` with the admin's password in a file.
fn coordinator(config: &Path, password: &Path, arguments: &[&str]) -> Result<Finished> {
    let mut all: Vec<&OsStr> = vec![OsStr::new("-c"), config.as_os_str()];
    all.extend(arguments.iter().map(OsStr::new));
    let password = password.display().to_string();
    let environment = [("COORDINATOR_PASSWORD_FILE", password.as_str())];
    Running::spawn(&binary("coordinator")?, &all, &environment)?
        .finish(tests::coordinator_process::DEADLINE)
}

fn recover(world: &World, dir: &Path, user: &str, key: &Path) -> Result<Finished> {
    let url = format!("file://{}", world.repository().display());
    let arguments: Vec<OsString> = vec![
        "recover".into(),
        "--json".into(),
        "--dir".into(),
        dir.into(),
        "--user".into(),
        user.into(),
        "--key-file".into(),
        key.into(),
        "--destination".into(),
        url.into(),
    ];
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    world.coordinator_raw(&arguments)
}

/// A snapshot with some content; the tree as it was.
fn back_up(world: &World, number: u8) -> Result<PathBuf> {
    let directory = world.source().join(format!("dir-{number}"));
    fs::create_dir(&directory)?;
    fs::write(
        directory.join("big"),
        incompressible(u64::from(number), 3 << 20),
    )?;
    fs::write(directory.join("small"), format!("run {number}"))?;
    world.run()?;
    let kept = world.directory().join(format!("tree-{number}"));
    copy_tree(&world.source(), &kept)?;
    Ok(kept)
}

/// Everything below a directory that a refused command could have touched, with its bytes.
fn contents(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for path in tests::places::files_below(directory)? {
        let bytes = fs::read(&path)?;
        found.push((path, bytes));
    }
    found.sort();
    Ok(found)
}

/// Derives a reader's keys; the key file.
fn derive_to_file(world: &World, password: &Path) -> Result<PathBuf> {
    let key = world.directory().join("vault.key");
    let out = key.display().to_string();
    let derive = [
        "key", "derive", USER, "--role", "restore", "--json", "--out", &out,
    ];
    let derived: DeriveReport = coordinator(&world.config(), password, &derive)?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(
        derived.user == USER && derived.key_file.as_deref() == Some(key.as_path()),
        "{derived:?}"
    );
    ensure!(
        derived.repositories == 1 && derived.added == 1,
        "{derived:?}"
    );
    ensure!(fs::metadata(&key)?.permissions().mode() & 0o777 == 0o600);
    ensure!(
        repository_in(&world.repository())?
            .join("keys/vault")
            .exists()
    );
    Ok(key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_reading_keys_restores_everything_and_writes_nothing() -> Result<()> {
    let (world, password) = world_with_admin()?;
    let before = back_up(&world, 1)?;
    let key = derive_to_file(&world, &password)?;
    let after = back_up(&world, 2)?;

    let stored = Stored::Directory(world.repository());
    let objects = stored.objects().await?;
    let dir = world.directory().join("vault");
    let report: RecoverReport = recover(&world, &dir, USER, &key)?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(
        report.role == "read"
            && report
                .repositories
                .iter()
                .all(|one| one.problems.is_empty()),
        "{report:?}"
    );
    let config = dir.join("coordinator.toml");
    let reader = |arguments: &[&str]| coordinator(&config, &password, arguments);
    let listed: Vec<SnapshotLine> = reader(&["snapshots", HOST, "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(listed.len() == 2, "{listed:?}");
    for (line, tree) in listed.iter().zip([&before, &after]) {
        let out = world.output(&format!("restored-{}", line.id));
        let to = out.display().to_string();
        reader(&["restore", HOST, &line.id, "--to", &to])?.expect_code(exit::OK)?;
        expect_equal(tree, &below(&out, &world.source()))?;
    }
    let small = world.source().join("dir-2/small").display().to_string();
    let shown = reader(&["cat", HOST, "latest", &small])?.expect_code(exit::OK)?;
    ensure!(shown.stdout_text() == "run 2");
    for reading in READING {
        reader(reading)?.expect_code(exit::OK)?;
    }

    let state = contents(&dir)?;
    for writing in WRITING {
        reader(writing)?
            .expect_code(exit::WRONG_KEY)?
            .expect_stderr(&["user vault only read", "coordinator that backs up"])?;
    }
    ensure!(
        contents(&dir)? == state,
        "a refused command changed something"
    );
    ensure!(
        stored.objects().await? == objects,
        "a reader wrote to the destination"
    );

    // The one that backs up is as it was.
    world.run()?;
    reader(&["verify", HOST])?.expect_code(exit::OK)?;
    Ok(())
}

#[test]
fn a_wrong_password_a_taken_name_or_a_taken_file_makes_no_keys() -> Result<()> {
    let (world, password) = world_with_admin()?;
    let derive = |password: &Path, arguments: &[&str]| -> Result<Finished> {
        let all: Vec<&str> = ["key", "derive"].iter().chain(arguments).copied().collect();
        coordinator(&world.config(), password, &all)
    };
    let keys = world.coordinator_dir().join("keys");
    let wrong = world.directory().join("wrong");
    write_private(&wrong, "another password")?;
    derive(&wrong, &[USER, "--role", "verify"])?.expect_code(exit::WRONG_KEY)?;
    derive(&password, &["daemon", "--role", "verify"])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["another name"])?;
    write_private(&keys.join("vault.key"), "mine")?;
    // As after a derivation that died between key and bundle.
    let left = keys.join("vault.key").display().to_string();
    for arguments in [
        &[USER, "--role", "verify"][..],
        &[USER, "--role", "verify", "--out", &left][..],
    ] {
        derive(&password, arguments)?
            .expect_code(exit::ERROR)?
            .expect_stderr(&["not overwritten", "belongs to no bundle and may be removed"])?;
    }
    ensure!(fs::read(keys.join("vault.key"))? == b"mine");
    ensure!(!keys.join("vault.bundle").exists());
    fs::remove_file(keys.join("vault.key"))?;

    let shown = derive(&password, &[USER, "--role", "verify"])?.expect_code(exit::OK)?;
    let key = fs::read_to_string(keys.join("vault.key"))?;
    ensure!(!shown.stdout_text().contains(key.trim()));
    let out = world.directory().join("new.key");
    let to = out.display().to_string();
    derive(&password, &[USER, "--role", "verify", "--out", &to])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["has keys already"])?;
    ensure!(!out.exists());
    Ok(())
}

/// What `audit log` has of keys that were derived: for whom, and for how many repositories.
fn told(world: &World) -> Result<Vec<(String, String)>> {
    let log = ["audit", "log", "--json", "--what", "keys-derived"];
    let records: Vec<Value> = world.coordinator(&log)?.expect_code(exit::OK)?.json()?;
    let text = |record: &Value, key: &str| match &record["details"][key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Ok(records
        .iter()
        .map(|record| (text(record, "user"), text(record, "repositories")))
        .collect())
}

/// A directory in which nothing can be made, not even by root, as long as this is there.
struct Unchangeable(PathBuf);

impl Unchangeable {
    fn make(directory: &Path) -> Result<Self> {
        ensure!(chattr("+i", directory)?, "chattr +i was refused");
        Ok(Self(directory.to_owned()))
    }
}

impl Drop for Unchangeable {
    fn drop(&mut self) {
        if !chattr("-i", &self.0).unwrap_or_default() {
            eprintln!("{} stays unchangeable", self.0.display());
        }
    }
}

fn chattr(change: &str, directory: &Path) -> Result<bool> {
    let done = Command::new("chattr").arg(change).arg(directory).status()?;
    Ok(done.success())
}

#[test]
fn keys_that_were_made_are_told_even_when_no_repository_takes_them() -> Result<()> {
    let (world, password) = world_with_admin()?;
    back_up(&world, 1)?;
    let keys = repository_in(&world.repository())?.join("keys");
    let derive = |user: &str| -> Result<Finished> {
        let derive = ["key", "derive", user, "--role", "restore"];
        coordinator(&world.config(), &password, &derive)
    };
    let full = Unchangeable::make(&keys)?;
    derive(USER)?.expect_code(exit::ERROR)?;
    ensure!(
        world
            .coordinator_dir()
            .join("keys")
            .join("vault.key")
            .exists()
    );
    let one = |count: &str| (USER.to_owned(), count.to_owned());
    ensure!(told(&world)? == [one("1")], "{:?}", told(&world)?);
    // Nothing is added, nothing told.
    derive(USER)?.expect_code(exit::ERROR)?;
    ensure!(told(&world)?.len() == 1, "{:?}", told(&world)?);
    drop(full);
    derive(USER)?.expect_code(exit::OK)?;
    derive(USER)?.expect_code(exit::OK)?;
    ensure!(told(&world)? == [one("1"), one("1")], "{:?}", told(&world)?);
    Ok(())
}

#[test]
fn keys_that_a_repository_has_are_taken_from_there_and_others_refused_before_any_are_made()
-> Result<()> {
    let (world, password) = world_with_admin()?;
    back_up(&world, 1)?;
    derive_to_file(&world, &password)?;
    let keys = world.coordinator_dir().join("keys");
    let local = keys.join("vault.bundle");
    let bundle = fs::read(&local)?;
    fs::remove_file(&local)?;
    let wrong = world.directory().join("wrong");
    write_private(&wrong, "another password")?;
    let derive = |user: &str, more: &[&str]| -> Result<Finished> {
        let all = [&["key", "derive", user, "--role", "restore"], more].concat();
        coordinator(&world.config(), &wrong, &all)
    };
    let out = world.directory().join("new.key");
    let to = out.display().to_string();
    derive(USER, &["--out", &to])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["has keys already"])?;
    ensure!(!local.exists() && !out.exists());
    let derived: DeriveReport = derive(USER, &["--json"])?.expect_code(exit::OK)?.json()?;
    ensure!(
        derived.key_file.is_none() && derived.added == 0,
        "{derived:?}"
    );
    ensure!(fs::read(&local)? == bundle);
    ensure!(fs::metadata(&local)?.permissions().mode() & 0o777 == 0o600);

    // A name that stands for other keys there: said before a password is asked for, and nothing is left.
    let repository = repository_in(&world.repository())?.join("keys");
    fs::copy(repository.join("daemon"), repository.join("other"))?;
    let before = contents(&keys)?;
    derive("other", &[])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["other keys of a user other", "another name"])?;
    ensure!(contents(&keys)? == before, "keys were made");
    Ok(())
}

#[test]
fn root_makes_no_keys_that_the_coordinators_own_user_could_not_read() -> Result<()> {
    let (world, password) = world_with_admin()?;
    let keys = world.coordinator_dir().join("keys");
    let own = keys.join("daemon.bundle");
    chown(&own, Some(65534), None)?;
    let before = contents(&keys)?;
    let derive = ["key", "derive", USER, "--role", "restore"];
    coordinator(&world.config(), &password, &derive)?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["daemon.bundle belongs to", "runuser -u"])?;
    ensure!(contents(&keys)? == before, "keys were made");
    chown(&own, Some(0), None)?;
    coordinator(&world.config(), &password, &derive)?.expect_code(exit::OK)?;
    Ok(())
}

/// A second coordinator from a kit alone: what was said, and where it is.
fn recover_with_kit(world: &World, kit: &Path) -> Result<(Finished, PathBuf)> {
    let dir = world.directory().join("recovered");
    let url = format!("file://{}", world.repository().display());
    let recover: [&OsStr; 7] = [
        "recover".as_ref(),
        "--dir".as_ref(),
        dir.as_os_str(),
        "--kit".as_ref(),
        kit.as_os_str(),
        "--destination".as_ref(),
        url.as_ref(),
    ];
    let shown = world.coordinator_raw(&recover)?.expect_code(exit::OK)?;
    Ok((shown, dir))
}

#[test]
fn a_recovered_coordinator_has_the_users_of_before_and_derives_with_the_kit() -> Result<()> {
    let (world, password) = world_with_admin()?;
    back_up(&world, 1)?;
    let key = derive_to_file(&world, &password)?;
    let kit = world.coordinator_dir().join("recovery-kit.txt");
    let (shown, dir) = recover_with_kit(&world, &kit)?;
    ensure!(
        shown
            .stdout_text()
            .contains("that are back: admin, vault\n")
    );
    let (old, new) = (world.coordinator_dir().join("keys"), dir.join("keys"));
    for user in ["admin", USER] {
        let file = format!("{user}.bundle");
        ensure!(fs::read(new.join(&file))? == fs::read(old.join(&file))?);
        ensure!(fs::metadata(new.join(&file))?.permissions().mode() & 0o777 == 0o600);
    }
    ensure!(fs::read(new.join("daemon.bundle"))? != fs::read(old.join("daemon.bundle"))?);

    // What the error of a reader says to do is done by the new one, without a password.
    let stored = repository_in(&world.repository())?.join("keys/vault");
    let as_it_was = fs::read(&stored)?;
    fs::remove_file(&stored)?;
    let wrong = world.directory().join("wrong");
    write_private(&wrong, "another password")?;
    let config = dir.join("coordinator.toml");
    let derive = |password: &Path, user: &str, more: &[&str]| -> Result<Finished> {
        let all = [&["key", "derive", user, "--role", "verify"], more].concat();
        coordinator(&config, password, &all)
    };
    derive(&wrong, USER, &[])?.expect_code(exit::OK)?;
    ensure!(fs::read(&stored)? == as_it_was);
    let reader = world.directory().join("reader");
    self::recover(&world, &reader, USER, &key)?.expect_code(exit::OK)?;

    // New keys: with the admin's password of before; without the admin's bundle with the kit, and with no other kit.
    derive(&password, "second", &[])?.expect_code(exit::OK)?;
    let (other, _) = world_with_admin()?;
    let admin = new.join("admin.bundle");
    fs::copy(other.coordinator_dir().join("keys/admin.bundle"), &admin)?;
    derive(&password, "third", &[])?
        .expect_code(exit::WRONG_KEY)?
        .expect_stderr(&["admin.bundle is of another set-up"])?;
    fs::remove_file(&admin)?;
    derive(&password, "third", &[])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["admin.bundle is not there", "--kit"])?;
    let others = other.coordinator_dir().join("recovery-kit.txt");
    let before = contents(&new)?;
    derive(&wrong, "third", &["--kit", &others.display().to_string()])?
        .expect_code(exit::WRONG_KEY)?;
    ensure!(contents(&new)? == before, "keys were made");
    derive(&wrong, "third", &["--kit", &kit.display().to_string()])?.expect_code(exit::OK)?;
    let third = world.directory().join("third");
    self::recover(&world, &third, "third", &new.join("third.key"))?.expect_code(exit::OK)?;
    Ok(())
}

#[test]
fn readers_get_what_is_made_later_and_believe_nothing_without_their_keys_there() -> Result<()> {
    let (world, password) = world_with_admin()?;
    let keys = world.coordinator_dir().join("keys");
    let derive = ["key", "derive", USER, "--role", "verify", "--json"];
    coordinator(&world.config(), &password, &derive)?.expect_code(exit::OK)?;

    // Made before there is a repository, they are in the first one.
    let tree = back_up(&world, 1)?;
    let stored = repository_in(&world.repository())?.join("keys/vault");
    let in_repository = fs::read(&stored)?;
    let dir = world.directory().join("first");
    let key_file = keys.join("vault.key");
    recover(&world, &dir, USER, &key_file)?.expect_code(exit::OK)?;

    // Where they are missing they are put again, the same ones, without a password; until then nothing is believed.
    fs::remove_file(&stored)?;
    let refused = world.directory().join("refused");
    let snapshots = |dir: &Path| {
        coordinator(
            &dir.join("coordinator.toml"),
            &password,
            &["snapshots", HOST],
        )
    };
    snapshots(&dir)?
        .expect_code(exit::WRONG_KEY)?
        .expect_stderr(&["key derive vault"])?;
    recover(&world, &refused, USER, &key_file)?
        .expect_code(exit::NOT_FOUND)?
        .expect_stderr(&["no repository", "vault"])?;
    ensure!(!refused.join("coordinator.toml").exists());
    let wrong = world.directory().join("wrong");
    write_private(&wrong, "another password")?;
    let derived: DeriveReport = coordinator(&world.config(), &wrong, &derive)?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(
        derived.key_file.is_none() && derived.added == 1,
        "{derived:?}"
    );
    ensure!(fs::read(&stored)? == in_repository);
    snapshots(&dir)?.expect_code(exit::OK)?;

    // Another key file opens nothing.
    let other = world.directory().join("other.key");
    write_private(&other, &format!("{}\n", "0".repeat(64)))?;
    recover(&world, &refused, USER, &other)?.expect_code(exit::WRONG_KEY)?;
    let second = world.directory().join("second");
    let report: RecoverReport = recover(&world, &second, USER, &key_file)?
        .expect_code(exit::OK)?
        .json()?;
    let names: Vec<_> = report
        .repositories
        .iter()
        .map(|one| one.name.as_deref())
        .collect();
    ensure!(names == [Some(HOST)], "{names:?}");
    let out = world.output("restored");
    let to = out.display().to_string();
    coordinator(
        &second.join("coordinator.toml"),
        &password,
        &["restore", HOST, "latest", "--to", &to],
    )?
    .expect_code(exit::OK)?;
    expect_equal(&tree, &below(&out, &world.source()))?;
    Ok(())
}
