//! Compressing and sealing: first each by itself, then a frame's both together. Buffers are kept, as in a run.

use divan::Bencher;
use divan::counter::BytesCount;
use formats::chunk::ChunkKind;
use formats::seal::aead;
use formats::seal::frame::FrameOpener;

use crate::samples::{Data, FRAME_BYTES, Kib, run, sealer};

const KEY: [u8; 32] = [4; 32];
const PURPOSE: &[u8] = b"a benchmark";

/// What a frame's sealer asks of zstd, at a level that is quick, usual, and the listings'.
#[divan::bench(args = Data::ALL, consts = [1, 3, 6])]
fn compress<const LEVEL: i32>(bencher: Bencher, data: Data) {
    let plain = data.bytes(FRAME_BYTES);
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("a level zstd has");
    let mut out = vec![0; zstd::zstd_safe::compress_bound(plain.len())];
    bencher
        .counter(BytesCount::of_slice(&plain))
        .bench_local(|| {
            compressor
                .compress_to_buffer(&plain, out.as_mut_slice())
                .expect("the buffer has room")
        });
}

/// The cipher alone.
#[divan::bench(args = [Kib(1_024), Kib(4)])]
fn encrypt(bencher: Bencher, length: Kib) {
    let plain = Data::Noise.bytes(length.bytes());
    let mut out = Vec::new();
    bencher
        .counter(BytesCount::of_slice(&plain))
        .bench_local(|| {
            out.clear();
            aead::seal(&KEY, PURPOSE, &plain, &mut out).expect("sealing works");
        });
}

/// The cipher back.
#[divan::bench(args = [Kib(1_024), Kib(4)])]
fn decrypt(bencher: Bencher, length: Kib) {
    let plain = Data::Noise.bytes(length.bytes());
    let (mut sealed, mut out) = (Vec::new(), Vec::new());
    aead::seal(&KEY, PURPOSE, &plain, &mut sealed).expect("sealing works");
    bencher
        .counter(BytesCount::of_slice(&plain))
        .bench_local(|| aead::open(&KEY, PURPOSE, &sealed, &mut out).expect("it opens"));
}

/// A whole frame: compress, decide, seal.
#[divan::bench(args = Data::ALL)]
fn seal(bencher: Bencher, data: Data) {
    let plain = data.bytes(FRAME_BYTES);
    let (header, keys) = run();
    let mut sealer = sealer(&header, &keys);
    let mut out = Vec::new();
    bencher
        .counter(BytesCount::of_slice(&plain))
        .bench_local(|| {
            out.clear();
            sealer
                .seal(ChunkKind::Data, &plain, &mut out)
                .expect("sealing works")
        });
}

/// A whole frame back.
#[divan::bench(args = Data::ALL)]
fn open(bencher: Bencher, data: Data) {
    let plain = data.bytes(FRAME_BYTES);
    let (header, keys) = run();
    let (mut sealed, mut out) = (Vec::new(), Vec::new());
    let shape = sealer(&header, &keys)
        .seal(ChunkKind::Data, &plain, &mut sealed)
        .expect("sealing works");
    let mut opener = FrameOpener::new(header.context, keys.data).expect("zstd starts");
    bencher
        .counter(BytesCount::of_slice(&plain))
        .bench_local(|| opener.open(&shape, &sealed, &mut out).expect("it opens"));
}
