//! The target is reachable, private, and leaves nothing.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test at once")]

use std::process::{Command, Output};
use std::time::Duration;

use super::{Sshd, SshdOptions, UNPRIVILEGED_USER, namespaces_work};
use crate::processes;
use crate::target_state::{TargetState, expect_clean};
use crate::world::temporary_directory;

fn ssh(sshd: &Sshd, user: &str, script: &str) -> Output {
    let mut command = Command::new("ssh");
    command.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
    ]);
    command.args([
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "-i",
    ]);
    command
        .arg(sshd.identity_file())
        .args(["-p", &sshd.address().port().to_string()]);
    command
        .arg(format!("{user}@127.0.0.1"))
        .arg(script)
        .output()
        .unwrap()
}

#[test]
fn root_logs_in_and_the_state_shows_what_is_left() {
    let directory = temporary_directory().unwrap();
    let sshd = Sshd::start(directory.path(), SshdOptions::default()).unwrap();
    let before = TargetState::of(&sshd).unwrap();
    let output = ssh(
        &sshd,
        "root",
        "id -u && mkdir /dev/shm/.capstan-x && touch /dev/shm/.capstan-x/agent",
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "0\n",
        "{output:?}\n{}",
        sshd.log()
    );
    let after = TargetState::of(&sshd).unwrap();
    let lines = before.differences(&after);
    assert!(
        lines.contains(&"new file /dev/shm/.capstan-x/agent".to_owned()),
        "{lines:?}"
    );
    assert!(
        ssh(&sshd, "root", "rm -r /dev/shm/.capstan-x")
            .status
            .success()
    );
    expect_clean(&sshd, &before).unwrap();
}

#[test]
fn a_process_and_a_listener_left_behind_are_seen() {
    let directory = temporary_directory().unwrap();
    let sshd = Sshd::start(directory.path(), SshdOptions::default()).unwrap();
    let before = TargetState::of(&sshd).unwrap();
    let script = "setsid sh -c 'exec python3 -c \"import socket,time; s=socket.socket(socket.AF_UNIX); \
                  s.bind(\\\"/tmp/left\\\"); s.listen(); time.sleep(600)\"' >/dev/null 2>&1 </dev/null & exit";
    assert!(ssh(&sshd, "root", script).status.success());
    processes::wait_until("the listener", Duration::from_secs(20), || {
        let lines = before.differences(&TargetState::of(&sshd)?);
        Ok([
            "new file /tmp/left",
            "new listener unix /tmp/left",
            "new process python3",
        ]
        .iter()
        .all(|start| lines.iter().any(|line| line.starts_with(start))))
    })
    .unwrap();
}

#[test]
fn the_unprivileged_account_uses_sudo_only_when_allowed() {
    if !namespaces_work() {
        return;
    }
    for (sudoers, expected) in [
        (vec![], false),
        (
            vec![format!("{UNPRIVILEGED_USER} ALL=(ALL) NOPASSWD: ALL")],
            true,
        ),
    ] {
        let directory = temporary_directory().unwrap();
        let options = SshdOptions {
            sudoers,
            ..SshdOptions::default()
        };
        let sshd = Sshd::start(directory.path(), options).unwrap();
        assert!(
            ssh(
                &sshd,
                UNPRIVILEGED_USER,
                "test $(id -u) != 0 && touch ~/mine"
            )
            .status
            .success(),
            "{}",
            sshd.log()
        );
        let output = ssh(&sshd, UNPRIVILEGED_USER, "sudo -n id -u");
        assert_eq!(output.status.success(), expected, "{output:?}");
    }
}

#[test]
fn a_power_cut_ends_everything_and_the_target_comes_back_empty() {
    let directory = temporary_directory().unwrap();
    let mut sshd = Sshd::start(directory.path(), SshdOptions::default()).unwrap();
    let address = sshd.address();
    assert!(
        ssh(
            &sshd,
            "root",
            "sleep 600 >/dev/null 2>&1 </dev/null & touch /tmp/kept"
        )
        .status
        .success()
    );
    let pids: Vec<u32> = sshd
        .processes()
        .unwrap()
        .iter()
        .map(|process| process.pid)
        .collect();
    assert!(!pids.is_empty());
    sshd.power_off().unwrap();
    for pid in pids {
        processes::wait_gone(pid, Duration::from_secs(5)).unwrap();
    }
    assert!(std::net::TcpStream::connect(address).is_err());
    sshd.power_on().unwrap();
    assert_eq!(sshd.address(), address);
    if namespaces_work() {
        assert!(!ssh(&sshd, "root", "test -e /tmp/kept").status.success());
    }
}

#[test]
fn the_machine_sees_nothing_of_the_targets_temporary_files() {
    if !namespaces_work() {
        return;
    }
    let directory = temporary_directory().unwrap();
    let sshd = Sshd::start(directory.path(), SshdOptions::default()).unwrap();
    assert!(
        ssh(
            &sshd,
            "root",
            "touch /dev/shm/.capstan-private /root/.capstan-private"
        )
        .status
        .success()
    );
    assert!(!std::path::Path::new("/dev/shm/.capstan-private").exists());
    assert!(sshd.path_on_target("/dev/shm/.capstan-private").exists());
    let root = sshd.root_pid().unwrap();
    drop(sshd);
    processes::wait_gone(root, Duration::from_secs(5)).unwrap();
}
