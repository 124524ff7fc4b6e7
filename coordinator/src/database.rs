//! Opens the coordinator's SQLite files: the same settings for each, a versioned schema, and damage told
//! apart from other failures. Never repairs or replaces a file.
//!
//! Settings, and why: WAL, so that a restore reads while a run writes. `synchronous = FULL`, because what
//! is committed here is built upon (a snapshot refers to indexed chunks, a quarantined pack must stay so, a
//! log's head proves a rollback); it costs one fsync for each pack of 32 MiB. No memory map: with one, a
//! failing disk kills the process (SIGBUS) instead of giving an error. A small page cache: the kernel's is
//! shared and goes when memory is short.
//!
//! Tasks use files as anybody else does. Whatever waits for a disk, or for another process, gives its thread of the runtime away first:
//! a file that hangs stops whoever uses it, and nobody else.

mod held;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use append_server::small_database::{aside, begin_wal};
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::database::held::Held;

/// How long a statement waits for another process to finish its transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// What kind of file this is and how a new one begins.
#[derive(Debug)]
pub struct Schema {
    /// What it is, for errors.
    pub what: &'static str,
    /// What to do with a damaged one.
    pub remedy: &'static str,
    /// Marks the file as this kind (`PRAGMA application_id`).
    pub application_id: i32,
    /// The version of the tables (`PRAGMA user_version`).
    pub version: i32,
    /// Creates them.
    pub sql: &'static str,
    /// What makes the tables of one version those of the next, by the version that it begins with.
    pub upgrades: &'static [(i32, &'static str)],
    /// The page cache, in KiB.
    pub cache_kib: u32,
}

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It is not what was written.
    #[error("the {what} {} is damaged: {remedy}", path.display())]
    Damaged {
        /// What kind of file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// What SQLite found.
        source: Box<rusqlite::Error>,
    },
    /// It was made by another build.
    #[error(
        "the {what} {} has version {found}, this build uses version {known}: use a build that knows version {found}, or {remedy}",
        path.display()
    )]
    Version {
        /// What kind of file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// Its version.
        found: i32,
        /// This build's.
        known: i32,
    },
    /// It is a SQLite file of something else.
    #[error("{} is no {what} of a coordinator: name the right state_dir", path.display())]
    OtherKind {
        /// What was expected.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// It could not be created.
    #[error("could not create the {what} {}: check the directory's owner and mode", path.display())]
    Create {
        /// What kind of file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be read or written.
    #[error("could not use the {what} {}: check free space, owner and mode", path.display())]
    Access {
        /// What kind of file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What SQLite said.
        source: Box<rusqlite::Error>,
    },
}

impl DatabaseError {
    /// Whether the file itself is damaged.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// An open file.
#[derive(Debug)]
pub struct Database {
    connection: Held,
    path: PathBuf,
    schema: &'static Schema,
}

impl Database {
    /// Opens the file, or begins a new one, readable by its owner alone.
    pub fn open(path: &Path, schema: &'static Schema) -> Result<Self, DatabaseError> {
        aside(|| Self::open_here(path, schema))
    }

    fn open_here(path: &Path, schema: &'static Schema) -> Result<Self, DatabaseError> {
        // SQLite would create it under the umask; its journal takes over the file's mode.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| DatabaseError::Create {
                what: schema.what,
                path: path.to_owned(),
                source,
            })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|source| failure(schema, path, source))?;
        let mut database = Self {
            connection: Held::new(connection),
            path: path.to_owned(),
            schema,
        };
        configure(&database.connection, schema).map_err(|source| database.fail(source))?;
        database.begin_or_check()?;
        Ok(database)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs look-ups against one unchanging state of the file.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        let look_up = || {
            let transaction = self.connection.unchecked_transaction()?;
            let found = work(&transaction)?;
            transaction.finish()?;
            Ok(found)
        };
        aside(look_up).map_err(|source| self.fail(source))
    }

    /// Runs changes that happen all together or not at all, and are durable when this returns.
    pub fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        let connection = &mut *self.connection;
        let change = || {
            // Immediate: a deferred one that began with a look-up could not wait for another writer.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = work(&transaction)?;
            transaction.commit()?;
            Ok(changed)
        };
        aside(change).map_err(|source| failure(self.schema, &self.path, source))
    }

    /// The same with another file beside it, whose tables are named `beside.…`.
    pub fn write_beside<T>(
        &mut self,
        other: &Path,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        let other = other.to_string_lossy();
        let attached = self
            .connection
            .execute("ATTACH DATABASE ?1 AS beside", [other.as_ref()]);
        attached.map_err(|source| self.fail(source))?;
        let changed = self.write(work);
        let detached = self.connection.execute("DETACH DATABASE beside", []);
        let changed = changed?;
        detached.map_err(|source| self.fail(source))?;
        Ok(changed)
    }

    /// Writes what is in it at one moment into a new file, without what is free in it.
    pub fn copy_to(&self, path: &Path) -> Result<(), DatabaseError> {
        let path = path.to_string_lossy();
        let copied = self.connection.execute("VACUUM INTO ?1", [path.as_ref()]);
        copied.map(drop).map_err(|source| self.fail(source))
    }

    /// Reads the whole file and looks for damage; slow, for a person who asks.
    pub fn check(&self) -> Result<(), DatabaseError> {
        let found: String = self.read(|connection| {
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        })?;
        if found == "ok" {
            Ok(())
        } else {
            Err(self.fail(corrupt(found)))
        }
    }

    /// Trades durability for speed, for a file that nobody uses before it is finished and synced.
    pub fn build_unsynced(&self) -> Result<(), DatabaseError> {
        self.connection
            .pragma_update(None, "synchronous", "OFF")
            .map_err(|source| self.fail(source))
    }

    /// Moves everything from the journal into the file itself and closes it.
    pub fn close(mut self) -> Result<(), DatabaseError> {
        let checkpoint = |connection: &Connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        aside(|| checkpoint(&self.connection)).map_err(|source| self.fail(source))?;
        self.connection.close().map_err(|source| self.fail(source))
    }

    /// Gives an error of SQLite its file and its remedy.
    pub fn fail(&self, source: rusqlite::Error) -> DatabaseError {
        failure(self.schema, &self.path, source)
    }

    fn begin_or_check(&mut self) -> Result<(), DatabaseError> {
        let schema = self.schema;
        let numbers = |connection: &Connection| -> rusqlite::Result<(i32, i32)> {
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
            Ok((pragma("application_id")?, pragma("user_version")?))
        };
        let mut found = self.read(numbers)?;
        if found == (0, 0) {
            found = self.write(|transaction| {
                // Another process may have begun the file between the look and the lock.
                let tables: i64 =
                    transaction
                        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
                if tables == 0 {
                    transaction.execute_batch(schema.sql)?;
                    transaction.pragma_update(None, "application_id", schema.application_id)?;
                    transaction.pragma_update(None, "user_version", schema.version)?;
                }
                numbers(transaction)
            })?;
        }
        if found.0 == schema.application_id && found.1 < schema.version {
            found = self.write(|transaction| {
                upgrade(transaction, schema)?;
                numbers(transaction)
            })?;
        }
        let (application_id, version) = found;
        if application_id != schema.application_id {
            return Err(DatabaseError::OtherKind {
                what: schema.what,
                path: self.path.clone(),
            });
        }
        if version != schema.version {
            return Err(DatabaseError::Version {
                what: schema.what,
                path: self.path.clone(),
                remedy: schema.remedy,
                found: version,
                known: schema.version,
            });
        }
        Ok(())
    }
}

