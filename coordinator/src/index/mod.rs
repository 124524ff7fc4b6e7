//! The index of one repository: which pack and frame each verified chunk is in. Answers dedup questions and
//! tells a restore where to read. Never holds a chunk before its pack is durable and verified, never answers
//! from a quarantined pack, never a list of files.
//!
//! It is a cache: the repository's index objects and the packs' own tables rebuild it ([`rebuild`]). Two
//! things keep it from running ahead of storage: a pack is inserted only after the append-server
//! acknowledged it as durable and the coordinator read it back, and a transaction is synced before
//! [`Index::insert_pack`] returns, so that a snapshot is committed only upon rows that a power cut leaves.

mod empty;
mod error;
mod insert;
mod packs;
mod place;
mod quarantine;
mod rebuild;
mod recent;
mod retire;
mod schema;
mod thinned;

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use formats::ids::{ChunkId, PackId, RepositoryId, RunId};
use formats::seal::run_header::Purpose;
use rusqlite::{Connection, OptionalExtension as _};

use crate::database::{Database, unsigned};
use crate::index::recent::{Recent, Spot};
use crate::index::schema::SCHEMA;
use crate::index::thinned::ThinnedPlaces;
use crate::snapshot::place::ChunkPlace;

pub use crate::index::error::IndexError;
pub use crate::index::packs::{IndexedPack, NamedPack, Packs};
pub use crate::index::rebuild::{Rebuild, rebuild};
pub use crate::index::retire::{LiveFrames, PackFrames};

/// The index of one repository.
#[derive(Debug)]
pub struct Index {
    database: Database,
    /// Of the packs that are not in the big table yet.
    recent: RefCell<Recent>,
    /// Whether snapshots after [`Index::covered`] lack something, so that it stays where it is.
    has_gap: bool,
    /// The record that it had been emptied for when this was opened.
    heeded: u64,
}

/// A verified pack's facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFacts {
    /// The pack.
    pub pack: PackId,
    /// All of its bytes.
    pub bytes: u64,
    /// Data or meta.
    pub purpose: Purpose,
    /// The run that wrote it.
    pub run: RunId,
}

/// How much an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexCounts {
    /// Verified packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Chunks.
    pub chunks: u64,
    /// Packs in quarantine.
    pub quarantined: u64,
    /// Bytes of the index's own file.
    pub file_bytes: u64,
}

impl Index {
    /// Opens the index of `repository`, or begins an empty one.
    pub fn open(path: &Path, repository: RepositoryId) -> Result<Self, IndexError> {
        let mut database = Database::open(path, &SCHEMA)?;
        let found: Option<[u8; 16]> = database.read(repository_of)?;
        let found = match found {
            Some(found) => found,
            None => database.write(|transaction| {
                transaction.execute(
                    "INSERT OR IGNORE INTO facts (one, repository, covered) VALUES (1, ?1, 0)",
                    [repository.as_bytes()],
                )?;
                transaction.query_row("SELECT repository FROM facts", [], |row| row.get(0))
            })?,
        };
        if found != repository.0 {
            return Err(IndexError::OtherRepository {
                path: path.to_owned(),
                found: RepositoryId(found),
                expected: repository,
            });
        }
        let heeded = database.read(|connection| {
            connection.query_row("SELECT heeded FROM facts", [], |row| unsigned(row, 0))
        })?;
        Ok(Self {
            database,
            recent: RefCell::default(),
            has_gap: false,
            heeded,
        })
    }

