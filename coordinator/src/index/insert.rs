//! Takes a verified pack in, and notes which log record's index object carries it. One transaction each.

use formats::chunk::ChunkKind;
use formats::ids::{ChunkId, PackId};
use formats::pack::table::Table;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::clock::to_nanos;
use crate::database::{signed, unsigned};
use crate::index::place::{purpose_at, purpose_number};
use crate::index::{Index, IndexError, PackFacts};

/// What the index says when a pack is offered.
pub(super) enum Known {
    New,
    Same,
    Other,
    Quarantined(String),
}

impl Index {
    /// Takes in a pack that is durable and verified. A chunk that is there already keeps its first place;
    /// a pack that is there already stays as it is.
    pub fn insert_pack(
        &mut self,
        facts: &PackFacts,
        table: &Table,
        verified_at: Timestamp,
    ) -> Result<(), IndexError> {
        let known = self.database.write(|transaction| {
            let known = look_up(transaction, facts)?;
            if matches!(known, Known::New) {
                insert(transaction, facts, table, verified_at)?;
            }
            Ok(known)
        })?;
        match known {
            Known::New | Known::Same => Ok(()),
            Known::Other => Err(IndexError::OtherFacts { pack: facts.pack }),
            Known::Quarantined(reason) => Err(IndexError::Quarantined {
                pack: facts.pack,
                reason,
            }),
        }
    }

    /// Notes that the log record at `sequence` is committed and its index object carries `packs`.
    pub fn mark_committed(&mut self, sequence: u64, packs: &[PackId]) -> Result<(), IndexError> {
        Ok(self.database.write(|transaction| {
            let sequence = signed(sequence)?;
            let mut mark = transaction.prepare_cached(
                "UPDATE packs SET in_record = ?1 WHERE pack_id = ?2 AND in_record IS NULL",
            )?;
            for pack in packs {
                mark.execute(params![sequence, pack.as_bytes()])?;
            }
            transaction.execute("UPDATE facts SET covered = max(covered, ?1)", [sequence])?;
            Ok(())
        })?)
    }
}

pub(super) fn look_up(connection: &Connection, facts: &PackFacts) -> rusqlite::Result<Known> {
    let quarantined = connection
        .prepare_cached("SELECT reason FROM quarantined WHERE pack_id = ?1")?
        .query_row([facts.pack.as_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(reason) = quarantined {
        return Ok(Known::Quarantined(reason));
    }
    let found = connection
        .prepare_cached("SELECT bytes, purpose FROM packs WHERE pack_id = ?1")?
        .query_row([facts.pack.as_bytes()], |row| {
            Ok((unsigned(row, 0)?, purpose_at(row, 1)?))
        })
        .optional()?;
    Ok(match found {
        None => Known::New,
        Some(found) if found == (facts.bytes, facts.purpose) => Known::Same,
        Some(_) => Known::Other,
    })
}

/// A chunk's row.
struct ChunkRow {
    id: ChunkId,
    frame: i64,
    offset: u32,
    bytes: u32,
}

pub(super) fn insert(
    connection: &Connection,
    facts: &PackFacts,
    table: &Table,
    verified_at: Timestamp,
) -> rusqlite::Result<()> {
    let next = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let pack = next("SELECT coalesce(max(id), 0) + 1 FROM packs")?;
    let first_frame = next("SELECT coalesce(max(id), 0) + 1 FROM frames")?;
    insert_frames(connection, pack, first_frame, table)?;

    let rows = sorted_rows(table, first_frame);
    let mut new = 0u64;
    let mut statement = connection.prepare_cached(
        "INSERT INTO chunks (id, frame, offset, bytes) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?;
    for row in &rows {
        let values = params![row.id.as_bytes(), row.frame, row.offset, row.bytes];
        new += statement.execute(values)? as u64;
    }

    connection
        .prepare_cached("INSERT INTO tables (pack, body) VALUES (?1, ?2)")?
        .execute(params![pack, table.encode(0)])?;
    connection
        .prepare_cached(
            "INSERT INTO packs (id, pack_id, bytes, purpose, run, verified_at, first_frame, frames, chunks,
             duplicates) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            pack,
            facts.pack.as_bytes(),
            signed(facts.bytes)?,
            purpose_number(facts.purpose),
            facts.run.as_bytes(),
            to_nanos(verified_at),
            first_frame,
            signed(table.frames.len() as u64)?,
            signed(new)?,
            signed(rows.len() as u64 - new)?,
        ])?;
    Ok(())
}

fn insert_frames(
    connection: &Connection,
    pack: i64,
    first_frame: i64,
    table: &Table,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO frames (id, pack, place, offset, sealed_bytes, plain_bytes, compression, kind, run_header)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut offset = 0u64;
    for (place, frame) in (0i64..).zip(&table.frames) {
        statement.execute(params![
            first_frame + place,
            pack,
            place,
            signed(offset)?,
            frame.shape.sealed_bytes,
            frame.shape.plain_bytes,
            frame.shape.compression.tag(),
            ChunkKind::tag(frame.shape.kind),
            frame.run_header,
        ])?;
        offset += u64::from(frame.shape.sealed_bytes);
    }
    Ok(())
}

/// Sorted by id: inserts that go through the table in its own order touch each page once.
fn sorted_rows(table: &Table, first_frame: i64) -> Vec<ChunkRow> {
    let mut rows = Vec::new();
    for (place, frame) in (0i64..).zip(&table.frames) {
        let mut offset = 0u32;
        for chunk in &frame.chunks {
            rows.push(ChunkRow {
                id: chunk.id,
                frame: first_frame + place,
                offset,
                bytes: chunk.bytes,
            });
            // Cannot pass the frame's plain bytes, which its chunks add up to.
            offset = offset.saturating_add(chunk.bytes);
        }
    }
    // Stable: of two equal ids in one pack the first keeps its place.
    rows.sort_by_key(|row| row.id);
    rows
}
