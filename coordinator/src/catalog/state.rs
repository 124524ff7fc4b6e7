//! The coordinator's own state: which repository a host or group of hosts writes to, and what its runs
//! came to. One file for all hosts. Never holds a key.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use formats::ids::{CoordinatorId, RepositoryId, RunId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::clock::{from_nanos, to_nanos};
use crate::database::{Database, DatabaseError, Schema, bad_value, signed, unsigned};

pub mod changes;
pub mod figures;
pub mod holds;
pub mod hooks;
pub mod identities;
pub mod notifications;
pub mod occasions;
pub mod results;
pub mod retention;
pub mod settled_clocks;
pub mod stream_sizes;
pub mod taken_over;
pub mod tokens;
pub mod trim;

use changes::change_tables;
use figures::{figure_tables, figures_without_holes};
use holds::hold_tables;
use hooks::hooks_tables;
use identities::identity_tables;
use notifications::{notification_tables, refusals};
use occasions::occasions_tables;
use results::results_tables;
use retention::retention_tables;
use settled_clocks::settled_clock_tables;
use stream_sizes::stream_size_tables;
use tokens::token_tables;

/// New in version 2.
macro_rules! foreign_records {
    () => {
        "
CREATE TABLE foreign_records (
    repository BLOB PRIMARY KEY,
    first INTEGER NOT NULL,       -- records of the log that no run of this coordinator wrote,
    last INTEGER NOT NULL,        -- from the first to the last of them
    found INTEGER NOT NULL        -- nanoseconds since 1970
) STRICT, WITHOUT ROWID;
"
    };
}

/// New in version 3.
macro_rules! identity {
    () => {
        "
CREATE TABLE identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    coordinator BLOB NOT NULL,    -- what leases call this coordinator
    machine BLOB                  -- digest of the machine's id, where it has one
) STRICT;
"
    };
}

/// New in version 11: an occasion knows its run, and runs are in the order in which they began, whatever the clock said.
macro_rules! runs_in_order {
    () => {
        "
ALTER TABLE occasions ADD COLUMN run BLOB; -- of the last attempt; nothing for what is no run
ALTER TABLE runs ADD COLUMN commits INTEGER NOT NULL DEFAULT 0; -- 1 once its record may be in the log
DROP INDEX runs_by_host;
CREATE INDEX runs_by_host ON runs (host);
"
    };
}

/// What is said of a run that died before its snapshot was committed, and after.
const DIED_EARLY: &str =
    "the coordinator died in this run; what was verified stays, the next run goes on from it";
const DIED_LATE: &str =
    "the coordinator died once the snapshot was committed: hooks after the run may be missing";

const SCHEMA: Schema = Schema {
    what: "state file",
    remedy: "put back a copy of it; it alone says which repository is which host's",
    application_id: 0x4361_5354, // "CaST"
    version: 16,
    cache_kib: 2 << 10,
    upgrades: &[
        (1, foreign_records!()),
        (2, identity!()),
        (3, retention_tables!()),
        (4, hold_tables!()),
        (5, figure_tables!()),
        (6, identity_tables!()),
        (7, concat!(occasions_tables!(), results_tables!())),
        (8, concat!(token_tables!(), notification_tables!())),
        (9, hooks_tables!()),
        (10, runs_in_order!()),
        (11, stream_size_tables!()),
        (12, change_tables!()),
        (13, figures_without_holes!()),
        (14, settled_clock_tables!()),
        (15, refusals!()),
    ],
    sql: concat!(
        "
CREATE TABLE repositories (
    name TEXT PRIMARY KEY,        -- a host's, or a group's
    repository BLOB NOT NULL UNIQUE,
    first_seen INTEGER NOT NULL,  -- nanoseconds since 1970
    established INTEGER NOT NULL  -- 1 once config and keys are durable in the destination
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
    run BLOB PRIMARY KEY,
    host TEXT NOT NULL,
    started INTEGER NOT NULL,
    finished INTEGER,
    outcome TEXT,
    error TEXT
) STRICT;
CREATE INDEX runs_by_host ON runs (host, started);
",
        foreign_records!(),
        identity!(),
        retention_tables!(),
        hold_tables!(),
        figure_tables!(),
        identity_tables!(),
        occasions_tables!(),
        results_tables!(),
        token_tables!(),
        notification_tables!(),
        hooks_tables!(),
        runs_in_order!(),
        stream_size_tables!(),
        change_tables!(),
        figures_without_holes!(),
        settled_clock_tables!(),
        refusals!()
    ),
};

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Everything was backed up.
    Ok,
    /// A snapshot was committed, but some source data could not be read.
    Warnings,
    /// No snapshot.
    Failed,
    /// A snapshot that waits for a person.
    Held,
    /// Not run, for a reason.
    Skipped,
    /// An operator stopped it.
    Cancelled,
    /// The coordinator died in it.
    Died,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Warnings,
        Self::Failed,
        Self::Held,
        Self::Skipped,
        Self::Cancelled,
        Self::Died,
    ];

    /// Its word, as it is shown and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warnings => "warnings",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Died => "died",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A word that is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no outcome of a run")]
