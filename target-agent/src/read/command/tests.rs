//! Commands that succeed, fail, hang and print without end.

use std::path::Path;
use std::time::{Duration, Instant};

use formats::chunk::Chunker;
use formats::keys::secret::ChunkingKey;
use formats::limits::CHUNK_BYTES_MAX;
use formats::listing::entry::EntryKind;
use formats::wire::control::content::ReadOutcome;
use formats::wire::streams::Stream;

use crate::read::command::read_command;
use crate::read::content::{Ending, Pieces};
use crate::read::entry::Found;
use crate::streams::entry;

/// Takes everything, up to so many bytes.
struct Taken {
    bytes: Vec<u8>,
    chunks: usize,
    bytes_max: usize,
}

impl Pieces for Taken {
    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        assert!((1..=CHUNK_BYTES_MAX as usize).contains(&bytes.len()));
        self.bytes.extend_from_slice(bytes);
        self.chunks += 1;
        match self.bytes.len() > self.bytes_max {
            true => Err(Ending),
            false => Ok(()),
        }
    }

    fn hole(&mut self, _: u64) -> Result<(), Ending> {
        Err(Ending)
    }

    fn read_up_to(&mut self, _: u64) {}
}

fn stream(words: &[&str]) -> Stream {
    Stream {
        name: b"x".to_vec(),
        command: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        seconds_max: 60,
        bytes_max: 1 << 40,
        ending: Vec::new(),
    }
}

fn run_with(stream: &Stream, bytes_max: usize) -> (Result<Found, Ending>, Taken) {
    let mut taken = Taken {
        bytes: Vec::new(),
        chunks: 0,
        bytes_max,
    };
    let chunker = Chunker::new(&ChunkingKey::from_bytes([5; 32]));
    let walked = entry(b"x", EntryKind::File).stat;
    let found = read_command(stream, &walked, &chunker, &mut taken);
    (found, taken)
}

fn run(stream: &Stream) -> (Found, Taken) {
    let (found, taken) = run_with(stream, usize::MAX);
    (found.expect("it goes on"), taken)
}

/// What a failed stream says.
#[track_caller]
fn complaint(stream: &Stream) -> String {
    let (found, _) = run(stream);
    assert!(
        matches!(found.outcome, ReadOutcome::Unreadable { .. }),
        "{found:?}"
    );
    assert_eq!(found.problems.len(), 1);
    found.problems[0].2.clone()
}

/// Waits until a process that wrote its number into this file is gone.
fn gone(file: &Path) {
    let began = Instant::now();
    let pid = std::fs::read_to_string(file).expect("a number");
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        if stat.is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(began.elapsed() < Duration::from_secs(30), "it still runs");
            std::thread::yield_now();
        } else {
            return;
        }
    }
}

#[test]
fn output_is_cut_like_a_file() {
    let script = "i=0; while [ $i -lt 600000 ]; do echo \"line $i of $1\"; i=$((i+1)); done";
    let (found, taken) = run(&stream(&["sh", "-c", script, "x", "it's $HOME"]));
    assert_eq!(found.outcome, ReadOutcome::Read);
    assert!(found.problems.is_empty());
    assert_eq!(found.stat.size, taken.bytes.len() as u64);
    assert!(taken.chunks > 5, "{}", taken.chunks);
    assert!(taken.bytes.ends_with(b"line 599999 of it's $HOME\n"));
    let chunker = Chunker::new(&ChunkingKey::from_bytes([5; 32]));
    let mut rest = taken.bytes.as_slice();
    let mut expected = 0;
    while !rest.is_empty() {
        rest = &rest[chunker.cut(rest)..];
        expected += 1;
    }
    assert_eq!(taken.chunks, expected);
    let (found, taken) = run(&stream(&["true"]));
    assert_eq!((found.outcome, found.stat.size), (ReadOutcome::Read, 0));
    assert_eq!(taken.chunks, 0);
}

#[test]
fn failures_are_told_with_what_the_command_said() {
    let said = complaint(&stream(&[
        "sh",
        "-c",
        "echo half; echo no such database >&2; exit 3",
    ]));
    assert!(
        said.contains("exit code 3") && said.ends_with("it said: no such database"),
        "{said}"
    );
    let said = complaint(&stream(&["sh", "-c", "kill -SEGV $$"]));
    assert!(said.contains("exit code 139"), "{said}");
    let said = complaint(&stream(&["/no/such/program"]));
    assert!(
        said.contains("exit code 127") && said.contains("/no/such/program"),
        "{said}"
    );
    let much = "i=0; while [ $i -lt 900 ]; do echo error number $i >&2; i=$((i+1)); done; exit 1";
    let said = complaint(&stream(&["sh", "-c", much]));
    assert!(
        said.ends_with("error number 899") && said.len() < 1_000,
        "{said}"
    );
}

#[test]
fn an_output_that_does_not_end_as_it_should_is_not_taken() {
    let mut dump = stream(&["sh", "-c", "echo BEGIN; echo 'COMMIT; '; echo"]);
    dump.ending = b"COMMIT;".to_vec();
    assert_eq!(run(&dump).0.outcome, ReadOutcome::Read);
    for script in [
        "echo BEGIN; echo ROLLBACK",
        "printf 'MMIT;'",
        ":",
        "echo COMMIT; echo x",
    ] {
        let mut dump = stream(&["sh", "-c", script]);
        dump.ending = b"COMMIT;".to_vec();
        let said = complaint(&dump);
        assert!(said.contains("does not end with \"COMMIT;\""), "{said}");
    }
}

#[test]
fn what_takes_too_long_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    let script = "trap '' TERM; echo begun; sh -c 'echo $$ > \"$0\"; while :; do sleep 1; done' \"$0\" & wait; sleep 100";
    let mut hangs = stream(&["sh", "-c", script, pid.to_str().expect("text")]);
    hangs.seconds_max = 1;
    let said = complaint(&hangs);
    assert!(
        said.contains("ended after 1 s") && said.contains("`timeout`"),
        "{said}"
    );
    gone(&pid);
    // Its output's end is not its own.
    let mut silent = stream(&["sh", "-c", "exec >/dev/null 2>&1; sleep 100"]);
    silent.seconds_max = 1;
    let said = complaint(&silent);
    assert!(said.contains("ended after 1 s"), "{said}");
}

#[test]
fn output_without_end_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    let script = "echo $$ > \"$0\"; exec cat /dev/zero";
    let mut endless = stream(&["sh", "-c", script, pid.to_str().expect("text")]);
    endless.bytes_max = 10 << 20;
    let said = complaint(&endless);
    assert!(
        said.contains("10485760 bytes") && said.contains("`max_size`"),
        "{said}"
    );
    gone(&pid);
    // And it goes when the run does.
    endless.bytes_max = u64::MAX;
    let (ending, _) = run_with(&endless, 4 << 20);
    assert!(ending.is_err());
    gone(&pid);
}
