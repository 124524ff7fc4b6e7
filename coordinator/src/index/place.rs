//! Where a chunk is, from the index's rows.

use formats::chunk::ChunkKind;
use formats::ids::PackId;
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::Purpose;
use rusqlite::Row;

use crate::database::{bad_value, unsigned};
use crate::index::recent::Spot;

/// A frame's place; the columns that [`ChunkPlace::from_row`] takes.
pub(super) const LOCATE_FRAME: &str = "
SELECT packs.pack_id, packs.bytes, packs.purpose, frames.place, frames.offset, frames.sealed_bytes,
       frames.plain_bytes, frames.compression, frames.kind, frames.run_header
FROM frames JOIN packs ON packs.id = frames.pack
WHERE frames.id = ?1";

/// A chunk's place in its frame; the columns that [`Spot::from_row`] takes.
pub(super) const LOCATE_CHUNK: &str = "SELECT frame, offset, bytes FROM chunks WHERE id = ?1";

/// Where a verified chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The pack.
    pub pack: PackId,
    /// All of the pack's bytes.
    pub pack_bytes: u64,
    /// Data or meta: the folder of the pack, and the key of its frames.
    pub purpose: Purpose,
    /// The frame's place in the pack.
    pub frame_place: u32,
    /// Where the frame begins in the pack.
    pub frame_offset: u64,
    /// What the frame is sealed as.
    pub shape: FrameShape,
    /// Which of the pack's run headers has the frame's key.
    pub run_header: u16,
    /// Where the chunk begins in the frame's plaintext.
    pub offset_in_frame: u32,
    /// Its plain bytes.
    pub bytes: u32,
}

impl ChunkPlace {
    pub(super) fn from_row(row: &Row<'_>, spot: Spot) -> rusqlite::Result<Self> {
        Ok(Self {
            pack: PackId(row.get(0)?),
            pack_bytes: unsigned(row, 1)?,
            purpose: purpose_at(row, 2)?,
            frame_place: row.get(3)?,
            frame_offset: unsigned(row, 4)?,
            shape: FrameShape {
                sealed_bytes: row.get(5)?,
                plain_bytes: row.get(6)?,
                compression: Compression::from_tag(row.get(7)?)
                    .map_err(|source| bad_value(7, source))?,
                kind: ChunkKind::from_tag(row.get(8)?).map_err(|source| bad_value(8, source))?,
            },
            run_header: row.get(9)?,
            offset_in_frame: spot.offset,
            bytes: spot.bytes,
        })
    }
}

impl Spot {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            frame: row.get(0)?,
            offset: row.get(1)?,
            bytes: row.get(2)?,
        })
    }
}

pub(super) fn purpose_number(purpose: Purpose) -> i64 {
    match purpose {
        Purpose::Data => 1,
        Purpose::Meta => 2,
    }
}

pub(super) fn purpose_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Purpose> {
    match row.get(column)? {
        1 => Ok(Purpose::Data),
        2 => Ok(Purpose::Meta),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(column, other)),
    }
}
