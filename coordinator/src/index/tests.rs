//! The index answers from verified packs alone, survives being closed, and says so when it is damaged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use formats::chunk::ChunkKind;
use formats::ids::{ChunkId, PackId, RepositoryId, RunId};
use formats::pack::table::{Table, TableChunk, TableFrame};
use formats::seal::aead::OVERHEAD;
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::Purpose;
use jiff::Timestamp;
use tempfile::TempDir;

use crate::database::DatabaseError;
use crate::index::{Index, IndexError, IndexedPack, LiveFrames, PackFacts, Rebuild, rebuild};

const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
const RUN: RunId = RunId([2; 16]);
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("index.db")
}

fn open(path: &Path) -> Index {
    Index::open(path, REPOSITORY).unwrap()
}

fn chunk(number: u64) -> ChunkId {
    ChunkId(blake3::hash(&number.to_le_bytes()).into())
}

fn facts(number: u8) -> PackFacts {
    PackFacts {
        pack: PackId([number; 32]),
        bytes: 1_000_000 + u64::from(number),
        purpose: Purpose::Data,
        run: RUN,
    }
}

/// Frames of these chunks; chunk `n` has `100 + n % 100` bytes.
fn table(frames: &[&[u64]]) -> Table {
    let frames = frames.iter().map(|numbers| {
        let chunks: Vec<TableChunk> = numbers
            .iter()
            .map(|number| TableChunk {
                id: chunk(*number),
                bytes: 100 + (*number % 100) as u32,
            })
            .collect();
        let plain_bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
        TableFrame {
            run_header: 0,
            shape: FrameShape {
                kind: ChunkKind::Data,
                compression: Compression::None,
                plain_bytes,
                sealed_bytes: plain_bytes + OVERHEAD as u32,
            },
            chunks,
        }
    });
    Table {
        frames: frames.collect(),
    }
}

fn ids(numbers: &[u64]) -> Vec<ChunkId> {
    numbers.iter().map(|number| chunk(*number)).collect()
}

#[test]
fn a_verified_pack_is_answered_with_the_exact_place_of_each_chunk() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let table = table(&[&[1, 2], &[3]]);
    index.insert_pack(&facts(7), &table, NOW).unwrap();
    assert_eq!(
        index.contains_many(&ids(&[3, 9, 1])).unwrap(),
        [true, false, true]
    );
    let places = index.locate_many(&ids(&[2, 9, 3])).unwrap();
    let second = places[0].unwrap();
    assert_eq!(
        (second.pack, second.purpose),
        (facts(7).pack, Purpose::Data)
    );
    assert_eq!(second.frame_offset, 0);
    assert_eq!((second.offset_in_frame, second.bytes), (101, 102));
    assert_eq!(second.shape, table.frames[0].shape);
    assert_eq!(places[1], None);
    let third = places[2].unwrap();
    assert_eq!(
        third.frame_offset,
        u64::from(table.frames[0].shape.sealed_bytes)
    );
    assert_eq!(third.offset_in_frame, 0);
}

#[test]
fn what_was_inserted_is_there_after_closing_and_for_a_reader_beside_the_writer() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let reader = open(&file(&dir));
    index.insert_pack(&facts(1), &table(&[&[1]]), NOW).unwrap();
    assert_eq!(reader.contains_many(&ids(&[1])).unwrap(), [true]);
    drop((index, reader));
    let index = open(&file(&dir));
    assert_eq!(index.contains_many(&ids(&[1])).unwrap(), [true]);
    assert_eq!(index.counts().unwrap().packs, 1);
    index.check().unwrap();
}

#[test]
fn a_chunk_keeps_its_first_place_and_every_pack_gives_its_whole_table_back() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let tables = [table(&[&[1, 2]]), table(&[&[2, 3], &[3, 4]])];
    for (number, table) in (1..).zip(&tables) {
        index.insert_pack(&facts(number), table, NOW).unwrap();
        // Again: nothing changes.
        index.insert_pack(&facts(number), table, NOW).unwrap();
    }
    let place = index.locate_many(&ids(&[2])).unwrap()[0].unwrap();
    assert_eq!(place.pack, facts(1).pack);
    let given: Vec<IndexedPack> = index
        .packs_of_run(RUN)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let expected: Vec<IndexedPack> = (1..)
        .zip(tables)
        .map(|(number, table)| IndexedPack {
            facts: facts(number),
            table,
        })
        .collect();
    assert_eq!(given, expected);
    assert_eq!(index.packs_of_run(RunId([9; 16])).unwrap().len(), 0);
    let place_bytes = Some(place.bytes);
    assert_eq!(
        index.lengths_of(&ids(&[9, 2])).unwrap(),
        [None, place_bytes]
    );
    assert_eq!(index.counts().unwrap().chunks, 4);
}

