//! Streams of agents that fail, and of agents that lie.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use append_server::quantity::{Size, Span};
use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp};
use formats::wire::control::content::{Details, ReadOutcome};
use formats::wire::control::entries::{EntryRef, EntryStat};
use formats::wire::control::problem::{Problem, ProblemKind};

use crate::backup::error::RunError;
use crate::backup::streams::Streams;
use crate::config::stream_settings::{Stream, StreamFailure};

const OF: EntryRef = EntryRef { batch: 0, entry: 1 };

fn stream(name: &str, on_failure: StreamFailure) -> Stream {
    Stream {
        name: name.parse().unwrap(),
        command: vec!["x".to_owned()],
        timeout: Span::from_secs(60),
        size_max: Size::from_bytes(1_000),
        percent_min: 50,
        ends_with: String::new(),
        allow_empty: false,
        on_failure,
    }
}

fn stat(kind: EntryKind, size: u64) -> Stat {
    Stat {
        kind,
        mode: 0o600,
        uid: 0,
        gid: 0,
        size,
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        inode: 0,
        links: 1,
        device: (0, 0),
    }
}

fn found(name: &str, kind: EntryKind) -> EntryStat {
    EntryStat {
        name: name.as_bytes().to_vec(),
        stat: stat(kind, 0),
        filesystem: 0,
    }
}

fn before(size: u64) -> Entry {
    Entry {
        name: b"users".to_vec(),
        stat: stat(EntryKind::File, size),
        flags: EntryFlags::default(),
        xattrs: Vec::new(),
        link_target: Vec::new(),
        hard_link_to: None,
        content: Content::Extents(Vec::new()),
    }
}

fn details(outcome: ReadOutcome, size: u64) -> Details {
    Details {
        of: OF,
        outcome,
        flags: EntryFlags::default(),
        stat: stat(EntryKind::File, size),
        xattrs: Vec::new(),
        link_target: Vec::new(),
    }
}

/// What comes of a stream that is listed and closed so.
fn closed(
    stream: Stream,
    parent: Option<u64>,
    outcome: ReadOutcome,
    size: u64,
) -> (Result<Option<Problem>, RunError>, Details) {
    let mut streams = Streams::new(&[stream], &BTreeMap::new());
    let parent = parent.map(before);
    streams.listed(OF, b".streams/pg", b"users", parent.as_ref());
    let mut details = details(outcome, size);
    let judged = streams.close(&mut details);
    if judged.is_ok() {
        assert_eq!(streams.finish().unwrap(), []);
    }
    (judged, details)
}

#[test]
fn nothing_but_streams_is_let_into_their_directory() {
    let streams = Streams::new(&[stream("pg/users", StreamFailure::Fail)], &BTreeMap::new());
    let check = |directory: &str, name: &str, kind| {
        let found = found(name, kind);
        streams.check(directory.as_bytes(), &found).ok()
    };
    assert_eq!(check("", ".streams", EntryKind::Directory), Some(true));
    assert_eq!(check(".streams", "pg", EntryKind::Directory), Some(true));
    assert_eq!(check(".streams/pg", "users", EntryKind::File), Some(true));
    for (directory, name, kind) in [
        ("", ".streams", EntryKind::File),
        (".streams", "pg", EntryKind::Symlink),
        (".streams", "other", EntryKind::Directory),
        (".streams/pg", "users", EntryKind::Directory),
        (".streams/pg", "users", EntryKind::Fifo),
        (".streams/pg", "others", EntryKind::File),
        (".streams/pg/users", "x", EntryKind::File),
    ] {
        assert_eq!(check(directory, name, kind), None, "{directory}/{name}");
    }
    let mut linked = found("users", EntryKind::File);
    linked.stat.links = 2;
    assert!(streams.check(b".streams/pg", &linked).is_err());
    // Beside them, and without any, it is not theirs to say.
    assert_eq!(check("", ".streamsx", EntryKind::File), Some(false));
    let none = Streams::default();
    assert!(
        !none
            .check(b"", &found(".streams", EntryKind::Fifo))
            .unwrap()
    );
}

