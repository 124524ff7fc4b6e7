//! What the log says that single destinations do not keep: snapshots that were dropped there, and data packs that are condemned or
//! removed there. Rows follow the records one by one, as those of [`crate::catalog::retention`].

use std::collections::{BTreeMap, HashMap, HashSet};

use append_server::destination::DestinationName;
use formats::ids::{PackId, RecordId};
use formats::log::thinning::{ThinnedPack, Thinning};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::catalog::{Catalog, CatalogError};
use crate::clock::from_nanos;
use crate::database::{signed, unsigned};

/// New in version 5.
macro_rules! thinning_tables {
    () => {
        "
CREATE TABLE thinnings (
    sequence INTEGER PRIMARY KEY,
    destination TEXT NOT NULL,
    at INTEGER NOT NULL,
    snapshots INTEGER NOT NULL,    -- what was left there
    packs INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE dropped (
    record_id BLOB NOT NULL,       -- the snapshot's
    destination TEXT NOT NULL,
    sequence INTEGER NOT NULL,     -- the record that dropped it there
    PRIMARY KEY (record_id, destination)
) STRICT, WITHOUT ROWID;
CREATE TABLE thinned (
    pack_id BLOB NOT NULL,
    destination TEXT NOT NULL,
    sequence INTEGER NOT NULL,     -- the record that condemned it there
    at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    swept INTEGER,                 -- the record from which on it is removed there
    PRIMARY KEY (pack_id, destination)
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use thinning_tables;

/// A data pack that is condemned at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinnedRow {
    /// The destination, as the log names it.
    pub destination: String,
    /// The pack.
    pub pack: PackId,
    /// Its bytes.
    pub bytes: u64,
    /// The record that condemned it there.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// The record from which on it is removed there.
    pub swept: Option<u64>,
}

/// What was left at a destination by the last prune that found something there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftThere {
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of data packs.
    pub bytes: u64,
}

/// Snapshots that are dropped somewhere, and where, as the log names it, with the record that says so.
pub type Dropped = HashMap<RecordId, BTreeMap<String, u64>>;

impl Catalog {
    /// The packs that are condemned at some destination, and not everywhere, in the log's order.
    pub fn thinned(&self) -> Result<Vec<ThinnedRow>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT pack_id, destination, sequence, at, bytes, swept FROM thinned
                 WHERE pack_id NOT IN (SELECT pack_id FROM condemned)
                 ORDER BY sequence, destination, pack_id",
            )?;
            let rows = statement.query_map([], read_thinned)?;
            rows.collect()
        })?)
    }

    /// The packs that are condemned at one destination, and not everywhere.
    pub fn thinned_at(
        &self,
        destination: &DestinationName,
    ) -> Result<HashSet<PackId>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT pack_id FROM thinned WHERE destination = ?1
                 AND pack_id NOT IN (SELECT pack_id FROM condemned)",
            )?;
            let rows =
                statement.query_map([destination.to_string()], |row| row.get(0).map(PackId))?;
            rows.collect()
        })?)
    }

    /// The snapshots that are dropped somewhere.
    pub fn dropped(&self) -> Result<Dropped, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT record_id, destination, sequence FROM dropped")?;
            let rows = statement.query_map([], |row| {
                Ok((RecordId(row.get(0)?), row.get(1)?, unsigned(row, 2)?))
            })?;
            let mut dropped = Dropped::new();
            for row in rows {
                let (snapshot, destination, sequence) = row?;
                let places = dropped.entry(snapshot).or_default();
                places.insert(destination, sequence);
            }
            Ok(dropped)
        })?)
    }

    /// Where a snapshot was dropped, as the log names it.
    pub fn dropped_at(&self, snapshot: RecordId) -> Result<Vec<String>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT destination FROM dropped WHERE record_id = ?1 ORDER BY destination",
            )?;
            let rows = statement.query_map([snapshot.as_bytes()], |row| row.get(0))?;
            rows.collect()
        })?)
    }

    /// Whether nothing is swept at a destination that a snapshot may need there which was dropped there, or forgotten by that
    /// record: then undelete makes it whole there.
    pub fn would_be_whole_at(
        &self,
        snapshot: RecordId,
        forgotten: Option<u64>,
        destination: &DestinationName,
    ) -> Result<bool, CatalogError> {
        // Nothing of what it needs goes before the record that drops it, or after the one that forgets it.
        let after = forgotten.map_or(u64::MAX >> 1, |sequence| sequence + 1);
        Ok(self.database.read(|connection| {
            let is_swept = connection
                .prepare_cached(
                    "SELECT 1 FROM thinned WHERE destination = ?1 AND swept IS NOT NULL AND sequence >= min(?2,
                         coalesce((SELECT sequence FROM dropped WHERE record_id = ?3 AND destination = ?1), ?2))",
                )?
                .exists(params![
                    destination.to_string(),
                    signed(after)?,
                    snapshot.as_bytes()
                ])?;
            Ok(!is_swept)
        })?)
    }

    /// The destinations that the log says keep less than others.
    pub fn thin_destinations(&self) -> Result<Vec<String>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT DISTINCT destination FROM thinnings ORDER BY destination",
            )?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })?)
    }

    /// What was left at a destination when something of it was last dropped or condemned there.
    pub fn left_at(
        &self,
        destination: &DestinationName,
    ) -> Result<Option<LeftThere>, CatalogError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT snapshots, bytes FROM thinnings WHERE destination = ?1
                     ORDER BY sequence DESC LIMIT 1",
                )?
                .query_row([destination.to_string()], |row| {
                    Ok(LeftThere {
                        snapshots: unsigned(row, 0)?,
                        bytes: unsigned(row, 1)?,
                    })
                })
                .optional()
        })?)
    }

    /// The last record that condemned packs at a destination.
    pub fn last_thinning(&self) -> Result<u64, CatalogError> {
        Ok(self.database.read(|connection| {
            connection.query_row(
                "SELECT coalesce(max(sequence), 0) FROM thinnings",
                [],
                |row| unsigned(row, 0),
            )
        })?)
    }
}

