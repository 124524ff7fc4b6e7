//! Reading snapshots back, and refusing what is not what was stored.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::sync::Arc;

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::ids::ChunkId;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::EntryKind;
use formats::seal::run_header::Purpose;

use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::content::ExtentStream;
use crate::snapshot::listing::{Listing, ListingError};
use crate::snapshot::tree_builder::{Built, RepositoryBuilder, below, entry, keys, reader};

fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut out);
    out
}

/// 40 directories of 250 entries each, two levels deep: many pages.
fn wide() -> Built {
    let mut builder = RepositoryBuilder::new();
    for outer in 0..40 {
        let directory = format!("d{outer:02}");
        builder.directory(&directory, 0o755);
        for inner in 0..200 {
            let name = format!("{}{inner:03}", "long-name-".repeat(15));
            builder.add(&directory, entry(name.as_bytes(), EntryKind::File, 0o644));
        }
        let sub = below(&directory, "sub");
        builder.directory(&sub, 0o700);
        for inner in 0..50 {
            let name = format!("x{inner:03}");
            builder.add(&sub, entry(name.as_bytes(), EntryKind::Fifo, 0o644));
        }
    }
    builder.build()
}

async fn all(listing: &Listing) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut stream = listing.entries();
    let mut found = Vec::new();
    while let Some((directory, entry)) = stream.next_entry().await.unwrap() {
        found.push((directory.to_vec(), entry.name));
    }
    found
}

#[tokio::test]
async fn a_listing_streams_seeks_and_ranges() {
    let built = wide();
    let listing = built.listing().await;
    assert!(listing.pages().len() > 5, "{}", listing.pages().len());
    let everything = all(&listing).await;
    assert_eq!(everything.len(), 40 * 252);
    assert_eq!(listing.entries_total(), 40 * 252);

    let mut subtree = listing.subtree(b"d07").unwrap();
    let mut count = 0;
    while let Some((directory, _)) = subtree.next_entry().await.unwrap() {
        assert!(directory.starts_with(b"d07"));
        count += 1;
    }
    assert_eq!(count, 251);
    let mut block = listing.block(b"d07/sub").unwrap();
    let mut names = Vec::new();
    while let Some((_, entry)) = block.next_entry().await.unwrap() {
        names.push(entry.name);
    }
    assert_eq!((names.len(), names[0].as_slice()), (50, &b"x000"[..]));

    let found = listing.entry(b"d39/sub/x049").await.unwrap().unwrap();
    assert_eq!(found.stat.kind, EntryKind::Fifo);
    assert!(listing.entry(b"d39/sub/x050").await.unwrap().is_none());
    assert!(listing.entry(b"d39/nothing/x").await.unwrap().is_none());
    assert!(listing.entry(b"").await.unwrap().is_none());
    assert!(
        listing
            .subtree(b"zzz")
            .unwrap()
            .next_entry()
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_cursor_merges_another_stream_in_one_pass_and_jumps_back() {
    let built = wide();
    let listing = built.listing().await;
    let mut cursor = listing.cursor();
    for outer in 0..40 {
        let directory = format!("d{outer:02}");
        assert!(cursor.seek_block(directory.as_bytes()).await.unwrap());
        let sub = cursor.find_in_block(b"aaa-not-there").await.unwrap();
        assert!(sub.is_none());
        let name = format!("{}{:03}", "long-name-".repeat(15), outer);
        assert_eq!(
            cursor
                .find_in_block(name.as_bytes())
                .await
                .unwrap()
                .unwrap()
                .name,
            name.as_bytes()
        );
        assert!(
            !cursor
                .seek_block(below(&directory, "nosub").as_bytes())
                .await
                .unwrap()
        );
        assert!(cursor.next_in_block().await.unwrap().is_none());
        let sub = below(&directory, "sub");
        assert!(cursor.seek_block(sub.as_bytes()).await.unwrap());
        let mut count = 0;
        while cursor.next_in_block().await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 50);
    }
    assert!(cursor.next_entry().await.unwrap().is_none());
    assert!(!cursor.seek_block(b"d99").await.unwrap());
    for back in ["d20", "d03", "d03", "d31/sub", "d00", ""] {
        assert!(cursor.seek_block(back.as_bytes()).await.unwrap(), "{back}");
        assert!(cursor.next_in_block().await.unwrap().is_some());
    }
    assert!(cursor.seek_block(b"d00").await.unwrap());
    assert_eq!(
        cursor
            .find_in_block(b"sub")
            .await
            .unwrap()
            .unwrap()
            .stat
            .kind,
        EntryKind::Directory
    );
}

#[tokio::test]
async fn seeks_agree_with_a_linear_scan_whatever_their_order() {
    let built = wide();
    let listing = built.listing().await;
    let everything = all(&listing).await;
    let mut cursor = listing.cursor();
    let mut state = 12_345u64;
    for _ in 0..300 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let index = usize::try_from(state >> 33).unwrap() % everything.len();
        let (directory, name) = &everything[index];
        let mut sought = name.clone();
        if state & 1 == 0 {
            sought.push(0x01);
        }
        cursor.seek(directory, &sought).await.unwrap();
        let expected = everything.get(index + usize::from(state & 1 == 0));
        let mut expected = expected.cloned();
        if state & 2 == 0 {
            let taken = cursor.next_entry().await.unwrap();
            assert_eq!(taken.map(|(d, e)| (d.to_vec(), e.name)), expected);
            expected = everything
                .get(index + 1 + usize::from(state & 1 == 0))
                .cloned();
        }
        let peeked = cursor.peek().await.unwrap();
        assert_eq!(peeked.map(|(d, e)| (d.to_vec(), e.name.clone())), expected);
    }
}

