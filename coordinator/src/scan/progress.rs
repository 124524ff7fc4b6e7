//! What scans have read, by repository and destination, so that the next one goes on there. Losing it loses nothing but
//! that: the next scan begins at the beginning.

use std::path::Path;

use append_server::destination::DestinationName;
use formats::ids::RepositoryId;
use formats::object::ObjectName;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use crate::clock::to_nanos;
use crate::database::{Database, DatabaseError, Schema, bad_value, signed, unsigned};
use crate::scan::bounds::bounds_tables;

/// Came with version 2.
macro_rules! lock_positions {
    () => {
        "
CREATE TABLE lock_positions (
    repository BLOB NOT NULL,
    destination TEXT NOT NULL,
    position TEXT NOT NULL,             -- the last object whose lock was looked at
    PRIMARY KEY (repository, destination)
) STRICT, WITHOUT ROWID;
"
    };
}

const LOCK_POSITIONS: &str = lock_positions!();

const SCHEMA: Schema = Schema {
    what: "file of what scans have read",
    remedy: "delete it, and the next scan begins anew",
    application_id: 0x4361_5363, // "CaSc"
    version: 4,
    cache_kib: 1 << 10,
    upgrades: &[
        (1, LOCK_POSITIONS),
        (2, bounds_tables!()),
        (3, "ALTER TABLE progress DROP COLUMN whole_at;"),
    ],
    sql: concat!(
        "
CREATE TABLE progress (
    repository BLOB NOT NULL,
    destination TEXT NOT NULL,
    position TEXT,                      -- the last object that was read; nothing at the beginning
    began_row INTEGER NOT NULL DEFAULT 0, -- the index's last row when reading began at the beginning
    rows_read INTEGER NOT NULL DEFAULT 0, -- packs up to this row of the index were read
    PRIMARY KEY (repository, destination)
) STRICT, WITHOUT ROWID;
CREATE TABLE reference_checks (
    repository BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL           -- snapshots up to this record have all they name
) STRICT, WITHOUT ROWID;
",
        lock_positions!(),
        bounds_tables!()
    ),
};

/// What scans have read.
#[derive(Debug)]
pub struct ScanState {
    pub(super) database: Database,
}

