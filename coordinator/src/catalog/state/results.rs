//! What runs came to in numbers, and when a host's snapshots were last read back in full: what status shows without opening a
//! repository.

use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use crate::catalog::state::{RunRow, State, read_run};
use crate::clock::{from_nanos, to_nanos};
use crate::database::{DatabaseError, unsigned};

macro_rules! results_tables {
    () => {
        "
CREATE TABLE run_results (
    run BLOB PRIMARY KEY,         -- one that committed a snapshot
    host TEXT NOT NULL,
    snapshot BLOB NOT NULL,
    committed INTEGER NOT NULL,   -- nanoseconds since 1970
    good INTEGER NOT NULL,        -- 0 if it waits for a person
    verified INTEGER NOT NULL,    -- 1 if every pack of it was read back before
    files INTEGER NOT NULL,       -- of the whole snapshot, like the next two
    directories INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    bytes_read INTEGER NOT NULL,
    bytes_new INTEGER NOT NULL,
    bytes_stored INTEGER NOT NULL,
    problems INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX run_results_by_host ON run_results (host, committed);
CREATE TABLE verified (
    host TEXT PRIMARY KEY,
    at INTEGER NOT NULL           -- when all its snapshots were read back and found whole
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use results_tables;

/// What a run came to in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunResult {
    /// The snapshot that it committed.
    pub snapshot: RecordId,
    /// When.
    pub committed: Timestamp,
    /// Whether it counts as good: it does not wait for a person.
    pub good: bool,
    /// Whether every pack of it was read back before.
    pub verified: bool,
    /// Its counts; `others` are counted among the files.
    pub totals: SnapshotTotals,
}

impl State {
    /// A run of a host and those before it that left no snapshot: all that began after the run that made its last one. The run
    /// alone where that is of another coordinator, or of a lost state.
    pub fn runs_since_snapshot(
        &self,
        host: &str,
        run: RunId,
        last_committed: RunId,
    ) -> Result<Vec<RunId>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT run FROM runs WHERE host = ?1
                 AND (run = ?2 OR rowid > (SELECT rowid FROM runs WHERE run = ?3)) ORDER BY rowid",
            )?;
            let values = params![host, run.as_bytes(), last_committed.as_bytes()];
            let rows = statement.query_map(values, |row| Ok(RunId(row.get(0)?)))?;
            rows.collect()
        })
    }

    /// Notes what a run came to in numbers.
    pub fn note_result(
        &mut self,
        host: &str,
        run: RunId,
        result: &RunResult,
    ) -> Result<(), DatabaseError> {
        let totals = &result.totals;
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO run_results (run, host, snapshot, committed, good, verified, files, directories, bytes,
                 bytes_read, bytes_new, bytes_stored, problems)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT DO NOTHING",
                params![
                    run.as_bytes(),
                    host,
                    result.snapshot.as_bytes(),
                    to_nanos(result.committed),
                    result.good,
                    result.verified,
                    saturated(totals.files.saturating_add(totals.others)),
                    saturated(totals.directories),
                    saturated(totals.bytes),
                    saturated(totals.bytes_read),
                    saturated(totals.bytes_new),
                    saturated(totals.bytes_stored),
                    saturated(totals.problems),
                ],
            )?;
            Ok(())
        })
    }

    /// What a run came to in numbers; nothing for one that committed no snapshot.
    pub fn result(&self, run: RunId) -> Result<Option<RunResult>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM run_results WHERE run = ?1"))?
                .query_row([run.as_bytes()], read_result)
                .optional()
        })
    }

    /// The good run of a host that began last: one that committed a snapshot, which does not wait for anybody. A clock that was
    /// ahead for a while changes nothing in that. After `recover` results are known without their runs: then the newest counts.
    pub fn last_good(&self, host: &str) -> Result<Option<(RunId, RunResult)>, DatabaseError> {
        self.database.read(|connection| {
            let find = |from_where_order: &str| {
                let sql = format!("SELECT {COLUMNS}, run {from_where_order} LIMIT 1");
                let mut statement = connection.prepare_cached(&sql)?;
                let read = |row: &Row<'_>| Ok((RunId(row.get(11)?), read_result(row)?));
                statement.query_row([host], read).optional()
            };
            let of_runs = find(
                "FROM runs JOIN run_results USING (run)
                 WHERE runs.host = ?1 AND good = 1 ORDER BY runs.rowid DESC",
            )?;
            match of_runs {
                Some(found) => Ok(Some(found)),
                None => {
                    find("FROM run_results WHERE host = ?1 AND good = 1 ORDER BY committed DESC")
                }
            }
        })
    }

    /// A person looked at what waited: it counts as good from now on.
    pub fn accept_results(&mut self, host: &str) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute("UPDATE run_results SET good = 1 WHERE host = ?1", [host])?;
            Ok(())
        })
    }

    /// Notes that all snapshots of a host were read back and found whole.
    pub fn note_verified(&mut self, host: &str, at: Timestamp) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO verified (host, at) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET at = excluded.at",
                params![host, to_nanos(at)],
            )?;
            Ok(())
        })
    }

    /// When all snapshots of a host were last read back and found whole, on somebody's order.
    pub fn verified_at(&self, host: &str) -> Result<Option<Timestamp>, DatabaseError> {
        self.database.read(|connection| {
            let at: Option<i64> = connection
                .prepare_cached("SELECT at FROM verified WHERE host = ?1")?
                .query_row([host], |row| row.get(0))
                .optional()?;
            Ok(at.map(from_nanos))
        })
    }

    /// A run.
    pub fn run(&self, run: RunId) -> Result<Option<RunRow>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT run, host, started, finished, outcome, error FROM runs WHERE run = ?1",
                )?
                .query_row([run.as_bytes()], read_run)
                .optional()
        })
    }

    /// Runs of all hosts that have not ended.
    pub fn open_runs(&self) -> Result<Vec<RunRow>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT run, host, started, finished, outcome, error FROM runs WHERE finished IS NULL",
            )?;
            let rows = statement.query_map([], read_run)?;
            rows.collect()
        })
    }
}

const COLUMNS: &str = "snapshot, committed, good, verified, files, directories, bytes, bytes_read, bytes_new, bytes_stored, \
                       problems";

/// A host's counts reach 2^64 (a few sparse files do); SQLite's numbers end at half of it.
fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read_result(row: &Row<'_>) -> rusqlite::Result<RunResult> {
    Ok(RunResult {
        snapshot: RecordId(row.get(0)?),
        committed: from_nanos(row.get(1)?),
        good: row.get(2)?,
        verified: row.get(3)?,
        totals: SnapshotTotals {
            files: unsigned(row, 4)?,
            directories: unsigned(row, 5)?,
            others: 0,
            bytes: unsigned(row, 6)?,
            bytes_read: unsigned(row, 7)?,
            bytes_new: unsigned(row, 8)?,
            bytes_stored: unsigned(row, 9)?,
            problems: unsigned(row, 10)?,
        },
    })
}
