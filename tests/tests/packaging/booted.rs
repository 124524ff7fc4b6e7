//! The units under a systemd that is booted for them: it starts them in their sandboxes, as their users, with their
//! credentials, and watches them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use tests::booted_root::BootedRoot;
use tests::coordinator_process::DEADLINE;
use tests::processes;
use tests::shapes::SnapshotLine;
use tests::sshd::namespaces_work;

use crate::set_up::TwoUsers;

/// Leaves the daemon's key and the host's to root alone, as credentials.
fn keys_as_credentials(both: &TwoUsers) -> Result<()> {
    let ssh_key = "identity_file = \"$CREDENTIALS_DIRECTORY/secret_id_ed25519\"";
    for (key, file, credential) in [
        (
            "daemon.key",
            "coordinator.toml",
            "key_credential = \"secret_daemon.key\"",
        ),
        ("id_ed25519", "hosts.toml", ssh_key),
    ] {
        let old = both.root.path("/etc/coordinator/keys").join(key);
        let new = format!("/etc/credstore/coordinator/{key}");
        fs::rename(old, both.root.path(&new))?;
        both.root.give(&new, "root", 0o600)?;
        let path = both.root.path("/etc/coordinator").join(file);
        let text = fs::read_to_string(&path)?;
        let old = format!("= \"keys/{key}\"");
        let line = text.lines().find(|line| line.ends_with(&old));
        let line = line.with_context(|| format!("{file} has no line that ends with {old}"))?;
        fs::write(&path, text.replace(line, credential))?;
    }
    Ok(())
}

/// Replaces a key of `[Service]`, as an administrator would.
fn drop_in(both: &TwoUsers, machine: &BootedRoot, unit: &str, lines: &str) -> Result<()> {
    let directory = both
        .root
        .path("/etc/systemd/system")
        .join(format!("{unit}.d"));
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("test.conf"), format!("[Service]\n{lines}\n"))?;
    machine
        .run(&["systemctl", "daemon-reload"])?
        .expect_code(0)?;
    Ok(())
}

#[test]
fn systemd_starts_the_services_in_their_sandboxes_and_they_do_their_work() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let both = TwoUsers::set_up()?;
    keys_as_credentials(&both)?;
    let Some(machine) = BootedRoot::boot(&both.root)? else {
        return Ok(());
    };
    // It ends this at once unless it hears in time that the server is ready.
    machine.systemctl("start", "append-server.service")?;
    ensure!(machine.property("append-server.service", "StatusErrno")? == "0");

    // A run in the sandbox of the coordinator's units, with its keys from systemd.
    let run = "ExecStart=\nExecStart=/usr/bin/coordinator run web1";
    drop_in(&both, &machine, "coordinator-scan.service", run)?;
    machine.systemctl("start", "coordinator-scan.service")?;
    let list = "ExecStart=\nExecStart=/usr/bin/coordinator snapshots web1 --json\n\
                StandardOutput=truncate:/var/lib/coordinator/snapshots";
    drop_in(&both, &machine, "coordinator-scan.service", list)?;
    machine.systemctl("start", "coordinator-scan.service")?;
    let listed = fs::read(both.root.path("/var/lib/coordinator/snapshots"))?;
    let snapshots: Vec<SnapshotLine> = serde_json::from_slice(&listed)?;
    ensure!(snapshots.len() == 1, "{snapshots:?}");

    // The jobs as they are.
    drop_in(&both, &machine, "coordinator-scan.service", "")?;
    let hosts = both.root.path("/etc/coordinator/hosts.toml");
    let text = fs::read_to_string(&hosts)? + "keep = { last = 1 }\n";
    fs::write(&hosts, text)?;
    for job in ["coordinator-scan", "coordinator-prune"] {
        machine.systemctl("start", &format!("{job}.service"))?;
        machine.systemctl("start", &format!("{job}.timer"))?;
        let next = machine.property(&format!("{job}.timer"), "NextElapseUSecRealtime")?;
        ensure!(!next.is_empty(), "{job} is never due");
    }
    for job in ["coordinator-scan.timer", "coordinator-prune.timer"] {
        machine.systemctl("stop", job)?;
    }

    // The daemon, which backs up what is due, takes a changed configuration, and lives.
    drop_in(&both, &machine, "coordinator.service", "WatchdogSec=10s")?;
    let text = fs::read_to_string(&hosts)? + "schedule = \"* * * * *\"\n";
    fs::write(&hosts, text)?;
    machine.systemctl("start", "coordinator.service")?;
    machine.systemctl("reload", "coordinator.service")?;
    fs::write(both.target.path().join("source/new"), "new")?;
    let shown = ["coordinator", "history", "web1", "--json"];
    processes::wait_until("the daemon's own run", DEADLINE, || {
        let shown = machine.run(&shown)?.expect_code(0)?;
        Ok(shown.stdout_text().matches("\"ok\"").count() > 1)
    })?;
    machine.systemctl("stop", "coordinator.service")?;
    let result = machine.property("coordinator.service", "Result")?;
    ensure!(result == "success", "the daemon ended with {result}");
    ensure!(machine.property("coordinator.service", "NRestarts")? == "0");

    machine.systemctl("stop", "append-server.service")?;
    let result = machine.property("append-server.service", "Result")?;
    ensure!(result == "success", "it ended with {result}");
    Ok(())
}

#[test]
fn a_server_that_hangs_is_ended_by_the_watchdog_and_started_again() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let both = TwoUsers::set_up()?;
    let Some(machine) = BootedRoot::boot(&both.root)? else {
        return Ok(());
    };
    let unit = "append-server.service";
    drop_in(&both, &machine, unit, "WatchdogSec=1s\nRestartSec=0")?;
    machine.systemctl("start", unit)?;
    let inside = machine.property(unit, "MainPID")?;
    ensure!(machine.property(unit, "NRestarts")? == "0");
    machine.run(&["kill", "-STOP", &inside])?.expect_code(0)?;
    machine.wait_for(unit, "NRestarts", "1")?;
    machine.wait_for(unit, "ActiveState", "active")?;
    ensure!(machine.property(unit, "MainPID")? != inside);
    Ok(())
}