#[test]
fn chunks_are_answered_alike_before_and_after_they_are_in_the_big_table() {
    let dir = TempDir::new().unwrap();
    let mut writer = open(&file(&dir));
    let reader = open(&file(&dir));
    let tables = [table(&[&[1, 2], &[7]]), table(&[&[2, 3], &[3, 4]])];
    let asked = ids(&[1, 2, 3, 4, 5, 7]);
    writer.insert_pack(&facts(1), &tables[0], NOW).unwrap();
    writer.insert_pack(&facts(2), &tables[1], NOW).unwrap();
    let before = writer.locate_many(&asked).unwrap();
    assert_eq!(reader.locate_many(&asked).unwrap(), before);
    writer.move_recent().unwrap();
    for index in [&writer, &reader, &open(&file(&dir))] {
        assert_eq!(index.locate_many(&asked).unwrap(), before);
        assert_eq!(index.counts().unwrap().chunks, 5);
    }
    // A row is used again after quarantine: who had the pack before it in memory must not answer for it.
    let mut first = open(&file(&dir));
    first.insert_pack(&facts(8), &table(&[&[20]]), NOW).unwrap();
    assert_eq!(writer.contains_many(&ids(&[20])).unwrap(), [true]);
    first.quarantine(facts(8).pack, RUN, "bad", NOW).unwrap();
    first.insert_pack(&facts(9), &table(&[&[21]]), NOW).unwrap();
    assert_eq!(
        writer.contains_many(&ids(&[20, 21])).unwrap(),
        [false, true]
    );
    // Moved once, whoever does it; and what another process puts in quarantine is gone here too.
    let mut other = open(&file(&dir));
    other
        .insert_pack(&facts(3), &table(&[&[8, 1]]), NOW)
        .unwrap();
    assert_eq!(writer.contains_many(&ids(&[8])).unwrap(), [true]);
    other.quarantine(facts(3).pack, RUN, "bad", NOW).unwrap();
    assert_eq!(writer.contains_many(&ids(&[8, 1])).unwrap(), [false, true]);
    writer.move_recent().unwrap();
    assert_eq!(reader.contains_many(&ids(&[8, 1])).unwrap(), [false, true]);
}

#[test]
fn a_pack_with_other_facts_under_a_known_name_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    index.insert_pack(&facts(1), &table(&[&[1]]), NOW).unwrap();
    let other = PackFacts {
        bytes: 5,
        ..facts(1)
    };
    assert!(matches!(
        index.insert_pack(&other, &table(&[&[1]]), NOW),
        Err(IndexError::OtherFacts { .. })
    ));
}

#[test]
fn a_quarantined_pack_is_never_answered_nor_taken_in_again() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let bad = table(&[&[1, 2], &[3]]);
    index.insert_pack(&facts(1), &bad, NOW).unwrap();
    index
        .insert_pack(&facts(2), &table(&[&[9, 3]]), NOW)
        .unwrap();
    for _ in 0..2 {
        index
            .quarantine(facts(1).pack, RUN, "chunk has other bytes", NOW)
            .unwrap();
    }
    let places = index.locate_many(&ids(&[1, 2, 3, 9])).unwrap();
    assert_eq!(places[..2], [None, None]);
    // The third chunk is in a good pack too, and is answered from there.
    let third = places[2].unwrap();
    assert_eq!((third.pack, third.offset_in_frame), (facts(2).pack, 109));
    assert!(places[3].is_some());
    let again = index.insert_pack(&facts(1), &bad, NOW).unwrap_err();
    assert!(
        again.to_string().contains("chunk has other bytes"),
        "{again}"
    );
    assert_eq!(index.contains_many(&ids(&[1])).unwrap(), [false]);
    let counts = index.counts().unwrap();
    assert_eq!((counts.packs, counts.chunks, counts.quarantined), (1, 2, 1));
    index.check().unwrap();
}

