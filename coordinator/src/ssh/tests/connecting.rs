//! Host keys, jump hosts and stages of a connection, against OpenSSH.

use std::fs;
use std::time::Duration;

use append_server::ssh::connect::connect;
use append_server::ssh::error::{SshError, Stage};
use append_server::ssh::host_key::scan_host_key;

use crate::ssh::exec::{self, Command};
use crate::ssh::tests::sshd::{PATIENCE, Sshd};

pub(super) fn command(line: &str) -> Command<'_> {
    Command {
        line,
        stdin: b"",
        stdout_bytes_max: 1 << 20,
        deadline: PATIENCE,
    }
}

#[tokio::test]
async fn connects_to_a_pinned_host_and_runs_a_command() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    assert_eq!(connection.host_key(), sshd.fingerprint("host_ed25519"));
    let output = exec::run(&connection, command("echo hello")).await.unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"hello\n");
    connection.disconnect().await;
}

#[tokio::test]
async fn a_key_that_is_not_pinned_is_refused_before_login() {
    let sshd = Sshd::start("LogLevel DEBUG1");
    let mut target = sshd.target();
    target.host_keys = vec![sshd.fingerprint("ca")];
    let error = connect(&target).await.unwrap_err();
    let SshError::HostKeyMismatch {
        host,
        pinned,
        presented,
        algorithm,
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(host, "web1");
    assert_eq!(*pinned, [sshd.fingerprint("ca")]);
    assert_eq!(*presented, sshd.fingerprint("host_ed25519"));
    assert_eq!(algorithm, "ssh-ed25519");
    assert!(error.is_host_key_mismatch());
    assert_eq!(error.stage(), Stage::HostKey);
    assert!(!sshd.log().contains("userauth"), "{}", sshd.log());
}

#[tokio::test]
async fn a_pinned_key_of_another_kind_than_the_first_is_found() {
    let sshd = Sshd::start("");
    let mut target = sshd.target();
    target.host_keys = vec![sshd.fingerprint("host_ecdsa")];
    let connection = connect(&target).await.unwrap();
    assert_eq!(connection.host_key(), sshd.fingerprint("host_ecdsa"));
}

#[tokio::test]
async fn without_a_pinned_key_nothing_is_connected() {
    let sshd = Sshd::start("");
    let mut target = sshd.target();
    target.host_keys.clear();
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(error, SshError::HostKeyNotPinned { .. }));
    assert!(!sshd.log().contains("Connection from"), "{}", sshd.log());
}

#[tokio::test]
async fn a_scan_names_every_kind_of_key_and_does_not_log_in() {
    let sshd = Sshd::start("LogLevel DEBUG1");
    let mut target = sshd.target();
    target.host_keys.clear();
    target.identity_file = None;
    let keys = scan_host_key(&target).await.unwrap();
    let found: Vec<_> = keys.iter().map(|key| key.fingerprint).collect();
    let real = [
        sshd.fingerprint("host_ed25519"),
        sshd.fingerprint("host_ecdsa"),
    ];
    assert_eq!(found, real);
    assert_eq!(keys[0].algorithm, "ssh-ed25519");
    assert!(!sshd.log().contains("userauth"), "{}", sshd.log());
}

#[tokio::test]
async fn a_rekey_keeps_the_connection() {
    let sshd = Sshd::start("LogLevel DEBUG1\nRekeyLimit 1M");
    let connection = connect(&sshd.target()).await.unwrap();
    let mut big = command("head -c 8388608 /dev/zero");
    big.stdout_bytes_max = 8 << 20;
    let output = exec::run(&connection, big).await.unwrap();
    assert_eq!(output.stdout.len(), 8 << 20);
    connection.handle().rekey_soon().await.unwrap();
    let output = exec::run(&connection, command("echo still")).await.unwrap();
    assert_eq!(output.stdout, b"still\n");
    assert!(sshd.log().contains("rekey"), "{}", sshd.log());
    // The server has to prove the pinned key again.
    let proof = "hostkeys-prove-00@openssh.com";
    super::sshd::eventually("a proof", || sshd.log().contains(proof)).await;
    exec::run(&connection, command("true")).await.unwrap();
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn goes_through_a_jump_host_and_checks_both_keys() {
    let inner = Sshd::start("");
    let outer = Sshd::start("");
    let mut target = inner.target();
    let mut jump = outer.target();
    jump.name = "bastion".into();
    target.jump = Some(Box::new(jump.clone()));
    let connection = connect(&target).await.unwrap();
    assert_eq!(connection.host_key(), inner.fingerprint("host_ed25519"));
    let output = exec::run(&connection, command("echo through"))
        .await
        .unwrap();
    assert_eq!(output.stdout, b"through\n");
    drop(connection);

    jump.host_keys = vec![outer.fingerprint("ca")];
    target.jump = Some(Box::new(jump));
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(&error, SshError::Jump { jump, .. } if jump == "bastion"));
    assert!(error.is_host_key_mismatch());
}

#[tokio::test]
async fn a_jump_host_that_does_not_connect_on_is_named() {
    let outer = Sshd::start("AllowTcpForwarding no");
    let inner = Sshd::start("");
    let mut target = inner.target();
    let mut jump = outer.target();
    jump.name = "bastion".into();
    target.jump = Some(Box::new(jump));
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(error, SshError::JumpRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_host_that_is_down_is_unreachable() {
    let sshd = Sshd::start("");
    let target = sshd.target();
    drop(sshd);
    // The key must still be readable to get as far as connecting; it is not looked at before.
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(error, SshError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn dropping_the_connection_ends_the_session_on_the_server() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let marker = sshd.path("ended");
    let line = format!("cat; touch {}", marker.display());
    let process = exec::spawn(&connection, &line).await.unwrap();
    drop(connection);
    super::sshd::eventually("end of file at the command", || marker.exists()).await;
    drop(process);
}

#[tokio::test]
async fn the_banner_is_cut_and_escaped() {
    let directory = tempfile::tempdir().unwrap();
    let banner = directory.path().join("banner");
    let evil = format!("\x1b]52;c;aGk=\x07{}", "x".repeat(100_000));
    fs::write(&banner, evil).unwrap();
    let sshd = Sshd::start(&format!("Banner {}", banner.display()));
    let connection = connect(&sshd.target()).await.unwrap();
    let shown = connection.banner();
    assert!(shown.starts_with("\\u{1b}]52;"), "{shown}");
    assert!(shown.len() < 5000);
}

#[tokio::test]
async fn a_server_that_stops_answering_is_noticed() {
    let sshd = Sshd::start("");
    let mut target = sshd.target();
    target.timeouts.keepalive = Duration::from_millis(100);
    let connection = connect(&target).await.unwrap();
    let output = exec::run(&connection, command("echo $PPID")).await.unwrap();
    let session = String::from_utf8(output.stdout).unwrap();
    // The process that serves this very connection stands still and closes nothing.
    super::sshd::tool("kill", &["-STOP", session.trim()]);
    let noticed = tokio::time::timeout(PATIENCE, connection.closed()).await;
    super::sshd::tool("kill", &["-KILL", session.trim()]);
    noticed.unwrap();
    assert!(matches!(connection.close_reason(), SshError::Lost { .. }));
}
