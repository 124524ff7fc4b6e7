//! The catalog of one repository: its log, checked record by record and opened, with a row for each
//! snapshot. Never writes to storage, never takes in a record whose signature or chain it has not seen
//! checked.
//!
//! It is a cache of the log ([`Catalog::sync`] reads it again), and a witness: a destination whose log is
//! shorter than the catalog, or another, was rolled back or forked.

mod error;
pub mod retention;
mod row;
mod schema;
pub mod selector;
pub mod state;
pub mod sync;
pub mod thinning;
mod unread;

use std::path::Path;

use formats::codec::Reader;
use formats::ids::{CoordinatorId, RecordId, RepositoryId, RunId};
use formats::keys::derive::Epoch;
use formats::log::lease::Lease;
use formats::log::record::{Payload, RecordPlace};
use formats::log::snapshot::Snapshot;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::catalog::retention::insert_retention;
use crate::catalog::row::{insert_snapshot, snapshot_rows, snapshots_after};
use crate::catalog::schema::SCHEMA;
use crate::catalog::selector::{Selector, select};
use crate::catalog::unread::{Taken, insert_unread};
use crate::database::{Database, bad_value, signed, unsigned};

pub use crate::catalog::error::CatalogError;
pub use crate::catalog::row::SnapshotRow;

/// The catalog of one repository.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
    repository: RepositoryId,
    epoch: Epoch,
    /// Of the acts of retention that could not be opened, the last one whose consequences are drawn.
    heeded: u64,
}

/// The last record that the catalog at `path` knows, whichever repository it is of; nothing where there is none.
pub fn last_known(path: &Path) -> Result<Option<(u64, RecordId)>, CatalogError> {
    if !path.exists() {
        return Ok(None);
    }
    Ok(Database::open(path, &SCHEMA)?.read(last)?)
}

impl Catalog {
    /// Opens the catalog of a repository, or begins an empty one.
    pub fn open(path: &Path, repository: RepositoryId, epoch: Epoch) -> Result<Self, CatalogError> {
        let mut database = Database::open(path, &SCHEMA)?;
        let found = database.read(|connection| facts(connection).optional())?;
        let (found, found_epoch) = match found {
            Some(found) => found,
            None => database.write(|transaction| {
                transaction.execute(
                    "INSERT OR IGNORE INTO facts (one, repository, epoch) VALUES (1, ?1, ?2)",
                    params![repository.as_bytes(), epoch],
                )?;
                facts(transaction)
            })?,
        };
        if (found, found_epoch) != (repository, epoch) {
            return Err(CatalogError::OtherRepository {
                path: path.to_owned(),
                found,
                found_epoch,
                expected: repository,
                expected_epoch: epoch,
            });
        }
        Ok(Self {
            database,
            repository,
            epoch,
            heeded: 0,
        })
    }

    /// The place of the next record: where the log goes on.
    pub fn head(&self) -> Result<RecordPlace, CatalogError> {
        let last = self.last()?;
        Ok(self.place_after(last))
    }

    /// The last record known: its sequence number and name.
    pub fn last(&self) -> Result<Option<(u64, RecordId)>, CatalogError> {
        Ok(self.database.read(last)?)
    }

    /// The last record known and its place.
    pub fn last_place(&self) -> Result<Option<(RecordPlace, RecordId)>, CatalogError> {
        let Some((sequence, id)) = self.last()? else {
            return Ok(None);
        };
        let before = sequence - 1;
        let previous = match before {
            0 => None,
            before => self.record_id(before)?.map(|id| (before, id)),
        };
        Ok(Some((self.place_after(previous), id)))
    }

