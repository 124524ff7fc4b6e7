//! Snapshots made to harm whoever restores them.

use std::fs;
use std::os::unix::fs::symlink;

use bytes::Bytes;
use formats::chunk::{ChunkKind, chunk_id};
use formats::codec::Put as _;
use formats::ids::{PackId, RunId};
use formats::listing::content::{Content, Extent};
use formats::listing::entry::EntryKind;
use formats::pack::assemble::PackAssembler;
use formats::pack::table::TableChunk;
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::{Purpose, RunContext, RunHeader};
use tempfile::tempdir;

use super::{names_in, options, run, run_all};
use crate::restore::error::RestoreError;
use crate::restore::options::{Overwrite, RestoreOptions};
use crate::restore::summary::{ProblemKind, RestoreOutcome};
use crate::snapshot::chunk_error::FailureClass;
use crate::snapshot::tree_builder::{RepositoryBuilder, entry, keys};

#[tokio::test]
async fn listings_that_break_the_order_stop_the_restore() {
    let mut twice = RepositoryBuilder::new();
    twice.file("a", b"1").symlink("a", "/etc");
    let mut through_link = RepositoryBuilder::new();
    through_link.symlink("a", "/etc").file("a/passwd", b"x");
    let mut orphan = RepositoryBuilder::new();
    orphan.file("b", b"x").file("nowhere/passwd", b"x");
    for builder in [twice, through_link, orphan] {
        let built = builder.build();
        let out = tempdir().unwrap();
        let refused = run(&built, options(out.path())).await.unwrap_err();
        assert_eq!(refused.class(), Some(FailureClass::Integrity), "{refused}");
        for name in names_in(out.path()) {
            assert!(name == "a" || name == "b", "{name}");
        }
    }
}

#[tokio::test]
async fn names_that_lead_upwards_stop_the_restore() {
    for name in [&b".."[..], b".", b"../x", b"a\0b", b""] {
        let mut builder = RepositoryBuilder::new();
        builder.add("", entry(name, EntryKind::Fifo, 0o644));
        let built = builder.build();
        assert!(
            crate::snapshot::listing::Listing::open(
                built.chunks.clone(),
                &built.snapshot.page_index
            )
            .await
            .is_err()
        );
    }
}

#[tokio::test]
async fn hard_links_reach_only_what_this_restore_made() {
    let outside = tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let secret_path = secret.to_str().unwrap().trim_start_matches('/').to_owned();
    let mut builder = RepositoryBuilder::new();
    builder.symlink("a-link", secret.to_str().unwrap());
    builder.hard_link("b-to-link", "a-link");
    builder.hard_link("c-to-outside", &secret_path);
    builder.hard_link("d-to-unlisted", "nowhere/file");
    builder
        .file("e-file", b"x")
        .hard_link("f-to-link-name", "e-file");
    builder.hard_link("g-to-further-name", "f-to-link-name");
    builder
        .directory("h-directory", 0o755)
        .hard_link("i-to-directory", "h-directory");
    builder.hard_link("j-to-itself", "j-to-itself");
    let built = builder.build();
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    assert_eq!(summary.outcome, RestoreOutcome::Warnings);
    assert_eq!(
        summary.problem_kinds.get(&ProblemKind::Refused),
        Some(&6),
        "{:?}",
        summary.problems
    );
    assert_eq!(
        names_in(out.path()),
        ["a-link", "e-file", "f-to-link-name", "h-directory"]
    );
    let links = std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&secret).unwrap());
    assert_eq!(links, 1);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
}

#[tokio::test]
async fn links_planted_in_the_target_are_not_followed() {
    let outside = tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "victim").unwrap();
    let mut builder = RepositoryBuilder::new();
    builder
        .directory("dir", 0o755)
        .file("dir/file", b"new")
        .file("file", b"new");
    builder
        .file("linked", b"linked")
        .hard_link("dir/linked", "linked");
    builder.add("", entry(b"fifo", EntryKind::Fifo, 0o600));
    let built = builder.build();
    let out = tempdir().unwrap();
    for name in ["file", "linked", "fifo"] {
        symlink(&victim, out.path().join(name)).unwrap();
    }
    symlink(outside.path(), out.path().join("dir")).unwrap();
    let options = RestoreOptions {
        overwrite: Some(Overwrite::Always),
        ..options(out.path())
    };
    let summary = run(&built, options).await.unwrap();
    assert_eq!(
        summary.outcome,
        RestoreOutcome::Ok,
        "{:?}",
        summary.problems
    );
    assert_eq!(fs::read(&victim).unwrap(), b"victim");
    assert_eq!(names_in(outside.path()), ["victim"]);
    assert!(
        fs::symlink_metadata(out.path().join("file"))
            .unwrap()
            .is_file()
    );
    assert_eq!(fs::read(out.path().join("dir/file")).unwrap(), b"new");

    // A planted directory in the place of the private one belongs to whoever planted it, or is ours.
    let planted = tempdir().unwrap();
    let staging = planted.path().join(crate::restore::staging::STAGING_NAME);
    symlink(outside.path(), &staging).unwrap();
    let refused = run(&built, super::options(planted.path()))
        .await
        .unwrap_err();
    assert!(matches!(refused, RestoreError::Target { .. }), "{refused}");
    assert_eq!(names_in(outside.path()), ["victim"]);
}

