//! Packs: what assembling adds to frames that are sealed already, and what checking and opening a whole one takes.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use formats::chunk::{ChunkKind, chunk_id};
use formats::ids::ChunkId;
use formats::keys::secret::IdKey;
use formats::limits::PACK_BYTES_TARGET;
use formats::pack::assemble::PackAssembler;
use formats::pack::open::{Trailer, verify_pack};
use formats::pack::table::TableChunk;
use formats::seal::aead::OVERHEAD;
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::{RunHeader, RunKeys};

use crate::samples::{Data, FRAME_BYTES, repository, run, sealer};

/// A pack of big files has some 64 chunks, one of small files thousands.
const CHUNKS: [usize; 2] = [64, 12_000];

const CHUNK_BYTES: usize = 512 << 10;

/// Notes every frame of a full pack, and makes its sealed table, run header and footer.
#[divan::bench(args = CHUNKS)]
fn assemble(bencher: Bencher, chunks: usize) {
    let (header, keys) = run();
    bencher
        .counter(ItemsCount::new(chunks))
        .with_inputs(|| sealed_frames(chunks))
        .bench_local_values(|frames| trailer(&header, &keys, frames));
}

/// Reads that trailer back with the repository's key: what a restore does before it reads a frame.
#[divan::bench(args = CHUNKS)]
fn open_table(bencher: Bencher, chunks: usize) {
    let (header, keys) = run();
    let frames = sealed_frames(chunks);
    let frames_bytes: u64 = frames
        .iter()
        .map(|(shape, _)| u64::from(shape.sealed_bytes))
        .sum();
    let tail = trailer(&header, &keys, frames);
    let pack_bytes = frames_bytes + tail.len() as u64;
    let repository = repository();
    let meta = repository.meta().expect("the data role has all keys");
    bencher.counter(ItemsCount::new(chunks)).bench_local(|| {
        let trailer = Trailer::decode(&tail, pack_bytes).expect("a good trailer");
        trailer.open_table_with(meta).expect("it opens")
    });
}

/// The name of a full pack, which whoever stores or scrubs one recomputes.
#[divan::bench]
fn digest(bencher: Bencher) {
    let pack = Data::Noise.bytes(32 << 20);
    bencher
        .counter(BytesCount::of_slice(&pack))
        .bench_local(|| blake3::hash(&pack));
}

/// The coordinator's check of a full pack: table, every frame opened, every chunk hashed. Counts plaintext.
#[divan::bench(args = Data::ALL)]
fn verify(bencher: Bencher, data: Data) {
    let (header, keys) = run();
    let id_key = IdKey::from_bytes([5; 32]);
    let (pack, plain_bytes) = full_pack(data, &header, &keys, &id_key);
    bencher
        .counter(BytesCount::new(plain_bytes))
        .bench_local(|| {
            verify_pack(&pack, &header, &keys.table, &keys.data, &id_key).expect("a good pack")
        });
}

type SealedFrame = (FrameShape, Vec<TableChunk>);

/// What is known of the frames of a full pack that has so many chunks; there are no bytes to them.
fn sealed_frames(chunks: usize) -> Vec<SealedFrame> {
    let bytes = length(PACK_BYTES_TARGET as usize / chunks);
    let ids: Vec<ChunkId> = (0..chunks as u64)
        .map(|number| ChunkId(blake3::hash(&number.to_le_bytes()).into()))
        .collect();
    ids.chunks(FRAME_BYTES / bytes as usize)
        .map(|ids| {
            let chunks: Vec<TableChunk> =
                ids.iter().map(|id| TableChunk { id: *id, bytes }).collect();
            let plain_bytes = bytes * length(chunks.len());
            let shape = FrameShape {
                kind: ChunkKind::Data,
                compression: Compression::None,
                plain_bytes,
                sealed_bytes: plain_bytes + length(OVERHEAD),
            };
            (shape, chunks)
        })
        .collect()
}

fn trailer(header: &RunHeader, keys: &RunKeys, frames: Vec<SealedFrame>) -> Vec<u8> {
    let mut assembler = PackAssembler::new(header.clone(), keys.table.clone());
    for (shape, chunks) in frames {
        assembler.add_frame(shape, chunks);
    }
    assembler.finish().expect("finishing works")
}

/// A full pack of frames of two chunks, and how much plaintext is in it.
fn full_pack(data: Data, header: &RunHeader, keys: &RunKeys, id_key: &IdKey) -> (Vec<u8>, u64) {
    let content = data.bytes(8 * FRAME_BYTES);
    let mut sealer = sealer(header, keys);
    let mut assembler = PackAssembler::new(header.clone(), keys.table.clone());
    let (mut pack, mut plain_bytes) = (Vec::new(), 0);
    for plain in content.chunks(FRAME_BYTES).cycle() {
        let chunks: Vec<TableChunk> = plain
            .chunks(CHUNK_BYTES)
            .map(|chunk| TableChunk {
                id: chunk_id(id_key, ChunkKind::Data, chunk),
                bytes: length(chunk.len()),
            })
            .collect();
        if assembler.is_full(chunks.len() as u64) {
            break;
        }
        let shape = sealer
            .seal(ChunkKind::Data, plain, &mut pack)
            .expect("sealing works");
        assembler.add_frame(shape, chunks);
        plain_bytes += u64::from(shape.plain_bytes);
    }
    pack.extend(assembler.finish().expect("finishing works"));
    (pack, plain_bytes)
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a pack's parts are small")
}
