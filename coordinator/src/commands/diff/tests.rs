//! What `diff` prints, of snapshots built in memory.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{write_differences, write_differences_json};
use crate::catalog::SnapshotRow;
use crate::snapshot::difference::Differences;
use crate::snapshot::tree_builder::RepositoryBuilder;

fn row(byte: u8) -> SnapshotRow {
    SnapshotRow {
        id: RecordId([byte; 32]),
        sequence: byte.into(),
        host: "web1".into(),
        run: RunId([byte; 16]),
        started: Timestamp::UNIX_EPOCH,
        committed: Timestamp::UNIX_EPOCH,
        parent: None,
        verified: true,
        totals: SnapshotTotals::default(),
    }
}

async fn differences() -> Differences {
    let mut before = RepositoryBuilder::new();
    before
        .directory("etc", 0o755)
        .file("etc/a", b"old")
        .symlink("x", "y")
        .file("gone", b"123");
    let mut after = RepositoryBuilder::new();
    after
        .directory("etc", 0o700)
        .file("etc/a", b"newer")
        .directory("x", 0o755)
        .file("evil\x1b[31m\n", b"1");
    let (before, after) = (
        before.build().listing().await,
        after.build().listing().await,
    );
    Differences::between(before, after, &[]).await.unwrap()
}

async fn text(totals_alone: bool) -> String {
    let (rows, mut out) = ([&row(0xab), &row(0xcd)], Vec::new());
    let zone = TimeZone::UTC;
    write_differences(differences().await, rows, totals_alone, &zone, &mut out)
        .await
        .unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn people_get_a_line_a_path_and_totals() {
    let all = text(false).await;
    let (lines, totals) = all.split_once("added:").unwrap();
    let lines: Vec<&str> = lines.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "U /etc (mode)",
            "+ /evil\\x1b[31m\\x0a",
            "- /gone",
            "T /x (symlink to directory)",
            "M /etc/a",
        ]
    );
    assert!(all.starts_with("web1 from abababab ("), "{all}");
    assert!(totals.contains("changed:   1 contents, 1 types, 1 metadata alone"));
    let short = text(true).await;
    assert_eq!(short.lines().count(), 5, "{short}");
    assert!(short.ends_with(totals), "{short}");
}

#[tokio::test]
async fn programs_get_one_value_with_a_line_for_each_change() {
    let (rows, mut out) = ([&row(0xab), &row(0xcd)], Vec::new());
    write_differences_json(differences().await, rows, false, &mut out)
        .await
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(text.lines().count(), 7, "{text}");
    assert_eq!(value["to"]["id"], "cd".repeat(32));
    let changes = value["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 5);
    let changed = &changes[4];
    assert_eq!(changed["change"], "changed");
    assert_eq!(
        (&changed["size_before"], &changed["size"]),
        (&3.into(), &5.into())
    );
    assert_eq!(changed["what"], serde_json::json!(["content"]));
    assert_eq!(changes[1]["path"], "/evil\\x1b[31m\\x0a");
    assert_eq!(changes[3]["type_before"], "symlink");
    assert_eq!(value["totals"]["added"]["files"], 1);

    let mut out = Vec::new();
    write_differences_json(differences().await, rows, true, &mut out)
        .await
        .unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert!(value.get("changes").is_none() && value["totals"]["type_changed"] == 1);
}
