//! The coordinator's own machine as a host that nobody logs in to: its state and configuration are backed up with it, without
//! keys, and come back when the machine is lost.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::coordinator_process::Finished;
use tests::shapes::{RunReport, exit};
use tests::world::{HOST, World, below};

const OWN: &str = "backup";

/// A world whose hosts file has the coordinator's own machine, with these lines, too.
fn world_with(lines: &str) -> Result<World> {
    let world = World::new()?;
    set_own(&world, lines)?;
    Ok(world)
}

fn set_own(world: &World, lines: &str) -> Result<()> {
    let sshd = world.sshd();
    let hosts = world.hosts_toml(&sshd.address().to_string(), &sshd.fingerprint()?)?;
    world.write_hosts(&format!("{hosts}\n[host.{OWN}]\nlocal = true\n{lines}\n"))
}

fn call(world: &World, config: &Path, arguments: &[&str]) -> Result<Finished> {
    let mut all: Vec<&OsStr> = vec![OsStr::new("-c"), config.as_os_str()];
    all.extend(arguments.iter().map(OsStr::new));
    world.coordinator_raw(&all)
}

#[test]
fn a_lost_coordinator_has_its_holds_identities_and_configuration_back() -> Result<()> {
    let world = world_with("")?;
    let extra = world.directory().join("extra");
    fs::create_dir(&extra)?;
    fs::write(extra.join("crontab"), "0 1 * * *")?;
    set_own(&world, &format!("paths = [{extra:?}]"))?;
    world.run()?;
    let reason = "file 4711 of the court";
    let hold = ["hold", "add", HOST, "--kind", "legal", "--reason", reason];
    world.coordinator(&hold)?.expect_code(exit::OK)?;
    world
        .coordinator(&["host", "test", OWN])?
        .expect_code(exit::OK)?;
    let report: RunReport = world
        .coordinator(&["run", OWN, "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(report.problems.is_empty(), "{report:?}");
    expect_own_snapshot(&world, &extra)?;

    let kit = world.directory().join("kit.txt");
    fs::copy(world.coordinator_dir().join("recovery-kit.txt"), &kit)?;
    fs::set_permissions(&kit, fs::Permissions::from_mode(0o600))?;
    for lost in ["state", "keys"] {
        fs::remove_dir_all(world.coordinator_dir().join(lost))?;
    }
    let dir = world.directory().join("again");
    let url = format!("file://{}", world.repository().display());
    let (dir_text, kit_text) = (
        dir.to_str().context("UTF-8")?,
        kit.to_str().context("UTF-8")?,
    );
    let recover = [
        "recover",
        "--json",
        "--dir",
        dir_text,
        "--kit",
        kit_text,
        "--destination",
        &url,
    ];
    let recover: Vec<&OsStr> = recover.iter().map(OsStr::new).collect();
    let report: Value = world
        .coordinator_raw(&recover)?
        .expect_code(exit::OK)?
        .json()?;
    let before = &report["state_before"];
    ensure!(
        before["host"] == OWN && before["holds"] == 1 && before["identities"] == 1,
        "{report}"
    );
    let config = dir.join("coordinator.toml");
    let holds = call(&world, &config, &["hold", "ls"])?.expect_code(exit::OK)?;
    ensure!(holds.stdout_text().contains(reason), "{holds:?}");
    // What the recovery added ends by a glob, and what the law wants kept does not.
    call(&world, &config, &["hold", "release", "*"])?.expect_code(exit::OK)?;
    let left = call(&world, &config, &["hold", "ls", "--json"])?;
    let left: Value = left.expect_code(exit::OK)?.json()?;
    ensure!(
        left.as_array().is_some_and(|holds| holds.len() == 1) && left[0]["reason"] == reason,
        "{left}"
    );
    // It goes on as it was: the recovered hosts file has the machine, and which one it is is known.
    call(&world, &config, &["lease", "take", "--all"])?.expect_code(exit::OK)?;
    call(&world, &config, &["run", OWN])?.expect_code(exit::OK)?;
    call(&world, &config, &["run", HOST])?.expect_code(exit::OK)?;
    Ok(())
}

/// The newest snapshot of the own machine has the state and the configuration, what its paths name, and no keys.
fn expect_own_snapshot(world: &World, extra: &Path) -> Result<()> {
    let out = world.output("own");
    let restored = ["restore", OWN, "latest", "--to"];
    let restored = restored
        .map(OsStr::new)
        .into_iter()
        .chain([out.as_os_str()]);
    world
        .coordinator(&restored.collect::<Vec<_>>())?
        .expect_code(exit::OK)?;
    let copy = below(&out, &world.coordinator_dir().join("state/state-copy"));
    let configuration = copy.join("configuration");
    for file in ["coordinator.toml", "hosts.toml"] {
        let before = fs::read(world.coordinator_dir().join(file))?;
        ensure!(fs::read(configuration.join(file))? == before, "{file}");
    }
    ensure!(fs::read_dir(copy.join("audit"))?.count() > 0);
    ensure!(below(&out, extra).join("crontab").exists());
    expect_no_keys(&out, &world.coordinator_dir().join("keys"))
}

/// No file of a directory is, whole, one of those of another.
fn expect_no_keys(restored: &Path, keys: &Path) -> Result<()> {
    let mut secrets = Vec::new();
    for file in fs::read_dir(keys)? {
        secrets.push(fs::read(file?.path())?);
    }
    ensure!(!secrets.is_empty());
    let mut directories = vec![restored.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            match path.is_dir() {
                true => directories.push(path),
                false => ensure!(!secrets.contains(&fs::read(&path)?), "{path:?} is a key"),
            }
        }
    }
    Ok(())
}

#[test]
fn what_makes_no_sense_of_the_own_machine_is_refused() -> Result<()> {
    for (lines, word) in [
        ("address = \"web9.example.com\"", "`address`"),
        ("user = \"root\"", "`user`"),
        ("[defaults]\nlocal = true", "local"),
    ] {
        let world = world_with(lines)?;
        world
            .coordinator(&["config", "check"])?
            .expect_code(exit::ERROR)?
            .expect_stderr(&["hosts.toml", word])?;
    }
    let world = world_with("exclude = [\"*.db\"]")?;
    world
        .coordinator(&["host", "trust", OWN])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["nobody logs in"])?;
    world
        .coordinator(&["run", OWN])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["\"*.db\"", "state-copy"])?;
    Ok(())
}
