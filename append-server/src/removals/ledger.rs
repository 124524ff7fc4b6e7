//! What is condemned, since when, and where it is still to be removed: a small database of the server's own. Times in it are
//! its own age in certain seconds, never the wall clock's. What was swept stays noted, so that nobody stores it again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use formats::ids::RepositoryId;
use formats::object::ObjectName;
use formats::wire::upload::removals::RemovalsWaiting;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::age_clock::{Reading, certain_secs};
use crate::destination::DestinationName;
use crate::small_database::{self, OpenFailure, Schema, aside};

const SCHEMA: Schema = Schema {
    version: VERSION,
    sql: "
    CREATE TABLE IF NOT EXISTS clock (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        boot TEXT NOT NULL,
        since_boot_secs INTEGER NOT NULL,
        unix_secs INTEGER NOT NULL,
        age_secs INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS condemned (
        repository TEXT NOT NULL,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        record INTEGER NOT NULL,
        age_secs INTEGER NOT NULL,
        swept INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (repository, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS removal (
        destination TEXT NOT NULL,
        repository TEXT NOT NULL,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        not_before_secs INTEGER NOT NULL,
        problem TEXT,
        PRIMARY KEY (destination, repository, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS spent (
        age_secs INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS thinned (
        destination TEXT NOT NULL,
        repository TEXT NOT NULL,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        record INTEGER NOT NULL,
        age_secs INTEGER NOT NULL,
        swept INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (repository, name, destination)
    ) WITHOUT ROWID;
",
};

/// The version of the schema above. Version 1 had nothing thinned.
const VERSION: i64 = 2;
/// What is swept counts for so long.
const DAY_SECS: u64 = 24 * 3_600;
/// The longest problem that is told.
const PROBLEM_CHARS_MAX: usize = 500;

/// The ledger did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database.
    #[error("could not {action} the list of removals {}; look at its disk", path.display())]
    Database {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Made by another version.
    #[error("the list of removals {} is of version {found}, known is {VERSION}: use the version of Capstan that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: i64,
    },
}

/// A condemned pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condemned {
    pub(super) bytes: u64,
    /// The ledger's age when it was first named.
    pub(super) age_secs: u64,
    pub(super) swept: bool,
}

/// A removal that may be tried now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) name: ObjectName,
    pub(super) bytes: u64,
}

impl Condemned {
    pub(super) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            bytes: row.get::<_, i64>(0)?.cast_unsigned(),
            age_secs: row.get::<_, i64>(1)?.cast_unsigned(),
            swept: row.get(2)?,
        })
    }
}

/// Counts bytes that are swept against what a day allows.
pub(super) fn note_spent(change: &Connection, age_secs: u64, bytes: i64) -> rusqlite::Result<()> {
    change
        .execute(
            "INSERT INTO spent (age_secs, bytes) VALUES (?1, ?2)",
            params![age_secs.cast_signed(), bytes],
        )
        .map(drop)
}

#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    database: Mutex<Connection>,
}

impl Ledger {
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let database = small_database::open(path, SCHEMA).map_err(|failure| {
            let path = path.to_owned();
            match failure {
                OpenFailure::Database(source) => LedgerError::Database {
                    action: "open",
                    path,
                    source,
                },
                OpenFailure::Version { found } => LedgerError::Version { path, found },
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            database: Mutex::new(database),
        })
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn work<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let done = aside(|| {
            let mut database = self.database();
            let change =
                database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let done = work(&change)?;
            change.commit()?;
            Ok(done)
        });
        done.map_err(|source| LedgerError::Database {
            action,
            path: self.path.clone(),
            source,
        })
    }

