//! What prunes remember from one to the next: acts of this coordinator, packs that nobody knows and since when, and what the
//! clocks said.

use std::collections::HashMap;

use append_server::age_clock::Reading;
use formats::ids::{ActId, PackId, RepositoryId};
use formats::seal::run_header::Purpose;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use crate::catalog::state::State;
use crate::clock::{from_nanos, to_nanos};
use crate::database::DatabaseError;
use crate::retention::clock_doubt::SeenClock;

macro_rules! retention_tables {
    () => {
        "
CREATE TABLE acts (
    act BLOB PRIMARY KEY,         -- acts of retention that this coordinator did
    at INTEGER NOT NULL           -- nanoseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE TABLE orphans (
    repository BLOB NOT NULL,
    pack_id BLOB NOT NULL,
    purpose INTEGER NOT NULL,     -- 1 data, 2 meta
    first_seen INTEGER NOT NULL,
    PRIMARY KEY (repository, pack_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE clock_reading (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot TEXT NOT NULL,
    since_boot INTEGER NOT NULL,  -- seconds
    unix INTEGER NOT NULL
) STRICT;
"
    };
}
pub(super) use retention_tables;

impl State {
    /// Notes an act before its record is written.
    pub fn note_act(&mut self, act: ActId, at: Timestamp) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO acts (act, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![act.as_bytes(), to_nanos(at)],
            )?;
            Ok(())
        })
    }

    /// Whether an act was this coordinator's.
    pub fn knows_act(&self, act: ActId) -> Result<bool, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM acts WHERE act = ?1")?
                .exists([act.as_bytes()])
        })
    }

    /// Notes which packs of a repository nobody knows; gives since when each of them was seen.
    pub fn see_orphans(
        &mut self,
        repository: RepositoryId,
        orphans: &[(PackId, Purpose)],
        now: Timestamp,
    ) -> Result<HashMap<PackId, Timestamp>, DatabaseError> {
        self.database.write(|transaction| {
            let mut known = HashMap::new();
            let mut select =
                transaction.prepare_cached("SELECT pack_id, first_seen FROM orphans WHERE repository = ?1")?;
            let mut rows = select.query([repository.as_bytes()])?;
            while let Some(row) = rows.next()? {
                known.insert(PackId(row.get(0)?), row.get::<_, i64>(1)?);
            }
            transaction.execute("DELETE FROM orphans WHERE repository = ?1", [repository.as_bytes()])?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO orphans (repository, pack_id, purpose, first_seen) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut seen = HashMap::new();
            for (pack, purpose) in orphans {
                let first = known.get(pack).copied().unwrap_or_else(|| to_nanos(now));
                insert.execute(params![repository.as_bytes(), pack.as_bytes(), purpose.tag(), first])?;
                seen.insert(*pack, from_nanos(first));
            }
            Ok(seen)
        })
    }

    /// What the clocks said when a prune last looked.
    pub fn clock_seen(&self) -> Result<Option<SeenClock>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .query_row(
                    "SELECT boot, since_boot, unix, coalesce(unbroken_since, unix) FROM clock_reading",
                    [],
                    |row| {
                        Ok(SeenClock {
                            reading: Reading {
                                boot: row.get(0)?,
                                since_boot_secs: row.get::<_, i64>(1)?.unsigned_abs(),
                                unix_secs: row.get::<_, i64>(2)?.unsigned_abs(),
                            },
                            unbroken_since_unix_secs: row.get::<_, i64>(3)?.unsigned_abs(),
                        })
                    },
                )
                .optional()
        })
    }

    /// Notes what the clocks say.
    pub fn note_clock(&mut self, seen: &SeenClock) -> Result<(), DatabaseError> {
        let reading = &seen.reading;
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO clock_reading (one, boot, since_boot, unix, unbroken_since) VALUES (1, ?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET boot = ?1, since_boot = ?2, unix = ?3, unbroken_since = ?4",
                params![
                    reading.boot,
                    i64::try_from(reading.since_boot_secs).unwrap_or(i64::MAX),
                    i64::try_from(reading.unix_secs).unwrap_or(i64::MAX),
                    i64::try_from(seen.unbroken_since_unix_secs).unwrap_or(i64::MAX)
                ],
            )?;
            Ok(())
        })
    }
}
