//! The server's own small databases, opened and used all in one way: several processes may use one, what is written is there after a
//! power cut, and whoever waits for one keeps no other task from going on.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// How long a write waits for whoever else uses the same database.
const BUSY_DEADLINE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has, where SQLite itself does not wait.
const BUSY_LOOK_EVERY: Duration = Duration::from_millis(10);

/// The tables of a database.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Makes them, and whichever of them an earlier version had not.
    pub sql: &'static str,
    /// Their version.
    pub version: i64,
}

/// A database was not opened.
#[derive(Debug)]
pub enum OpenFailure {
    /// SQLite could not.
    Database(rusqlite::Error),
    /// It was made by another version.
    Version {
        /// Which.
        found: i64,
    },
}

impl From<rusqlite::Error> for OpenFailure {
    fn from(source: rusqlite::Error) -> Self {
        Self::Database(source)
    }
}

/// Opens a database, making it when it is not there.
pub fn open(path: &Path, schema: Schema) -> Result<Connection, OpenFailure> {
    aside(|| open_here(path, schema))
}

fn open_here(path: &Path, schema: Schema) -> Result<Connection, OpenFailure> {
    let database = Connection::open(path)?;
    database.busy_timeout(BUSY_DEADLINE)?;
    begin_wal(&database, BUSY_DEADLINE)?;
    database.pragma_update(None, "synchronous", "FULL")?;
    let found: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if !(0..=schema.version).contains(&found) {
        return Err(OpenFailure::Version { found });
    }
    if found < schema.version {
        database.execute_batch(schema.sql)?;
        database.pragma_update(None, "user_version", schema.version)?;
    }
    Ok(database)
}

/// Has readers and a writer not wait for each other. SQLite waits for nobody here: of two processes that begin one file together,
/// one is told at once that it is busy.
pub fn begin_wal(database: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match database.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                thread::sleep(BUSY_LOOK_EVERY);
            }
            done => return done,
        }
    }
}

/// Does what may wait for a disk, or for another process. On a thread of the runtime, whatever else was to go on there goes on on
/// another one meanwhile.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}
