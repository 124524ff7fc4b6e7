//! Coordinator and append-server as two users, each with what its unit gives it but for systemd itself.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tests::coordinator_process::DEADLINE;
use tests::processes;
use tests::shapes::{RestoreReport, RunReport, exit};
use tests::sshd::namespaces_work;
use tests::world::below;

use crate::set_up::TwoUsers;

#[test]
fn two_users_back_up_and_restore_and_neither_reads_what_the_other_keeps() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let both = TwoUsers::set_up()?;
    let server = both.start_server()?;
    let run = both.coordinator("coordinator", &["run", "web1", "--json"])?;
    let report: RunReport = run.expect_code(exit::OK)?.json()?;
    ensure!(report.files == 20 && report.new_bytes > 0, "{report:?}");

    // As the coordinator's own user, and as an administrator to get owners back; then the daemon's user again.
    let source = both.target.path().join("source");
    for (user, to, more) in [
        (
            "coordinator",
            "/var/lib/coordinator/out",
            &["--no-owner"][..],
        ),
        ("root", "/srv/out", &[]),
    ] {
        let mut restore = vec!["restore", "web1", "latest", "--json", "--to", to];
        restore.extend(more);
        let restored = both.coordinator(user, &restore)?.expect_code(exit::OK)?;
        let report: RestoreReport = restored.json()?;
        ensure!(report.problem_count == 0, "{report:?}");
        let restored = below(&both.root.path(to), &source);
        for name in ["f00", "f07", "f19"] {
            ensure!(fs::read(restored.join(name))? == fs::read(source.join(name))?);
        }
    }
    fs::write(source.join("new"), "new")?;
    both.coordinator("coordinator", &["run", "web1"])?
        .expect_code(exit::OK)?;
    both.coordinator("coordinator", &["scan", "--full"])?
        .expect_code(exit::OK)?;

    for (user, script) in [
        ("coordinator", "ls /srv/backup"),
        ("coordinator", "ls /var/lib/append-server"),
        ("coordinator", "cat /etc/append-server/append-server.toml"),
        ("coordinator", "touch /run/append-server/x"),
        ("coordinator", "rm -f /run/append-server/control"),
        ("coordinator", "ls /etc/credstore/coordinator"),
        ("append-server", "ls /etc/coordinator"),
        ("append-server", "ls /var/lib/coordinator"),
        ("append-server", "ls /etc/credstore/append-server"),
        (
            "append-server",
            "touch /etc/append-server/append-server.toml",
        ),
    ] {
        both.shell_fails(user, script)?;
    }
    let allowed = both
        .root
        .run("coordinator", &["ls", "/run/append-server/control"])?;
    allowed.expect_code(0)?;

    both.expect_told("WATCHDOG=1")?;
    both.hear_all()?;
    processes::signal(server.pid(), Signal::TERM)?;
    both.expect_told("STOPPING=1")?;
    server.finish(Duration::from_secs(60))?.expect_code(0)?;
    Ok(())
}

#[test]
fn a_user_who_may_reach_the_sockets_and_is_not_named_gets_nothing() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let both = TwoUsers::set_up()?;
    both.configure_server("[\"root\"]")?;
    let server = both.start_server()?;
    let refused = both.coordinator("coordinator", &["run", "web1"])?;
    ensure!(refused.code != Some(exit::OK), "an unknown user was served");
    let uid = both.root.uid("coordinator")?;
    ensure!(
        server
            .stderr_so_far()
            .contains(&format!("user {uid} may not use this socket")),
        "{}",
        server.stderr_so_far()
    );
    drop(server);
    both.configure_server("[\"nobody-of-this-name\"]")?;
    let failed = both
        .root
        .run("append-server", &["append-server", "--check"])?;
    failed
        .expect_code(1)?
        .expect_stderr(&["nobody-of-this-name", "allow_uids"])?;
    Ok(())
}

#[test]
fn a_key_that_root_alone_can_read_opens_the_bundle_as_a_credential() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let both = TwoUsers::set_up()?;
    // As systemd gives them: root's, and one user more by an access list, which shows as the group's right.
    let given = "/run/credentials/coordinator.service";
    fs::create_dir_all(both.root.path(given))?;
    let uid = both.root.uid("coordinator")?;
    for (name, key) in [
        ("secret_daemon.key", "daemon.key"),
        ("secret_ssh", "id_ed25519"),
    ] {
        let from = both.root.path("/etc/coordinator/keys").join(key);
        let to = both.root.path(given).join(name);
        fs::copy(&from, &to)?;
        fs::remove_file(&from)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o400))?;
        let list = format!("u:{uid}:r");
        let status = Command::new("setfacl")
            .args(["-m", &list])
            .arg(&to)
            .status()?;
        ensure!(status.success() && to.metadata()?.mode() & 0o070 != 0);
    }
    for (file, old, new) in [
        (
            "coordinator.toml",
            "key_file = \"keys/daemon.key\"",
            "key_credential = \"secret_daemon.key\"",
        ),
        (
            "hosts.toml",
            "keys/id_ed25519",
            "$CREDENTIALS_DIRECTORY/secret_ssh",
        ),
    ] {
        let path = both.root.path("/etc/coordinator").join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(old));
        fs::write(&path, text.replace(old, new))?;
    }
    let _server = both.start_server()?;
    let run = ["coordinator", "run", "web1"];
    let variables = [("CREDENTIALS_DIRECTORY", given)];
    both.root
        .start("coordinator", &variables, &run)?
        .finish(DEADLINE)?
        .expect_code(exit::OK)?;
    let check = ["coordinator", "config", "check"];
    both.root
        .start("coordinator", &variables, &check)?
        .finish(DEADLINE)?
        .expect_code(exit::OK)?;
    // By hand there are no credentials, and the program says so.
    let without = both.root.run("coordinator", &run)?;
    ensure!(without.code != Some(exit::OK));
    without.expect_stderr(&["LoadCredential"])?;
    // One that all can read is refused, wherever it lies.
    let key = both.root.path(given).join("secret_ssh");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o444))?;
    let exposed = both.root.start("coordinator", &variables, &run)?;
    let exposed = exposed.finish(DEADLINE)?;
    ensure!(exposed.code != Some(exit::OK), "an open key was used");
    exposed.expect_stderr(&["secret_ssh", "chmod"])?;
    Ok(())
}