#[tokio::test]
async fn extents_come_from_entry_and_pages_alike() {
    let mut builder = RepositoryBuilder::new();
    let content = noise(1, 23 * (64 << 10) + 17);
    builder.file("big", &content).file("small", b"small");
    let built = builder.build();
    let listing = built.listing().await;
    for (name, expected) in [("big", content.as_slice()), ("small", b"small")] {
        let entry = listing.entry(name.as_bytes()).await.unwrap().unwrap();
        let mut extents = ExtentStream::new(built.chunks.clone(), entry.content);
        let mut read = Vec::new();
        while let Some(group) = extents.next_extents().await.unwrap() {
            for extent in group {
                if let Extent::Chunk { id, .. } = extent {
                    read.extend(built.chunks.read(ChunkKind::Data, id).await.unwrap());
                }
            }
        }
        assert!(read == expected, "{name}");
    }
    let before = built.repository.reads();
    let ids: Vec<ChunkId> = content
        .chunks(64 << 10)
        .map(|bytes| formats::chunk::chunk_id(keys().id().unwrap(), ChunkKind::Data, bytes))
        .collect();
    let fresh = reader(&built.repository, &keys());
    let read = fresh.read_many(ChunkKind::Data, &ids).await.unwrap();
    assert_eq!(read.concat(), content);
    assert!(
        built.repository.reads() - before <= 3,
        "near frames are read together, and the run header once"
    );
}

fn damaged_data_pack(damage: impl Fn(&mut Vec<u8>)) -> (Built, ChunkId) {
    let mut builder = RepositoryBuilder::new();
    let content = noise(2, 1000);
    builder.file("file", &content);
    let built = builder.build();
    let (pack, _) = *built
        .packs
        .iter()
        .find(|(_, purpose)| *purpose == Purpose::Data)
        .unwrap();
    let mut bytes = built.repository.pack(pack).unwrap().to_vec();
    damage(&mut bytes);
    built
        .repository
        .replace_pack(pack, Some(Bytes::from(bytes)));
    let id = formats::chunk::chunk_id(keys().id().unwrap(), ChunkKind::Data, &content);
    (built, id)
}

async fn read_error(built: &Built, kind: ChunkKind, id: ChunkId) -> Arc<ChunkError> {
    built.chunks.read(kind, id).await.unwrap_err()
}