#[test]
fn a_pack_that_never_verified_can_be_quarantined() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let pack = facts(1).pack;
    index
        .quarantine(pack, RUN, "the table does not open", NOW)
        .unwrap();
    let quarantined = index.quarantined().unwrap();
    assert_eq!((quarantined[0].pack, quarantined[0].run), (pack, RUN));
    assert!(matches!(
        index.insert_pack(&facts(1), &table(&[&[1]]), NOW),
        Err(IndexError::Quarantined { .. })
    ));
}

#[test]
fn a_lost_pack_is_not_answered_until_it_is_found_again() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let lost = table(&[&[1, 2]]);
    index.insert_pack(&facts(1), &lost, NOW).unwrap();
    index
        .insert_pack(&facts(2), &table(&[&[2, 9]]), NOW)
        .unwrap();
    index
        .mark_committed(7, &[facts(1).pack, facts(2).pack])
        .unwrap();
    assert!(!index.may_lack().unwrap());
    // One that is not known is not known to be lost either.
    for pack in [facts(1).pack, facts(1).pack, facts(5).pack] {
        index.give_up(pack, NOW).unwrap();
    }
    assert_eq!(index.lost().unwrap(), [facts(1).pack]);
    assert!(index.may_lack().unwrap());
    let there = index.contains_many(&ids(&[1, 2, 9])).unwrap();
    assert_eq!(there, [false, true, true]);
    assert!(index.insert_pack(&facts(1), &lost, NOW).is_err());

    index.record_again(7).unwrap();
    let waiting = index.facts_without_snapshot().unwrap();
    assert_eq!(waiting, [facts(2)]);
    index.mark_committed(8, &[facts(2).pack]).unwrap();

    // Until it is taken in again, it is still lacking.
    index.find_again(facts(1).pack).unwrap();
    assert_eq!(index.lost().unwrap(), []);
    assert!(index.has_found_again().unwrap() && index.may_lack().unwrap());
    index.insert_pack(&facts(1), &lost, NOW).unwrap();
    assert_eq!(index.contains_many(&ids(&[1])).unwrap(), [true]);
    assert!(!index.has_found_again().unwrap() && !index.may_lack().unwrap());
    index.check().unwrap();
}

#[test]
fn an_index_from_before_packs_could_be_lost_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let pack = facts(1).pack;
    index.quarantine(pack, RUN, "bad", NOW).unwrap();
    drop(index);
    let connection = rusqlite::Connection::open(file(&dir)).unwrap();
    connection
        .execute_batch(
            "ALTER TABLE quarantined DROP COLUMN lost; ALTER TABLE facts DROP COLUMN heeded;
             ALTER TABLE packs DROP COLUMN thinned;
             DROP TABLE thinned_chunks;
             PRAGMA user_version = 2;",
        )
        .unwrap();
    drop(connection);
    let index = open(&file(&dir));
    assert_eq!(index.lost().unwrap(), []);
    assert_eq!(index.heeded().unwrap(), 0);
    assert_eq!(index.quarantined().unwrap()[0].pack, pack);
}

#[test]
fn a_pack_that_is_bad_is_never_found_again() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let pack = facts(1).pack;
    index.quarantine(pack, RUN, "bad", NOW).unwrap();
    index.find_again(pack).unwrap();
    assert!(!index.has_found_again().unwrap() && !index.may_lack().unwrap());
    assert!(index.insert_pack(&facts(1), &table(&[&[1]]), NOW).is_err());
}

#[test]
fn packs_of_runs_that_died_are_offered_until_a_committed_record_carries_them() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let died = PackFacts {
        run: RunId([8; 16]),
        ..facts(1)
    };
    index.insert_pack(&died, &table(&[&[1]]), NOW).unwrap();
    index.insert_pack(&facts(2), &table(&[&[2]]), NOW).unwrap();
    let waiting = |index: &Index| -> Vec<PackId> {
        let packs = index.facts_without_snapshot().unwrap();
        packs.iter().map(|facts| facts.pack).collect()
    };
    assert_eq!(waiting(&index), [died.pack, facts(2).pack]);
    assert_eq!(index.covered().unwrap(), 0);
    index
        .mark_committed(4, &[died.pack, facts(2).pack])
        .unwrap();
    assert_eq!(waiting(&index), []);
    assert_eq!(index.covered().unwrap(), 4);
    index.mark_committed(3, &[]).unwrap();
    assert_eq!(index.covered().unwrap(), 4);
}

