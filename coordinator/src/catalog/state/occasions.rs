//! Which occasions of a schedule were attempted, and what came of them: so that nothing runs twice for one occasion, whatever
//! becomes of the daemon and the clock.

use formats::ids::RunId;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::catalog::state::{Outcome, State};
use crate::clock::{from_nanos, to_nanos};
use crate::database::{DatabaseError, bad_value};

/// Occasions that are remembered of each host.
const KEPT_MAX: u32 = 5_000;

macro_rules! occasions_tables {
    () => {
        "
CREATE TABLE scheduled (
    host TEXT PRIMARY KEY,        -- or what else has a schedule
    schedule TEXT NOT NULL,       -- as it was when it was first seen
    since INTEGER NOT NULL        -- when that was, nanoseconds since 1970: what is due before does not count
) STRICT, WITHOUT ROWID;
CREATE TABLE occasions (
    host TEXT NOT NULL,
    occasion INTEGER NOT NULL,    -- by the calendar, nanoseconds since 1970
    attempts INTEGER NOT NULL,    -- that count
    begun INTEGER NOT NULL,       -- when the last one began
    ended INTEGER,                -- when it ended
    result TEXT,                  -- what it came to: an outcome, or 'put off', which does not count
    PRIMARY KEY (host, occasion)
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use occasions_tables;

/// The word for an attempt that does not count.
const PUT_OFF: &str = "put off";

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// A run, with this outcome.
    Ran(Outcome),
    /// There was no run, or it was cut short by the daemon's own end.
    PutOff,
}

impl AttemptResult {
    fn word(self) -> &'static str {
        match self {
            Self::Ran(outcome) => outcome.as_str(),
            Self::PutOff => PUT_OFF,
        }
    }
}

/// One occasion of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OccasionRow {
    /// By the calendar.
    pub occasion: Timestamp,
    /// Attempts that count.
    pub attempts: u32,
    /// When the last attempt began.
    pub begun: Timestamp,
    /// When it ended and what it came to.
    pub ended: Option<(Timestamp, AttemptResult)>,
}

