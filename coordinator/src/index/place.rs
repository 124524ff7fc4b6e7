//! Where a chunk is, from the index's rows.

use formats::chunk::ChunkKind;
use formats::ids::PackId;
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::Purpose;
use rusqlite::Row;

use crate::database::{bad_value, unsigned};
use crate::index::recent::Spot;
use crate::snapshot::place::ChunkPlace;

/// A frame's place; the columns that [`chunk_place`] takes.
pub(super) const LOCATE_FRAME: &str = "
SELECT packs.pack_id, packs.bytes, packs.purpose, frames.offset, frames.sealed_bytes,
       frames.plain_bytes, frames.compression, frames.kind, frames.run_header
FROM frames JOIN packs ON packs.id = frames.pack
WHERE frames.id = ?1";

/// A chunk's place in its frame; the columns that [`Spot::from_row`] takes.
pub(super) const LOCATE_CHUNK: &str = "SELECT frame, offset, bytes FROM chunks WHERE id = ?1";

/// A chunk's place from the columns of [`LOCATE_FRAME`].
pub(super) fn chunk_place(row: &Row<'_>, spot: Spot) -> rusqlite::Result<ChunkPlace> {
    Ok(ChunkPlace {
        pack: PackId(row.get(0)?),
        pack_bytes: unsigned(row, 1)?,
        purpose: purpose_at(row, 2)?,
        frame_offset: unsigned(row, 3)?,
        shape: FrameShape {
            sealed_bytes: row.get(4)?,
            plain_bytes: row.get(5)?,
            compression: Compression::from_tag(row.get(6)?)
                .map_err(|source| bad_value(6, source))?,
            kind: ChunkKind::from_tag(row.get(7)?).map_err(|source| bad_value(7, source))?,
        },
        run_header: row.get(8)?,
        offset_in_frame: spot.offset,
        bytes: spot.bytes,
    })
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