#[test]
fn an_index_of_another_repository_or_version_or_program_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(&file(&dir)));
    let other = Index::open(&file(&dir), RepositoryId([9; 16])).unwrap_err();
    assert!(matches!(other, IndexError::OtherRepository { .. }));

    let connection = rusqlite::Connection::open(file(&dir)).unwrap();
    connection.pragma_update(None, "user_version", 77).unwrap();
    drop(connection);
    let newer = Index::open(&file(&dir), REPOSITORY)
        .unwrap_err()
        .to_string();
    assert!(
        newer.contains("77") && newer.contains("version 5"),
        "{newer}"
    );

    let foreign = dir.path().join("foreign.db");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection.execute_batch("CREATE TABLE mine (a)").unwrap();
    drop(connection);
    assert!(matches!(
        Index::open(&foreign, REPOSITORY),
        Err(IndexError::Database(DatabaseError::OtherKind { .. }))
    ));
}

/// Overwrites bytes of the index's file.
fn damage(path: &Path, from: u64, bytes: usize) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0xa5; bytes]).unwrap();
}

fn assert_damaged(error: &IndexError) {
    assert!(matches!(error, IndexError::Damaged(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("delete it"), "{text}");
}

#[test]
fn a_damaged_index_names_its_remedy_and_is_rebuilt_in_place() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir);
    let numbers: Vec<u64> = (0..5_000).collect();
    let pack = IndexedPack {
        facts: facts(1),
        table: table(&[&numbers]),
    };
    let mut index = open(&path);
    index.insert_pack(&pack.facts, &pack.table, NOW).unwrap();
    drop(index);

    // Every page but the first: the file opens, and look-ups find the damage.
    let size = fs::metadata(&path).unwrap().len() as usize;
    damage(&path, 4_096, size - 4_096);
    let found = Index::open(&path, REPOSITORY)
        .and_then(|index| index.contains_many(&ids(&numbers)))
        .unwrap_err();
    assert_damaged(&found);

    // The first page too: it does not open.
    damage(&path, 0, 4_096);
    assert_damaged(&Index::open(&path, REPOSITORY).unwrap_err());

    let index = rebuild(&path, REPOSITORY, [pack], 3, NOW).unwrap();
    assert_eq!(index.contains_many(&ids(&[4_999])).unwrap(), [true]);
    assert_eq!(index.covered().unwrap(), 3);
    assert_eq!(index.facts_without_snapshot().unwrap().len(), 0);
    index.check().unwrap();
    drop(index);
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["index.db"]);
}

#[test]
fn a_rebuild_that_is_given_up_leaves_the_old_index_as_it_was() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    index.insert_pack(&facts(1), &table(&[&[1]]), NOW).unwrap();
    let mut unfinished = Rebuild::begin(&file(&dir), REPOSITORY).unwrap();
    unfinished
        .add(&facts(2), &table(&[&[2]]), None, NOW)
        .unwrap();
    drop(unfinished);
    assert_eq!(index.contains_many(&ids(&[1, 2])).unwrap(), [true, false]);
    // And the next one begins anew.
    let rebuilt = Rebuild::begin(&file(&dir), REPOSITORY).unwrap();
    let index = rebuilt.finish(0).unwrap();
    assert_eq!(index.contains_many(&ids(&[1, 2])).unwrap(), [false, false]);
}

#[test]
fn the_file_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    index.insert_pack(&facts(1), &table(&[&[1]]), NOW).unwrap();
    for suffix in ["", "-wal"] {
        let path = format!("{}{suffix}", file(&dir).display());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{path}");
    }
}