fn read_thinned(row: &Row<'_>) -> rusqlite::Result<ThinnedRow> {
    let swept: Option<i64> = row.get(5)?;
    Ok(ThinnedRow {
        pack: PackId(row.get(0)?),
        destination: row.get(1)?,
        sequence: unsigned(row, 2)?,
        at: from_nanos(row.get(3)?),
        bytes: unsigned(row, 4)?,
        swept: swept.and_then(|sequence| u64::try_from(sequence).ok()),
    })
}

pub(super) fn thin(
    connection: &Connection,
    place: i64,
    at: i64,
    thinning: &Thinning,
) -> rusqlite::Result<()> {
    let destination = &thinning.destination;
    connection
        .prepare_cached(
            "INSERT INTO thinnings (sequence, destination, at, snapshots, packs, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            place,
            destination,
            at,
            signed(thinning.snapshots)?,
            signed(thinning.packs)?,
            signed(thinning.bytes)?
        ])?;
    let mut drop = connection.prepare_cached(
        "INSERT INTO dropped (record_id, destination, sequence) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
    )?;
    for snapshot in &thinning.dropped {
        drop.execute(params![snapshot.as_bytes(), destination, place])?;
    }
    let mut condemn = connection.prepare_cached(
        "INSERT INTO thinned (pack_id, destination, sequence, at, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?;
    for ThinnedPack { pack, bytes } in &thinning.condemned {
        let bytes = signed(*bytes)?;
        condemn.execute(params![pack.as_bytes(), destination, place, at, bytes])?;
    }
    Ok(())
}

pub(super) fn sweep_at(
    connection: &Connection,
    place: i64,
    destination: &str,
    packs: &[PackId],
) -> rusqlite::Result<()> {
    // Only what was condemned there before: a sweep names nothing else.
    let mut update = connection.prepare_cached(
        "UPDATE thinned SET swept = ?3 WHERE pack_id = ?1 AND destination = ?2 AND swept IS NULL",
    )?;
    for pack in packs {
        update.execute(params![pack.as_bytes(), destination, place])?;
    }
    Ok(())
}

/// Takes back what is condemned at single destinations and not swept there; says how many rows that were.
pub(super) fn spare_thinned(connection: &Connection, packs: &[PackId]) -> rusqlite::Result<usize> {
    let mut spare =
        connection.prepare_cached("DELETE FROM thinned WHERE pack_id = ?1 AND swept IS NULL")?;
    let mut spared = 0;
    for pack in packs {
        spared += spare.execute([pack.as_bytes()])?;
    }
    Ok(spared)
}

/// A snapshot that is brought back: at which destinations it is whole. What was condemned at one after it was forgotten, or by the
/// record that dropped it there or later, and is swept there, it may lack.
pub(super) fn bring_back(connection: &Connection, snapshot: &RecordId) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM dropped WHERE record_id = ?1 AND NOT EXISTS (
                 SELECT 1 FROM thinned WHERE thinned.destination = dropped.destination
                 AND thinned.sequence >= dropped.sequence AND thinned.swept IS NOT NULL)",
        )?
        .execute([snapshot.as_bytes()])?;
    connection
        .prepare_cached(
            "INSERT INTO dropped (record_id, destination, sequence)
             SELECT forgotten.record_id, thinned.destination, min(thinned.sequence)
             FROM forgotten JOIN thinned ON thinned.sequence > forgotten.sequence
             WHERE forgotten.record_id = ?1 AND thinned.swept IS NOT NULL
             GROUP BY forgotten.record_id, thinned.destination
             ON CONFLICT DO NOTHING",
        )?
        .execute([snapshot.as_bytes()])?;
    Ok(())
}

/// Whether a snapshot is not kept at a destination.
pub fn is_dropped_at(
    dropped: &Dropped,
    snapshot: &RecordId,
    destination: &DestinationName,
) -> bool {
    let places = dropped.get(snapshot);
    places.is_some_and(|places| places.contains_key(&destination.to_string()))
}