/// Goes from version to version as far as there is a way. Another process may have been quicker.
fn upgrade(transaction: &Transaction<'_>, schema: &Schema) -> rusqlite::Result<()> {
    let mut version: i32 =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    while version < schema.version
        && let Some((_, sql)) = schema.upgrades.iter().find(|(from, _)| *from == version)
    {
        transaction.execute_batch(sql)?;
        version += 1;
        transaction.pragma_update(None, "user_version", version)?;
    }
    Ok(())
}

fn configure(connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    begin_wal(connection, BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -i64::from(schema.cache_kib))?;
    // 64 MiB of journal between checkpoints: a page that several packs change is written back once.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 16 << 10, |_| Ok(()))?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn failure(schema: &Schema, path: &Path, source: rusqlite::Error) -> DatabaseError {
    let (what, path) = (schema.what, path.to_owned());
    let damaged = tells_damage(&source);
    let source = Box::new(source); // Keeps every `Result` around it small.
    if damaged {
        DatabaseError::Damaged {
            what,
            path,
            remedy: schema.remedy,
            source,
        }
    } else {
        DatabaseError::Access { what, path, source }
    }
}

/// Only this program writes these files, so a value of the wrong shape is damage as much as a bad page.
fn tells_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
        ),
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => true,
        _ => false,
    }
}

fn corrupt(found: String) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(found))
}

/// A stored value that is not what its column holds.
pub fn bad_value(
    column: usize,
    source: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, Box::new(source))
}

/// A count or length as SQLite stores it.
pub fn signed(value: u64) -> rusqlite::Result<i64> {
    i64::try_from(value).map_err(|source| rusqlite::Error::ToSqlConversionFailure(Box::new(source)))
}

/// A count or length from a column.
pub fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

#[cfg(test)]
mod tests;
