//! The audit log as commands write it: what was done stands there, who did it, and a change of it is found.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::coordinator_process::{DEADLINE, Running, binary};
use tests::processes;
use tests::shapes::exit;
use tests::world::{HOST, World};

fn log(world: &World, arguments: &[&str]) -> Result<Vec<Value>> {
    let mut all = vec!["audit", "log", "--json"];
    all.extend(arguments);
    world.coordinator(&all)?.expect_code(exit::OK)?.json()
}

fn words(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .filter_map(|record| record["what"].as_str())
        .collect()
}

#[test]
fn what_commands_do_is_recorded_and_a_change_of_it_is_found() -> Result<()> {
    let world = World::new()?;
    ensure!(log(&world, &[])?.is_empty());
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    let pin = ["pin", "add", HOST, "latest", "--reason", "before the move"];
    world.coordinator(&pin)?.expect_code(exit::OK)?;
    world.restore("latest", "restored")?;
    world.coordinator(&["scan"])?.expect_code(exit::OK)?;

    let records = log(&world, &["--host", HOST])?;
    let told = words(&records);
    for what in ["pin-added", "restored", "scan-clean"] {
        ensure!(told.contains(&what), "{what} is not in {told:?}");
    }
    let pinned = log(&world, &["--what", "pin-added"])?;
    ensure!(pinned.len() == 1);
    ensure!(pinned[0]["details"]["reason"] == "before the move");
    let actor = pinned[0]["actor"].as_str().unwrap_or_default();
    ensure!(actor.starts_with("user:root(0)"), "{actor}");
    ensure!(log(&world, &["--since", "2999-01-01"])?.is_empty());

    let verified: Value = world
        .coordinator(&["audit", "verify", "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    ensure!(verified["whole"] == true, "{verified}");
    let witness = format!(
        "{}:{}",
        verified["last"],
        verified["head"].as_str().context("a head")?
    );
    let holds = ["audit", "verify", "--witness", &witness];
    world.coordinator(&holds)?.expect_code(exit::OK)?;

    let directory = world.coordinator_dir().join("state/audit");
    let file = directory.join("00000000000000000001.log");
    let mut content = fs::read(&file)?;
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&file, &content)?;
    let damaged = world.coordinator(&["audit", "verify"])?;
    let damaged = damaged.expect_code(exit::INTEGRITY)?;
    ensure!(damaged.stdout_text().contains("00000000000000000001.log"));
    // What is done later is recorded all the same, and the damage is not forgotten.
    let unpin = ["pin", "rm", HOST, "latest"];
    world.coordinator(&unpin)?.expect_code(exit::OK)?;
    let listed = Command::new("ls").arg(&directory).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.matches(".log").count() == 2, "{listed}");
    let shown = world.coordinator(&["audit", "log"])?.stdout_text();
    ensure!(
        shown.contains("audit-damaged") && shown.contains("pin-removed"),
        "{shown}"
    );
    world
        .coordinator(&["audit", "verify"])?
        .expect_code(exit::INTEGRITY)?;
    Ok(())
}

fn date(shift: &str, format: &str) -> Result<String> {
    let told = Command::new("date")
        .args(["-u", "-d", shift, format])
        .output()?;
    Ok(String::from_utf8(told.stdout)?.trim().to_owned())
}

/// Gives the host a window from and to so many minutes from now, and starts a daemon if there is to be one.
fn with_window(world: &World, from: i64, to: i64, daemon: bool) -> Result<Option<Running>> {
    let clock = |minutes: i64| date(&format!("{minutes} minutes"), "+%H:%M");
    let (from, to) = (clock(from)?, clock(to)?);
    let address = world.sshd().address().to_string();
    let hosts = world.hosts_toml(&address, &world.sshd().fingerprint()?)?;
    world.write_hosts(&format!("{hosts}window = \"{from}-{to}\"\n"))?;
    if !daemon {
        return Ok(None);
    }
    let daemon = world.start(&["daemon"])?;
    processes::wait_until("the daemon", Duration::from_secs(60), || {
        let status = world.coordinator(&["status", "--json"])?;
        Ok(status.stdout_text().contains("\"pid\""))
    })?;
    Ok(Some(daemon))
}

/// Runs as somebody who became root through sudo, and gives what is recorded of it.
fn run_through_sudo(world: &World, arguments: &[&str]) -> Result<Value> {
    let before = date("now", "+%Y-%m-%dT%H:%M:%SZ")?;
    let mut all: Vec<OsString> = vec!["-c".into(), world.config().into(), "run".into()];
    all.push(HOST.into());
    all.extend(arguments.iter().map(OsString::from));
    let environment = [("SUDO_USER", "alice")];
    let run = Running::spawn(&binary("coordinator")?, &all, &environment)?;
    run.finish(DEADLINE)?.expect_code(exit::OK)?;
    let what = ["--what", "run-started", "--host", HOST, "--since", &before];
    let mut started = log(world, &what)?;
    started.pop().context("it is not recorded")
}

#[test]
fn a_run_that_heeds_no_window_says_who_asked_for_it() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "content")?;
    let expect = |record: &Value, outside: &str| -> Result<()> {
        ensure!(record["details"]["outside_window"] == outside, "{record}");
        ensure!(record["actor"] == "user:root(0)<alice", "{record}");
        ensure!(record["run"].is_string(), "{record}");
        Ok(())
    };
    for is_daemon in [false, true] {
        let daemon = with_window(&world, -20, -10, is_daemon)?;
        let refused = world.coordinator(&["run", HOST])?;
        refused.expect_code(exit::ERROR)?;
        expect(&run_through_sudo(&world, &["--outside-window"])?, "true")?;
        if is_daemon {
            // Nobody but the daemon's own user and root can ask it.
            let socket = world.coordinator_dir().join("state/daemon.sock");
            let mode = fs::metadata(&socket)?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{mode:o}");
        }
        drop(daemon);
        // It would go on past the end of one that is open.
        let daemon = with_window(&world, -60, 120, is_daemon)?;
        expect(&run_through_sudo(&world, &["--outside-window"])?, "true")?;
        expect(&run_through_sudo(&world, &[])?, "false")?;
        drop(daemon);
    }
    Ok(())
}