#[tokio::test]
async fn damage_is_named_and_is_of_the_integrity_class() {
    let (built, id) = damaged_data_pack(|bytes| bytes[100] ^= 1);
    let error = read_error(&built, ChunkKind::Data, id).await;
    assert!(matches!(*error, ChunkError::Frame { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Integrity);

    let (built, id) = damaged_data_pack(|bytes| {
        let header = bytes.len() - 16 - 2000;
        bytes[header] ^= 1;
    });
    let error = read_error(&built, ChunkKind::Data, id).await;
    assert!(matches!(*error, ChunkError::RunHeader { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Integrity);

    let (built, id) = damaged_data_pack(|bytes| {
        bytes.pop();
    });
    let error = read_error(&built, ChunkKind::Data, id).await;
    assert!(matches!(*error, ChunkError::Trailer { .. }), "{error}");

    let unknown = ChunkId([9; 32]);
    let error = read_error(&built, ChunkKind::Data, unknown).await;
    assert!(matches!(*error, ChunkError::Unknown { .. }), "{error}");
    let error = read_error(&built, ChunkKind::Page, id).await;
    assert!(matches!(*error, ChunkError::Misplaced { .. }), "{error}");
}

#[tokio::test]
async fn an_index_that_points_to_other_bytes_is_found_out() {
    let mut builder = RepositoryBuilder::new();
    builder
        .file("a", &noise(3, 1000))
        .file("b", &noise(4, 1000));
    let built = builder.build();
    let id =
        |seed| formats::chunk::chunk_id(keys().id().unwrap(), ChunkKind::Data, &noise(seed, 1000));
    let places = built.chunks.locate(vec![id(3), id(4)]).await.unwrap();
    built.repository.replace_place(id(3), places[1]);
    let error = read_error(&built, ChunkKind::Data, id(3)).await;
    assert!(matches!(*error, ChunkError::WrongBytes { .. }), "{error}");

    let mut beyond = places[1].unwrap();
    beyond.offset_in_frame = u32::MAX;
    built.repository.replace_place(id(4), Some(beyond));
    let error = read_error(&built, ChunkKind::Data, id(4)).await;
    assert!(matches!(*error, ChunkError::Misplaced { .. }), "{error}");

    let mut far = places[1].unwrap();
    far.frame_offset = u64::MAX - 3;
    built.repository.replace_place(id(4), Some(far));
    assert!(built.chunks.read(ChunkKind::Data, id(4)).await.is_err());
    built.repository.replace_pack(places[1].unwrap().pack, None);
    let fresh = reader(&built.repository, &keys());
    let error = fresh.read(ChunkKind::Data, id(3)).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Integrity, "{error}");
}

#[tokio::test]
async fn listings_out_of_order_are_refused() {
    let mut twice = RepositoryBuilder::new();
    twice.file("a", b"1").file("a", b"2");
    let mut orphan = RepositoryBuilder::new();
    orphan.file("a", b"1");
    orphan.file("nowhere/b", b"2");
    let mut through_link = RepositoryBuilder::new();
    through_link.symlink("a", "/etc").file("a/passwd", b"x");
    for builder in [twice, orphan, through_link] {
        let built = builder.build();
        let mut stream = built.listing().await.entries();
        let refused = loop {
            match stream.next_entry().await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let error = refused.expect("refused");
        assert_eq!(error.class(), FailureClass::Integrity, "{error}");
    }
}

#[tokio::test]
async fn names_that_lead_elsewhere_do_not_even_decode() {
    for name in [&b".."[..], b".", b"a/b", b"a\0b", b""] {
        let mut builder = RepositoryBuilder::new();
        builder.add("", entry(name, EntryKind::File, 0o644));
        let built = builder.build();
        let opened = Listing::open(built.chunks.clone(), &built.snapshot.page_index).await;
        assert!(matches!(opened, Err(ListingError::Decode { .. })));
    }
    let mut builder = RepositoryBuilder::new();
    let mut short = builder.file_entry(b"short", b"12345");
    short.stat.size = 6;
    builder.file("a", b"first").add("", short);
    let built = builder.build();
    let mut stream = built.listing().await.entries();
    assert!(
        stream.next_entry().await.is_err(),
        "content that does not add up to the size"
    );
    let mut builder = RepositoryBuilder::new();
    let mut pages = builder.file_entry(b"f", b"");
    let extents: Vec<Extent> = (0..10u8).map(|n| builder.chunk(&[n; 100])).collect();
    pages.content = builder.content(extents);
    if let Content::Pages(list) = &mut pages.content {
        list[0].covers += 1;
        list[1].covers -= 1;
    }
    pages.stat.size = 1000;
    builder.add("", pages);
    let built = builder.build();
    let entry = built.listing().await.entry(b"f").await.unwrap().unwrap();
    let mut extents = ExtentStream::new(built.chunks.clone(), entry.content);
    assert!(
        extents.next_extents().await.is_err(),
        "pages that lie about what they cover"
    );
}

mod verifying {
    use super::{Built, Bytes, ChunkKind, Purpose, RepositoryBuilder, keys, noise};
    use crate::snapshot::verification::{Verification, VerifiedSnapshot, verify};
    use formats::ids::RecordId;

    fn sample() -> Built {
        let mut builder = RepositoryBuilder::new();
        builder.directory("d", 0o755);
        builder
            .file("d/one", &noise(1, 5000))
            .file("d/two", &noise(2, 5000));
        builder.file("big", &noise(3, 900_000));
        builder.build()
    }

    async fn verified(built: &Built) -> Verification {
        let snapshot = VerifiedSnapshot {
            id: RecordId([5; 32]),
            snapshot: built.snapshot.clone(),
        };
        verify(&built.chunks, &[snapshot.clone(), snapshot])
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_whole_repository_verifies_and_each_pack_is_read_once() {
        let built = sample();
        let found = verified(&built).await;
        assert_eq!(found.error_count, 0, "{:?}", found.errors);
        assert_eq!((found.snapshots, found.packs), (2, 2));
        assert!(found.chunks > 16 && found.bytes > 900_000);
    }

    #[tokio::test]
    async fn damage_names_the_files_it_reaches() {
        let built = sample();
        let (pack, _) = built.packs[0];
        let good = built.repository.pack(pack).unwrap();
        let mut bad = good.to_vec();
        bad[100] ^= 1;
        built.repository.replace_pack(pack, Some(Bytes::from(bad)));
        let found = verified(&built).await;
        let errors = found.errors.join("\n");
        assert!(errors.contains("/d/one is damaged") || errors.contains("/big is damaged"));
        assert!(errors.contains(&pack.to_string()), "{errors}");

        built.repository.replace_pack(pack, None);
        let found = verified(&built).await;
        let errors = found.errors.join("\n");
        for name in ["/d/one", "/d/two", "/big"] {
            assert!(errors.contains(&format!("{name} is damaged")), "{errors}");
        }

        built.repository.replace_pack(pack, Some(good));
        assert_eq!(verified(&built).await.error_count, 0);
    }

    #[tokio::test]
    async fn an_index_that_lies_is_found_out() {
        let built = sample();
        let id = |seed| {
            formats::chunk::chunk_id(keys().id().unwrap(), ChunkKind::Data, &noise(seed, 5000))
        };
        let places = built.chunks.locate(vec![id(1), id(2)]).await.unwrap();
        built.repository.replace_place(id(1), places[1]);
        let found = verified(&built).await;
        assert!(
            found.errors.join("\n").contains("/d/one is damaged"),
            "{found:?}"
        );
        built.repository.replace_place(id(1), None);
        let found = verified(&built).await;
        assert!(
            found.errors.join("\n").contains("/d/one: chunk"),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn a_damaged_listing_is_told_and_does_not_stop_the_rest() {
        let built = sample();
        let piece = built.snapshot.page_index[0].id;
        let place = built.chunks.locate(vec![piece]).await.unwrap()[0].unwrap();
        assert_eq!(place.purpose, Purpose::Meta);
        let pack = place.pack;
        let mut bad = built.repository.pack(pack).unwrap().to_vec();
        bad[usize::try_from(place.frame_offset).unwrap() + 50] ^= 1;
        built.repository.replace_pack(pack, Some(Bytes::from(bad)));
        let found = verified(&built).await;
        let errors = found.errors.join("\n");
        assert!(errors.contains("the listing cannot be read on"), "{errors}");
        assert_eq!(found.packs, 1, "what is known of is checked all the same");
    }
}
