//! Hosts whose `finally` hooks are still to be run: written down before a run's first hook, so that a coordinator that was
//! killed in it leaves the next one to run them.

use formats::ids::RunId;
use rusqlite::{OptionalExtension as _, params};

use crate::catalog::state::State;
use crate::database::DatabaseError;

macro_rules! hooks_tables {
    () => {
        "
CREATE TABLE finally_owed (
    host TEXT PRIMARY KEY,
    run BLOB NOT NULL             -- the run that began and whose finally hooks were not run
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use hooks_tables;

impl State {
    /// Notes that a host's finally hooks are to be run after this run.
    pub fn owe_finally(&mut self, host: &str, run: RunId) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO finally_owed (host, run) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET run = excluded.run",
                params![host, run.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// The run whose finally hooks were not run.
    pub fn finally_owed(&self, host: &str) -> Result<Option<RunId>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached("SELECT run FROM finally_owed WHERE host = ?1")?
                .query_row([host], |row| Ok(RunId(row.get(0)?)))
                .optional()
        })
    }

    /// Notes that a host's finally hooks were run.
    pub fn finally_done(&mut self, host: &str) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute("DELETE FROM finally_owed WHERE host = ?1", [host])?;
            Ok(())
        })
    }
}
