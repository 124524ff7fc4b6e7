//! The list of snapshots: order, table, JSON.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::catalog::SnapshotRow;
use crate::clock::from_nanos;
use crate::commands::snapshots::{SnapshotLine, write_snapshots};

fn line(host: &str, sequence: u8, problems: u64) -> SnapshotLine {
    SnapshotLine::of(&SnapshotRow {
        id: RecordId([sequence; 32]),
        sequence: sequence.into(),
        host: host.to_owned(),
        run: RunId([sequence; 16]),
        started: from_nanos(0),
        committed: from_nanos(i64::from(sequence) * 1_000_000_000),
        parent: None,
        verified: true,
        totals: SnapshotTotals {
            files: 1_000,
            others: 5,
            bytes: 2 << 20,
            bytes_new: 1 << 20,
            problems,
            ..SnapshotTotals::default()
        },
    })
}

fn written(lines: Vec<SnapshotLine>, json: bool) -> String {
    let mut out = Vec::new();
    write_snapshots(lines, json, &TimeZone::UTC, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_newest_is_last_and_ids_are_short_in_the_table() {
    let text = written(vec![line("web1", 2, 3), line("web1", 1, 0)], false);
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("host  snapshot  time"), "{text}");
    assert!(
        rows[1].starts_with("web1  01010101  1970-01-01T00:00:01+00:00  1,005"),
        "{text}"
    );
    assert!(rows[2].contains("warnings(3)  yes"), "{text}");
}

#[test]
fn json_is_an_array_with_full_ids_and_is_empty_without_snapshots() {
    let json: Value = serde_json::from_str(&written(vec![line("web1", 1, 0)], true)).unwrap();
    assert_eq!(json[0]["id"], "01".repeat(32));
    assert_eq!(json[0]["seq"], 1);
    assert_eq!(json[0]["time"], "1970-01-01T00:00:01Z");
    assert_eq!(json[0]["files"], 1_005);
    assert_eq!(json[0]["outcome"], "ok");
    assert_eq!(json[0]["verified"], true);
    assert!(json[0].get("committed").is_none());
    assert_eq!(written(Vec::new(), true), "[]\n");
    assert_eq!(written(Vec::new(), false), "");
}