#[tokio::test]
async fn a_chunk_of_another_length_than_listed_fails_its_file() {
    let mut builder = RepositoryBuilder::new();
    let Extent::Chunk { id, .. } = builder.chunk(&[7; 1000]) else {
        unreachable!("chunks are chunks")
    };
    let mut short = entry(b"short", EntryKind::File, 0o644);
    short.stat.size = 1001;
    short.content = Content::Extents(vec![Extent::Chunk { id, bytes: 1001 }]);
    let mut unknown = entry(b"unknown", EntryKind::File, 0o644);
    unknown.stat.size = 9;
    unknown.content = Content::Extents(vec![Extent::Chunk {
        id: formats::ids::ChunkId([9; 32]),
        bytes: 9,
    }]);
    builder
        .add("", short)
        .add("", unknown)
        .file("good", b"good");
    let built = builder.build();
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    assert_eq!(summary.problem_kinds.get(&ProblemKind::Damaged), Some(&2));
    assert_eq!(names_in(out.path()), ["good"]);
}

/// A Zstandard frame of 32 KiB that unpacks to 1 GiB of zeros.
fn bomb() -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let blocks = 8_192u32;
    for number in 0..blocks {
        let last = u32::from(number + 1 == blocks);
        let header = (128u32 << 10) << 3 | 1 << 1 | last;
        bytes.extend(&header.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

#[tokio::test]
async fn a_frame_that_unpacks_to_more_than_it_says_is_refused_in_bounded_memory() {
    let keys = keys();
    let context = RunContext {
        repository: keys.repository,
        epoch: keys.epoch,
        run: RunId([9; 16]),
        purpose: Purpose::Data,
    };
    let (header, run_keys) = RunHeader::create(context, &keys.public().unwrap()).unwrap();
    let plain_bytes = 1u32 << 20;
    let mut associated = b"capstan 2026-11 frame".to_vec();
    context.put(&mut associated);
    associated.put_u8(ChunkKind::Data.tag());
    associated.put_u8(Compression::Zstd.tag());
    associated.put_u32(plain_bytes);
    let mut pack = Vec::new();
    formats::seal::aead::seal(run_keys.data.expose(), &associated, &bomb(), &mut pack).unwrap();
    let id = chunk_id(keys.id().unwrap(), ChunkKind::Data, &vec![0; 1 << 20]);
    let mut assembler = PackAssembler::new(header, run_keys.table.clone());
    assembler.add_frame(
        FrameShape {
            kind: ChunkKind::Data,
            compression: Compression::Zstd,
            plain_bytes,
            sealed_bytes: pack.len() as u32,
        },
        vec![TableChunk {
            id,
            bytes: plain_bytes,
        }],
    );
    pack.extend(assembler.finish().unwrap());
    let table = formats::pack::open::Trailer::decode(&pack, pack.len() as u64)
        .unwrap()
        .open_table_with(keys.meta().unwrap())
        .unwrap();

    let mut builder = RepositoryBuilder::new();
    let mut file = entry(b"bomb", EntryKind::File, 0o644);
    file.stat.size = plain_bytes.into();
    file.content = Content::Extents(vec![Extent::Chunk {
        id,
        bytes: plain_bytes,
    }]);
    builder.add("", file).file("good", b"good");
    let built = builder.build();
    let name = PackId(blake3::hash(&pack).into());
    built
        .repository
        .insert(name, Purpose::Data, Bytes::from(pack), &table);
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    assert_eq!(summary.problem_kinds.get(&ProblemKind::Damaged), Some(&1));
    assert_eq!(names_in(out.path()), ["good"]);
}

#[tokio::test]
async fn owners_and_times_beyond_all_bounds_do_not_stop_a_restore() {
    let mut builder = RepositoryBuilder::new();
    for (number, seconds) in [i64::MIN, -292_000_000_000, 1 << 40, i64::MAX]
        .iter()
        .enumerate()
    {
        let mut file = builder.file_entry(format!("t{number}").as_bytes(), b"x");
        file.stat.mtime = super::at(*seconds, 999_999_999);
        builder.add("", file);
    }
    let mut nobody = builder.file_entry(b"nobody", b"x");
    nobody.stat.uid = u32::MAX;
    nobody.stat.gid = u32::MAX;
    nobody.stat.mode = 0o6777;
    builder.add("", nobody);
    let built = builder.build();
    let out = tempdir().unwrap();
    let summary = run_all(&built, out.path()).await;
    assert_eq!(summary.files, 5);
    assert_eq!(
        summary.outcome,
        RestoreOutcome::Warnings,
        "{:?}",
        summary.problems
    );
    let metadata = fs::metadata(out.path().join("nobody")).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
    assert_eq!(mode & 0o7777, 0o777, "nobody's setuid bits are nobody's");
}
