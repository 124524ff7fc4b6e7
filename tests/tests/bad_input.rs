//! Bad input: a clear message with file and line or the remedy, the right exit code, and nothing changed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tests::shapes::exit;
use tests::world::{HOST, World, WorldOptions};

/// Every file below the coordinator's directory, mode and bytes; `state` left out, which holds caches and locks.
fn fingerprint(directory: &Path) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(current) = open.pop() {
        for entry in fs::read_dir(&current)? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            if metadata.is_dir() {
                if path.file_name() != Some(OsStr::new("state")) {
                    open.push(path);
                }
            } else if metadata.is_file() {
                found.insert(path.clone(), (metadata.mode(), fs::read(&path)?));
            }
        }
    }
    Ok(found)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// Runs a command that must fail so, say this on stderr, and change nothing in the coordinator's directory.
fn refused(world: &World, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let before = fingerprint(&world.coordinator_dir())?;
    world
        .coordinator(arguments)?
        .expect_code(code)?
        .expect_stderr(words)?
        .expect_no_control_characters()?;
    let after = fingerprint(&world.coordinator_dir())?;
    let changed: Vec<&PathBuf> = after
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(value))
        .map(|(path, _)| path)
        .collect();
    let gone: Vec<&PathBuf> = before
        .keys()
        .filter(|path| !after.contains_key(*path))
        .collect();
    ensure!(
        changed.is_empty() && gone.is_empty(),
        "refused, yet changed {changed:?} and removed {gone:?}"
    );
    Ok(())
}

fn plain_hosts(world: &World) -> Result<String> {
    world.hosts_toml(
        &world.sshd().address().to_string(),
        &world.sshd().fingerprint()?,
    )
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() -> Result<()> {
    let world = World::new()?;
    let hosts = plain_hosts(&world)?;
    world.write_hosts(&format!("{hosts}pahts = [\"/etc\"]\n"))?;
    let line = format!("{}", hosts.lines().count() + 1);
    refused(
        &world,
        &["run", HOST],
        exit::ERROR,
        &["hosts.toml", &line, "pahts"],
    )?;
    refused(
        &world,
        &["config", "check"],
        exit::ERROR,
        &["hosts.toml", &line, "pahts"],
    )?;
    world.write_hosts(&hosts)?;
    let config = fs::read_to_string(world.config())?;
    world.write_config(&format!("surprise = 1\n{config}"))?;
    refused(
        &world,
        &["config", "check"],
        exit::ERROR,
        &["coordinator.toml", "surprise"],
    )
}

#[test]
fn a_duplicate_host_is_refused() -> Result<()> {
    let world = World::new()?;
    let hosts = plain_hosts(&world)?;
    world.write_hosts(&format!("{hosts}\n{hosts}"))?;
    refused(&world, &["run", HOST], exit::ERROR, &["hosts.toml", HOST])
}

#[test]
fn a_host_name_that_is_a_path_is_refused() -> Result<()> {
    let world = World::new()?;
    let hosts = plain_hosts(&world)?;
    for name in [
        "../evil",
        "a/b",
        "..",
        ".",
        "",
        "web 1",
        "web\\u001b[2J1",
        "-rf",
    ] {
        world.write_hosts(&hosts.replace("[host.web1]", &format!("[host.\"{name}\"]")))?;
        refused(&world, &["config", "check"], exit::ERROR, &["hosts.toml"])
            .with_context(|| format!("host name {name:?}"))?;
    }
    Ok(())
}

#[test]
fn a_bad_glob_is_refused() -> Result<()> {
    let world = World::new()?;
    let hosts = plain_hosts(&world)?;
    world.write_hosts(&format!("{hosts}exclude = [\"a[\"]\n"))?;
    refused(&world, &["run", HOST], exit::ERROR, &["hosts.toml", "a["])
}

#[test]
fn a_relative_source_is_refused() -> Result<()> {
    let world = World::new()?;
    let hosts = plain_hosts(&world)?;
    world.write_hosts(&hosts.replace("paths = [\"/", "paths = [\""))?;
    refused(
        &world,
        &["run", HOST],
        exit::ERROR,
        &["hosts.toml", "absolute"],
    )
}

#[test]
fn an_unknown_host_and_an_unknown_snapshot_have_their_exit_code() -> Result<()> {
    let world = World::new()?;
    refused(&world, &["run", "nobody"], exit::NOT_FOUND, &["nobody"])?;
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    let output = world.output("out").to_string_lossy().into_owned();
    for snapshot in ["00000000", "latest~5", "1999-01-01"] {
        refused(
            &world,
            &["restore", HOST, snapshot, "--to", &output],
            exit::NOT_FOUND,
            &[snapshot],
        )?;
    }
    ensure!(
        !world.output("out").exists(),
        "a refused restore made its directory"
    );
    Ok(())
}

#[test]
fn a_missing_identity_file_is_named() -> Result<()> {
    let world = World::new()?;
    fs::remove_file(world.sshd().identity_file())?;
    refused(
        &world,
        &["run", HOST],
        exit::ERROR,
        &["identity_file", "client_key"],
    )
}

#[test]
fn secrets_that_others_can_read_are_refused_with_the_remedy() -> Result<()> {
    let world = World::new()?;
    let kit = world.coordinator_dir().join("recovery-kit.txt");
    let kit_text = kit.to_string_lossy().into_owned();
    let run = vec!["run", HOST];
    for (name, arguments) in [
        (world.coordinator_dir().join("keys/daemon.key"), run.clone()),
        (world.sshd().identity_file(), run),
        (kit.clone(), vec!["key", "verify-kit", &kit_text]),
    ] {
        let mode = fs::metadata(&name)?.permissions();
        fs::set_permissions(&name, fs::Permissions::from_mode(0o644))?;
        let file = name
            .file_name()
            .and_then(OsStr::to_str)
            .context("a plain name")?
            .to_owned();
        refused(&world, &arguments, exit::ERROR, &[&file, "chmod 600"])
            .with_context(|| format!("{file} readable by all"))?;
        fs::set_permissions(&name, mode)?;
    }
    Ok(())
}

#[test]
fn a_wrong_key_has_its_exit_code() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    let key = world.coordinator_dir().join("keys/daemon.key");
    let bytes = fs::read(&key)?;
    // Another valid-looking key: one character of it is another of the same alphabet.
    let mut other = bytes.clone();
    let place = other
        .iter()
        .rposition(u8::is_ascii_hexdigit)
        .context("a key in hex")?;
    other[place] = if other[place] == b'0' { b'1' } else { b'0' };
    fs::write(&key, &other)?;
    world
        .coordinator(&["snapshots", HOST, "--json"])?
        .expect_code(exit::WRONG_KEY)?;
    fs::write(&key, &bytes)?;
    world
        .coordinator(&["snapshots", HOST, "--json"])?
        .expect_code(exit::OK)?;
    Ok(())
}

