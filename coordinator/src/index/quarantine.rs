//! Puts a pack aside that is bad, or that no destination has any more: from then on none of its chunks is answered. A bad
//! one is never taken in again; a lost one is, once a destination has it. Never touches storage.

use std::collections::HashSet;

use formats::ids::{ChunkId, PackId, RunId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::clock::{from_nanos, to_nanos};
use crate::database::{signed, unsigned};
use crate::index::packs::table_at;
use crate::index::thinned::forget_places;
use crate::index::{Index, IndexError};

/// A pack in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedPack {
    /// The pack.
    pub pack: PackId,
    /// The run that wrote it.
    pub run: RunId,
    /// When it was found.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

impl Index {
    /// Puts a pack in quarantine, whether it was in the index or not. A chunk of it that another verified
    /// pack holds too is answered from there.
    pub fn quarantine(
        &mut self,
        pack: PackId,
        run: RunId,
        reason: &str,
        at: Timestamp,
    ) -> Result<(), IndexError> {
        if self.holds_pack(pack)? {
            // Its chunks are looked for in the big table below.
            self.move_recent()?;
        }
        Ok(self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO quarantined (pack_id, run, at, reason) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET lost = 0",
                params![pack.as_bytes(), run.as_bytes(), to_nanos(at), reason],
            )?;
            match row_of(transaction, pack)? {
                Some(row) => put_aside(transaction, row),
                None => Ok(()),
            }
        })?)
    }

    /// Puts a pack aside that no destination has, so that nothing is built upon it: until [`Self::find_again`]. Gives the row
    /// that it had; one that is not in the index stays as it is.
    pub fn give_up(&mut self, pack: PackId, at: Timestamp) -> Result<Option<i64>, IndexError> {
        self.move_recent()?;
        Ok(self.database.write(|transaction| {
            let Some(row) = row_of(transaction, pack)? else {
                return Ok(None);
            };
            transaction.execute(
                "INSERT INTO quarantined (pack_id, run, at, reason, lost)
                 SELECT pack_id, run, ?2, 'no destination has it', 1 FROM packs WHERE id = ?1
                 ON CONFLICT DO NOTHING",
                params![row, to_nanos(at)],
            )?;
            put_aside(transaction, row)?;
            Ok(Some(row))
        })?)
    }

    /// The packs that no destination had when it was last looked.
    pub fn lost(&self) -> Result<Vec<PackId>, IndexError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT pack_id FROM quarantined WHERE lost = 1 ORDER BY pack_id";
            let mut statement = connection.prepare_cached(query)?;
            let packs = statement.query_map([], |row| row.get(0).map(PackId))?;
            packs.collect()
        })?)
    }

    /// The packs that are not answered for, because they were lost, those included that were found again.
    pub fn given_up(&self) -> Result<Vec<PackId>, IndexError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT pack_id FROM quarantined WHERE lost > 0";
            let mut statement = connection.prepare_cached(query)?;
            let packs = statement.query_map([], |row| row.get(0).map(PackId))?;
            packs.collect()
        })?)
    }

    /// A lost pack is there again. The next one who brings the index up to the log takes it in, from the records' index
    /// objects, which are all read again for it.
    pub fn find_again(&mut self, pack: PackId) -> Result<(), IndexError> {
        Ok(self.database.write(|transaction| {
            transaction.execute(
                "UPDATE quarantined SET lost = 2 WHERE pack_id = ?1 AND lost = 1",
                [pack.as_bytes()],
            )?;
            Ok(())
        })?)
    }

    /// Whether packs were found again that are still to be taken in.
    pub fn has_found_again(&self) -> Result<bool, IndexError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM quarantined WHERE lost = 2")?
                .exists([])
        })?)
    }

    /// How many packs are not answered for, because they were lost.
    pub fn lost_count(&self) -> Result<u64, IndexError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT count(*) FROM quarantined WHERE lost > 0")?
                .query_row([], |row| unsigned(row, 0))
        })?)
    }

    /// Whether a chunk that some snapshot names may be unknown here, because its pack was lost, or could not be taken in. A
    /// pack that was bad from the beginning never had a snapshot's.
    pub fn may_lack(&self) -> Result<bool, IndexError> {
        Ok(self.has_gap || self.lost_count()? > 0)
    }

    /// What the log record at `sequence` carries is to be carried by the next one again: its index object was lost.
    pub fn record_again(&mut self, sequence: u64) -> Result<(), IndexError> {
        Ok(self.database.write(|transaction| {
            transaction.execute(
                "UPDATE packs SET in_record = NULL WHERE in_record = ?1",
                [signed(sequence)?],
            )?;
            Ok(())
        })?)
    }

    /// Whether the pack is known as verified.
    pub fn holds_pack(&self, pack: PackId) -> Result<bool, IndexError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM packs WHERE pack_id = ?1")?
                .exists([pack.as_bytes()])
        })?)
    }

    /// The packs in quarantine.
    pub fn quarantined(&self) -> Result<Vec<QuarantinedPack>, IndexError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT pack_id, run, at, reason FROM quarantined ORDER BY at, pack_id";
            let mut statement = connection.prepare_cached(query)?;
            let packs = statement.query_map([], |row| {
                Ok(QuarantinedPack {
                    pack: PackId(row.get(0)?),
                    run: RunId(row.get(1)?),
                    at: from_nanos(row.get(2)?),
                    reason: row.get(3)?,
                })
            })?;
            packs.collect()
        })?)
    }
}