impl State {
    /// Since when each host has its schedule, given as host and schedule. Occasions from before are not its. A time in the future
    /// is of a clock that was ahead: it would be waited for.
    pub fn scheduled_since(
        &mut self,
        hosts: &[(String, String)],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, DatabaseError> {
        self.database.write(|transaction| {
            let mut note = transaction.prepare_cached(
                "INSERT INTO scheduled (host, schedule, since) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET schedule = excluded.schedule, since = excluded.since
                 WHERE schedule <> excluded.schedule OR since > excluded.since",
            )?;
            let mut find =
                transaction.prepare_cached("SELECT since FROM scheduled WHERE host = ?1")?;
            let mut all = Vec::with_capacity(hosts.len());
            for (host, schedule) in hosts {
                note.execute(params![host, schedule, to_nanos(now)])?;
                all.push(from_nanos(find.query_row([host], |row| row.get(0))?));
            }
            Ok(all)
        })
    }

    /// Since when a host has the schedule that it was last seen with.
    pub fn schedule_seen(&self, host: &str) -> Result<Option<Timestamp>, DatabaseError> {
        self.database.read(|connection| {
            let since: Option<i64> = connection
                .prepare_cached("SELECT since FROM scheduled WHERE host = ?1")?
                .query_row([host], |row| row.get(0))
                .optional()?;
            Ok(since.map(from_nanos))
        })
    }

    /// The last occasion of a host that is not in the future: a clock that was wrong for a while leaves such.
    pub fn last_occasion(
        &self,
        host: &str,
        now: Timestamp,
    ) -> Result<Option<OccasionRow>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT occasion, attempts, begun, ended, result FROM occasions
                     WHERE host = ?1 AND occasion <= ?2 ORDER BY occasion DESC LIMIT 1",
                )?
                .query_row(params![host, to_nanos(now)], read_occasion)
                .optional()
        })
    }

    /// Notes that a run for an occasion is about to begin. This is durable before it begins. False, and nothing is noted, for
    /// one that is done with: by a clock that went back it comes a second time. What is no run has none.
    pub fn occasion_begun(
        &mut self,
        host: &str,
        occasion: Timestamp,
        run: Option<RunId>,
        now: Timestamp,
    ) -> Result<bool, DatabaseError> {
        self.database.write(|transaction| {
            let open = [Outcome::Failed.as_str(), Outcome::Died.as_str(), PUT_OFF];
            let done = transaction
                .prepare_cached(
                    "SELECT 1 FROM occasions WHERE host = ?1 AND occasion = ?2
                     AND result NOT IN (?3, ?4, ?5)",
                )?
                .exists(params![host, to_nanos(occasion), open[0], open[1], open[2]])?;
            if done {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO occasions (host, occasion, attempts, begun, run) VALUES (?1, ?2, 1, ?3, ?4)
                 ON CONFLICT DO UPDATE SET attempts = attempts + 1, begun = ?3, ended = NULL, result = NULL,
                 run = ?4",
                params![
                    host,
                    to_nanos(occasion),
                    to_nanos(now),
                    run.as_ref().map(RunId::as_bytes)
                ],
            )?;
            forget_old(transaction, host)?;
            Ok(true)
        })
    }

    /// Notes what the attempt at an occasion came to.
    pub fn occasion_ended(
        &mut self,
        host: &str,
        occasion: Timestamp,
        result: AttemptResult,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.database
            .write(|transaction| end_attempt(transaction, host, to_nanos(occasion), result, now))
    }

    /// Notes that an occasion was let go without a run.
    pub fn occasion_let_go(
        &mut self,
        host: &str,
        occasion: Timestamp,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO occasions (host, occasion, attempts, begun, ended, result)
                 VALUES (?1, ?2, 0, ?3, ?3, ?4) ON CONFLICT DO NOTHING",
                params![
                    host,
                    to_nanos(occasion),
                    to_nanos(now),
                    Outcome::Skipped.as_str()
                ],
            )?;
            forget_old(transaction, host)
        })
    }

    /// Attempts that never ended: nobody but one daemon makes any, so it died. What their runs came to says whether they are
    /// done with, so that none is made twice. How many there were.
    pub fn occasions_died(&mut self, now: Timestamp) -> Result<usize, DatabaseError> {
        self.database.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT occasions.host, occasion, outcome FROM occasions LEFT JOIN runs USING (run)
                 WHERE ended IS NULL",
            )?;
            let open = statement.query_map([], |row| {
                let outcome: Option<String> = row.get(2)?;
                let outcome = outcome.map_or(Ok(Outcome::Died), |word| {
                    word.parse().map_err(|source| bad_value(2, source))
                })?;
                Ok((row.get::<_, String>(0)?, row.get(1)?, outcome))
            })?;
            let open = open.collect::<rusqlite::Result<Vec<_>>>()?;
            for (host, occasion, outcome) in &open {
                let result = match outcome {
                    // By the daemon's own end, or a person's word that was not noted: a run too many does no harm.
                    Outcome::Cancelled => AttemptResult::PutOff,
                    outcome => AttemptResult::Ran(*outcome),
                };
                end_attempt(transaction, host, *occasion, result, now)?;
            }
            Ok(open.len())
        })
    }
}

fn end_attempt(
    transaction: &Transaction<'_>,
    host: &str,
    occasion: i64,
    result: AttemptResult,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let uncounted = u32::from(result == AttemptResult::PutOff);
    transaction
        .prepare_cached(
            "UPDATE occasions SET ended = ?3, result = ?4, attempts = max(attempts - ?5, 0)
             WHERE host = ?1 AND occasion = ?2",
        )?
        .execute(params![
            host,
            occasion,
            to_nanos(now),
            result.word(),
            uncounted
        ])?;
    Ok(())
}

/// By their number, never by the clock: a wrong one would make it forget what was done.
fn forget_old(transaction: &Transaction<'_>, host: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM occasions WHERE host = ?1 AND occasion <
             (SELECT occasion FROM occasions WHERE host = ?1 ORDER BY occasion DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![host, KEPT_MAX])?;
    Ok(())
}

fn read_occasion(row: &Row<'_>) -> rusqlite::Result<OccasionRow> {
    let ended: Option<i64> = row.get(3)?;
    let word: Option<String> = row.get(4)?;
    let result = match word.as_deref() {
        None => None,
        Some(PUT_OFF) => Some(AttemptResult::PutOff),
        Some(word) => {
            let outcome = word.parse().map_err(|source| bad_value(4, source))?;
            Some(AttemptResult::Ran(outcome))
        }
    };
    Ok(OccasionRow {
        occasion: from_nanos(row.get(0)?),
        attempts: row.get(1)?,
        begun: from_nanos(row.get(2)?),
        ended: ended.map(from_nanos).zip(result),
    })
}

#[cfg(test)]
mod tests;