pub struct ParseOutcomeError {
    word: String,
}

impl FromStr for Outcome {
    type Err = ParseOutcomeError;

    fn from_str(word: &str) -> Result<Self, ParseOutcomeError> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
            .ok_or_else(|| ParseOutcomeError {
                word: word.to_owned(),
            })
    }
}

/// A repository that a host or a group writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRepository {
    /// The host's name, or the group's.
    pub name: String,
    /// The repository.
    pub repository: RepositoryId,
    /// When it was made.
    pub first_seen: Timestamp,
    /// Whether its config and keys are durable in the destination.
    pub established: bool,
}

/// Records of a log that no run of this coordinator wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignRecords {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// One run of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The host.
    pub host: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, and what it came to.
    pub finished: Option<(Timestamp, Outcome)>,
    /// What went wrong.
    pub error: Option<String>,
}

/// The coordinator's own state.
#[derive(Debug)]
pub struct State {
    database: Database,
}

impl State {
    /// Opens it, or begins an empty one.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self {
            database: Database::open(path, &SCHEMA)?,
        })
    }

    /// Writes it as it is now into a new file, for a backup.
    pub fn copy_to(&self, path: &Path) -> Result<(), DatabaseError> {
        self.database.copy_to(path)
    }

    /// What leases call this coordinator: `fresh`, the first time. A state that stands on another machine now is a copy, and
    /// has another name there: the one it was copied from may still run.
    pub fn coordinator_id(
        &mut self,
        machine: Option<[u8; 32]>,
        fresh: CoordinatorId,
    ) -> Result<CoordinatorId, DatabaseError> {
        self.database.write(|transaction| {
            let found: Option<([u8; 16], Option<[u8; 32]>)> = transaction
                .query_row("SELECT coordinator, machine FROM identity", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let id = match found {
                Some((id, known)) if known == machine || known.is_none() || machine.is_none() => {
                    CoordinatorId(id)
                }
                _ => fresh,
            };
            transaction.execute(
                "INSERT INTO identity (one, coordinator, machine) VALUES (1, ?1, ?2)
                 ON CONFLICT DO UPDATE SET coordinator = ?1, machine = coalesce(?2, machine)",
                params![id.as_bytes(), machine],
            )?;
            Ok(id)
        })
    }

    /// The repository of a host or group.
    pub fn repository(&self, name: &str) -> Result<Option<KnownRepository>, DatabaseError> {
        self.database.read(|connection| find(connection, name))
    }

    /// All repositories, by name.
    pub fn repositories(&self) -> Result<Vec<KnownRepository>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name, repository, first_seen, established FROM repositories ORDER BY name",
            )?;
            let rows = statement.query_map([], read_repository)?;
            rows.collect()
        })
    }

    /// Gives a name this repository, unless it has one; says which one it has.
    pub fn remember_repository(
        &mut self,
        name: &str,
        repository: RepositoryId,
        first_seen: Timestamp,
    ) -> Result<KnownRepository, DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO repositories (name, repository, first_seen, established)
                 VALUES (?1, ?2, ?3, 0) ON CONFLICT (name) DO NOTHING",
                params![name, repository.as_bytes(), to_nanos(first_seen)],
            )?;
            find(transaction, name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
    }

    /// Gives a repository another name, which no other has.
    pub fn rename_repository(
        &mut self,
        repository: RepositoryId,
        name: &str,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE repositories SET name = ?2 WHERE repository = ?1",
                params![repository.as_bytes(), name],
            )?;
            Ok(())
        })
    }

    /// Notes that a repository's config and keys are durable in the destination.
    pub fn mark_established(&mut self, repository: RepositoryId) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE repositories SET established = 1 WHERE repository = ?1",
                [repository.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Gives up a repository that was never established; an established one stays.
    pub fn forget_unestablished(&mut self, repository: RepositoryId) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "DELETE FROM repositories WHERE repository = ?1 AND established = 0",
                [repository.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Notes that a run began. The caller holds the host's lock, so a run of it that never ended has died.
    pub fn run_started(
        &mut self,
        host: &str,
        run: RunId,
        started: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT run FROM runs WHERE host = ?1 AND finished IS NULL")?;
            let open = statement.query_map([host], |row| Ok(RunId(row.get(0)?)))?;
            for open in open.collect::<rusqlite::Result<Vec<_>>>()? {
                end_dead_run(transaction, open, started)?;
            }
            transaction.execute(
                "INSERT INTO runs (run, host, started) VALUES (?1, ?2, ?3)",
                params![run.as_bytes(), host, to_nanos(started)],
            )?;
            Ok(())
        })
    }

    /// Whether a run was begun by this coordinator.
    pub fn knows_run(&self, run: RunId) -> Result<bool, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM runs WHERE run = ?1")?
                .exists([run.as_bytes()])
        })
    }

    /// Notes records of a log that this coordinator did not write; nothing is written to it any more.
    pub fn note_foreign(
        &mut self,
        repository: RepositoryId,
        records: ForeignRecords,
        found: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO foreign_records (repository, first, last, found) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET last = excluded.last",
                params![
                    repository.as_bytes(),
                    signed(records.first)?,
                    signed(records.last)?,
                    to_nanos(found)
                ],
            )?;
            Ok(())
        })
    }

    /// The records of a log that this coordinator did not write, until somebody has looked at them.
    pub fn foreign(
        &self,
        repository: RepositoryId,
    ) -> Result<Option<ForeignRecords>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached("SELECT first, last FROM foreign_records WHERE repository = ?1")?
                .query_row([repository.as_bytes()], |row| {
                    Ok(ForeignRecords {
                        first: unsigned(row, 0)?,
                        last: unsigned(row, 1)?,
                    })
                })
                .optional()
        })
    }

    /// Somebody has looked at the records that this coordinator did not write.
    pub fn accept_foreign(&mut self, repository: RepositoryId) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "DELETE FROM foreign_records WHERE repository = ?1",
                [repository.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Notes what a run came to.
    pub fn run_finished(
        &mut self,
        run: RunId,
        finished: Timestamp,
        outcome: Outcome,
        error: Option<&str>,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE runs SET finished = ?2, outcome = ?3, error = ?4 WHERE run = ?1",
                params![run.as_bytes(), to_nanos(finished), outcome.as_str(), error],
            )?;
            Ok(())
        })
    }

    /// Notes that a run's record is about to be written into the log.
    pub fn run_commits(&mut self, run: RunId) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction
                .prepare_cached("UPDATE runs SET commits = 1 WHERE run = ?1")?
                .execute([run.as_bytes()])?;
            Ok(())
        })
    }

    /// Whether a run's record may be in the log although nothing says so here.
    pub fn may_be_committed(&self, run: RunId) -> Result<bool, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT 1 FROM runs LEFT JOIN run_results USING (run)
                     WHERE run = ?1 AND commits = 1 AND snapshot IS NULL",
                )?
                .exists([run.as_bytes()])
        })
    }

    /// Notes that nobody is at a run any more that never ended; gives what it came to, or nothing once somebody has noted that.
    pub fn run_died(
        &mut self,
        run: RunId,
        found: Timestamp,
    ) -> Result<Option<Outcome>, DatabaseError> {
        self.database
            .write(|transaction| end_dead_run(transaction, run, found))
    }

    /// A host's last runs: the one that began last is the first, whatever the clock said.
    pub fn runs(&self, host: &str, count_max: u32) -> Result<Vec<RunRow>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT run, host, started, finished, outcome, error FROM runs WHERE host = ?1
                 ORDER BY rowid DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![host, count_max], read_run)?;
            rows.collect()
        })
    }
}

