//! Listing and printing files of a snapshot built in memory.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use formats::listing::content::{Content, Extent};
use formats::listing::entry::{EntryKind, Timestamp};
use formats::wire::control::names::Names;
use jiff::tz::TimeZone;

use super::{LsOptions, list, mode_text};
use crate::commands::cat::write_file;
use crate::commands::opened_snapshot::SnapshotCommandError;
use crate::exit_code::ExitCode;
use crate::snapshot::listing::Listing;
use crate::snapshot::tree_builder::{RepositoryBuilder, entry};

async fn sample() -> Listing {
    let mut builder = RepositoryBuilder::new();
    builder
        .directory("etc", 0o755)
        .file("etc/fstab", &[b'x'; 200_000]);
    builder
        .symlink("etc/link", "a\x1b[2Jb")
        .hard_link("other", "etc/fstab");
    let mut odd = entry(b"evil\x1b[31m\n", EntryKind::File, 0o4711);
    odd.stat.mtime = Timestamp {
        seconds: i64::MAX,
        nanoseconds: 0,
    };
    builder.add("", odd);
    let mut sparse = entry(b"sparse", EntryKind::File, 0o600);
    let chunk = builder.chunk(b"data");
    sparse.stat.size = 100_004;
    sparse.content = Content::Extents(vec![Extent::Hole { bytes: 100_000 }, chunk]);
    builder.add("etc", sparse);
    builder.build().listing().await
}

async fn listed(listing: &Listing, path: &str, options: LsOptions) -> String {
    let names = Names {
        users: vec![(0, "root".into())],
        groups: Vec::new(),
    };
    let mut out = Vec::new();
    list(listing, path.as_bytes(), &names, &options, &mut out)
        .await
        .unwrap();
    String::from_utf8(out).unwrap()
}

fn plain() -> LsOptions {
    LsOptions {
        long: false,
        recursive: false,
        numeric_ids: false,
        json: false,
        zone: TimeZone::UTC,
    }
}

#[tokio::test]
async fn directories_files_and_subtrees_are_listed_escaped() {
    let listing = sample().await;
    let root = listed(&listing, "/", plain()).await;
    assert_eq!(root, "etc\nevil\\x1b[31m\\x0a\nother\n");
    let file = listed(&listing, "/etc/fstab", plain()).await;
    assert_eq!(file, "fstab\n");
    let options = LsOptions {
        recursive: true,
        long: true,
        ..plain()
    };
    let all = listed(&listing, "", options).await;
    assert_eq!(all.lines().count(), 6);
    assert!(all.contains("/etc/link -> a\\x1b[2Jb"), "{all}");
    assert!(all.contains("-rws--x--x"), "{all}");
    assert!(all.contains("@9223372036854775807"), "{all}");
    let json = LsOptions {
        json: true,
        ..plain()
    };
    let text = listed(&listing, "/etc", json.clone()).await;
    let lines: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["path"], &lines[0]["type"]),
        (&"/etc/fstab".into(), &"file".into())
    );
    assert_eq!(lines[0]["size"], 200_000);
    assert_eq!(lines[0]["mtime"], "2020-09-13T12:26:40.123456789Z");
}

#[tokio::test]
async fn a_missing_path_is_not_found() {
    let listing = sample().await;
    let mut out = Vec::new();
    let names = Names::default();
    let refused = list(&listing, b"/etc/nothing", &names, &plain(), &mut out)
        .await
        .unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::NotFound);
    let refused = write_file(&listing, b"/nothing", &mut out)
        .await
        .unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::NotFound);
    let refused = write_file(&listing, b"/etc", &mut out).await.unwrap_err();
    assert!(matches!(refused, SnapshotCommandError::NotAFile { .. }));
    assert!(out.is_empty());
}

#[tokio::test]
async fn cat_writes_holes_and_further_names() {
    let listing = sample().await;
    let mut out = Vec::new();
    write_file(&listing, b"/other", &mut out).await.unwrap();
    assert!(out == [b'x'; 200_000]);
    out.clear();
    write_file(&listing, b"/etc/sparse", &mut out)
        .await
        .unwrap();
    assert!(out.len() == 100_004 && out.ends_with(b"\0data"));
}

#[test]
fn modes_read_as_in_ls() {
    assert_eq!(mode_text(EntryKind::Directory, 0o1777), "drwxrwxrwt");
    assert_eq!(mode_text(EntryKind::File, 0o6640), "-rwSr-S---");
    assert_eq!(mode_text(EntryKind::CharDevice, 0o600), "crw-------");
}