#[test]
fn a_hundred_thousand_chunks_go_in_fast_and_take_about_a_hundred_bytes_each() {
    const PACKS: u64 = 50;
    const CHUNKS: u64 = 2_000;
    let dir = TempDir::new().unwrap();
    let path = file(&dir);
    let mut index = open(&path);
    let began = Instant::now();
    for pack in 0..PACKS {
        let first = pack * CHUNKS;
        let numbers: Vec<u64> = (first..first + CHUNKS).collect();
        let frames: Vec<&[u64]> = numbers.chunks(100).collect();
        index
            .insert_pack(&facts(pack as u8), &table(&frames), NOW)
            .unwrap();
    }
    index.move_recent().unwrap();
    let inserted = began.elapsed();
    let all: Vec<ChunkId> = (0..PACKS * CHUNKS * 2).map(chunk).collect();
    let began = Instant::now();
    let found = index.contains_many(&all).unwrap();
    let looked_up = began.elapsed();
    let known = (PACKS * CHUNKS) as usize;
    assert!(found[..known].iter().all(|found| *found));
    assert!(!found[known..].iter().any(|found| *found));
    index.database.close().unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    println!("inserted in {inserted:?}, 200,000 look-ups in {looked_up:?}, {bytes} bytes");
    assert!(bytes / (PACKS * CHUNKS) <= 130, "{bytes} bytes");
}

#[test]
fn what_is_condemned_is_not_answered_but_from_where_else_it_is() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    for (number, frames) in [(1, vec![1, 2]), (2, vec![2, 3]), (3, vec![3, 4])] {
        let table = table(&[&frames]);
        index.insert_pack(&facts(number), &table, NOW).unwrap();
    }
    let all: Vec<PackId> = (1..=3).map(|number| facts(number).pack).collect();
    index.mark_committed(5, &all).unwrap();
    // Two that share a chunk, at once: neither is where the other's is looked for.
    let gone = [facts(1).pack, facts(2).pack, facts(9).pack];
    assert_eq!(index.retire(&gone, 5).unwrap(), 0, "followed already");
    assert_eq!(index.retire(&gone, 6).unwrap(), 2);
    let there = index.contains_many(&ids(&[1, 2, 3, 4])).unwrap();
    assert_eq!(there, [false, false, true, true]);
    let places = index.locate_many(&ids(&[3])).unwrap();
    assert_eq!(places[0].unwrap().pack, facts(3).pack);
    // Whoever followed the log past it does nothing more: they may have been brought back.
    index.mark_committed(6, &[]).unwrap();
    index
        .insert_pack(&facts(1), &table(&[&[1, 2]]), NOW)
        .unwrap();
    assert_eq!(index.retire(&gone, 6).unwrap(), 0);
    assert_eq!(index.contains_many(&ids(&[1])).unwrap(), [true]);
    index.check().unwrap();
}

#[test]
fn what_some_destination_does_not_keep_is_read_and_not_built_upon() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    for (number, frames) in [(1, vec![1, 2]), (2, vec![2, 3]), (3, vec![3, 4])] {
        let table = table(&[&frames]);
        index.insert_pack(&facts(number), &table, NOW).unwrap();
    }
    let [one, two, three] = [1, 2, 3].map(|number| facts(number).pack);
    index.mark_committed(5, &[one, two, three]).unwrap();
    index.thin(&[one, two], 5).unwrap();
    let all = ids(&[1, 2, 3, 4]);
    assert_eq!(index.contains_many(&all).unwrap(), [true; 4], "followed");
    index.thin(&[one, two], 6).unwrap();
    let there = [false, false, true, true];
    assert_eq!(index.contains_many(&all).unwrap(), there);
    assert_eq!(
        index.lengths_of(&ids(&[2])).unwrap(),
        [None],
        "nothing is built upon it"
    );
    let packs = |index: &Index, except: &[PackId]| {
        let except: HashSet<PackId> = except.iter().copied().collect();
        let places = index.locate_many_but(&all, &except).unwrap();
        let packs = places.iter().map(|place| place.map(|place| place.pack));
        packs.collect::<Vec<_>>()
    };
    let found = [Some(one), Some(two), Some(three), Some(three)];
    assert_eq!(packs(&index, &[]), found);
    assert_eq!(
        packs(&index, &[two]),
        [Some(one), Some(one), Some(three), Some(three)]
    );
    assert_eq!(packs(&index, &[one, two])[..2], [None, None]);
    let mut live = LiveFrames::default();
    let missing = index.mark(&ids(&[2]), &mut live, &HashSet::from([one]));
    assert_eq!(missing.unwrap(), []);
    let frames = index.pack_frames(&live, 0, 10).unwrap();
    let needed: Vec<(bool, bool)> = frames
        .iter()
        .map(|pack| (pack.thinned, pack.live_bytes > 0))
        .collect();
    assert_eq!(needed, [(true, false), (true, true), (false, false)]);
    // It is stored anew, and that is what is found from then on, here and in an index that is opened again.
    index.insert_pack(&facts(4), &table(&[&[2]]), NOW).unwrap();
    assert_eq!(packs(&index, &[])[1], Some(facts(4).pack));
    drop(index);
    let mut index = open(&file(&dir));
    assert_eq!(packs(&index, &[])[1], Some(facts(4).pack));
    index
        .insert_thinned(&facts(5), &table(&[&[9]]), NOW)
        .unwrap();
    assert_eq!(index.contains_many(&ids(&[9])).unwrap(), [false]);
    // Brought back, or given up.
    index.follow_thinned(&HashSet::from([two]), true).unwrap();
    assert_eq!(
        index.contains_many(&ids(&[1, 9])).unwrap(),
        [true, true],
        "others are answered again"
    );
    index.give_up(two, NOW).unwrap();
    index.follow_thinned(&HashSet::from([one]), true).unwrap();
    assert_eq!(
        index.contains_many(&all).unwrap(),
        [false, true, true, true]
    );
    assert_eq!(index.retire(&[one, three], 9).unwrap(), 2);
    assert_eq!(packs(&index, &[]), [None, Some(facts(4).pack), None, None]);
    index.check().unwrap();
}

