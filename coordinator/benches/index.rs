//! The index alone: which of an agent's chunks it knows, and what taking in a verified pack costs, sync included. Its
//! file is on the disk that has the build, since a memory filesystem would make every sync free.

use divan::Bencher;
use divan::counter::ItemsCount;
use formats::chunk::ChunkKind;
use formats::ids::{ChunkId, PackId, RepositoryId, RunId};
use formats::limits::SEEN_CHUNKS_MAX;
use formats::pack::table::{Table, TableChunk, TableFrame};
use formats::seal::aead::OVERHEAD;
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::Purpose;
use jiff::Timestamp;
use tempfile::TempDir;

use coordinator::index::{Index, PackFacts};

/// Chunks of the index: some 100 GB of big files, or a server's small ones.
const HELD: u64 = 200_000;
/// Chunks of each pack that it was filled with.
const HELD_PER_PACK: u64 = 2_000;
/// The first chunk of the packs that are inserted by a benchmark.
const FRESH: u64 = 1 << 40;

/// A small file's chunk, and how many of them fill a frame of a mebibyte.
const CHUNK_BYTES: u32 = 2_700;
const CHUNKS_PER_FRAME: usize = 380;

/// What an agent asks for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// Chunks that are in the index.
    Hits,
    /// Chunks that are not.
    Misses,
}

fn main() {
    divan::main();
}

/// One full question: as many chunks as an agent may ask for at once.
#[divan::bench(args = [Asked::Hits, Asked::Misses], sample_size = 1)]
fn look_up(bencher: Bencher, asked: Asked) {
    let (_directory, index) = filled();
    let first = match asked {
        Asked::Hits => 0,
        Asked::Misses => FRESH,
    };
    let ids: Vec<ChunkId> = (first..first + HELD).map(chunk).collect();
    let mut questions = ids.chunks_exact(SEEN_CHUNKS_MAX as usize).cycle();
    bencher
        .counter(ItemsCount::new(SEEN_CHUNKS_MAX))
        .bench_local(|| {
            let question = questions.next().expect("a cycle has no end");
            index.contains_many(question).expect("the index answers")
        });
}

/// Packs of big files have some 64 chunks, those of small files thousands.
#[divan::bench(args = [64, 12_000], sample_count = 20, sample_size = 1)]
fn insert(bencher: Bencher, chunks: u64) {
    let (_directory, mut index) = filled();
    let mut first = (FRESH..).step_by(chunks as usize);
    bencher
        .counter(ItemsCount::new(chunks))
        .with_inputs(|| pack(first.next().expect("there are numbers"), chunks))
        .bench_local_refs(|(facts, table)| take_in(&mut index, facts, table));
}

/// An index of a repository that has been in use.
fn filled() -> (TempDir, Index) {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("index.db");
    let mut index = Index::open(&path, RepositoryId([1; 16])).expect("a new index");
    for first in (0..HELD).step_by(HELD_PER_PACK as usize) {
        let (facts, table) = pack(first, HELD_PER_PACK);
        take_in(&mut index, &facts, &table);
    }
    (directory, index)
}

fn take_in(index: &mut Index, facts: &PackFacts, table: &Table) {
    index
        .insert_pack(facts, table, Timestamp::UNIX_EPOCH)
        .expect("a new pack is taken in");
}

/// A pack of chunks that no other pack has.
fn pack(first: u64, chunks: u64) -> (PackFacts, Table) {
    let numbers: Vec<u64> = (first..first + chunks).collect();
    let table = Table {
        frames: numbers.chunks(CHUNKS_PER_FRAME).map(frame).collect(),
    };
    let facts = PackFacts {
        pack: PackId(blake3::hash(&first.to_be_bytes()).into()),
        bytes: table.frames_bytes(),
        purpose: Purpose::Data,
        run: RunId([2; 16]),
    };
    (facts, table)
}

fn frame(numbers: &[u64]) -> TableFrame {
    let plain_bytes = CHUNK_BYTES * numbers.len() as u32;
    TableFrame {
        run_header: 0,
        shape: FrameShape {
            kind: ChunkKind::Data,
            compression: Compression::None,
            plain_bytes,
            sealed_bytes: plain_bytes + OVERHEAD as u32,
        },
        chunks: numbers
            .iter()
            .map(|number| TableChunk {
                id: chunk(*number),
                bytes: CHUNK_BYTES,
            })
            .collect(),
    }
}

fn chunk(number: u64) -> ChunkId {
    ChunkId(blake3::hash(&number.to_le_bytes()).into())
}