#[test]
fn a_good_stream_is_good() {
    let good = |parent, size| {
        let stream = stream("pg/users", StreamFailure::Fail);
        closed(stream, parent, ReadOutcome::Read, size)
    };
    for (parent, size) in [(None, 1), (Some(200), 100), (Some(0), 1), (Some(10), 1_000)] {
        let (judged, details) = good(parent, size);
        assert_eq!(judged.unwrap(), None);
        assert_eq!(details.outcome, ReadOutcome::Read);
    }
}

#[test]
fn a_collapse_warns_and_the_dump_stays() {
    let stream = stream("pg/users", StreamFailure::Fail);
    let (judged, details) = closed(stream, Some(200), ReadOutcome::Read, 99);
    let problem = judged.unwrap().unwrap();
    assert_eq!(problem.path, b".streams/pg/users");
    assert!(problem.text.contains("99") && problem.text.contains("200"));
    assert_eq!(details.outcome, ReadOutcome::Read);
}

#[test]
fn a_collapse_is_measured_against_what_is_remembered_and_not_against_the_snapshot_before() {
    let usual = BTreeMap::from([("pg/users".to_owned(), 200)]);
    for parent in [None, Some(99)] {
        let mut streams = Streams::new(&[stream("pg/users", StreamFailure::Fail)], &usual);
        streams.listed(OF, b".streams/pg", b"users", parent.map(before).as_ref());
        let problem = streams.close(&mut details(ReadOutcome::Read, 99)).unwrap();
        assert!(problem.unwrap().text.contains("200"));
        let sizes = streams.sizes();
        assert_eq!((sizes.len(), sizes[0].size), (1, 99));
        assert_eq!((sizes[0].usual, sizes[0].fell_from), (200, Some(200)));
    }
}

#[test]
fn what_is_not_good_ends_the_run_or_loses_its_content() {
    let unreadable = ReadOutcome::Unreadable { errno: 5 };
    for (outcome, size) in [
        (ReadOutcome::Read, 0),
        (ReadOutcome::Read, 1_001),
        (ReadOutcome::Vanished, 0),
        (unreadable, 0),
        (unreadable, 500),
    ] {
        let fails = stream("pg/users", StreamFailure::Fail);
        let (judged, _) = closed(fails, None, outcome, size);
        assert!(
            matches!(judged, Err(RunError::Stream { .. })),
            "{outcome:?}"
        );
        let warns = stream("pg/users", StreamFailure::Warn);
        let (judged, details) = closed(warns, None, outcome, size);
        assert!(judged.unwrap().is_some(), "{outcome:?}");
        assert_ne!(details.outcome, ReadOutcome::Read);
    }
    let mut empty = stream("pg/users", StreamFailure::Fail);
    empty.allow_empty = true;
    let (judged, _) = closed(empty, None, ReadOutcome::Read, 0);
    assert_eq!(judged.unwrap(), None);
}

#[test]
fn the_agents_own_words_are_the_reason_and_are_told_once() {
    let told = Problem {
        kind: ProblemKind::Unreadable,
        path: b".streams/pg/users".to_vec(),
        errno: 0,
        text: "exit code 1\u{1b}[31m".to_owned(),
    };
    let judge = |on_failure| {
        let mut streams = Streams::new(&[stream("pg/users", on_failure)], &BTreeMap::new());
        streams.listed(OF, b".streams/pg", b"users", None);
        streams.note(&told);
        streams.close(&mut details(ReadOutcome::Unreadable { errno: 5 }, 0))
    };
    let text = judge(StreamFailure::Fail).unwrap_err().to_string();
    assert!(
        text.contains("exit code 1") && !text.contains('\u{1b}'),
        "{text}"
    );
    assert_eq!(judge(StreamFailure::Warn).unwrap(), None);
}

#[test]
fn a_stream_that_never_comes_has_failed() {
    let silent = [
        stream("a", StreamFailure::Warn),
        stream("b", StreamFailure::Warn),
    ];
    let silent = Streams::new(&silent, &BTreeMap::new());
    let problems = silent.finish().unwrap();
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0].path, b".streams/a");
    let mut listed = Streams::new(&[stream("a", StreamFailure::Fail)], &BTreeMap::new());
    listed.listed(OF, b".streams", b"a", None);
    assert!(matches!(listed.finish(), Err(RunError::Stream { .. })));
}
