//! Packs with their tables, one after another: for a run's index object. Holds one table at a time.

use std::vec;

use formats::ids::{PackId, RunId};
use formats::limits::PACK_RUN_HEADERS_MAX;
use formats::pack::table::Table;
use formats::seal::run_header::Purpose;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::database::{bad_value, unsigned};
use crate::index::place::{purpose_at, purpose_number};
use crate::index::{Index, IndexError, PackFacts};

/// A pack and its table, as it was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack.
    pub facts: PackFacts,
    /// Its frames and chunks, those included whose first place is in another pack.
    pub table: Table,
}

/// A pack by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedPack {
    /// The pack.
    pub pack: PackId,
    /// All of its bytes.
    pub bytes: u64,
    /// Its row, which is higher than those of packs that were taken in before.
    pub row: i64,
    /// Whether a log record's index object has it.
    pub in_record: bool,
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

    /// The verified packs that no committed record's index object carries, without reading their tables: the packs of the run at
    /// hand, and of earlier runs that died. The next index object must carry them all, or a rebuild would not find what later
    /// snapshots were built upon.
    pub fn facts_without_snapshot(&self) -> Result<Vec<PackFacts>, IndexError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT pack_id, bytes, purpose, run FROM packs WHERE in_record IS NULL ORDER BY id";
            let mut statement = connection.prepare_cached(query)?;
            let facts = statement.query_map([], facts_at)?;
            facts.collect()
        })?)
    }

    /// Bytes of all verified packs, by the run that wrote them.
    pub fn stored_bytes_by_run(&self) -> Result<Vec<(RunId, u64)>, IndexError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT run, sum(bytes) FROM packs GROUP BY run";
            let mut statement = connection.prepare_cached(query)?;
            let rows =
                statement.query_map([], |row| Ok((RunId(row.get(0)?), unsigned(row, 1)?)))?;
            rows.collect()
        })?)
    }

    /// The row of the pack that was taken in last; 0 in an empty index.
    pub fn last_pack_row(&self) -> Result<i64, IndexError> {
        Ok(self.database.read(|connection| {
            connection.query_row("SELECT coalesce(max(id), 0) FROM packs", [], |row| {
                row.get(0)
            })
        })?)
    }

    /// Packs of one purpose in the order of their names, after a name, taken in no later than a row.
    pub fn packs_by_name(
        &self,
        purpose: Purpose,
        after: Option<PackId>,
        last_row: i64,
        limit: usize,
    ) -> Result<Vec<NamedPack>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT pack_id, bytes, id, in_record IS NOT NULL FROM packs
                 WHERE purpose = ?1 AND pack_id > ?2 AND id <= ?3 ORDER BY pack_id LIMIT ?4",
            )?;
            let after = after.as_ref().map_or(&[][..], |after| after.as_bytes());
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(
                params![purpose_number(purpose), after, last_row, limit],
                named_at,
            )?;
            rows.collect()
        })?)
    }

    /// Packs in the order in which they were taken in, after one row and no later than another.
    pub fn packs_by_row(
        &self,
        after: i64,
        last_row: i64,
        limit: usize,
    ) -> Result<Vec<(NamedPack, Purpose)>, IndexError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT pack_id, bytes, id, in_record IS NOT NULL, purpose FROM packs
                 WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![after, last_row, limit], |row| {
                Ok((named_at(row)?, purpose_at(row, 4)?))
            })?;
            rows.collect()
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

/// A pack by its name, from a row's first four columns.
fn named_at(row: &Row<'_>) -> rusqlite::Result<NamedPack> {
    Ok(NamedPack {
        pack: PackId(row.get(0)?),
        bytes: unsigned(row, 1)?,
        row: row.get(2)?,
        in_record: row.get(3)?,
    })
}

/// A pack's facts, where they are a row's first four columns.
pub(super) fn facts_at(row: &Row<'_>) -> rusqlite::Result<PackFacts> {
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
