//! A pack's table: which frames it has and which chunks are in them. Sealed and padded, so that storage sees
//! neither boundaries nor counts.

use crate::chunk::ChunkKind;
use crate::codec::{DecodeError, Put, Reader};
use crate::ids::ChunkId;
use crate::limits::{
    CHUNK_BYTES_MAX, FRAME_CHUNKS_MAX, FRAME_PLAIN_MAX, FRAME_SEALED_MAX, PACK_CHUNKS_MAX,
    PACK_FRAMES_MAX, PACK_RUN_HEADERS_MAX,
};
use crate::seal::aead::OVERHEAD;
use crate::seal::frame::{Compression, FrameShape};

/// A chunk in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableChunk {
    /// Its name.
    pub id: ChunkId,
    /// Its plain bytes; chunks fill their frame without gaps.
    pub bytes: u32,
}

/// A frame in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFrame {
    /// Which of the pack's run headers has its key.
    pub run_header: u16,
    /// What it is sealed as.
    pub shape: FrameShape,
    /// Its chunks, in order.
    pub chunks: Vec<TableChunk>,
}

/// A pack's frames, in order; they fill the pack without gaps from its first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// The frames.
    pub frames: Vec<TableFrame>,
}

impl Table {
    /// How many bytes the frames take.
    pub fn frames_bytes(&self) -> u64 {
        self.frames
            .iter()
            .map(|frame| u64::from(frame.shape.sealed_bytes))
            .sum()
    }

    /// Its plaintext, padded with zeros to `padded` bytes where it is shorter.
    pub fn encode(&self, padded: usize) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_varint(self.frames.len() as u64);
        for frame in &self.frames {
            frame.put(&mut body);
        }
        let mut out = Vec::with_capacity(body.len() + 8);
        out.put_prefixed(&body);
        out.resize(out.len().max(padded), 0);
        out
    }

    /// Reads it; every sum is checked.
    pub fn decode(plain: &[u8], run_headers: usize) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(plain);
        let body = outer.prefixed("table", plain.len() as u64)?;
        if outer.rest().iter().any(|byte| *byte != 0) {
            return Err(DecodeError::NotCanonical {
                what: "table padding",
            });
        }
        let mut reader = Reader::new(body);
        let count = reader.count("frames", PACK_FRAMES_MAX, 8)?;
        let mut frames = Vec::with_capacity(count);
        let mut chunks_left = PACK_CHUNKS_MAX;
        for _ in 0..count {
            let frame = TableFrame::read(&mut reader, run_headers, chunks_left)?;
            chunks_left -= frame.chunks.len() as u64;
            frames.push(frame);
        }
        reader.finish("table")?;
        Ok(Self { frames })
    }
}

impl TableFrame {
    /// Appends it, as tables and index pieces have it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.run_header.into());
        out.put_u8(self.shape.kind.tag());
        out.put_u8(self.shape.compression.tag());
        out.put_varint(self.shape.plain_bytes.into());
        out.put_varint(self.shape.sealed_bytes.into());
        out.put_varint(self.chunks.len() as u64);
        for chunk in &self.chunks {
            out.put(chunk.id.as_bytes());
            out.put_varint(chunk.bytes.into());
        }
    }

    /// Reads it; sums and limits are checked.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        run_headers: usize,
        chunks_left: u64,
    ) -> Result<Self, DecodeError> {
        let run_header = reader.varint("run header")?;
        let run_header = u16::try_from(run_header)
            .ok()
            .filter(|index| usize::from(*index) < run_headers)
            .ok_or(DecodeError::AboveLimit {
                what: "run header",
                found: run_header,
                limit: (run_headers as u64).min(PACK_RUN_HEADERS_MAX),
            })?;
        let shape = FrameShape {
            kind: ChunkKind::from_tag(reader.u8("chunk kind")?)?,
            compression: Compression::from_tag(reader.u8("compression")?)?,
            plain_bytes: within(reader, "frame", FRAME_PLAIN_MAX)?,
            sealed_bytes: within(reader, "sealed frame", FRAME_SEALED_MAX)?,
        };
        check_sealed_length(&shape)?;
        let count = reader.count("chunks", chunks_left.min(FRAME_CHUNKS_MAX), 33)?;
        let mut chunks = Vec::with_capacity(count);
        let mut left = shape.plain_bytes;
        for _ in 0..count {
            let id = ChunkId::read(reader)?;
            let bytes = within(reader, "chunk", chunk_bytes_max(shape.kind))?;
            left = left.checked_sub(bytes).ok_or(FRAME_SUM)?;
            chunks.push(TableChunk { id, bytes });
        }
        if left != 0 {
            return Err(FRAME_SUM);
        }
        Ok(Self {
            run_header,
            shape,
            chunks,
        })
    }
}

const FRAME_SUM: DecodeError = DecodeError::Invalid {
    what: "frame",
    rule: "its chunks must add up to its length",
};

/// The most bytes of a chunk of a kind: file pieces are cut smaller than meta pieces may be.
fn chunk_bytes_max(kind: ChunkKind) -> u32 {
    match kind {
        ChunkKind::Data => CHUNK_BYTES_MAX,
        ChunkKind::Page | ChunkKind::PageIndex | ChunkKind::Content | ChunkKind::Index => {
            FRAME_PLAIN_MAX
        }
    }
}

fn check_sealed_length(shape: &FrameShape) -> Result<(), DecodeError> {
    let stored = u64::from(shape.sealed_bytes).checked_sub(OVERHEAD as u64);
    let plain = u64::from(shape.plain_bytes);
    let possible = match (shape.compression, stored) {
        (Compression::None, Some(stored)) => stored == plain,
        (Compression::Zstd, Some(stored)) => stored < plain,
        (_, None) => false,
    };
    if possible {
        Ok(())
    } else {
        Err(DecodeError::Invalid {
            what: "sealed frame",
            rule: "its length must fit its plain length and compression",
        })
    }
}

fn within(reader: &mut Reader<'_>, what: &'static str, limit: u32) -> Result<u32, DecodeError> {
    match reader.varint32(what)? {
        0 => Err(DecodeError::Invalid {
            what,
            rule: "must not be empty",
        }),
        found if found <= limit => Ok(found),
        found => Err(DecodeError::AboveLimit {
            what,
            found: found.into(),
            limit: limit.into(),
        }),
    }
}
