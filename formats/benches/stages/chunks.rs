//! Cutting files into chunks, and naming them.

use divan::Bencher;
use divan::counter::BytesCount;
use formats::chunk::{ChunkKind, Chunker, chunk_id};
use formats::keys::secret::{ChunkingKey, IdKey};

use crate::samples::{Data, Kib};

const CUT_BYTES: usize = 16 << 20;

/// Every boundary of a long file.
#[divan::bench(args = Data::ALL)]
fn cut(bencher: Bencher, data: Data) {
    let bytes = data.bytes(CUT_BYTES);
    let chunker = Chunker::new(&ChunkingKey::from_bytes([1; 32]));
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .bench_local(|| {
            let (mut left, mut chunks) = (bytes.as_slice(), 0u32);
            while !left.is_empty() {
                left = &left[chunker.cut(left)..];
                chunks += 1;
            }
            chunks
        });
}

/// The name of one chunk: an average one of a big file, and a small file.
#[divan::bench(args = [Kib(512), Kib(8)])]
fn hash(bencher: Bencher, length: Kib) {
    let bytes = Data::Noise.bytes(length.bytes());
    let key = IdKey::from_bytes([1; 32]);
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .bench_local(|| chunk_id(&key, ChunkKind::Data, &bytes));
}