    /// Notes the time; gives the ledger's age.
    pub(super) fn advance(&self, now: &Reading) -> Result<u64, LedgerError> {
        self.work("write", |change| {
            let before = change
                .query_row(
                    "SELECT boot, since_boot_secs, unix_secs, age_secs FROM clock",
                    [],
                    |row| {
                        let reading = Reading {
                            boot: row.get(0)?,
                            since_boot_secs: row.get::<_, i64>(1)?.cast_unsigned(),
                            unix_secs: row.get::<_, i64>(2)?.cast_unsigned(),
                        };
                        Ok((reading, row.get::<_, i64>(3)?.cast_unsigned()))
                    },
                )
                .optional()?;
            let age = before.map_or(0, |(before, age)| {
                age.saturating_add(certain_secs(&before, now))
            });
            change.execute(
                "INSERT INTO clock (one, boot, since_boot_secs, unix_secs, age_secs)
                 VALUES (1, ?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET boot = ?1, since_boot_secs = ?2, unix_secs = ?3, age_secs = ?4",
                params![
                    now.boot,
                    now.since_boot_secs.cast_signed(),
                    now.unix_secs.cast_signed(),
                    age.cast_signed()
                ],
            )?;
            Ok(age)
        })
    }

    pub(super) fn condemn(
        &self,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
        record: u64,
        age_secs: u64,
    ) -> Result<(), LedgerError> {
        self.work("write", |change| {
            let mut insert = change.prepare_cached(
                "INSERT INTO condemned (repository, name, bytes, record, age_secs)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?;
            for (name, bytes) in packs {
                insert.execute(params![
                    repository.to_string(),
                    name.to_string(),
                    bytes.cast_signed(),
                    record.cast_signed(),
                    age_secs.cast_signed()
                ])?;
            }
            Ok(())
        })
    }

    /// All or none: gives one that is swept already.
    pub(super) fn spare(
        &self,
        repository: RepositoryId,
        packs: &[(ObjectName, u64)],
    ) -> Result<Option<ObjectName>, LedgerError> {
        self.work("write", |change| {
            let repository = repository.to_string();
            let mut swept = change.prepare_cached(
                "SELECT 1 FROM condemned WHERE repository = ?1 AND name = ?2 AND swept = 1",
            )?;
            for (name, _) in packs {
                if swept.exists(params![repository, name.to_string()])? {
                    return Ok(Some(name.clone()));
                }
            }
            let mut delete = change
                .prepare_cached("DELETE FROM condemned WHERE repository = ?1 AND name = ?2")?;
            // As the log has it: what comes back comes back at every destination where it is not swept.
            let mut thinned = change.prepare_cached(
                "DELETE FROM thinned WHERE repository = ?1 AND name = ?2 AND swept = 0",
            )?;
            for (name, _) in packs {
                delete.execute(params![repository, name.to_string()])?;
                thinned.execute(params![repository, name.to_string()])?;
            }
            Ok(None)
        })
    }

    pub(super) fn condemned(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
    ) -> Result<Option<Condemned>, LedgerError> {
        self.work("read", |change| {
            change
                .prepare_cached(
                    "SELECT bytes, age_secs, swept FROM condemned WHERE repository = ?1 AND name = ?2",
                )?
                .query_row(
                    params![repository.to_string(), name.to_string()],
                    Condemned::from_row,
                )
                .optional()
        })
    }

    /// The bytes that were swept in the last day.
    pub(super) fn spent(&self, age_secs: u64) -> Result<u64, LedgerError> {
        self.work("read", |change| {
            let since = age_secs.saturating_sub(DAY_SECS).cast_signed();
            change.execute("DELETE FROM spent WHERE age_secs < ?1", [since])?;
            let bytes: i64 =
                change.query_row("SELECT coalesce(sum(bytes), 0) FROM spent", [], |row| {
                    row.get(0)
                })?;
            Ok(bytes.cast_unsigned())
        })
    }

    /// Notes that a pack is to be removed at these destinations, each from an age on. Again for one that is listed there again.
    pub(super) fn sweep(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        places: &[(DestinationName, u64)],
        age_secs: u64,
    ) -> Result<(), LedgerError> {
        self.work("write", |change| {
            let (repository, name) = (repository.to_string(), name.to_string());
            let bytes: i64 = change.query_row(
                "SELECT bytes FROM condemned WHERE repository = ?1 AND name = ?2",
                params![repository, name],
                |row| row.get(0),
            )?;
            let first = change.execute(
                "UPDATE condemned SET swept = 1 WHERE repository = ?1 AND name = ?2 AND swept = 0",
                params![repository, name],
            )?;
            if first > 0 {
                note_spent(change, age_secs, bytes)?;
            }
            let mut insert = change.prepare_cached(
                "INSERT INTO removal (destination, repository, name, bytes, not_before_secs)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?;
            for (destination, from) in places {
                insert.execute(params![
                    destination.to_string(),
                    repository,
                    name,
                    bytes,
                    from.cast_signed()
                ])?;
            }
            Ok(())
        })
    }

    pub(super) fn due(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        age_secs: u64,
        limit: usize,
    ) -> Result<Vec<Due>, LedgerError> {
        self.work("read", |change| {
            let mut select = change.prepare_cached(
                "SELECT name, bytes FROM removal WHERE destination = ?1 AND repository = ?2
                 AND not_before_secs <= ?3 ORDER BY name LIMIT ?4",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = select.query_map(
                params![
                    destination.to_string(),
                    repository.to_string(),
                    age_secs.cast_signed(),
                    limit
                ],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
            )?;
            let mut due = Vec::new();
            for row in rows {
                let (name, bytes) = row?;
                // Written by us from names like these, of packs alone.
                if let Ok(name) = name.parse::<ObjectName>()
                    && name.digest().is_some()
                {
                    let bytes = bytes.cast_unsigned();
                    due.push(Due { name, bytes });
                }
            }
            Ok(due)
        })
    }

    pub(super) fn removed(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        name: &ObjectName,
    ) -> Result<(), LedgerError> {
        self.work("write", |change| {
            change
                .prepare_cached(
                    "DELETE FROM removal WHERE destination = ?1 AND repository = ?2 AND name = ?3",
                )?
                .execute(params![
                    destination.to_string(),
                    repository.to_string(),
                    name.to_string()
                ])
                .map(drop)
        })
    }

    pub(super) fn postpone(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        name: &ObjectName,
        until_secs: u64,
        problem: &str,
    ) -> Result<(), LedgerError> {
        let problem: String = problem.chars().take(PROBLEM_CHARS_MAX).collect();
        self.work("write", |change| {
            change
                .prepare_cached(
                    "UPDATE removal SET not_before_secs = ?4, problem = ?5
                     WHERE destination = ?1 AND repository = ?2 AND name = ?3",
                )?
                .execute(params![
                    destination.to_string(),
                    repository.to_string(),
                    name.to_string(),
                    until_secs.cast_signed(),
                    problem
                ])
                .map(drop)
        })
    }

    /// What is still to be removed of a repository, by destination.
    pub(super) fn waiting(
        &self,
        repository: RepositoryId,
    ) -> Result<Vec<RemovalsWaiting>, LedgerError> {
        self.work("read", |change| {
            let mut select = change.prepare_cached(
                "SELECT destination, count(*), sum(bytes), max(problem) FROM removal
                 WHERE repository = ?1 GROUP BY destination ORDER BY destination",
            )?;
            let rows = select.query_map([repository.to_string()], |row| {
                Ok(RemovalsWaiting {
                    destination: row.get(0)?,
                    objects: row.get::<_, i64>(1)?.cast_unsigned(),
                    bytes: row.get::<_, i64>(2)?.cast_unsigned(),
                    problem: row.get(3)?,
                })
            })?;
            rows.collect()
        })
    }

    pub(super) fn swept(
        &self,
        repository: RepositoryId,
    ) -> Result<HashSet<ObjectName>, LedgerError> {
        self.work("read", |change| {
            let mut select = change
                .prepare_cached("SELECT name FROM condemned WHERE repository = ?1 AND swept = 1")?;
            let rows = select.query_map([repository.to_string()], |row| row.get::<_, String>(0))?;
            let names = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
        })
    }
}