#[test]
fn frames_are_needed_where_their_chunks_are_found() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    index
        .insert_pack(&facts(1), &table(&[&[1, 2], &[3]]), NOW)
        .unwrap();
    index
        .insert_pack(&facts(2), &table(&[&[1], &[4]]), NOW)
        .unwrap();
    let mut live = LiveFrames::default();
    let everywhere = HashSet::new();
    let missing = index
        .mark(&ids(&[1, 4, 8]), &mut live, &everywhere)
        .unwrap();
    assert_eq!(missing, ids(&[8]));
    let packs = index.pack_frames(&live, 0, 10).unwrap();
    let live_bytes: Vec<(u64, u64)> = packs
        .iter()
        .map(|pack| (pack.live_bytes, pack.frames_bytes))
        .collect();
    let sealed = |plain: u64, frames: u64| plain + OVERHEAD as u64 * frames;
    // The second place of chunk 1 is needed by nobody.
    assert_eq!(
        live_bytes,
        [
            (sealed(203, 1), sealed(306, 2)),
            (sealed(104, 1), sealed(205, 2))
        ]
    );
    let (_, needed) = index.live_frames_of(facts(2).pack, &live).unwrap().unwrap();
    assert_eq!(needed, [false, true]);
}

#[test]
fn an_index_is_emptied_once_for_a_record_and_covers_nothing_until_it_is_taken_in_again() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&file(&dir));
    let mut beside = open(&file(&dir));
    // First, so that its frame's row is used again.
    index
        .insert_thinned(&facts(3), &table(&[&[3]]), NOW)
        .unwrap();
    index.insert_pack(&facts(1), &table(&[&[1]]), NOW).unwrap();
    index.mark_committed(4, &[facts(1).pack]).unwrap();
    index
        .quarantine(facts(9).pack, RUN, "damaged", NOW)
        .unwrap();
    assert_eq!(beside.contains_many(&ids(&[1])).unwrap(), [true]);

    assert!(!index.empty(0).unwrap());
    assert!(index.empty(5).unwrap());
    assert_eq!((index.covered().unwrap(), index.heeded().unwrap()), (0, 5));
    for index in [&index, &beside] {
        assert_eq!(index.contains_many(&ids(&[1])).unwrap(), [false]);
    }
    assert_eq!(index.counts().unwrap().packs, 0);
    assert_eq!(index.quarantined().unwrap().len(), 1);
    index.insert_pack(&facts(2), &table(&[&[2]]), NOW).unwrap();
    assert!(!index.empty(5).unwrap());
    assert_eq!(index.contains_many(&ids(&[1, 2])).unwrap(), [false, true]);
    assert!(index.locate_many(&ids(&[3])).unwrap()[0].is_none());
    // Whoever had it open before does not know what it lacks.
    beside.mark_committed(6, &[]).unwrap();
    assert_eq!(beside.covered().unwrap(), 0);
    index.mark_committed(6, &[]).unwrap();
    assert_eq!(index.covered().unwrap(), 6);
}
