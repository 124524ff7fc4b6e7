//! What the log says became of snapshots and packs: forgotten, pinned, condemned, swept. Rows follow the records one by one,
//! so that a catalog that is read anew has the same ones.

use std::collections::HashSet;
use std::time::Duration;

use formats::codec::Reader;
use formats::ids::{ActId, PackId, RecordId, RunId};
use formats::log::retention::{Act, CondemnedPack, Prune, Retention};
use formats::log::snapshot::Snapshot;
use formats::seal::run_header::Purpose;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::catalog::row::{SnapshotRow, forgotten_rows};
use crate::catalog::thinning::{bring_back, spare_thinned, sweep_at, thin};
use crate::catalog::{Catalog, CatalogError};
use crate::clock::{from_nanos, to_nanos};
use crate::database::{bad_value, signed, unsigned};

/// New in version 3.
macro_rules! retention_tables {
    () => {
        "
CREATE TABLE acts (
    sequence INTEGER PRIMARY KEY,
    act BLOB NOT NULL,
    at INTEGER NOT NULL            -- nanoseconds since 1970, the coordinator's clock
) STRICT;
CREATE TABLE forgotten (
    record_id BLOB PRIMARY KEY,    -- the snapshot's
    sequence INTEGER NOT NULL,     -- the record that forgot it
    at INTEGER NOT NULL,
    by_person INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pinned (
    record_id BLOB PRIMARY KEY,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE prunes (
    sequence INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    payload BLOB NOT NULL          -- formats::log::retention
) STRICT;
CREATE TABLE condemned (
    pack_id BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,     -- the record that condemned it
    at INTEGER NOT NULL,
    purpose INTEGER NOT NULL,      -- 1 data, 2 meta
    bytes INTEGER NOT NULL,
    swept INTEGER                  -- the record from which on it is removed
) STRICT, WITHOUT ROWID;
CREATE INDEX condemned_unswept ON condemned (at) WHERE swept IS NULL;
CREATE TABLE spared (
    sequence INTEGER PRIMARY KEY   -- records that brought packs back
) STRICT;
"
    };
}
pub(super) use retention_tables;

/// A pinned snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRow {
    /// Its record.
    pub snapshot: RecordId,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A condemned pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CondemnedRow {
    /// The pack.
    pub pack: CondemnedPack,
    /// The record that condemned it.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// The record from which on it is removed.
    pub swept: Option<u64>,
}

/// A forgotten snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenRow {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// The record that forgot it.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Whether a person named it.
    pub by_person: bool,
}

/// A prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneRow {
    /// Its record.
    pub sequence: u64,
    /// Its name, as the packs that it wrote have it.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// What it found and did.
    pub prune: Prune,
}

impl Catalog {
    /// The snapshots that were forgotten and not brought back, oldest first.
    pub fn forgotten(&self, host: Option<&str>) -> Result<Vec<ForgottenRow>, CatalogError> {
        Ok(self
            .database
            .read(|connection| forgotten_rows(connection, host))?)
    }

