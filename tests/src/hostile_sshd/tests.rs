//! The hostile server is a working SSH server until it is told otherwise.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test at once")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use super::{HostileOptions, HostileSshd, Stall, Uninvited};
use crate::sshd::generate_key;

fn ssh(directory: &Path, server: &HostileSshd, script: &str) -> Output {
    let key = directory.join("client_key");
    if !key.exists() {
        generate_key(&key).unwrap();
    }
    let mut command = Command::new("timeout");
    command.args([
        "10",
        "ssh",
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
    ]);
    command
        .args([
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-i",
        ])
        .arg(key);
    command.args([
        "-p",
        &server.address().port().to_string(),
        "root@127.0.0.1",
        script,
    ]);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn commands_run_and_answers_are_scripted() {
    let directory = tempfile::tempdir().unwrap();
    let options = HostileOptions {
        answers: vec![("uname".into(), b"Plan9 pdp11\n".to_vec(), 0)],
        ..HostileOptions::default()
    };
    let server = HostileSshd::start(&directory.path().join("server"), options).unwrap();
    let output = ssh(
        directory.path(),
        &server,
        "echo \"$XDG_RUNTIME_DIR\"; exit 7",
    );
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .ends_with("/server/run")
    );
    assert_eq!(
        ssh(directory.path(), &server, "uname -sm").stdout,
        b"Plan9 pdp11\n"
    );
    assert_eq!(server.observed().commands.lock().unwrap().len(), 2);
}

#[test]
fn input_reaches_commands() {
    let directory = tempfile::tempdir().unwrap();
    let server =
        HostileSshd::start(&directory.path().join("server"), HostileOptions::default()).unwrap();
    let output = ssh(directory.path(), &server, "wc -c");
    assert_eq!(output.stdout, b"0\n", "{output:?}");
}

#[test]
fn an_honest_client_refuses_uninvited_channels() {
    for kind in [
        Uninvited::ForwardedTcp,
        Uninvited::Agent,
        Uninvited::X11,
        Uninvited::Session,
        Uninvited::DirectTcp,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let options = HostileOptions {
            uninvited: vec![kind],
            ..HostileOptions::default()
        };
        let server = HostileSshd::start(&directory.path().join("server"), options).unwrap();
        ssh(directory.path(), &server, "sleep 0.5");
        assert_eq!(
            server.observed().accepted_uninvited.load(Ordering::Relaxed),
            0,
            "{kind:?}"
        );
        assert_eq!(
            server.observed().refused_uninvited.load(Ordering::Relaxed),
            1,
            "{kind:?}"
        );
    }
}

#[test]
fn a_stalled_server_stalls() {
    for stall in [
        Stall::BeforeBanner,
        Stall::AfterBanner,
        Stall::InLogin,
        Stall::OnChannel,
        Stall::OnCommand,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let options = HostileOptions {
            stall: Some(stall),
            ..HostileOptions::default()
        };
        let server = HostileSshd::start(&directory.path().join("server"), options).unwrap();
        let key = directory.path().join("client_key");
        generate_key(&key).unwrap();
        let mut command = Command::new("timeout");
        command.args([
            "2",
            "ssh",
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
        ]);
        command
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
                "-i",
            ])
            .arg(key);
        command.args([
            "-p",
            &server.address().port().to_string(),
            "root@127.0.0.1",
            "true",
        ]);
        assert_eq!(
            command.output().unwrap().status.code(),
            Some(124),
            "{stall:?}"
        );
    }
}
