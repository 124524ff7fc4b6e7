//! Commands that end with us: their words, their output, their end.

use std::path::Path;
use std::time::{Duration, Instant};

use append_server::ssh::connect::connect;
use append_server::ssh::stream::ExitStatus;

use crate::ssh::guarded::{GuardedCommand, run_guarded};
use crate::ssh::tests::sshd::{PATIENCE, Sshd};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn guarded(words: &[String]) -> GuardedCommand<'_> {
    GuardedCommand {
        words,
        variables: &[],
        become_words: &[],
        limit: PATIENCE,
    }
}

/// Whether a process that wrote its number into this file still runs.
fn runs(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // One that waits to be reaped has ended.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(file: &Path) {
    let began = Instant::now();
    while runs(file) {
        assert!(began.elapsed() < PATIENCE, "it still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn words_arrive_as_they_are_and_the_status_comes_back() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let said = sshd.path("said");
    let odd = [
        "it's",
        "a\nb\n",
        "",
        "$HOME `id` !! \\n \\",
        "\"q\"",
        "-n",
        "*",
        "ü;&|",
    ];
    let script =
        "f=$1; shift; printf '%s|' \"$@\" > \"$f\"; echo $CAPSTAN_RUN; echo bad >&2; exit 7";
    let mut all = words(&["sh", "-c", script, "x", said.to_str().unwrap()]);
    all.extend(words(&odd));
    let variables = [("CAPSTAN_RUN", "it's\n1".to_owned())];
    let command = GuardedCommand {
        variables: &variables,
        ..guarded(&all)
    };
    let ended = run_guarded(&connection, command).await.unwrap();
    assert_eq!(ended.status, Some(ExitStatus::Code(7)));
    assert_eq!(ended.output, "it's 1\\nbad");
    let expected: String = odd.iter().map(|word| format!("{word}|")).collect();
    assert_eq!(std::fs::read_to_string(said).unwrap(), expected);

    let missing = words(&["/no/such/program"]);
    let ended = run_guarded(&connection, guarded(&missing)).await.unwrap();
    assert_eq!(ended.status, Some(ExitStatus::Code(127)));
    assert!(ended.output.contains("/no/such/program"), "{ended:?}");
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let much = words(&[
        "sh",
        "-c",
        "head -c 3000000 /dev/zero | tr '\\000' x; echo; echo the end",
    ]);
    let ended = run_guarded(&connection, guarded(&much)).await.unwrap();
    assert!(ended.output.ends_with("x\\nthe end"), "{ended:?}");
    assert!(ended.output.len() < 5_000);
    assert!(
        ended.output.starts_with("[after 2995913 bytes more]"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn what_outlives_its_time_is_ended_with_all_it_started() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let pid = sshd.path("pid");
    // Neither heeds a first request to end.
    let script = "trap '' TERM; (echo begun; exec sh -c 'echo $$ > \"$0\"; while :; do sleep 1; done' \"$0\") & wait";
    let stubborn = words(&["sh", "-c", script, pid.to_str().unwrap()]);
    let command = GuardedCommand {
        limit: Duration::from_secs(1),
        ..guarded(&stubborn)
    };
    let ended = run_guarded(&connection, command).await.unwrap();
    assert_eq!(ended.status, None);
    assert_eq!(ended.output, "begun");
    gone(&pid).await;
}

#[tokio::test]
async fn a_command_ends_when_the_connection_does() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let pid = sshd.path("pid");
    let script = "echo $$ > \"$0\"; sleep 1000";
    let long = words(&["sh", "-c", script, pid.to_str().unwrap()]);
    let running = tokio::spawn(async move { run_guarded(&connection, guarded(&long)).await });
    while std::fs::read_to_string(&pid).unwrap_or_default().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(runs(&pid));
    // The connection goes with it.
    running.abort();
    gone(&pid).await;
}

#[tokio::test]
async fn what_a_command_leaves_running_does_not_hold_it_up() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let pid = sshd.path("pid");
    let script = "sh -c 'echo $$ > \"$0\"; exec sleep 20' \"$0\" & while ! test -s \"$0\"; do :; done; echo left";
    let daemon = words(&["sh", "-c", script, pid.to_str().unwrap()]);
    let began = Instant::now();
    let ended = run_guarded(&connection, guarded(&daemon)).await.unwrap();
    assert_eq!(ended.status, Some(ExitStatus::Code(0)));
    assert_eq!(ended.output, "left");
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(runs(&pid));
    let number = std::fs::read_to_string(&pid).unwrap();
    let killed = std::process::Command::new("kill")
        .arg(number.trim())
        .status();
    assert!(killed.unwrap().success());
}
