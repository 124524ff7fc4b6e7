//! Chunks on their way: which ones the agent has, and which packs of them are stored.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{ChunkId, PackId};
use crate::limits::{CHUNK_BYTES_MAX, SEEN_CHUNKS_MAX};

/// Chunks that the agent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The query's number.
    pub query: u64,
    /// The chunks and their lengths.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl Seen {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.query);
        out.put_varint(self.chunks.len() as u64);
        for (id, bytes) in &self.chunks {
            out.put(id.as_bytes());
            out.put_varint((*bytes).into());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let query = reader.varint("query")?;
        let count = reader.count("chunks", SEEN_CHUNKS_MAX, 33)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            let id = ChunkId::read(reader)?;
            match reader.varint32("chunk")? {
                bytes if (1..=CHUNK_BYTES_MAX).contains(&bytes) => chunks.push((id, bytes)),
                bytes => {
                    return Err(DecodeError::AboveLimit {
                        what: "chunk",
                        found: bytes.into(),
                        limit: CHUNK_BYTES_MAX.into(),
                    });
                }
            }
        }
        Ok(Self { query, chunks })
    }
}

/// A pack that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackStored {
    /// Its name, as the append-server answered.
    pub pack: PackId,
    /// Its bytes.
    pub bytes: u64,
}

impl PackStored {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put(self.pack.as_bytes());
        out.put_varint(self.bytes);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            pack: PackId::read(reader)?,
            bytes: reader.varint("pack bytes")?,
        })
    }
}