    /// The pinned snapshots.
    pub fn pinned(&self) -> Result<Vec<PinRow>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT record_id, at, reason FROM pinned ORDER BY at")?;
            let rows = statement.query_map([], |row| {
                Ok(PinRow {
                    snapshot: RecordId(row.get(0)?),
                    at: from_nanos(row.get(1)?),
                    reason: row.get(2)?,
                })
            })?;
            rows.collect()
        })?)
    }

    /// All packs that are condemned, those that are swept included.
    pub fn condemned(&self) -> Result<Vec<CondemnedRow>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT pack_id, purpose, bytes, sequence, at, swept FROM condemned ORDER BY sequence, pack_id",
            )?;
            let rows = statement.query_map([], read_condemned)?;
            rows.collect()
        })?)
    }

    /// The prunes after a record, in the log's order.
    pub fn prunes_after(&self, sequence: u64) -> Result<Vec<PruneRow>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sequence, at, payload FROM prunes WHERE sequence > ?1 ORDER BY sequence",
            )?;
            let rows = statement.query_map([signed(sequence)?], read_prune)?;
            rows.collect()
        })?)
    }

    /// The last prune.
    pub fn last_prune(&self) -> Result<Option<PruneRow>, CatalogError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT sequence, at, payload FROM prunes ORDER BY sequence DESC LIMIT 1",
                )?
                .query_row([], read_prune)
                .optional()
        })?)
    }

    /// Whether packs were brought back by a record after this one.
    pub fn spared_after(&self, sequence: u64) -> Result<bool, CatalogError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM spared WHERE sequence > ?1")?
                .exists([signed(sequence)?])
        })?)
    }

    /// A snapshot's record with what of it is still needed: its own index object is not, once a prune has written tables anew,
    /// nor are meta packs that are condemned.
    pub fn needed_of(&self, row: &SnapshotRow) -> Result<Option<Snapshot>, CatalogError> {
        let Some(mut snapshot) = self.snapshot(row.id)? else {
            return Ok(None);
        };
        let condemned: HashSet<PackId> = self
            .condemned()?
            .into_iter()
            .map(|row| row.pack.pack)
            .collect();
        let before = snapshot.meta_packs.len();
        snapshot.meta_packs.retain(|pack| !condemned.contains(pack));
        if snapshot.meta_packs.len() < before || !self.prunes_after(row.sequence)?.is_empty() {
            snapshot.index.clear();
        }
        Ok(Some(snapshot))
    }

    /// The last record that an index follows: a snapshot, a prune, one that condemned packs somewhere or brought packs back.
    pub fn last_followed(&self) -> Result<u64, CatalogError> {
        Ok(self.database.read(|connection| {
            connection.query_row(
                "SELECT coalesce(max(last), 0) FROM (SELECT max(sequence) AS last FROM snapshots
                 UNION ALL SELECT max(sequence) FROM prunes UNION ALL SELECT max(sequence) FROM thinnings
                 UNION ALL SELECT max(sequence) FROM spared)",
                [],
                |row| unsigned(row, 0),
            )
        })?)
    }

    /// The latest time that any record after this one tells, by the clock of the coordinator that wrote it.
    pub fn latest_time_after(&self, sequence: u64) -> Result<Option<Timestamp>, CatalogError> {
        let nanos: Option<i64> = self.database.read(|connection| {
            connection.query_row(
                "SELECT max(at) FROM (SELECT max(committed) AS at FROM snapshots WHERE sequence > ?1
                 UNION ALL SELECT max(at) FROM acts WHERE sequence > ?1
                 UNION ALL SELECT max(taken) FROM leases WHERE sequence > ?1)",
                [signed(sequence)?],
                |row| row.get(0),
            )
        })?;
        Ok(nanos.map(from_nanos))
    }

    /// Where the log's times last leap by more than that, after a record and the time that it stands for: the latest time before,
    /// and the one that follows.
    pub fn last_leap_after(
        &self,
        (sequence, at): (u64, Option<Timestamp>),
        longer_than: Duration,
    ) -> Result<Option<(Timestamp, Timestamp)>, CatalogError> {
        let nanos = i64::try_from(longer_than.as_nanos()).unwrap_or(i64::MAX);
        let found = self.database.read(|connection| {
            connection
                .query_row(
                    "WITH times (sequence, at) AS (
                         SELECT sequence, committed FROM snapshots WHERE sequence > ?1
                         UNION ALL SELECT sequence, at FROM acts WHERE sequence > ?1
                         UNION ALL SELECT sequence, taken FROM leases WHERE sequence > ?1
                         UNION ALL SELECT ?1, ?2 WHERE ?2 IS NOT NULL
                     ), steps (sequence, at, before) AS (
                         SELECT sequence, at, max(at) OVER
                             (ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) FROM times
                     )
                     SELECT before, at FROM steps WHERE at - before > ?3 ORDER BY sequence DESC LIMIT 1",
                    params![signed(sequence)?, at.map(to_nanos), nanos],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
        })?;
        Ok(found.map(|(before, at)| (from_nanos(before), from_nanos(at))))
    }

    /// The acts of retention after a record: its place in the log and its own name.
    pub fn acts_after(&self, sequence: u64) -> Result<Vec<(u64, ActId)>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sequence, act FROM acts WHERE sequence > ?1 ORDER BY sequence",
            )?;
            let rows = statement.query_map([signed(sequence)?], |row| {
                Ok((unsigned(row, 0)?, ActId(row.get(1)?)))
            })?;
            rows.collect()
        })?)
    }
}

fn read_condemned(row: &Row<'_>) -> rusqlite::Result<CondemnedRow> {
    let purpose: u8 = row.get(1)?;
    let swept: Option<i64> = row.get(5)?;
    Ok(CondemnedRow {
        pack: CondemnedPack {
            pack: PackId(row.get(0)?),
            purpose: Purpose::from_tag(purpose).map_err(|source| bad_value(1, source))?,
            bytes: unsigned(row, 2)?,
        },
        sequence: unsigned(row, 3)?,
        at: from_nanos(row.get(4)?),
        swept: swept.and_then(|sequence| u64::try_from(sequence).ok()),
    })
}

