//! Records that were taken in with keys that do not open them, of a coordinator that only adds snapshots: signature, place and
//! chain were checked, and what kind each is, is known. Whoever can open them does, before anything else is asked of the catalog.

use formats::ids::RecordId;
use formats::log::record::{Payload, RecordKind, RecordPlace};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::catalog::{Catalog, CatalogError, insert_payload};
use crate::database::{bad_value, signed, unsigned};

/// New in version 4.
macro_rules! unread_tables {
    () => {
        "
CREATE TABLE unread (
    sequence INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL          -- 1 a snapshot, 2 a lease or settings, 3 an act of retention
) STRICT;
CREATE TABLE intended (
    record_id BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,     -- where it is to stand
    payload BLOB NOT NULL          -- formats::log::record
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use unread_tables;

/// A record as it was taken in.
#[derive(Debug, Clone)]
pub(super) enum Taken {
    /// What it says.
    Opened(Payload),
    /// Only its kind is known.
    Sealed(RecordKind),
}

impl Catalog {
    /// The records that could not be opened, in the log's order.
    pub fn unread(&self) -> Result<Vec<(u64, RecordKind)>, CatalogError> {
        Ok(self.database.read(|connection| {
            let query = "SELECT sequence, kind FROM unread ORDER BY sequence";
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map([], |row| {
                Ok((unsigned(row, 0)?, row.get::<_, StoredKind>(1)?.0))
            })?;
            rows.collect()
        })?)
    }

    /// The last act of retention that could not be opened, 0 for none. Which packs it condemned is not known.
    pub fn last_unread_act(&self) -> Result<u64, CatalogError> {
        let kind = number(RecordKind::Retention);
        Ok(self.database.read(|connection| {
            let query = "SELECT coalesce(max(sequence), 0) FROM unread WHERE kind = ?1";
            let mut statement = connection.prepare_cached(query)?;
            statement.query_row([kind], |row| unsigned(row, 0))
        })?)
    }

    /// The record that may be another coordinator's lease, up to a place of the log: it came after the last lease that is known,
    /// and could not be opened.
    pub fn hidden_lease_at(&self, sequence: u64) -> Result<Option<u64>, CatalogError> {
        let (kind, sequence) = (
            number(RecordKind::LeaseOrSettings),
            i64::try_from(sequence).unwrap_or(i64::MAX),
        );
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT max(sequence) FROM unread WHERE kind = ?1 AND sequence <= ?2 AND sequence >
                     (SELECT coalesce(max(sequence), 0) FROM leases WHERE sequence <= ?2)",
                )?
                .query_row(params![kind, sequence], |row| {
                    let found: Option<i64> = row.get(0)?;
                    Ok(found.and_then(|sequence| u64::try_from(sequence).ok()))
                })
        })?)
    }

    /// Takes note of the acts of retention that could not be opened: whoever holds this catalog has drawn the consequences.
    pub fn heed(&mut self) -> Result<(), CatalogError> {
        self.heeded = self.last_unread_act()?;
        Ok(())
    }

    /// An act of retention that could not be opened and came after [`Catalog::heed`].
    pub fn unheeded(&self) -> Result<Option<u64>, CatalogError> {
        let last = self.last_unread_act()?;
        Ok((last > self.heeded).then_some(last))
    }

    /// Remembers a record before it is stored: should it turn out to be there though storage did not say so, or should keys that
    /// open none find it first, it is known.
    pub fn intend(
        &mut self,
        place: &RecordPlace,
        id: RecordId,
        payload: &Payload,
    ) -> Result<(), CatalogError> {
        let bytes = payload.encode();
        Ok(self.database.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO intended (record_id, sequence, payload) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![id.as_bytes(), signed(place.sequence)?, bytes])?;
            Ok(())
        })?)
    }

    /// What a record says that this catalog was told of before it was stored.
    pub(super) fn intended(
        &self,
        sequence: u64,
        id: RecordId,
    ) -> Result<Option<Payload>, CatalogError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT payload FROM intended WHERE record_id = ?1 AND sequence = ?2",
                )?
                .query_row(params![id.as_bytes(), signed(sequence)?], |row| {
                    Payload::decode(row.get_ref(0)?.as_blob()?)
                        .map_err(|source| bad_value(0, source))
                })
                .optional()
        })?)
    }

    /// The places and names of the records that could not be opened.
    pub(super) fn unread_places(&self) -> Result<Vec<(RecordPlace, RecordId)>, CatalogError> {
        let mut places = Vec::new();
        for (sequence, _) in self.unread()? {
            let before = match sequence.checked_sub(1) {
                None | Some(0) => None,
                Some(before) => self.record_id(before)?.map(|id| (before, id)),
            };
            if let Some(id) = self.record_id(sequence)? {
                places.push((self.place_after(before), id));
            }
        }
        Ok(places)
    }

    /// Takes in what records say that could not be opened before, in the log's order.
    pub(super) fn note_opened(&mut self, opened: &[(u64, Payload)]) -> Result<(), CatalogError> {
        Ok(self.database.write(|transaction| {
            for (sequence, payload) in opened {
                // Another process may have been faster.
                let deleted = transaction
                    .prepare_cached("DELETE FROM unread WHERE sequence = ?1")?
                    .execute([signed(*sequence)?])?;
                if deleted > 0 {
                    insert_payload(transaction, *sequence, payload)?;
                }
            }
            Ok(())
        })?)
    }
}

/// Takes in a record of which only the kind is known.
pub(super) fn insert_unread(
    connection: &Connection,
    sequence: u64,
    kind: RecordKind,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO unread (sequence, kind) VALUES (?1, ?2)")?
        .execute(params![signed(sequence)?, number(kind)])
        .map(drop)
}

fn number(kind: RecordKind) -> u8 {
    match kind {
        RecordKind::Snapshot => 1,
        RecordKind::LeaseOrSettings => 2,
        RecordKind::Retention => 3,
    }
}

struct StoredKind(RecordKind);

impl FromSql for StoredKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let stored = value.as_i64()?;
        [
            RecordKind::Snapshot,
            RecordKind::LeaseOrSettings,
            RecordKind::Retention,
        ]
        .into_iter()
        .find(|kind| i64::from(number(*kind)) == stored)
        .map(Self)
        .ok_or(FromSqlError::OutOfRange(stored))
    }
}
