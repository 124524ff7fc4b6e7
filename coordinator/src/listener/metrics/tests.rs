use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use jiff::{SignedDuration, Timestamp};

use super::{Figures, escaped, write_metrics};
use crate::catalog::state::Outcome;
use crate::config::commit_setting::Commit;
use crate::scan::known::Scanned;
use crate::status::{DestinationLag, Freshness, GoodSnapshot, HostStatus, LastRun};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn web1() -> HostStatus {
    HostStatus {
        host: "web1".to_owned(),
        tags: Vec::new(),
        freshness: Freshness::Ok,
        sla: Some("26h".parse().expect("a span")),
        last_good: Some(GoodSnapshot {
            id: RecordId([1; 32]),
            at: at(1_795_000_000),
            took: SignedDuration::from_millis(1_500),
            totals: SnapshotTotals {
                files: 3,
                bytes: 1 << 40,
                bytes_new: 7,
                problems: 2,
                ..SnapshotTotals::default()
            },
        }),
        last_run: Some(LastRun {
            run: RunId([2; 16]),
            started: at(1_795_000_000),
            finished: at(1_795_000_100),
            outcome: Outcome::Failed,
            error: None,
        }),
        running_since: None,
        verified: Some(at(1_795_000_000)),
        holds: Vec::new(),
        commit: Commit::Any,
        next_run: None,
    }
}

/// The names are what dashboards and alerts are built on: a line that changes here breaks them.
#[test]
fn names_and_labels_hold() {
    let new = HostStatus {
        host: "new".to_owned(),
        freshness: Freshness::Never,
        sla: None,
        last_good: None,
        last_run: None,
        verified: None,
        ..web1()
    };
    let nas = DestinationLag {
        destination: "nas".to_owned(),
        objects: 4,
        bytes: 4096,
        since: Some(at(1_795_000_000)),
        problem: Some("away".to_owned()),
        not_filled: false,
    };
    let scanned = Scanned {
        repository: "web1".to_owned(),
        destination: "nas".to_owned(),
        unread: Some(SignedDuration::from_hours(1)),
        lock_left: None,
    };
    let text = write_metrics(&Figures {
        hosts: &[web1(), new],
        destinations: &[nas],
        scanned: &[scanned],
        requests: &[("2xx", 7), ("4xx", 0)],
    });
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let text = text.replace(&version, "version=\"VERSION\"");
    let expected = include_str!("expected.prom");
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn label_values_are_escaped() {
    assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    assert_eq!(escaped("ünïcode"), "ünïcode");
}
