//! Builds an index anew from the repository's packs, beside the old file, and puts it in its place when it
//! is whole. Quarantine is not in the repository: a bad pack is found again when it is next verified.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use formats::ids::{ChunkId, RepositoryId};
use formats::pack::table::Table;
use jiff::Timestamp;
use rusqlite::params;

use crate::database::signed;
use crate::index::insert::{Known, insert, look_up};
use crate::index::packs::IndexedPack;
use crate::index::{Index, IndexError, PackFacts};

/// An index that is being built; dropped before [`Rebuild::finish`], it leaves the old one as it was.
#[derive(Debug)]
pub struct Rebuild {
    index: Index,
    unfinished: PathBuf,
    path: PathBuf,
    repository: RepositoryId,
}

/// Builds the index at `path` from packs, all of them carried by log records up to `covered`.
pub fn rebuild(
    path: &Path,
    repository: RepositoryId,
    packs: impl IntoIterator<Item = IndexedPack>,
    covered: u64,
    at: Timestamp,
) -> Result<Index, IndexError> {
    let mut rebuild = Rebuild::begin(path, repository)?;
    for pack in packs {
        rebuild.add(&pack.facts, &pack.table, Some(covered), at)?;
    }
    rebuild.finish(covered)
}

impl Rebuild {
    /// Begins beside `path`.
    pub fn begin(path: &Path, repository: RepositoryId) -> Result<Self, IndexError> {
        let unfinished = with_suffix(path, ".rebuilding");
        remove_database(&unfinished).map_err(|source| IndexError::Replace {
            path: unfinished.clone(),
            source,
        })?;
        let index = Index::open(&unfinished, repository)?;
        index.database.build_unsynced()?;
        Ok(Self {
            index,
            unfinished,
            path: path.to_owned(),
            repository,
        })
    }

    /// Takes a pack in; `in_record` is the log record whose index object carries it, if one does.
    pub fn add(
        &mut self,
        facts: &PackFacts,
        table: &Table,
        in_record: Option<u64>,
        at: Timestamp,
    ) -> Result<(), IndexError> {
        let inserted = self.index.database.write(|transaction| {
            let inserted = match look_up(transaction, facts)? {
                Known::New => Some(insert(transaction, facts, table, at)?),
                _ => None,
            };
            if let Some(sequence) = in_record {
                transaction.execute(
                    "UPDATE packs SET in_record = coalesce(in_record, ?1) WHERE pack_id = ?2",
                    params![signed(sequence)?, facts.pack.as_bytes()],
                )?;
            }
            Ok(inserted)
        })?;
        if let Some(inserted) = inserted {
            self.index.note_inserted(&inserted, facts.pack, table);
        }
        Ok(())
    }

    /// For each chunk, whether a pack that was taken in holds it.
    pub fn contains_many(&self, chunks: &[ChunkId]) -> Result<Vec<bool>, IndexError> {
        self.index.contains_many(chunks)
    }

    /// Puts the index in place and opens it; every log record up to `covered` has its packs in it.
    pub fn finish(mut self, covered: u64) -> Result<Index, IndexError> {
        self.index.mark_committed(covered, &[])?;
        self.index.move_recent()?;
        self.index.database.close()?;
        replace(&self.unfinished, &self.path).map_err(|source| IndexError::Replace {
            path: self.path.clone(),
            source,
        })?;
        Index::open(&self.path, self.repository)
    }
}

/// The old file goes first: a journal must never stand beside a file that it does not belong to. A crash in
/// between leaves no index, which covers nothing, and is built again.
fn replace(unfinished: &Path, path: &Path) -> io::Result<()> {
    File::open(unfinished)?.sync_all()?;
    remove_database(path)?;
    fs::rename(unfinished, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
