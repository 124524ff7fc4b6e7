//! Packs, honest and not: each function takes a run's orders and gives the bytes of a pack that lies in one place.

use anyhow::{Context as _, Result};
use formats::chunk::{ChunkKind, chunk_id};
use formats::codec::Put as _;
use formats::ids::{ChunkId, RunId};
use formats::pack::assemble::PackAssembler;
use formats::pack::table::TableChunk;
use formats::seal::aead;
use formats::seal::frame::{Compression, FrameSealer, FrameShape};
use formats::seal::run_header::{RunContext, RunHeader};
use formats::wire::start::Start;

/// The id of a piece of a file.
pub fn data_id(orders: &Start, plain: &[u8]) -> ChunkId {
    chunk_id(&orders.id_key, ChunkKind::Data, plain)
}

/// A pack that holds these chunks, each in a frame of its own.
pub fn honest(orders: &Start, chunks: &[&[u8]]) -> Result<Vec<u8>> {
    let named: Vec<(ChunkId, &[u8])> = chunks
        .iter()
        .map(|plain| (data_id(orders, plain), *plain))
        .collect();
    mislabelled(orders, &named)
}

/// A pack whose table gives its chunks any ids.
pub fn mislabelled(orders: &Start, chunks: &[(ChunkId, &[u8])]) -> Result<Vec<u8>> {
    let header = header(orders)?;
    let mut sealer = FrameSealer::new(header.context, orders.data_key.clone(), 3)?;
    let mut assembler = PackAssembler::new(header, orders.table_key.clone());
    let mut pack = Vec::new();
    for (id, plain) in chunks {
        let shape = sealer.seal(ChunkKind::Data, plain, &mut pack)?;
        assembler.add_frame(
            shape,
            vec![TableChunk {
                id: *id,
                bytes: u32::try_from(plain.len())?,
            }],
        );
    }
    pack.extend(assembler.finish()?);
    Ok(pack)
}

/// A pack whose frame is sealed as another run's, another epoch's, or as another kind.
pub fn sealed_for_another(
    orders: &Start,
    plain: &[u8],
    alter: impl FnOnce(&mut RunContext),
    kind: ChunkKind,
) -> Result<Vec<u8>> {
    let header = header(orders)?;
    let mut context = header.context;
    alter(&mut context);
    let mut sealer = FrameSealer::new(context, orders.data_key.clone(), 3)?;
    let mut assembler = PackAssembler::new(header, orders.table_key.clone());
    let mut pack = Vec::new();
    let shape = sealer.seal(kind, plain, &mut pack)?;
    assembler.add_frame(
        FrameShape {
            kind: ChunkKind::Data,
            ..shape
        },
        vec![TableChunk {
            id: data_id(orders, plain),
            bytes: u32::try_from(plain.len())?,
        }],
    );
    pack.extend(assembler.finish()?);
    Ok(pack)
}

/// A pack whose run header names another run.
pub fn of_another_run(orders: &Start, plain: &[u8]) -> Result<Vec<u8>> {
    let mut header = header(orders)?;
    header.context.run = RunId([0x5a; 16]);
    let mut sealer = FrameSealer::new(header.context, orders.data_key.clone(), 3)?;
    let mut assembler = PackAssembler::new(header, orders.table_key.clone());
    let mut pack = Vec::new();
    let shape = sealer.seal(ChunkKind::Data, plain, &mut pack)?;
    assembler.add_frame(
        shape,
        vec![TableChunk {
            id: data_id(orders, plain),
            bytes: u32::try_from(plain.len())?,
        }],
    );
    pack.extend(assembler.finish()?);
    Ok(pack)
}

/// A pack whose table declares another plain length than its frame is sealed with.
pub fn with_plain_length(orders: &Start, plain: &[u8], declared: u32) -> Result<Vec<u8>> {
    let header = header(orders)?;
    let mut sealer = FrameSealer::new(header.context, orders.data_key.clone(), 3)?;
    let mut assembler = PackAssembler::new(header, orders.table_key.clone());
    let mut pack = Vec::new();
    let shape = sealer.seal(ChunkKind::Data, plain, &mut pack)?;
    assembler.add_frame(
        FrameShape {
            plain_bytes: declared,
            ..shape
        },
        vec![TableChunk {
            id: data_id(orders, plain),
            bytes: declared,
        }],
    );
    pack.extend(assembler.finish()?);
    Ok(pack)
}

/// A pack with a frame that says it holds `declared` bytes, correctly sealed, and decompresses to `actual` zeros.
pub fn bomb(orders: &Start, declared: u32, actual: u64) -> Result<Vec<u8>> {
    let header = header(orders)?;
    let zeros = std::io::Read::take(std::io::repeat(0), actual);
    let compressed = zstd::stream::encode_all(zeros, 19).context("making the bomb")?;
    let mut associated = b"capstan 2026-11 frame".to_vec();
    header.context.put(&mut associated);
    associated.put_u8(ChunkKind::Data.tag());
    associated.put_u8(Compression::Zstd.tag());
    associated.put_u32(declared);
    let mut pack = Vec::new();
    aead::seal(
        orders.data_key.expose(),
        &associated,
        &compressed,
        &mut pack,
    )?;
    let shape = FrameShape {
        kind: ChunkKind::Data,
        compression: Compression::Zstd,
        plain_bytes: declared,
        sealed_bytes: u32::try_from(pack.len())?,
    };
    let id = data_id(orders, &vec![0; usize::try_from(declared)?]);
    let mut assembler = PackAssembler::new(header, orders.table_key.clone());
    assembler.add_frame(
        shape,
        vec![TableChunk {
            id,
            bytes: declared,
        }],
    );
    pack.extend(assembler.finish()?);
    Ok(pack)
}

fn header(orders: &Start) -> Result<RunHeader> {
    RunHeader::decode(&orders.run_header).context("the run header of the orders")
}

#[cfg(test)]
#[path = "packs_tests.rs"]
mod tests;
