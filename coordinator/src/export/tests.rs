//! Streams of snapshots built in memory, read by GNU tar.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use formats::listing::content::{Content, Extent};
use formats::listing::entry::{EntryFlags, EntryKind};
use formats::wire::control::names::Names;

use super::{Exported, RECORD_BYTES, export};
use crate::commands::opened_snapshot::SnapshotCommandError;
use crate::exit_code::ExitCode;
use crate::snapshot::listing::Listing;
use crate::snapshot::tree_builder::{RepositoryBuilder, entry, xattr};

async fn stream(listing: &Listing, paths: &[&str]) -> (Vec<u8>, Exported) {
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let mut out = Vec::new();
    let exported = export(listing, &paths, &Names::default(), &mut out)
        .await
        .unwrap();
    assert_eq!(out.len() as u64 % RECORD_BYTES, 0);
    (out, exported)
}

/// What GNU tar makes of a stream.
fn tar(arguments: &[&str], stream: &[u8]) -> Vec<u8> {
    let mut tar = Command::new("tar")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = tar.stdin.take().unwrap();
    let stream = stream.to_vec();
    let feeding = std::thread::spawn(move || input.write_all(&stream));
    let done = tar.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    assert!(done.status.success(), "tar {arguments:?}");
    done.stdout
}

fn names(stream: &[u8]) -> Vec<String> {
    let text = String::from_utf8(tar(&["-t"], stream)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn everything_is_in_the_stream_with_its_content() {
    let mut builder = RepositoryBuilder::new();
    let big: Vec<u8> = (0..1_500_000u32).map(|n| (n / 7) as u8).collect();
    builder
        .directory("d", 0o755)
        .file("big", &big)
        .file("d/empty", b"")
        .hard_link("d/linked", "big")
        .symlink("d/symlink", "../big");
    for number in 0..600 {
        let content = format!("file {number}");
        builder.file(&format!("d/f{number:03}"), content.as_bytes());
    }
    let mut sparse = entry(b"sparse", EntryKind::File, 0o600);
    let chunk = builder.chunk(b"data");
    sparse.stat.size = 100_004;
    sparse.content = Content::Extents(vec![Extent::Hole { bytes: 100_000 }, chunk]);
    builder.add("", sparse);
    builder.add("", entry(b"socket", EntryKind::Socket, 0o600));
    builder.add("", entry(b"fifo", EntryKind::Fifo, 0o600));
    let listing = builder.build().listing().await;
    let (stream, exported) = stream(&listing, &[]).await;
    assert_eq!((exported.entries, exported.sockets), (607, 1));
    assert_eq!(names(&stream).len(), 607);
    assert!(tar(&["-xO", "big"], &stream) == big);
    assert_eq!(tar(&["-xO", "d/f599"], &stream), b"file 599");
    let sparse = tar(&["-xO", "sparse"], &stream);
    assert!(sparse.len() == 100_004 && sparse.ends_with(b"\0data"));
    let long = String::from_utf8(tar(&["-tv", "d/linked", "d/symlink", "fifo"], &stream)).unwrap();
    for part in ["link to big", "d/symlink -> ../big", "prw-------"] {
        assert!(long.contains(part), "{long}");
    }
}

#[tokio::test]
async fn a_hard_link_never_names_what_is_not_before_it() {
    let mut builder = RepositoryBuilder::new();
    builder
        .directory("a", 0o755)
        .file("z", b"content")
        .hard_link("a/x", "z")
        .hard_link("a/y", "z");
    let listing = builder.build().listing().await;
    // In the listing `z` comes before what is in `a`; of these paths it comes after.
    for paths in [&["/a"][..], &["/a/x"], &["/z", "/a/x"], &["a", "z"]] {
        let (stream, _) = stream(&listing, paths).await;
        let wanted = names(&stream);
        let wanted = wanted.iter().find(|name| name.ends_with('x')).unwrap();
        assert_eq!(tar(&["-xO", wanted], &stream), b"content", "{paths:?}");
    }
    let (stream, _) = stream(&listing, &[]).await;
    let long = String::from_utf8(tar(&["-tv"], &stream)).unwrap();
    assert_eq!(long.matches("link to z").count(), 2, "{long}");
}

#[tokio::test]
async fn a_further_name_alone_is_all_that_the_first_name_says() {
    let mut builder = RepositoryBuilder::new();
    builder.directory("a", 0o755).symlink("link", "target");
    let mut first = builder.file_entry(b"z", b"content");
    first.xattrs.push(xattr("user.key", b"value"));
    builder.add("", first);
    // As a host lists them: what it says of their size is of another moment, or a lie.
    let mut file = entry(b"x", EntryKind::File, 0o600);
    file.hard_link_to = Some(b"z".to_vec());
    builder.add("a", file);
    let mut link = entry(b"y", EntryKind::Symlink, 0o777);
    link.link_target = b".".to_vec();
    link.hard_link_to = Some(b"link".to_vec());
    builder.add("a", link);
    let listing = builder.build().listing().await;
    let (stream, exported) = stream(&listing, &["/a"]).await;
    assert_eq!((exported.entries, exported.bytes), (3, 7));
    assert_eq!(names(&stream).len(), 3);
    assert_eq!(tar(&["-xO", "a/x"], &stream), b"content");
    let long = String::from_utf8(tar(&["-tv"], &stream)).unwrap();
    assert!(long.contains("a/y -> target"), "{long}");
    let record = b"SCHILY.xattr.user.key=value";
    assert!(stream.windows(record.len()).any(|found| found == record));
}

#[tokio::test]
async fn what_was_not_read_is_left_out_and_counted() {
    let mut builder = RepositoryBuilder::new();
    let mut secret = entry(b"secret", EntryKind::File, 0o600);
    secret.stat.size = 10;
    secret.flags = EntryFlags::UNREADABLE;
    secret.content = Content::Missing;
    secret.stat.links = 2;
    builder.add("", secret);
    builder.file("z", b"content").hard_link("zz", "secret");
    let listing = builder.build().listing().await;
    let (stream, exported) = stream(&listing, &[]).await;
    assert_eq!((exported.entries, exported.unread), (1, 2));
    assert_eq!(names(&stream), ["z"]);
}

#[tokio::test]
async fn damage_ends_the_stream_without_an_end() {
    let mut builder = RepositoryBuilder::new();
    builder.file("a", b"whole").file("b", &[7; 2_000_000]);
    let built = builder.build();
    let listing = built.listing().await;
    for (pack, purpose) in &built.packs {
        if *purpose == formats::seal::run_header::Purpose::Data {
            built.repository.replace_pack(*pack, None);
        }
    }
    let mut out = Vec::new();
    let failed = export(&listing, &[], &Names::default(), &mut out)
        .await
        .unwrap_err();
    assert!(
        matches!(failed, SnapshotCommandError::Chunk(_)),
        "{failed:?}"
    );
    assert_ne!(failed.exit_code(), ExitCode::Ok);
    assert!(!out.ends_with(&[0; 1_024]));
}
