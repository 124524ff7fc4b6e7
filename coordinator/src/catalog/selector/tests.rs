//! Each way to name a snapshot finds the one a person means, or says why not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use jiff::tz::{Offset, TimeZone};

use crate::catalog::selector::{Selector, select};
use crate::catalog::{CatalogError, SnapshotRow};

fn row(sequence: u64, id: [u8; 2], started: &str) -> SnapshotRow {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&id);
    let started = started.parse().unwrap();
    SnapshotRow {
        id: RecordId(bytes),
        sequence,
        host: "web1".into(),
        run: RunId([0; 16]),
        started,
        committed: started,
        parent: None,
        verified: true,
        totals: SnapshotTotals::default(),
    }
}

fn rows() -> Vec<SnapshotRow> {
    vec![
        row(1, [0xab, 0xcd], "2026-11-18T23:30:00Z"),
        row(2, [0x12, 0x34], "2026-11-19T01:00:00Z"),
        row(3, [0xab, 0xce], "2026-11-19T22:59:59Z"),
        row(4, [0xff, 0x00], "2026-11-19T23:30:00Z"),
    ]
}

fn find(text: &str, zone: &TimeZone) -> Result<u64, CatalogError> {
    let selector: Selector = text.parse().unwrap();
    select(&rows(), Some("web1"), &selector, zone).map(|row| row.sequence)
}

#[test]
fn each_form_finds_the_snapshot_that_is_meant() {
    for (text, sequence) in [
        ("latest", 4),
        ("latest~0", 4),
        ("latest~3", 1),
        ("1234", 2),
        ("ABCE", 3),
        ("2026-11-19", 4),
        ("2026-11-18", 1),
        ("before:2026-11-19", 1),
        ("before:2026-11-19T22:59:59Z", 2),
        ("before:2026-11-20T00:00:00+01:00", 3),
    ] {
        assert_eq!(find(text, &TimeZone::UTC).unwrap(), sequence, "{text}");
    }
}

#[test]
fn days_are_the_operators_own() {
    let zone = TimeZone::fixed(Offset::constant(1));
    assert_eq!(find("2026-11-19", &zone).unwrap(), 3);
    assert_eq!(find("2026-11-20", &zone).unwrap(), 4);
    assert!(find("2026-11-18", &zone).is_err());
}

#[test]
fn an_ambiguous_id_lists_the_candidates_and_a_missing_one_says_so() {
    let rows = [
        row(1, [0xab, 0xcd], "2026-11-18T23:30:00Z"),
        row(2, [0xab, 0xcd], "2026-11-19T23:30:00Z"),
    ];
    let selector: Selector = "abcd".parse().unwrap();
    let ambiguous = select(&rows, None, &selector, &TimeZone::UTC)
        .unwrap_err()
        .to_string();
    for part in ["abcd", "2026-11-18T23:30:00Z", "2026-11-19T23:30:00Z"] {
        assert!(ambiguous.contains(part), "{ambiguous}");
    }
    for text in ["dead", "latest~4", "before:2020-01-01", "2030-01-01"] {
        let missing = find(text, &TimeZone::UTC).unwrap_err().to_string();
        let told = missing.contains(text) && missing.contains("coordinator snapshots");
        assert!(told, "{missing}");
    }
}

#[test]
fn what_names_no_snapshot_is_refused_and_what_does_prints_back() {
    for bad in [
        "",
        "last",
        "latest~",
        "latest~+1",
        "latest~-1",
        "abc",
        "xyz1",
        "2026-13-01",
        "2026-11-20T00:00:00Z",
        "before:",
        "before:yesterday",
        "before:2026-11-20T00:00:00",
    ] {
        let text = bad.parse::<Selector>().unwrap_err().to_string();
        assert!(text.contains("latest~2"), "{text}");
    }
    for good in [
        "latest",
        "latest~2",
        "abcd",
        "2026-11-20",
        "before:2026-11-20",
    ] {
        assert_eq!(good.parse::<Selector>().unwrap().to_string(), good);
    }
}
