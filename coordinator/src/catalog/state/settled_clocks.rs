//! From which record of a repository's log on its times are believed again: a person said so, after the clock had been wrong.

use formats::ids::RepositoryId;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use crate::catalog::state::State;
use crate::clock::{from_nanos, to_nanos};
use crate::database::{DatabaseError, signed, unsigned};

macro_rules! settled_clock_tables {
    () => {
        "
CREATE TABLE settled_clocks (
    repository BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,    -- the log's last record then
    at INTEGER NOT NULL           -- nanoseconds since 1970, by the clock that is right
) STRICT, WITHOUT ROWID;
-- Seconds since 1970: from when on the clock went as the kernel counted.
ALTER TABLE clock_reading ADD COLUMN unbroken_since INTEGER;
"
    };
}
pub(super) use settled_clock_tables;

/// When a person last said that the clock is right, after it had been doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledClock {
    /// The log's last record then: what it and those before it tell of times says nothing of the clock any more.
    pub sequence: u64,
    /// The time then.
    pub at: Timestamp,
}

impl State {
    /// Notes that a person says that the clock is right.
    pub fn settle_clock(
        &mut self,
        repository: RepositoryId,
        settled: SettledClock,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO settled_clocks (repository, sequence, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET sequence = ?2, at = ?3",
                params![
                    repository.as_bytes(),
                    signed(settled.sequence)?,
                    to_nanos(settled.at)
                ],
            )?;
            Ok(())
        })
    }

    /// When a person last said so, of a repository.
    pub fn settled_clock(
        &self,
        repository: RepositoryId,
    ) -> Result<Option<SettledClock>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached("SELECT sequence, at FROM settled_clocks WHERE repository = ?1")?
                .query_row([repository.as_bytes()], |row| {
                    Ok(SettledClock {
                        sequence: unsigned(row, 0)?,
                        at: from_nanos(row.get(1)?),
                    })
                })
                .optional()
        })
    }
}
