use std::path::{Path, PathBuf};

use formats::audit::AuditHead;
use jiff::Timestamp;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use tempfile::TempDir;

use crate::audit::log::AuditLog;
use crate::audit::reader::AuditReader;
use crate::audit::recorder::Recorder;
use crate::audit::verify::{VerifyProblem, verify};
use crate::audit::{AUDIT_FILE_BYTES_MAX, audit_files};
use crate::clock::FixedClock;
use crate::events::actor::Actor;
use crate::events::what::What;
use crate::events::{Event, EventSink, Told};

fn told(number: u64) -> Told {
    Told {
        at: Timestamp::UNIX_EPOCH,
        actor: Actor::Daemon,
        event: Event::of_host(
            "web1",
            What::RunSkipped {
                reason: format!("number {number}"),
            },
        ),
    }
}

fn log(dir: &Path, file_bytes_max: u64) -> AuditLog {
    AuditLog::new(dir, "c0".to_owned(), file_bytes_max)
}

/// A log of some records in a directory of its own.
fn log_of(count: u64, file_bytes_max: u64) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory");
    let dir = directory.path().join("audit");
    let mut log = log(&dir, file_bytes_max);
    for number in 0..count {
        log.append(&[told(number)]).expect("it is appended");
    }
    (directory, dir)
}

/// The words and reasons of everything in a log that is sound to its end.
fn all(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    AuditReader::new(dir, 0)
        .read(|read| {
            let reason = crate::audit::record::detail(&read.record, "reason");
            found.push(reason.unwrap_or(&read.record.what).to_owned());
        })
        .expect("it reads");
    found
}

fn is_sound(dir: &Path) -> bool {
    verify(dir, &[])
        .expect("it can be read")
        .problems
        .is_empty()
}

#[test]
fn records_of_several_programs_stand_in_one_chain() {
    let directory = TempDir::new().expect("a temporary directory");
    let dir = directory.path().join("audit");
    let mut logs = [log(&dir, 700), log(&dir, 700), log(&dir, 700)];
    for round in 0..7 {
        for (number, log) in logs.iter_mut().enumerate() {
            let number = number as u64;
            log.append(&[told(round * 10 + number), told(99)])
                .expect("it is appended");
        }
    }
    let found = verify(&dir, &[]).expect("it can be read");
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    assert!(found.files > 3);
    assert_eq!(found.records, 42 + found.files);
    let told = all(&dir);
    assert_eq!(told.iter().filter(|what| *what == "number 99").count(), 21);
    assert_eq!(told.first().map(String::as_str), Some("audit-begun"));
}

#[test]
fn programs_that_append_at_once_lose_nothing() {
    let directory = TempDir::new().expect("a temporary directory");
    let dir = directory.path().join("audit");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut log = log(&dir, 2_000);
            scope.spawn(move || {
                for number in 0..25 {
                    log.append(&[told(thread * 100 + number)])
                        .expect("it is appended");
                }
            });
        }
    });
    assert!(is_sound(&dir));
    let mut numbers = all(&dir);
    numbers.retain(|what| what != "audit-begun");
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
}

#[test]
fn whatever_was_left_unfinished_is_cut_off_and_told() {
    let (_directory, dir) = log_of(3, AUDIT_FILE_BYTES_MAX);
    let file = audit_files(&dir).expect("they are listed").remove(0).path;
    let whole = std::fs::read(&file).expect("it is there");
    let mut next = log(&dir, AUDIT_FILE_BYTES_MAX);
    next.append(&[told(3)]).expect("it is appended");
    let longer = std::fs::read(&file).expect("it is there");
    let head = AuditHead::decode(&std::fs::read(dir.join("head")).expect("there")).expect("reads");
    for end in whole.len()..longer.len() {
        std::fs::write(&file, &longer[..end]).expect("it is written");
        // As before the record was acknowledged.
        rewrite_head(&dir, &whole);
        assert!(is_sound(&dir), "cut at {end}");
        let mut after = log(&dir, AUDIT_FILE_BYTES_MAX);
        after.append(&[told(7)]).expect("it is appended");
        assert!(is_sound(&dir), "cut at {end}");
        let mut expected = vec!["audit-begun", "number 0", "number 1", "number 2"];
        if end > whole.len() {
            expected.push("audit-torn");
        }
        expected.push("number 7");
        assert_eq!(all(&dir), expected, "cut at {end}");
    }
    assert_eq!(head.sequence, 5);
}

/// Makes the head that of these records.
fn rewrite_head(dir: &Path, records: &[u8]) {
    let (head, _, _) = crate::audit::end::walk(records, None, drop);
    let head = head.expect("there are records");
    std::fs::write(dir.join("head"), head.encode()).expect("it is written");
}

