//! One run of a host at a time, whoever starts the second one, and however the first one ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use formats::ids::RunId;
use jiff::Timestamp;
use tempfile::TempDir;

use crate::lock::{HostLock, LockError};

const RUN: RunId = RunId([7; 16]);
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// Set for the test that is started again as a second process.
const DIR_VARIABLE: &str = "CAPSTAN_TEST_LOCK_DIR";

fn take(dir: &Path, host: &str) -> Result<HostLock, LockError> {
    HostLock::take(&dir.join("hosts"), host, RUN, NOW)
}

#[test]
fn a_second_run_of_a_host_is_told_who_holds_it_and_other_hosts_are_free() {
    let dir = TempDir::new().unwrap();
    let lock = take(dir.path(), "web1").unwrap();
    let LockError::Locked { host, holder } = take(dir.path(), "web1").unwrap_err() else {
        unreachable!("it is locked");
    };
    assert_eq!(host, "web1");
    assert_eq!(holder.pid, Some(std::process::id()));
    assert_eq!((holder.run, holder.since), (Some(RUN), Some(NOW)));
    let web2 = take(dir.path(), "web2").unwrap();
    drop((lock, web2));
    take(dir.path(), "web1").unwrap();
}

#[test]
fn names_that_are_paths_are_refused() {
    let dir = TempDir::new().unwrap();
    for bad in ["", "../web1", "a/b", ".hidden", "a\0b"] {
        assert!(matches!(
            take(dir.path(), bad),
            Err(LockError::BadName { .. })
        ));
    }
}

/// Not a test by itself: the other process of the test below.
#[test]
fn holds_the_lock_as_a_second_process() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else {
        return;
    };
    let _lock = take(&PathBuf::from(dir), "web1").unwrap();
    println!("\nlocked");
    // Until the other side closes or kills.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn second_process(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lock::tests::holds_the_lock_as_a_second_process"])
        .arg("--nocapture")
        .env(DIR_VARIABLE, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let locked = output.lines().any(|line| line.unwrap() == "locked");
    assert!(locked, "the second process has the lock");
    child
}

#[test]
fn a_second_process_is_refused_and_a_killed_one_leaves_no_lock() {
    let dir = TempDir::new().unwrap();
    let mut other = second_process(dir.path());
    let refused = take(dir.path(), "web1").unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&format!("process {}", other.id())), "{text}");
    other.kill().unwrap();
    other.wait().unwrap();
    take(dir.path(), "web1").unwrap();
}