fn read_prune(row: &Row<'_>) -> rusqlite::Result<PruneRow> {
    let mut reader = Reader::new(row.get_ref(2)?.as_blob()?);
    let retention = Retention::read(&mut reader)
        .and_then(|retention| reader.finish("retention").map(|()| retention))
        .map_err(|source| bad_value(2, source))?;
    let Act::Prune(prune) = retention.act else {
        return Err(rusqlite::Error::IntegralValueOutOfRange(2, 0));
    };
    Ok(PruneRow {
        sequence: unsigned(row, 0)?,
        run: RunId(retention.id.0),
        at: from_nanos(row.get(1)?),
        prune,
    })
}

/// Takes in what an act says.
pub(super) fn insert_retention(
    connection: &Connection,
    sequence: u64,
    retention: &Retention,
) -> rusqlite::Result<()> {
    let (place, at) = (signed(sequence)?, retention.at_nanos);
    connection
        .prepare_cached("INSERT INTO acts (sequence, act, at) VALUES (?1, ?2, ?3)")?
        .execute(params![place, retention.id.as_bytes(), at])?;
    match &retention.act {
        Act::Forget {
            by_person,
            snapshots,
        } => {
            let mut insert = connection.prepare_cached(
                "INSERT INTO forgotten (record_id, sequence, at, by_person) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
            )?;
            for snapshot in snapshots {
                insert.execute(params![snapshot.as_bytes(), place, at, by_person])?;
            }
        }
        Act::Undelete { snapshots, packs } => undelete(connection, place, snapshots, packs)?,
        Act::Thin(thinning) => thin(connection, place, at, thinning)?,
        Act::SweepAt { destination, packs } => sweep_at(connection, place, destination, packs)?,
        Act::Prune(prune) => {
            let mut payload = Vec::new();
            retention.put(&mut payload);
            connection
                .prepare_cached("INSERT INTO prunes (sequence, at, payload) VALUES (?1, ?2, ?3)")?
                .execute(params![place, at, payload])?;
            condemn(connection, place, at, &prune.condemned)?;
        }
        Act::Sweep { packs } => {
            // Only what was condemned before: a sweep names nothing else.
            let mut update = connection.prepare_cached(
                "UPDATE condemned SET swept = ?2 WHERE pack_id = ?1 AND swept IS NULL",
            )?;
            for pack in packs {
                update.execute(params![pack.as_bytes(), place])?;
            }
        }
        Act::Pin {
            snapshot,
            pinned: true,
            reason,
        } => {
            connection
                .prepare_cached(
                    "INSERT INTO pinned (record_id, at, reason) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET at = excluded.at, reason = excluded.reason",
                )?
                .execute(params![snapshot.as_bytes(), at, reason])?;
        }
        Act::Pin { snapshot, .. } => {
            connection
                .prepare_cached("DELETE FROM pinned WHERE record_id = ?1")?
                .execute([snapshot.as_bytes()])?;
        }
    }
    Ok(())
}

fn undelete(
    connection: &Connection,
    place: i64,
    snapshots: &[RecordId],
    packs: &[PackId],
) -> rusqlite::Result<()> {
    // What is swept stays so, whatever a record says: it may be gone.
    let mut spare =
        connection.prepare_cached("DELETE FROM condemned WHERE pack_id = ?1 AND swept IS NULL")?;
    let mut spared = 0;
    for pack in packs {
        spared += spare.execute([pack.as_bytes()])?;
    }
    spared += spare_thinned(connection, packs)?;
    // After the packs: only what stays swept keeps a snapshot from being whole somewhere.
    let mut remember = connection.prepare_cached("DELETE FROM forgotten WHERE record_id = ?1")?;
    for snapshot in snapshots {
        bring_back(connection, snapshot)?;
        remember.execute([snapshot.as_bytes()])?;
    }
    if spared > 0 {
        connection
            .prepare_cached("INSERT INTO spared (sequence) VALUES (?1)")?
            .execute([place])?;
    }
    Ok(())
}

fn condemn(
    connection: &Connection,
    place: i64,
    at: i64,
    condemned: &[CondemnedPack],
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO condemned (pack_id, sequence, at, purpose, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?;
    for pack in condemned {
        insert.execute(params![
            pack.pack.as_bytes(),
            place,
            at,
            pack.purpose.tag(),
            signed(pack.bytes)?
        ])?;
    }
    Ok(())
}