    /// For each chunk, whether a verified pack holds it.
    pub fn contains_many(&self, chunks: &[ChunkId]) -> Result<Vec<bool>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut recent = self.recent.borrow_mut();
            recent.follow(connection)?;
            let mut statement = connection.prepare_cached("SELECT 1 FROM chunks WHERE id = ?1")?;
            let mut found = vec![false; chunks.len()];
            for place in sorted_places(chunks) {
                found[place] = recent.spot(&chunks[place]).is_some()
                    || statement.exists([chunks[place].as_bytes()])?;
            }
            Ok(found)
        })?)
    }

    /// For each chunk that a verified pack holds, its plain bytes.
    pub fn lengths_of(&self, chunks: &[ChunkId]) -> Result<Vec<Option<u32>>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut recent = self.recent.borrow_mut();
            recent.follow(connection)?;
            let mut statement =
                connection.prepare_cached("SELECT bytes FROM chunks WHERE id = ?1")?;
            let mut lengths = vec![None; chunks.len()];
            for place in sorted_places(chunks) {
                let id = &chunks[place];
                lengths[place] = match recent.spot(id) {
                    Some(spot) => Some(spot.bytes),
                    None => statement
                        .query_row([id.as_bytes()], |row| row.get(0))
                        .optional()?,
                };
            }
            Ok(lengths)
        })?)
    }

    /// For each chunk, where it is.
    pub fn locate_many(&self, chunks: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, IndexError> {
        self.locate_many_but(chunks, &HashSet::new())
    }

    /// The same for who reads where these packs are not kept.
    pub fn locate_many_but(
        &self,
        chunks: &[ChunkId],
        except: &HashSet<PackId>,
    ) -> Result<Vec<Option<ChunkPlace>>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut recent = self.recent.borrow_mut();
            recent.follow(connection)?;
            let mut spots = connection.prepare_cached(place::LOCATE_CHUNK)?;
            let mut frames = connection.prepare_cached(place::LOCATE_FRAME)?;
            let mut thinned = ThinnedPlaces::of(connection)?;
            let mut found = vec![None; chunks.len()];
            for place in sorted_places(chunks) {
                let id = chunks[place];
                // The big table first: what is there was there before.
                let spot = spots
                    .query_row([id.as_bytes()], Spot::from_row)
                    .optional()?
                    .or_else(|| recent.spot(&id));
                let spot = match spot {
                    None => thinned.find(&id, except)?.into_iter().next(),
                    spot => spot,
                };
                if let Some(spot) = spot {
                    found[place] = frames
                        .query_row([spot.frame], |row| place::chunk_place(row, spot))
                        .optional()?;
                }
            }
            Ok(found)
        })?)
    }

    /// The log records up to this sequence have all their packs in the index: 0 for a new one. Behind the
    /// catalog's head, the index objects of the records after it are still to be read.
    pub fn covered(&self) -> Result<u64, IndexError> {
        Ok(self.database.read(|connection| {
            connection.query_row("SELECT covered FROM facts", [], |row| unsigned(row, 0))
        })?)
    }

    /// How much it holds.
    pub fn counts(&self) -> Result<IndexCounts, IndexError> {
        Ok(self.database.read(|connection| {
            let mut counts = connection.query_row(
                "SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(chunks), 0) FROM packs",
                [],
                |row| {
                    Ok(IndexCounts {
                        packs: unsigned(row, 0)?,
                        pack_bytes: unsigned(row, 1)?,
                        chunks: unsigned(row, 2)?,
                        ..IndexCounts::default()
                    })
                },
            )?;
            let count = "SELECT count(*) FROM quarantined";
            counts.quarantined = connection.query_row(count, [], |row| unsigned(row, 0))?;
            let mut recent = self.recent.borrow_mut();
            recent.follow(connection)?;
            let mut known = connection.prepare_cached("SELECT 1 FROM chunks WHERE id = ?1")?;
            for id in recent.ids() {
                counts.chunks += u64::from(!known.exists([id.as_bytes()])?);
            }
            let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
            counts.file_bytes = connection.query_row(size, [], |row| unsigned(row, 0))?;
            Ok(counts)
        })?)
    }

    /// Reads the whole file and looks for damage; slow, for a person who asks.
    pub fn check(&self) -> Result<(), IndexError> {
        Ok(self.database.check()?)
    }
}

fn repository_of(connection: &Connection) -> rusqlite::Result<Option<[u8; 16]>> {
    connection
        .query_row("SELECT repository FROM facts", [], |row| row.get(0))
        .optional()
}

/// In the order of the ids, so that neighbouring look-ups share pages of the table.
fn sorted_places(chunks: &[ChunkId]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..chunks.len()).collect();
    places.sort_unstable_by_key(|place| chunks[*place]);
    places
}

#[cfg(test)]
mod tests;
