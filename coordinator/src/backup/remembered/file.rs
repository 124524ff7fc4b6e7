//! The file of what is remembered: rows by a keyed hash, each with the day on which it was last of use. A cache: rows that are not of
//! use for a while go, and beyond a size no new ones come.

use std::path::Path;

use rusqlite::{OptionalExtension as _, params};

use crate::database::{Database, DatabaseError, Schema};

/// What a row is found by.
pub(super) type RowKey = [u8; 16];

/// A row's value, and the day on which it was last of use.
pub(super) type Row = (Vec<u8>, i64);

/// Past it no rows are added: some thirty million files.
const FILE_BYTES_MAX: i64 = 8 << 30;

const SCHEMA: Schema = Schema {
    what: "file of remembered paths",
    remedy: "delete it, and the next run reads the host's files again",
    application_id: 0x4361_5265, // "CaRe"
    version: 1,
    cache_kib: 32 << 10,
    upgrades: &[],
    sql: "
CREATE TABLE remembered (
    key BLOB PRIMARY KEY,
    day INTEGER NOT NULL,          -- days since 1970 when it was last of use, or a little later than that
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
",
};

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It has this value, as of today.
    Put(RowKey, Vec<u8>),
    /// It goes.
    Forget(RowKey),
}

/// The opened file.
#[derive(Debug)]
pub(super) struct RememberedFile {
    database: Database,
}

impl RememberedFile {
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let database = Database::open(path, &SCHEMA)?;
        Ok(Self { database })
    }

    /// The rows of these keys, where they are.
    pub(super) fn get(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT value, day FROM remembered WHERE key = ?1")?;
            let rows = keys.iter().map(|key| {
                statement
                    .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            });
            rows.collect()
        })
    }

    /// Makes all of these changes, or none.
    pub(super) fn change(&mut self, changes: &[Change], today: i64) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get(0));
            let (pages, free, page_bytes): (i64, i64, i64) = (
                pragma("page_count")?,
                pragma("freelist_count")?,
                pragma("page_size")?,
            );
            let has_room = (pages - free).saturating_mul(page_bytes) < FILE_BYTES_MAX;
            let mut put = transaction.prepare_cached(
                "INSERT INTO remembered (key, day, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET day = excluded.day, value = excluded.value",
            )?;
            let mut forget = transaction.prepare_cached("DELETE FROM remembered WHERE key = ?1")?;
            for change in changes {
                match change {
                    Change::Put(key, value) if has_room => {
                        put.execute(params![key, today, value])?;
                    }
                    // What it was before is not what it is now.
                    Change::Put(key, _) | Change::Forget(key) => {
                        forget.execute([key])?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Lets go of rows that were last of use before a day.
    pub(super) fn sweep(&mut self, before: i64) -> Result<usize, DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute("DELETE FROM remembered WHERE day < ?1", [before])
        })
    }
}
