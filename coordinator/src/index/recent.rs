//! The chunks of the packs that were taken in last. A pack's table is durable at once, as one row; its chunks go
//! into the big table together with those of many packs, in the order of their ids, because a table of random
//! keys costs a page for each row that is put in by itself. Until then they are answered from memory.
//!
//! What is in memory follows the file: another process may take packs in, move them into the big table, or put
//! them in quarantine at any time.

use std::collections::HashMap;

use formats::ids::{ChunkId, PackId};
use formats::pack::table::Table;
use rusqlite::{Connection, params};

use crate::database::signed;
use crate::index::insert::Inserted;
use crate::index::packs::table_at;

/// Chunks in memory after which they are moved, about 100 bytes each.
pub(super) const CHUNKS_MAX: usize = 128 << 10;
/// Packs after which they are moved.
pub(super) const PACKS_MAX: usize = 256;
/// At a run's end more chunks than this are moved: the next one begins by reading what is left.
pub(super) const CHUNKS_AT_REST_MAX: usize = 8 << 10;

/// Where a chunk is, as the big table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// The frame's row.
    pub(super) frame: i64,
    /// Where the chunk begins in it.
    pub(super) offset: u32,
    /// Its plain bytes.
    pub(super) bytes: u32,
}

/// Chunks that are not in the big table yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    chunks: HashMap<ChunkId, Spot>,
    packs: Vec<RecentPack>,
    /// SQLite's count of other connections' changes, when the file was last looked at.
    seen: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct RecentPack {
    row: i64,
    /// Rows are used again once their pack is in quarantine.
    pack: PackId,
    first_frame: i64,
    chunks: u64,
}

impl Recent {
    /// Where a chunk is, if it is in one of these packs.
    pub(super) fn spot(&self, chunk: &ChunkId) -> Option<Spot> {
        self.chunks.get(chunk).copied()
    }

    /// The chunks.
    pub(super) fn ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.chunks.keys()
    }

    /// Whether it is time to move them.
    pub(super) fn is_full(&self) -> bool {
        self.chunks.len() >= CHUNKS_MAX || self.packs.len() >= PACKS_MAX
    }

    /// Whether more are left than the next run should begin with.
    pub(super) fn is_long_at_rest(&self) -> bool {
        self.chunks.len() > CHUNKS_AT_REST_MAX
    }

    /// Adds a pack that has just been taken in.
    pub(super) fn add(&mut self, place: &Inserted, pack: PackId, table: &Table) {
        let Inserted {
            pack: row,
            first_frame,
        } = *place;
        let mut count = 0;
        for (place, frame) in (0i64..).zip(&table.frames) {
            let mut offset = 0u32;
            for chunk in &frame.chunks {
                // Of two places the first counts.
                self.chunks.entry(chunk.id).or_insert(Spot {
                    frame: first_frame + place,
                    offset,
                    bytes: chunk.bytes,
                });
                count += 1;
                // Cannot pass the frame's plain bytes, which its chunks add up to.
                offset = offset.saturating_add(chunk.bytes);
            }
        }
        self.packs.push(RecentPack {
            row,
            pack,
            first_frame,
            chunks: count,
        });
    }

    /// Takes note of what other connections did. To be called inside the transaction that asks.
    pub(super) fn follow(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let version = connection
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))?;
        if self.seen != Some(version) {
            self.reload(connection)?;
            self.seen = Some(version);
        }
        Ok(())
    }

    fn reload(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let rows = connection
            .prepare_cached("SELECT id, pack_id FROM packs WHERE in_chunks = 0 ORDER BY id")?
            .query_map([], |row| Ok((row.get(0)?, PackId(row.get(1)?))))?
            .collect::<rusqlite::Result<Vec<(i64, PackId)>>>()?;
        let known = self.packs.iter().map(|pack| (pack.row, pack.pack));
        if rows.iter().copied().eq(known) {
            return Ok(());
        }
        self.clear();
        let mut statement = connection.prepare_cached(
            "SELECT first_frame, body FROM packs JOIN tables ON pack = id WHERE id = ?1",
        )?;
        for (row, pack) in rows {
            let (first_frame, table) =
                statement.query_row([row], |found| Ok((found.get(0)?, table_at(found, 1)?)))?;
            let place = Inserted {
                pack: row,
                first_frame,
            };
            self.add(&place, pack, &table);
        }
        Ok(())
    }

    /// Moves everything into the big table: in the order of its keys, so that each page is touched once.
    /// [`Self::clear`] follows, once this is committed.
    pub(super) fn move_into_table(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.reload(connection)?;
        let mut rows: Vec<(&ChunkId, &Spot)> = self.chunks.iter().collect();
        rows.sort_unstable_by_key(|(id, _)| **id);
        let mut new = vec![0u64; self.packs.len()];
        let mut insert = connection.prepare_cached(
            "INSERT INTO chunks (id, frame, offset, bytes) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?;
        for (id, spot) in rows {
            let values = params![id.as_bytes(), spot.frame, spot.offset, spot.bytes];
            let inserted = insert.execute(values)? as u64;
            let after = self
                .packs
                .partition_point(|pack| pack.first_frame <= spot.frame);
            if let Some(new) = after.checked_sub(1).and_then(|pack| new.get_mut(pack)) {
                *new += inserted;
            }
        }
        let mut update = connection.prepare_cached(
            "UPDATE packs SET in_chunks = 1, chunks = ?2, duplicates = ?3 WHERE id = ?1",
        )?;
        for (pack, new) in self.packs.iter().zip(new) {
            update.execute(params![
                pack.row,
                signed(new)?,
                signed(pack.chunks.saturating_sub(new))?
            ])?;
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.packs.clear();
    }
}
