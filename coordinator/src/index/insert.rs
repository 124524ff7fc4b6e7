//! Takes a verified pack in, and notes which log record's index object carries it. One transaction each.

use formats::chunk::ChunkKind;
use formats::ids::PackId;
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
        let (known, inserted) = self.database.write(|transaction| {
            let known = look_up(transaction, facts)?;
            let inserted = match known {
                Known::New => Some(insert(transaction, facts, table, verified_at)?),
                _ => None,
            };
            Ok((known, inserted))
        })?;
        if let Some(inserted) = inserted {
            self.note_inserted(&inserted, facts.pack, table);
        }
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
        let (has_gap, heeded) = (self.has_gap, self.heeded);
        self.database.write(|transaction| {
            let sequence = signed(sequence)?;
            let mut mark = transaction.prepare_cached(
                "UPDATE packs SET in_record = ?1 WHERE pack_id = ?2 AND in_record IS NULL",
            )?;
            for pack in packs {
                mark.execute(params![sequence, pack.as_bytes()])?;
            }
            if !has_gap {
                // One that was emptied meanwhile lacks what the records before name.
                transaction.execute(
                    "UPDATE facts SET covered = max(covered, ?1) WHERE heeded = ?2",
                    params![sequence, signed(heeded)?],
                )?;
            }
            Ok(())
        })?;
        if self.recent.get_mut().is_long_at_rest() {
            self.try_move_recent();
        }
        Ok(())
    }

    /// Packs of a snapshot after [`Index::covered`] are not taken in, so that stays where it is: the next one who opens the
    /// file tries again.
    pub fn leave_gap(&mut self) {
        self.has_gap = true;
    }

    /// They are taken in.
    pub fn close_gap(&mut self) {
        self.has_gap = false;
    }

    /// Answers for a pack from now on.
    pub(super) fn note_inserted(&mut self, inserted: &Inserted, pack: PackId, table: &Table) {
        let recent = self.recent.get_mut();
        recent.add(inserted, pack, table);
        if recent.is_full() {
            self.try_move_recent();
        }
    }

    /// What is not moved now is answered from memory, and moved another time: what was just done is done.
    fn try_move_recent(&mut self) {
        if let Err(error) = self.move_recent() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the index was not put in order");
        }
    }

    /// Moves the chunks of the packs that were taken in last into the big table.
    pub(super) fn move_recent(&mut self) -> Result<(), IndexError> {
        let recent = self.recent.get_mut();
        self.database
            .write(|transaction| recent.move_into_table(transaction))?;
        recent.clear();
        Ok(())
    }
}

pub(super) fn look_up(connection: &Connection, facts: &PackFacts) -> rusqlite::Result<Known> {
    let quarantined = connection
        .prepare_cached("SELECT reason FROM quarantined WHERE pack_id = ?1 AND lost < 2")?
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

/// Where a pack was put: its row, and that of its first frame.
pub(super) struct Inserted {
    pub(super) pack: i64,
    pub(super) first_frame: i64,
}

pub(super) fn insert(
    connection: &Connection,
    facts: &PackFacts,
    table: &Table,
    verified_at: Timestamp,
) -> rusqlite::Result<Inserted> {
    let next = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    connection
        .prepare_cached("DELETE FROM quarantined WHERE pack_id = ?1 AND lost = 2")?
        .execute([facts.pack.as_bytes()])?;
    let pack = next("SELECT coalesce(max(id), 0) + 1 FROM packs")?;
    let first_frame = next("SELECT coalesce(max(id), 0) + 1 FROM frames")?;
    insert_frames(connection, pack, first_frame, table)?;

    connection
        .prepare_cached("INSERT INTO tables (pack, body) VALUES (?1, ?2)")?
        .execute(params![pack, table.encode(0)])?;
    connection
        .prepare_cached(
            "INSERT INTO packs (id, pack_id, bytes, purpose, run, verified_at, first_frame, frames,
             in_chunks, chunks, duplicates) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0)",
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
        ])?;
    Ok(Inserted { pack, first_frame })
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