/// What a run came to whose coordinator died. Once its snapshot is committed it has not failed, whatever of its end is missing.
fn end_dead_run(
    transaction: &Transaction<'_>,
    run: RunId,
    found: Timestamp,
) -> rusqlite::Result<Option<Outcome>> {
    let good: Option<bool> = transaction
        .prepare_cached("SELECT good FROM run_results WHERE run = ?1")?
        .query_row([run.as_bytes()], |row| row.get(0))
        .optional()?;
    let (outcome, why) = match good {
        Some(true) => (Outcome::Warnings, DIED_LATE),
        Some(false) => (Outcome::Held, DIED_LATE),
        None => (Outcome::Died, DIED_EARLY),
    };
    let noted = transaction
        .prepare_cached(
            "UPDATE runs SET finished = ?2, outcome = ?3, error = ?4 WHERE run = ?1 AND finished IS NULL",
        )?
        .execute(params![
            run.as_bytes(),
            to_nanos(found),
            outcome.as_str(),
            why
        ])?;
    Ok((noted > 0).then_some(outcome))
}

fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<KnownRepository>> {
    connection
        .prepare_cached(
            "SELECT name, repository, first_seen, established FROM repositories WHERE name = ?1",
        )?
        .query_row([name], read_repository)
        .optional()
}

fn read_repository(row: &Row<'_>) -> rusqlite::Result<KnownRepository> {
    Ok(KnownRepository {
        name: row.get(0)?,
        repository: RepositoryId(row.get(1)?),
        first_seen: from_nanos(row.get(2)?),
        established: row.get(3)?,
    })
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let finished: Option<i64> = row.get(3)?;
    let outcome: Option<String> = row.get(4)?;
    let outcome = outcome
        .map(|word| word.parse())
        .transpose()
        .map_err(|source: ParseOutcomeError| bad_value(4, source))?;
    Ok(RunRow {
        run: RunId(row.get(0)?),
        host: row.get(1)?,
        started: from_nanos(row.get(2)?),
        finished: finished.map(from_nanos).zip(outcome),
        error: row.get(5)?,
    })
}

#[cfg(test)]
mod tests;
