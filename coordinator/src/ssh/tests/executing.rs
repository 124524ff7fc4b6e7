//! Commands: their limits, their end and their streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use append_server::ssh::connect::connect;
use append_server::ssh::stream::ExitStatus;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::ssh::exec::{self, ExecError};
use crate::ssh::tests::connecting::command;
use crate::ssh::tests::sshd::Sshd;

#[tokio::test]
async fn output_status_and_standard_error_come_back() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let line = "cat; printf 'a\\033[31m\\nb' >&2; exit 7";
    let mut input = command(line);
    input.stdin = b"given";
    let output = exec::run(&connection, input).await.unwrap();
    assert_eq!(output.status, ExitStatus::Code(7));
    assert_eq!(output.stdout, b"given");
    assert_eq!(output.stderr, "a\\u{1b}[31m\\nb");
}

#[tokio::test]
async fn too_much_output_is_an_error_and_standard_error_is_cut() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let mut much = command("head -c 1000000 /dev/zero");
    much.stdout_bytes_max = 1000;
    let error = exec::run(&connection, much).await.unwrap_err();
    assert!(matches!(
        error,
        ExecError::TooMuchOutput { limit: 1000, .. }
    ));

    let line = "head -c 10000000 /dev/zero | tr '\\000' x >&2";
    let output = exec::run(&connection, command(line)).await.unwrap();
    let told = 20 << 10;
    let note = format!("[and {} bytes more]", 10_000_000 - told);
    assert!(output.stderr.ends_with(&note));
    assert!(output.stderr.len() < told + 100);
    // What takes more when it is escaped is cut earlier.
    let line = "head -c 100000 /dev/zero | tr '\\000' '\\033' >&2";
    let output = exec::run(&connection, command(line)).await.unwrap();
    let note = format!("\\u{{1b}} [and {} bytes more]", 100_000 - told / 6);
    assert!(output.stderr.ends_with(&note), "{}", output.stderr.len());
    assert!(output.stderr.len() < told + 100);
}

#[tokio::test]
async fn a_command_that_hangs_is_given_up() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let mut hanging = command("exec sleep 1000");
    hanging.deadline = Duration::from_millis(300);
    let began = Instant::now();
    let error = exec::run(&connection, hanging).await.unwrap_err();
    assert!(matches!(error, ExecError::TimedOut { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let output = exec::run(&connection, command("echo on")).await.unwrap();
    assert_eq!(output.stdout, b"on\n");
}

#[tokio::test]
async fn an_end_by_signal_and_an_end_without_status_are_told_apart() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let output = exec::run(&connection, command("kill -TERM $$"))
        .await
        .unwrap();
    assert_eq!(output.status, ExitStatus::Signal("TERM".into()));

    let mut process = exec::spawn(&connection, "echo ready >&2; exec cat")
        .await
        .unwrap();
    drop(connection);
    let error = process.control.wait().await.unwrap_err();
    assert!(matches!(error, ExecError::NoExitStatus { .. }), "{error:?}");
    // Writing fails instead of waiting for a window that never comes.
    let mut failed = false;
    for _ in 0..1000 {
        failed |= process.stdin.write_all(&[0; 65536]).await.is_err();
    }
    assert!(failed);
}

#[tokio::test]
async fn a_command_that_does_not_read_does_not_keep_us() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let input = vec![0; 16 << 20];
    let mut unread = command("exit 3");
    unread.stdin = &input;
    let output = exec::run(&connection, unread).await.unwrap();
    assert_eq!(output.status, ExitStatus::Code(3));
}

#[tokio::test]
async fn bytes_pass_unchanged_in_both_directions_at_once() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let process = exec::spawn(&connection, "exec cat").await.unwrap();
    let sent: Vec<u8> = (0..32_u32 << 20)
        .map(|i| (i.wrapping_mul(31) >> 7) as u8)
        .collect();
    let expected = sent.clone();
    let mut stdin = process.stdin;
    let feed = tokio::spawn(async move {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
        stdin
    });
    let mut received = Vec::new();
    let mut stdout = process.stdout;
    stdout.read_to_end(&mut received).await.unwrap();
    feed.await.unwrap();
    assert!(received == expected);
    let mut control = process.control;
    assert_eq!(control.wait().await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn an_output_that_nobody_wants_does_not_stop_the_others() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let process = exec::spawn(&connection, "exec cat /dev/zero")
        .await
        .unwrap();
    drop(process.stdout);
    let output = exec::run(&connection, command("echo on")).await.unwrap();
    assert_eq!(output.stdout, b"on\n");
    drop(process.stdin);
    let output = exec::run(&connection, command("echo on")).await.unwrap();
    assert_eq!(output.stdout, b"on\n");
}

#[tokio::test]
async fn a_server_without_sessions_is_named() {
    let sshd = Sshd::start("MaxSessions 0");
    let connection = connect(&sshd.target()).await.unwrap();
    let error = exec::run(&connection, command("true")).await.unwrap_err();
    assert!(matches!(error, ExecError::NoSession { .. }), "{error:?}");
}

#[tokio::test]
async fn giving_up_a_channel_that_stalls_the_connection_lets_the_others_go_on() {
    let sshd = Sshd::start("MaxSessions 30");
    let connection = Arc::new(connect(&sshd.target()).await.unwrap());
    let stalled = exec::spawn(&connection, "exec cat /dev/zero")
        .await
        .unwrap();
    // Nobody reads it, so that in the end nothing at all gets through.
    let mut brief = command("true");
    brief.deadline = Duration::from_millis(500);
    while exec::run(&connection, brief).await.is_ok() {}
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { exec::run(&connection, command("true")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    drop(stalled);
    for run in waiting {
        assert!(run.await.unwrap().unwrap().status.success());
    }
}
