//! Packs that some destination does not keep any more. Nothing is built upon them: none of their chunks is answered. Whoever reads
//! finds their chunks all the same, after those of other packs. They are in the index like others, but for their chunks, which are
//! in a table of their own.

use std::collections::HashSet;

use formats::ids::{ChunkId, PackId};
use formats::pack::table::Table;
use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, params};

use crate::database::signed;
use crate::index::insert::{Known, insert, look_up};
use crate::index::packs::table_at;
use crate::index::quarantine::{row_of, take_other_places};
use crate::index::recent::Spot;
use crate::index::{Index, IndexError, PackFacts};

/// The places of a chunk in such packs.
const LOCATE_THINNED: &str = "
SELECT thinned_chunks.frame, thinned_chunks.offset, thinned_chunks.bytes, packs.pack_id
FROM thinned_chunks JOIN frames ON frames.id = thinned_chunks.frame JOIN packs ON packs.id = frames.pack
WHERE thinned_chunks.id = ?1 ORDER BY thinned_chunks.frame DESC";

impl Index {
    /// Takes in a pack that is durable, and that some destination does not keep.
    pub fn insert_thinned(
        &mut self,
        facts: &PackFacts,
        table: &Table,
        verified_at: Timestamp,
    ) -> Result<(), IndexError> {
        Ok(self.database.write(|transaction| {
            if let Known::New = look_up(transaction, facts)? {
                let inserted = insert(transaction, facts, table, verified_at)?;
                put_apart(transaction, inserted.pack)?;
            }
            Ok(())
        })?)
    }

    /// Puts packs apart that are condemned at some destination, all of them or none. Does nothing where the log was followed past
    /// the record that says so already.
    pub fn thin(&mut self, packs: &[PackId], sequence: u64) -> Result<(), IndexError> {
        // Their chunks are looked for in the big table below.
        self.move_recent()?;
        Ok(self.database.write(|transaction| {
            let covered: i64 =
                transaction.query_row("SELECT covered FROM facts", [], |row| row.get(0))?;
            if covered >= signed(sequence)? {
                return Ok(());
            }
            thin_all(transaction, packs.iter().copied())
        })?)
    }

    /// Puts these packs apart. Others that were are answered again only where the log brought some back: another process may
    /// have followed more of the log meanwhile.
    pub fn follow_thinned(
        &mut self,
        thinned: &HashSet<PackId>,
        takes_back: bool,
    ) -> Result<(), IndexError> {
        self.move_recent()?;
        self.database.write(|transaction| {
            let rows = transaction
                .prepare_cached("SELECT id, pack_id FROM packs WHERE thinned = 1")?
                .query_map([], |row| Ok((row.get(0)?, PackId(row.get(1)?))))?
                .collect::<rusqlite::Result<Vec<(i64, PackId)>>>()?;
            let back = rows
                .iter()
                .filter(|(_, pack)| takes_back && !thinned.contains(pack));
            for (row, _) in back {
                take_back(transaction, *row)?;
            }
            thin_all(transaction, thinned.iter().copied())
        })?;
        // What is back is as if it had been taken in last.
        self.move_recent()
    }

    /// The first of these packs whose chunks are answered.
    pub fn first_answered(&self, packs: &[PackId]) -> Result<Option<PackId>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut answered = connection
                .prepare_cached("SELECT 1 FROM packs WHERE pack_id = ?1 AND thinned = 0")?;
            for pack in packs {
                if answered.exists([pack.as_bytes()])? {
                    return Ok(Some(*pack));
                }
            }
            Ok(None)
        })?)
    }
}

fn thin_all(connection: &Connection, packs: impl Iterator<Item = PackId>) -> rusqlite::Result<()> {
    let mut is_thinned = connection.prepare_cached("SELECT thinned FROM packs WHERE id = ?1")?;
    let mut lost = HashSet::new();
    for pack in packs {
        if let Some(row) = row_of(connection, pack)?
            && !is_thinned.query_row([row], |row| row.get::<_, bool>(0))?
        {
            lost.extend(put_apart(connection, row)?);
        }
    }
    take_other_places(connection, lost)
}

/// Gives the chunks that have no place in the big table any more.
fn put_apart(connection: &Connection, pack: i64) -> rusqlite::Result<HashSet<ChunkId>> {
    let mut lost = HashSet::new();
    let mut delete = connection
        .prepare_cached("DELETE FROM chunks WHERE id = ?1 AND frame >= ?2 AND frame < ?3")?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO thinned_chunks (id, frame, offset, bytes) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )?;
    let frames = frames_of(connection, pack)?;
    for (place, frame) in (frames.first..).zip(&frames.table.frames) {
        let mut offset = 0u32;
        for chunk in &frame.chunks {
            let id = chunk.id.as_bytes();
            if delete.execute(params![id, frames.first, frames.end])? > 0 {
                lost.insert(chunk.id);
            }
            insert.execute(params![id, place, offset, chunk.bytes])?;
            offset = offset.saturating_add(chunk.bytes);
        }
    }
    connection
        .prepare_cached(
            "UPDATE packs SET thinned = 1, in_chunks = 1, chunks = 0, duplicates = 0 WHERE id = ?1",
        )?
        .execute([pack])?;
    Ok(lost)
}

fn take_back(connection: &Connection, pack: i64) -> rusqlite::Result<()> {
    forget_places(connection, pack)?;
    connection
        .prepare_cached("UPDATE packs SET thinned = 0, in_chunks = 0 WHERE id = ?1")?
        .execute([pack])
        .map(drop)
}

/// Takes a pack's chunks out of the table of such packs.
pub(super) fn forget_places(connection: &Connection, pack: i64) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM thinned_chunks WHERE id = ?1 AND frame >= ?2 AND frame < ?3",
    )?;
    let frames = frames_of(connection, pack)?;
    for chunk in frames.table.frames.iter().flat_map(|frame| &frame.chunks) {
        delete.execute(params![chunk.id.as_bytes(), frames.first, frames.end])?;
    }
    Ok(())
}

struct FramesOf {
    first: i64,
    end: i64,
    table: Table,
}

fn frames_of(connection: &Connection, pack: i64) -> rusqlite::Result<FramesOf> {
    connection
        .prepare_cached(
            "SELECT first_frame, first_frame + frames, body FROM packs JOIN tables ON pack = id WHERE id = ?1",
        )?
        .query_row([pack], |row| {
            Ok(FramesOf {
                first: row.get(0)?,
                end: row.get(1)?,
                table: table_at(row, 2)?,
            })
        })
}

/// Looks for the places of chunks in such packs.
pub(super) struct ThinnedPlaces<'c> {
    statement: CachedStatement<'c>,
}

impl<'c> ThinnedPlaces<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            statement: connection.prepare_cached(LOCATE_THINNED)?,
        })
    }

    /// The places of a chunk in such packs but for these.
    pub(super) fn find(
        &mut self,
        chunk: &ChunkId,
        except: &HashSet<PackId>,
    ) -> rusqlite::Result<Vec<Spot>> {
        let rows = self.statement.query_map([chunk.as_bytes()], |row| {
            Ok((Spot::from_row(row)?, PackId(row.get(3)?)))
        })?;
        let mut spots = Vec::new();
        for row in rows {
            let (spot, pack) = row?;
            if !except.contains(&pack) {
                spots.push(spot);
            }
        }
        Ok(spots)
    }
}