pub(super) fn row_of(connection: &Connection, pack: PackId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM packs WHERE pack_id = ?1")?
        .query_row([pack.as_bytes()], |row| row.get(0))
        .optional()
}

/// Removes a pack; its chunks are answered from other packs that hold them.
fn put_aside(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    let lost = remove(connection, row)?;
    take_other_places(connection, lost)
}

/// Removes a pack's rows; gives the chunks that have no place any more.
pub(super) fn remove(connection: &Connection, pack: i64) -> rusqlite::Result<HashSet<ChunkId>> {
    let (first, count, is_thinned): (i64, i64, bool) = connection.query_row(
        "SELECT first_frame, frames, thinned FROM packs WHERE id = ?1",
        [pack],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if is_thinned {
        forget_places(connection, pack)?;
    }
    let table = connection.query_row("SELECT body FROM tables WHERE pack = ?1", [pack], |row| {
        table_at(row, 0)
    })?;
    let mut lost = HashSet::new();
    let mut delete =
        connection.prepare("DELETE FROM chunks WHERE id = ?1 AND frame >= ?2 AND frame < ?3")?;
    for chunk in table.frames.iter().flat_map(|frame| &frame.chunks) {
        if delete.execute(params![chunk.id.as_bytes(), first, first + count])? > 0 {
            lost.insert(chunk.id);
        }
    }
    connection.execute("DELETE FROM frames WHERE pack = ?1", [pack])?;
    connection.execute("DELETE FROM tables WHERE pack = ?1", [pack])?;
    connection.execute("DELETE FROM packs WHERE id = ?1", [pack])?;
    Ok(lost)
}

/// Looks for the chunks in the packs that hold some chunk a second time, oldest first.
pub(super) fn take_other_places(
    connection: &Connection,
    mut lost: HashSet<ChunkId>,
) -> rusqlite::Result<()> {
    let mut packs = connection.prepare(
        "SELECT id, first_frame, body FROM packs JOIN tables ON pack = id WHERE duplicates > 0 ORDER BY id",
    )?;
    let mut insert = connection
        .prepare("INSERT INTO chunks (id, frame, offset, bytes) VALUES (?1, ?2, ?3, ?4)")?;
    let mut count = connection.prepare(
        "UPDATE packs SET chunks = chunks + ?2, duplicates = duplicates - ?2 WHERE id = ?1",
    )?;
    let mut found: Vec<(i64, i64)> = Vec::new();
    let mut rows = packs.query([])?;
    while !lost.is_empty()
        && let Some(row) = rows.next()?
    {
        let (pack, first_frame): (i64, i64) = (row.get(0)?, row.get(1)?);
        let table = table_at(row, 2)?;
        let mut moved = 0i64;
        for (place, frame) in (0i64..).zip(&table.frames) {
            let mut offset = 0u32;
            for chunk in &frame.chunks {
                if lost.remove(&chunk.id) {
                    let frame = first_frame + place;
                    insert.execute(params![chunk.id.as_bytes(), frame, offset, chunk.bytes])?;
                    moved += 1;
                }
                offset = offset.saturating_add(chunk.bytes);
            }
        }
        found.push((pack, moved));
    }
    // After the scan: changing a row that a running query still reads has no defined outcome.
    for (pack, moved) in found {
        count.execute(params![pack, moved])?;
    }
    Ok(())
}