#[test]
fn a_wrong_password_has_its_exit_code() -> Result<()> {
    let secrets = tests::world::temporary_directory()?;
    let password = secrets.path().join("password");
    write_private(&password, "correct horse battery staple\n")?;
    let world = World::with(WorldOptions {
        init_arguments: vec![
            "--admin-password-file".into(),
            password.to_string_lossy().into_owned(),
        ],
        ..WorldOptions::default()
    })?;
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    world.replace_config_line("user = ", "user = \"admin\"")?;
    world.replace_config_line("bundle = ", "bundle = \"keys/admin.bundle\"")?;
    world.replace_config_line("key_file = ", &format!("password_file = {password:?}"))?;
    world
        .coordinator(&["snapshots", HOST, "--json"])?
        .expect_code(exit::OK)?;
    write_private(&password, "not the password\n")?;
    refused(&world, &["snapshots", HOST], exit::WRONG_KEY, &["password"])
}

#[test]
fn a_restore_into_a_directory_that_is_not_empty_is_refused() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    let output = world.output("out");
    fs::create_dir_all(&output)?;
    fs::write(output.join("mine"), "mine")?;
    let text = output.to_string_lossy().into_owned();
    refused(
        &world,
        &["restore", HOST, "latest", "--to", &text],
        exit::ERROR,
        &[&text, "empty"],
    )?;
    ensure!(
        fs::read_dir(&output)?.count() == 1,
        "something was restored all the same"
    );
    Ok(())
}

#[test]
fn a_restore_without_a_target_names_the_forms() -> Result<()> {
    let world = World::new()?;
    refused(&world, &["restore", HOST, "latest"], exit::USAGE, &["--to"])
}

#[test]
fn init_over_an_existing_coordinator_is_refused() -> Result<()> {
    let world = World::new()?;
    let before = fingerprint(&world.coordinator_dir())?;
    let directory = world.coordinator_dir();
    world
        .coordinator_raw(&[
            OsStr::new("init"),
            OsStr::new("--dir"),
            directory.as_os_str(),
        ])?
        .expect_code(exit::ERROR)?;
    ensure!(
        fingerprint(&directory)? == before,
        "keys or configuration changed"
    );
    Ok(())
}

#[test]
fn what_init_makes_is_private_and_checks() -> Result<()> {
    let world = World::new()?;
    world
        .coordinator(&["config", "check"])?
        .expect_code(exit::OK)?;
    for (path, (mode, _)) in fingerprint(&world.coordinator_dir())? {
        ensure!(
            mode & 0o077 == 0,
            "{} has mode {:o}",
            path.display(),
            mode & 0o7777
        );
    }
    Ok(())
}

#[test]
fn an_unknown_verb_is_a_usage_error() -> Result<()> {
    let world = World::new()?;
    refused(&world, &["bakcup", HOST], exit::USAGE, &["bakcup"])
}

#[test]
fn a_source_that_does_not_exist_is_a_problem_not_silence() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    let hosts = plain_hosts(&world)?.replace("paths = [", "paths = [\"/no/such/source\", ");
    world.write_hosts(&hosts)?;
    let report = world.run_expecting(exit::WARNINGS)?;
    ensure!(
        report
            .problems
            .iter()
            .any(|problem| problem.path == "/no/such/source" && problem.kind == "source_missing"),
        "{report:?}"
    );
    Ok(())
}
