//! The rescue's own SQLite file: second places of chunks, the newest entry of every path, first names of hard
//! links, and the pages of the listing that is made. Grows with the repository, so that memory does not.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Transaction;

use crate::database::{Database, DatabaseError, Schema};

const SCHEMA: Schema = Schema {
    what: "working file of the rescue",
    remedy: "run the rescue again",
    application_id: 0x4361_5265, // "CaRe"
    version: 1,
    cache_kib: 64 << 10,
    upgrades: &[],
    sql: "
CREATE TABLE others (             -- places of a chunk besides the one in the index
    id BLOB NOT NULL,
    place BLOB NOT NULL,
    PRIMARY KEY (id, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE chosen (             -- a place to be used instead of the one in the index
    id BLOB PRIMARY KEY,
    place BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE lost_pages (         -- that surviving lists name and no surviving pack holds
    id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE live_pages (         -- of snapshots that are not forgotten, where the log tells
    id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE live_paths (         -- what is listed in those
    directory BLOB NOT NULL,
    name BLOB NOT NULL,
    PRIMARY KEY (directory, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE dropped_paths (      -- of files that only forgotten snapshots had
    path BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE entries (
    directory BLOB NOT NULL,      -- with a zero byte for each slash: sorts as listings do
    name BLOB NOT NULL,
    is_directory INTEGER NOT NULL,
    made INTEGER NOT NULL,        -- 1: stands for a directory whose own entry is in no page
    has_content INTEGER NOT NULL, -- from here on to is_first: what decides between two of one path
    seconds INTEGER NOT NULL,     -- ctime
    nanoseconds INTEGER NOT NULL,
    is_first INTEGER NOT NULL,    -- 0: a further name of a hard link
    body BLOB NOT NULL,           -- formats::listing::entry
    PRIMARY KEY (directory, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE firsts (             -- first names of files with several, displaced ones too
    id BLOB PRIMARY KEY,
    has_content INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    nanoseconds INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE placed (             -- where the listing that is made has such a file
    id BLOB PRIMARY KEY,
    path BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pages (
    id BLOB PRIMARY KEY,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
",
};

/// The file, shared by the steps of a rescue. Calls block.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Arc<Mutex<Database>>,
}

impl Store {
    /// Begins a file. Not synced: it is of no use after this process.
    pub(crate) fn create(path: &Path) -> Result<Self, DatabaseError> {
        let database = Database::open(path, &SCHEMA)?;
        database.build_unsynced()?;
        Ok(Self {
            database: Arc::new(Mutex::new(database)),
        })
    }

    /// Looks up and changes, all together or not at all.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.lock().write(work)
    }

    fn lock(&self) -> MutexGuard<'_, Database> {
        // A transaction is whole or not there; a panic elsewhere does not make the file wrong.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
