//! Packs with their tables, one after another: for a run's index object. Holds one table at a time.

use std::vec;

use formats::ids::{PackId, RunId};
use formats::limits::PACK_RUN_HEADERS_MAX;
use formats::pack::table::Table;
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::database::{bad_value, unsigned};
use crate::index::place::purpose_at;
use crate::index::{Index, IndexError, PackFacts};

/// A pack and its table, as it was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack.
    pub facts: PackFacts,
    /// Its frames and chunks, those included whose first place is in another pack.
    pub table: Table,
}

/// Packs, read as they are asked for.
#[derive(Debug)]
pub struct Packs<'a> {
    index: &'a Index,
    rows: vec::IntoIter<i64>,
}

impl Index {
    /// The verified packs that a run wrote.
    pub fn packs_of_run(&self, run: RunId) -> Result<Packs<'_>, IndexError> {
        let rows = self.database.read(|connection| {
            let query = "SELECT id FROM packs WHERE run = ?1 ORDER BY id";
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map([run.as_bytes()], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        Ok(self.packs(rows))
    }

    /// The verified packs that no committed record's index object carries: the packs of the run at hand,
    /// and of earlier runs that died. The next index object must carry them all, or a rebuild would not
    /// find what later snapshots were built upon.
    pub fn packs_without_snapshot(&self) -> Result<Packs<'_>, IndexError> {
        let rows = self.database.read(|connection| {
            let query = "SELECT id FROM packs WHERE in_record IS NULL ORDER BY id";
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        Ok(self.packs(rows))
    }

    /// The same packs' facts, without reading their tables.
    pub fn facts_without_snapshot(&self) -> Result<Vec<PackFacts>, IndexError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT pack_id, bytes, purpose, run FROM packs WHERE in_record IS NULL ORDER BY id";
            let mut statement = connection.prepare_cached(query)?;
            let facts = statement.query_map([], facts_at)?;
            facts.collect()
        })?)
    }

    /// These packs with their tables; one that is not in the index is left out.
    pub fn packs_named(&self, packs: &[PackId]) -> Result<Packs<'_>, IndexError> {
        let rows = self.database.read(|connection| {
            let query = "SELECT id FROM packs WHERE pack_id = ?1";
            let mut statement = connection.prepare_cached(query)?;
            let mut rows = Vec::with_capacity(packs.len());
            for pack in packs {
                rows.extend(
                    statement
                        .query_row([pack.as_bytes()], |row| row.get::<_, i64>(0))
                        .optional()?,
                );
            }
            Ok(rows)
        })?;
        Ok(self.packs(rows))
    }

    fn packs(&self, rows: Vec<i64>) -> Packs<'_> {
        Packs {
            index: self,
            rows: rows.into_iter(),
        }
    }
}

impl Iterator for Packs<'_> {
    type Item = Result<IndexedPack, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        let pack = self
            .index
            .database
            .read(|connection| read_pack(connection, row));
        Some(pack.map_err(IndexError::from))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl ExactSizeIterator for Packs<'_> {}

fn read_pack(connection: &Connection, row: i64) -> rusqlite::Result<IndexedPack> {
    connection
        .prepare_cached(
            "SELECT pack_id, bytes, purpose, run, body FROM packs JOIN tables ON pack = id WHERE id = ?1",
        )?
        .query_row([row], |row| {
            Ok(IndexedPack {
                facts: facts_at(row)?,
                table: table_at(row, 4)?,
            })
        })
}

/// A pack's facts, where they are a row's first four columns.
fn facts_at(row: &Row<'_>) -> rusqlite::Result<PackFacts> {
    Ok(PackFacts {
        pack: PackId(row.get(0)?),
        bytes: unsigned(row, 1)?,
        purpose: purpose_at(row, 2)?,
        run: RunId(row.get(3)?),
    })
}

pub(super) fn table_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Table> {
    let body = row.get_ref(column)?.as_blob()?;
    // How many run headers the pack has is the pack's matter; it was checked when the pack was verified.
    Table::decode(
        body,
        usize::try_from(PACK_RUN_HEADERS_MAX).unwrap_or(usize::MAX),
    )
    .map_err(|source| bad_value(column, source))
}
