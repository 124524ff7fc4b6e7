//! What a prune asks of the index and does to it: which frames of which packs are needed, and taking condemned packs out, so
//! that nothing is built upon them. A chunk that a condemned pack holds and another one too is answered from there.

use std::collections::HashSet;

use formats::chunk::ChunkKind;
use formats::ids::{ChunkId, PackId};
use formats::seal::run_header::Purpose;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use crate::clock::from_nanos;
use crate::database::{signed, unsigned};
use crate::index::packs::{facts_at, table_at};
use crate::index::quarantine::{remove, row_of, take_other_places};
use crate::index::recent::Spot;
use crate::index::thinned::ThinnedPlaces;
use crate::index::{Index, IndexError, IndexedPack, PackFacts, place, sorted_places};

/// The frames that something needs: a bit for each row. Ten million take a megabyte.
#[derive(Debug, Default)]
pub struct LiveFrames {
    words: Vec<u64>,
}

impl LiveFrames {
    fn set(&mut self, row: i64) {
        let row = usize::try_from(row).unwrap_or(0);
        let word = row / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (row % 64);
    }

    fn has(&self, row: i64) -> bool {
        let row = usize::try_from(row).unwrap_or(0);
        self.words
            .get(row / 64)
            .is_some_and(|word| word & (1 << (row % 64)) != 0)
    }
}

/// A pack of the index as a prune looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFrames {
    /// The pack.
    pub facts: PackFacts,
    /// When it was taken in.
    pub verified_at: Timestamp,
    /// Whether a log record's index object has it.
    pub in_record: bool,
    /// Whether some destination does not keep it.
    pub thinned: bool,
    /// Its row.
    pub row: i64,
    /// Sealed bytes of its frames.
    pub frames_bytes: u64,
    /// Of those, the bytes of frames that something needs.
    pub live_bytes: u64,
    /// Sealed bytes of frames of index pieces, which are needed or not by what they tell of.
    pub index_bytes: u64,
}

impl Index {
    /// Marks the frames that these chunks are in, where these packs are not kept; gives the chunks that no other pack holds.
    /// Of a chunk that only packs hold that some destination does not keep, all places are marked.
    pub fn mark(
        &self,
        chunks: &[ChunkId],
        live: &mut LiveFrames,
        except: &HashSet<PackId>,
    ) -> Result<Vec<ChunkId>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut recent = self.recent.borrow_mut();
            recent.follow(connection)?;
            let mut spots = connection.prepare_cached(place::LOCATE_CHUNK)?;
            let mut thinned = ThinnedPlaces::of(connection)?;
            let mut missing = Vec::new();
            for place in sorted_places(chunks) {
                let id = chunks[place];
                let spot = spots
                    .query_row([id.as_bytes()], Spot::from_row)
                    .optional()?
                    .or_else(|| recent.spot(&id));
                let places = match spot {
                    Some(spot) => vec![spot],
                    None => thinned.find(&id, except)?,
                };
                if places.is_empty() {
                    missing.push(id);
                }
                for spot in places {
                    live.set(spot.frame);
                }
            }
            Ok(missing)
        })?)
    }

    /// Packs after a row, in the order of rows, with what of each is needed.
    pub fn pack_frames(
        &self,
        live: &LiveFrames,
        after: i64,
        limit: usize,
    ) -> Result<Vec<PackFrames>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut packs = connection.prepare_cached(
                "SELECT pack_id, bytes, purpose, run, verified_at, in_record IS NOT NULL, id, thinned FROM packs
                 WHERE id > ?1 ORDER BY id LIMIT ?2",
            )?;
            let mut frames = connection.prepare_cached(
                "SELECT frames.id, sealed_bytes, kind FROM packs JOIN frames
                 ON frames.id >= first_frame AND frames.id < first_frame + packs.frames
                 WHERE packs.id = ?1",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = packs.query_map(params![after, limit], read_pack_frames)?;
            let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            for pack in &mut found {
                let mut rows = frames.query([pack.row])?;
                while let Some(row) = rows.next()? {
                    let bytes = unsigned(row, 1)?;
                    pack.frames_bytes += bytes;
                    if row.get::<_, u8>(2)? == ChunkKind::Index.tag() {
                        pack.index_bytes += bytes;
                    }
                    if live.has(row.get(0)?) {
                        pack.live_bytes += bytes;
                    }
                }
            }
            Ok(found)
        })?)
    }

    /// A pack's table and which of its frames are needed.
    pub fn live_frames_of(
        &self,
        pack: PackId,
        live: &LiveFrames,
    ) -> Result<Option<(IndexedPack, Vec<bool>)>, IndexError> {
        Ok(self.database.read(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT pack_id, bytes, purpose, run, body, first_frame FROM packs JOIN tables ON pack = id
                     WHERE pack_id = ?1",
                )?
                .query_row([pack.as_bytes()], |row| {
                    let indexed = IndexedPack {
                        facts: facts_at(row)?,
                        table: table_at(row, 4)?,
                    };
                    Ok((indexed, row.get::<_, i64>(5)?))
                })
                .optional()?;
            Ok(found.map(|(indexed, first)| {
                let places = (first..).zip(&indexed.table.frames);
                let needed = places.map(|(row, _)| live.has(row)).collect();
                (indexed, needed)
            }))
        })?)
    }

    /// Whether snapshots lack something here that could not be taken in.
    pub fn has_gap(&self) -> bool {
        self.has_gap
    }

    /// Takes condemned packs out, all of them or none: from now on none of their chunks is answered, unless another pack has
    /// it. Does nothing where the log was followed past the record that condemned them already: they may have been brought
    /// back since. Gives how many were there.
    pub fn retire(&mut self, packs: &[PackId], sequence: u64) -> Result<u64, IndexError> {
        // Their chunks are looked for in the big table below.
        self.move_recent()?;
        Ok(self.database.write(|transaction| {
            let covered: i64 =
                transaction.query_row("SELECT covered FROM facts", [], |row| row.get(0))?;
            if covered >= signed(sequence)? {
                return Ok(0);
            }
            let mut lost: HashSet<ChunkId> = HashSet::new();
            let mut count = 0;
            for pack in packs {
                if let Some(row) = row_of(transaction, *pack)? {
                    lost.extend(remove(transaction, row)?);
                    count += 1;
                }
            }
            take_other_places(transaction, lost)?;
            Ok(count)
        })?)
    }

    /// Whether a pack is a data or a meta pack; nothing where it is not in the index.
    pub fn purpose_of(&self, pack: PackId) -> Result<Option<Purpose>, IndexError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT purpose FROM packs WHERE pack_id = ?1")?
                .query_row([pack.as_bytes()], |row| place::purpose_at(row, 0))
                .optional()
        })?)
    }

    /// Notes that the record at `sequence` carries these packs' tables now.
    pub fn recorded_again(&mut self, sequence: u64, packs: &[PackId]) -> Result<(), IndexError> {
        Ok(self.database.write(|transaction| {
            let mut update =
                transaction.prepare_cached("UPDATE packs SET in_record = ?1 WHERE pack_id = ?2")?;
            for pack in packs {
                update.execute(params![signed(sequence)?, pack.as_bytes()])?;
            }
            Ok(())
        })?)
    }
}

fn read_pack_frames(row: &Row<'_>) -> rusqlite::Result<PackFrames> {
    Ok(PackFrames {
        facts: facts_at(row)?,
        verified_at: from_nanos(row.get(4)?),
        in_record: row.get(5)?,
        row: row.get(6)?,
        thinned: row.get(7)?,
        frames_bytes: 0,
        live_bytes: 0,
        index_bytes: 0,
    })
}