    /// The names of all records, in the log's order.
    pub fn record_ids(&self) -> Result<Vec<(u64, RecordId)>, CatalogError> {
        Ok(self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT sequence, record_id FROM records ORDER BY sequence")?;
            let rows =
                statement.query_map([], |row| Ok((unsigned(row, 0)?, RecordId(row.get(1)?))))?;
            rows.collect()
        })?)
    }

    /// The name of a record, where it is known.
    pub fn record_id(&self, sequence: u64) -> Result<Option<RecordId>, CatalogError> {
        let Ok(sequence) = i64::try_from(sequence) else {
            return Ok(None); // More than there can be.
        };
        Ok(self
            .database
            .read(|connection| record_at(connection, sequence))?)
    }

    /// Takes in a record that stands at [`Catalog::head`] and is durable on storage, unless another process did so meanwhile. Its
    /// signature was checked, or it was made here.
    pub fn append(
        &mut self,
        place: &RecordPlace,
        id: RecordId,
        payload: &Payload,
    ) -> Result<(), CatalogError> {
        self.append_all(&[(*place, id, Taken::Opened(payload.clone()))])
    }

    fn append_all(
        &mut self,
        records: &[(RecordPlace, RecordId, Taken)],
    ) -> Result<(), CatalogError> {
        let (repository, epoch) = (self.repository, self.epoch);
        let refused = self.database.write(|transaction| {
            let mut known = last(transaction)?;
            for (place, id, taken) in records {
                // Another process that reads the same log may have been faster.
                if record_at(transaction, signed(place.sequence)?)? == Some(*id) {
                    continue;
                }
                let next = place_after(repository, epoch, known);
                if *place != next {
                    return Ok(Some((place.sequence, next.sequence.saturating_sub(1))));
                }
                insert(transaction, place.sequence, *id, taken)?;
                known = Some((place.sequence, *id));
            }
            Ok(None)
        })?;
        match refused {
            None => Ok(()),
            Some((offered, head)) => Err(CatalogError::NotNext { offered, head }),
        }
    }

    /// Who writes to the repository, where somebody has taken its lease.
    pub fn lease(&self) -> Result<Option<Lease>, CatalogError> {
        self.lease_at(u64::MAX)
    }

    /// Who wrote to it at a place of the log.
    pub fn lease_at(&self, sequence: u64) -> Result<Option<Lease>, CatalogError> {
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT coordinator, machine, taken FROM leases WHERE sequence <= ?1
                     ORDER BY sequence DESC LIMIT 1",
                )?
                .query_row([sequence], |row| {
                    Ok(Lease {
                        coordinator: CoordinatorId(row.get(0)?),
                        machine: row.get(1)?,
                        taken_nanos: row.get(2)?,
                    })
                })
                .optional()
        })?)
    }

    /// A host's settings as they were last written.
    pub fn host_settings(&self, host: &str) -> Result<Option<String>, CatalogError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT toml FROM host_settings WHERE host = ?1 ORDER BY sequence DESC LIMIT 1",
                )?
                .query_row([host], |row| row.get(0))
                .optional()
        })?)
    }

    /// The snapshots of a host, or of all hosts of the repository, newest last; without those that were forgotten.
    pub fn snapshots(&self, host: Option<&str>) -> Result<Vec<SnapshotRow>, CatalogError> {
        Ok(self
            .database
            .read(|connection| snapshot_rows(connection, host))?)
    }

    /// All snapshots after a record, oldest first, forgotten ones included: their packs hold what others need.
    pub fn snapshots_after(&self, sequence: u64) -> Result<Vec<SnapshotRow>, CatalogError> {
        Ok(self
            .database
            .read(|connection| snapshots_after(connection, sequence))?)
    }

    /// The runs of a host that committed a snapshot, also one that was forgotten since.
    pub fn runs_of(&self, host: &str) -> Result<Vec<RunId>, CatalogError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT run FROM snapshots WHERE host = ?1";
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map([host], |row| Ok(RunId(row.get(0)?)))?;
            rows.collect()
        })?)
    }

    /// The one snapshot that an operator means; days are days of `zone`.
    pub fn resolve(
        &self,
        host: Option<&str>,
        selector: &Selector,
        zone: &TimeZone,
    ) -> Result<SnapshotRow, CatalogError> {
        let rows = self.snapshots(host)?;
        select(&rows, host, selector, zone).cloned()
    }

    /// A snapshot whole; `None` where there is none of that name.
    pub fn snapshot(&self, id: RecordId) -> Result<Option<Snapshot>, CatalogError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT payload FROM records JOIN snapshots USING (sequence) WHERE record_id = ?1",
                )?
                .query_row([id.as_bytes()], |row| {
                    decode(row.get_ref(0)?.as_blob()?).map_err(|source| bad_value(0, source))
                })
                .optional()
        })?)
    }

    /// Reads the whole file and looks for damage; slow, for a person who asks.
    pub fn check(&self) -> Result<(), CatalogError> {
        Ok(self.database.check()?)
    }

    fn place_after(&self, last: Option<(u64, RecordId)>) -> RecordPlace {
        place_after(self.repository, self.epoch, last)
    }
}