impl ScanState {
    /// Opens the file, or begins a new one.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self {
            database: Database::open(path, &SCHEMA)?,
        })
    }

    /// The last object that was read.
    pub(super) fn position(
        &self,
        repository: RepositoryId,
        destination: &DestinationName,
    ) -> Result<Option<ObjectName>, DatabaseError> {
        self.database.read(|connection| {
            let position: Option<Option<String>> = connection
                .query_row(
                    "SELECT position FROM progress WHERE repository = ?1 AND destination = ?2",
                    params![repository.as_bytes(), destination.to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            let parsed = position.flatten().map(|text| text.parse::<ObjectName>());
            parsed.transpose().map_err(|source| bad_value(0, source))
        })
    }

    pub(super) fn note_position(
        &mut self,
        repository: RepositoryId,
        destination: &DestinationName,
        name: &ObjectName,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO progress (repository, destination, position) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET position = excluded.position",
                params![
                    repository.as_bytes(),
                    destination.to_string(),
                    name.to_string()
                ],
            )?;
            Ok(())
        })
    }

    /// Notes that reading begins at the beginning, with an index that ends at this row, in a scan that began at `began`.
    pub(super) fn note_beginning(
        &mut self,
        repository: RepositoryId,
        destination: &DestinationName,
        last_row: i64,
        began: Timestamp,
    ) -> Result<(), DatabaseError> {
        let destination = destination.to_string();
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO progress (repository, destination, began_row) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET began_row = excluded.began_row",
                params![repository.as_bytes(), destination, last_row],
            )?;
            transaction.execute(
                "INSERT INTO read_rounds (repository, destination, began) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET began = excluded.began",
                params![repository.as_bytes(), destination, to_nanos(began)],
            )?;
            Ok(())
        })
    }

    /// Notes that everything was read, and that the next scan begins at the beginning.
    pub(super) fn note_whole(
        &mut self,
        repository: RepositoryId,
        destination: &DestinationName,
    ) -> Result<(), DatabaseError> {
        let destination = destination.to_string();
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE progress SET position = NULL, rows_read = max(rows_read, began_row)
                 WHERE repository = ?1 AND destination = ?2",
                params![repository.as_bytes(), destination],
            )?;
            transaction.execute(
                "UPDATE read_rounds SET whole = coalesce(began, whole), began = NULL
                 WHERE repository = ?1 AND destination = ?2",
                params![repository.as_bytes(), destination],
            )?;
            Ok(())
        })
    }

    /// Forgets what was read, and what is known, of a repository at a destination.
    pub(super) fn forget_destination(
        &mut self,
        repository: RepositoryId,
        destination: &DestinationName,
    ) -> Result<(), DatabaseError> {
        let destination = destination.to_string();
        self.database.write(|transaction| {
            for forget in [
                "DELETE FROM progress WHERE repository = ?1 AND destination = ?2",
                "DELETE FROM lock_positions WHERE repository = ?1 AND destination = ?2",
                "DELETE FROM read_rounds WHERE repository = ?1 AND destination = ?2",
                "DELETE FROM lock_rounds WHERE repository = ?1 AND destination = ?2",
            ] {
                transaction.execute(forget, params![repository.as_bytes(), destination])?;
            }
            Ok(())
        })
    }

    /// Up to which row of the index packs were read.
    pub(super) fn rows_read(
        &self,
        repository: RepositoryId,
        destination: &DestinationName,
    ) -> Result<i64, DatabaseError> {
        self.database.read(|connection| {
            let rows: Option<i64> = connection
                .query_row(
                    "SELECT rows_read FROM progress WHERE repository = ?1 AND destination = ?2",
                    params![repository.as_bytes(), destination.to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(rows.unwrap_or_default())
        })
    }

    /// Rows from this one on are used again: what is in them then was not read.
    pub fn forget_rows_from(
        &mut self,
        repository: RepositoryId,
        row: i64,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE progress SET rows_read = min(rows_read, ?2 - 1) WHERE repository = ?1",
                params![repository.as_bytes(), row],
            )?;
            Ok(())
        })
    }

    pub(super) fn note_rows_read(
        &mut self,
        repository: RepositoryId,
        destination: &DestinationName,
        row: i64,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO progress (repository, destination, rows_read) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET rows_read = excluded.rows_read",
                params![repository.as_bytes(), destination.to_string(), row],
            )?;
            Ok(())
        })
    }

    /// The last object whose lock was looked at, when a scan stopped before it had seen all of them.
    pub(super) fn lock_position(
        &self,
        repository: RepositoryId,
        destination: &DestinationName,
    ) -> Result<Option<ObjectName>, DatabaseError> {
        self.database.read(|connection| {
            let position: Option<String> = connection
                .query_row(
                    "SELECT position FROM lock_positions WHERE repository = ?1 AND destination = ?2",
                    params![repository.as_bytes(), destination.to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            let parsed = position.map(|text| text.parse::<ObjectName>());
            parsed.transpose().map_err(|source| bad_value(0, source))
        })
    }

    /// Notes where looking at locks stopped; nothing once all were seen.
    pub(super) fn note_lock_position(
        &mut self,
        repository: RepositoryId,
        destination: &DestinationName,
        name: Option<&ObjectName>,
    ) -> Result<(), DatabaseError> {
        let destination = destination.to_string();
        self.database.write(|transaction| {
            match name {
                Some(name) => transaction.execute(
                    "INSERT INTO lock_positions (repository, destination, position) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET position = excluded.position",
                    params![repository.as_bytes(), destination, name.to_string()],
                )?,
                None => transaction.execute(
                    "DELETE FROM lock_positions WHERE repository = ?1 AND destination = ?2",
                    params![repository.as_bytes(), destination],
                )?,
            };
            Ok(())
        })
    }

    /// The record up to which snapshots were found to have all they name.
    pub(super) fn references_checked(
        &self,
        repository: RepositoryId,
    ) -> Result<u64, DatabaseError> {
        self.database.read(|connection| {
            let sequence = connection
                .query_row(
                    "SELECT sequence FROM reference_checks WHERE repository = ?1",
                    [repository.as_bytes()],
                    |row| unsigned(row, 0),
                )
                .optional()?;
            Ok(sequence.unwrap_or_default())
        })
    }

    pub(super) fn note_references_checked(
        &mut self,
        repository: RepositoryId,
        sequence: u64,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO reference_checks (repository, sequence) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                params![repository.as_bytes(), signed(sequence)?],
            )?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use formats::ids::{PackId, RepositoryId};
    use formats::object::ObjectName;
    use rusqlite::Connection;

    use super::ScanState;

    #[test]
    fn a_file_of_the_version_before_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scan.db");
        let (repository, nas) = (RepositoryId([7; 16]), "nas".parse().unwrap());
        let name = ObjectName::Pack(PackId([3; 32]));
        let mut state = ScanState::open(&path).unwrap();
        state.note_position(repository, &nas, &name).unwrap();
        state.note_rows_read(repository, &nas, 5).unwrap();
        drop(state);
        let before = "ALTER TABLE progress ADD COLUMN whole_at INTEGER; PRAGMA user_version = 3;";
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(before).unwrap();
        drop(connection);
        for _ in 0..2 {
            let state = ScanState::open(&path).unwrap();
            let position = state.position(repository, &nas).unwrap();
            assert_eq!(position.as_ref(), Some(&name));
            assert_eq!(state.rows_read(repository, &nas).unwrap(), 5);
        }
        let connection = Connection::open(&path).unwrap();
        let left = connection.prepare("SELECT whole_at FROM progress");
        assert!(left.is_err());
    }
}