#[test]
fn a_log_without_its_files_or_cut_between_records_says_so_and_goes_on() {
    let (_directory, dir) = log_of(4, AUDIT_FILE_BYTES_MAX);
    let file = audit_files(&dir).expect("they are listed").remove(0).path;
    let content = std::fs::read(&file).expect("it is there");
    let mut ends = Vec::new();
    let mut at = 0;
    crate::audit::end::walk(&content, None, |read| {
        at += read.bytes;
        ends.push(at);
    });
    std::fs::write(&file, &content[..ends[2]]).expect("it is written");
    let found = verify(&dir, &[]).expect("it can be read");
    assert!(
        matches!(
            found.problems.as_slice(),
            [VerifyProblem::Cut { first: 4, last: 5 }]
        ),
        "{:?}",
        found.problems
    );
    let mut after = log(&dir, AUDIT_FILE_BYTES_MAX);
    after.append(&[told(7)]).expect("it is appended");
    // What comes later stands in a file of its own, and in the chain behind what is gone.
    let files = audit_files(&dir).expect("they are listed");
    assert_eq!(files.len(), 2);
    assert_eq!(files[1].first, 6);
    assert!(!is_sound(&dir), "what is gone stays gone");
    for file in files {
        std::fs::remove_file(file.path).expect("it is removed");
    }
    assert!(!is_sound(&dir));
    after.append(&[told(8)]).expect("it is appended");
    assert_eq!(all(&dir), ["audit-begun", "audit-damaged", "number 8"]);
}

#[test]
fn a_witness_finds_a_log_that_was_written_anew() {
    let (_directory, dir) = log_of(3, AUDIT_FILE_BYTES_MAX);
    let witnessed = log(&dir, AUDIT_FILE_BYTES_MAX)
        .append(&[told(3)])
        .expect("it is appended");
    let holds = verify(&dir, &[witnessed]).expect("it can be read");
    assert!(holds.problems.is_empty());
    let forged = dir.with_file_name("forged");
    let mut forging = AuditLog::new(&forged, "c1".to_owned(), AUDIT_FILE_BYTES_MAX);
    for number in 0..9 {
        forging.append(&[told(number)]).expect("it is appended");
    }
    let found = verify(&forged, &[witnessed]).expect("it can be read");
    assert!(matches!(
        found.problems.as_slice(),
        [VerifyProblem::Replaced { sequence: 5, .. }]
    ));
    let (_short, cut) = log_of(2, AUDIT_FILE_BYTES_MAX);
    let found = verify(&cut, &[witnessed]).expect("it can be read");
    assert!(matches!(
        found.problems.as_slice(),
        [VerifyProblem::Cut { first: 4, last: 5 }]
    ));
}

#[test]
fn a_reader_gets_each_record_once_over_all_files_and_from_where_it_was() {
    let (_directory, dir) = log_of(5, 600);
    let mut reader = AuditReader::new(&dir, 3);
    let mut heard = Vec::new();
    reader
        .read(|read| heard.push(read.record.sequence))
        .expect("it reads");
    let mut more = log(&dir, 600);
    for number in 5..9 {
        more.append(&[told(number)]).expect("it is appended");
        reader
            .read(|read| heard.push(read.record.sequence))
            .expect("it reads");
    }
    let last = *heard.last().expect("some");
    assert_eq!(heard, (4..=last).collect::<Vec<_>>());
    assert_eq!(
        verify(&dir, &[])
            .expect("it can be read")
            .last
            .map(|head| head.sequence),
        Some(last)
    );
}

#[tokio::test]
async fn everything_that_was_told_is_written_when_the_recorder_is_gone() {
    let directory = TempDir::new().expect("a temporary directory");
    let dir = directory.path().join("audit");
    let clock = std::sync::Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH));
    let events = EventSink::new(clock, Actor::Daemon);
    let recorder = Recorder::start(log(&dir, AUDIT_FILE_BYTES_MAX), &events);
    for number in 0..500 {
        events.tell(told(number).event);
    }
    drop(recorder);
    assert_eq!(all(&dir).len(), 501);
    assert!(is_sound(&dir));
}

proptest! {
    #[test]
    fn every_flip_and_every_cut_of_what_was_acknowledged_is_found(
        count in 1_u64..12, at in any::<proptest::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()
    ) {
        let (_directory, dir) = log_of(count, 900);
        prop_assert!(is_sound(&dir));
        let contents: Vec<(PathBuf, Vec<u8>)> = audit_files(&dir)
            .expect("they are listed")
            .into_iter()
            .map(|file| (file.path.clone(), std::fs::read(&file.path).expect("it is there")))
            .collect();
        let total: usize = contents.iter().map(|(_, content)| content.len()).sum();
        let mut at = at.index(total);
        for (path, mut content) in contents {
            if at < content.len() {
                match cut {
                    true => content.truncate(at),
                    false => content[at] ^= 1 << bit,
                }
                std::fs::write(&path, content).expect("it is written");
                break;
            }
            at -= content.len();
        }
        prop_assert!(!is_sound(&dir));
        // What is told later is not lost, and stands where a reader that begins there finds it.
        let last = audit_files(&dir).expect("they are listed").last().map(|file| file.first);
        let before = last.unwrap_or(0);
        let mut after = log(&dir, 900);
        let head = after.append(&[told(1_000)]).expect("it is appended");
        let mut heard = Vec::new();
        AuditReader::new(&dir, head.sequence - 1).read(|read| {
            heard.push(read.record.sequence);
        }).ok();
        prop_assert!(head.sequence > before);
        prop_assert!(!is_sound(&dir));
        prop_assert_eq!(heard.last(), Some(&head.sequence));
    }
}