fn place_after(
    repository: RepositoryId,
    epoch: Epoch,
    last: Option<(u64, RecordId)>,
) -> RecordPlace {
    let (sequence, previous) = last.unwrap_or((0, RecordId([0; 32])));
    RecordPlace {
        repository,
        epoch,
        sequence: sequence + 1,
        previous,
    }
}

fn facts(connection: &Connection) -> rusqlite::Result<(RepositoryId, Epoch)> {
    connection.query_row("SELECT repository, epoch FROM facts", [], |row| {
        Ok((RepositoryId(row.get(0)?), row.get(1)?))
    })
}

fn last(connection: &Connection) -> rusqlite::Result<Option<(u64, RecordId)>> {
    connection
        .prepare_cached("SELECT sequence, record_id FROM records ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| Ok((unsigned(row, 0)?, RecordId(row.get(1)?))))
        .optional()
}

fn record_at(connection: &Connection, sequence: i64) -> rusqlite::Result<Option<RecordId>> {
    connection
        .prepare_cached("SELECT record_id FROM records WHERE sequence = ?1")?
        .query_row([sequence], |row| Ok(RecordId(row.get(0)?)))
        .optional()
}

fn insert(
    connection: &Connection,
    sequence: u64,
    id: RecordId,
    taken: &Taken,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO records (sequence, record_id) VALUES (?1, ?2)")?
        .execute(params![signed(sequence)?, id.as_bytes()])?;
    connection
        .prepare_cached("DELETE FROM intended WHERE sequence <= ?1")?
        .execute([signed(sequence)?])?;
    match taken {
        Taken::Opened(payload) => insert_payload(connection, sequence, payload),
        Taken::Sealed(kind) => insert_unread(connection, sequence, *kind),
    }
}

fn insert_payload(
    connection: &Connection,
    sequence: u64,
    payload: &Payload,
) -> rusqlite::Result<()> {
    match payload {
        Payload::Snapshot(snapshot) => insert_snapshot(connection, sequence, snapshot),
        Payload::Lease(lease) => connection
            .prepare_cached(
                "INSERT INTO leases (sequence, coordinator, machine, taken) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                signed(sequence)?,
                lease.coordinator.as_bytes(),
                lease.machine,
                lease.taken_nanos
            ])
            .map(drop),
        Payload::Settings(settings) => connection
            .prepare_cached("INSERT INTO host_settings (sequence, host, toml) VALUES (?1, ?2, ?3)")?
            .execute(params![signed(sequence)?, settings.host, settings.toml])
            .map(drop),
        Payload::Retention(retention) => insert_retention(connection, sequence, retention),
    }
}

fn decode(payload: &[u8]) -> Result<Snapshot, formats::codec::DecodeError> {
    let mut reader = Reader::new(payload);
    let snapshot = Snapshot::read(&mut reader)?;
    reader.finish("snapshot")?;
    Ok(snapshot)
}

#[cfg(test)]
mod tests;
