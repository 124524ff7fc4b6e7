//! What scans know for whoever watches over them: for how long nothing was left unread, and when the first lock ends. Both are of
//! the last round that came to its end, and hold for everything that was put since: that is younger, and locked for longer.

use append_server::destination::DestinationName;
use formats::ids::RepositoryId;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use crate::clock::from_nanos;
use crate::database::DatabaseError;
use crate::scan::progress::ScanState;

/// Came with version 3.
macro_rules! bounds_tables {
    () => {
        "
CREATE TABLE read_rounds (
    repository BLOB NOT NULL,
    destination TEXT NOT NULL,
    began INTEGER,                      -- when the round under way began, in nanoseconds since 1970
    whole INTEGER,                      -- when the last one that came to its end had begun
    PRIMARY KEY (repository, destination)
) STRICT, WITHOUT ROWID;
CREATE TABLE lock_rounds (
    repository BLOB NOT NULL,
    destination TEXT NOT NULL,
    so_far INTEGER,                     -- when the first lock of the round under way ends, in seconds since 1970
    whole INTEGER,                      -- when the first lock of the last round that came to its end does
    PRIMARY KEY (repository, destination)
) STRICT, WITHOUT ROWID;
"
    };
}
pub(super) use bounds_tables;

/// What is known of a repository at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The repository.
    pub repository: RepositoryId,
    /// The destination's name.
    pub destination: String,
    /// Everything there was read after this, or put after it.
    pub read_since: Option<Timestamp>,
    /// No lock that is needed ends before this.
    pub locked_until: Option<Timestamp>,
}

impl ScanState {
    /// Everything that is known, by repository and destination.
    pub fn bounds(&self) -> Result<Vec<Bounds>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT repository, destination, r.whole, l.whole FROM read_rounds r
                 FULL JOIN lock_rounds l USING (repository, destination) ORDER BY repository, destination",
            )?;
            let rows = statement.query_map([], |row| {
                let (read, locked): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
                Ok(Bounds {
                    repository: RepositoryId(row.get(0)?),
                    destination: row.get(1)?,
                    read_since: read.map(from_nanos),
                    locked_until: locked
                        .map(|secs| Timestamp::from_second(secs).unwrap_or(Timestamp::MAX)),
                })
            })?;
            rows.collect()
        })
    }

    /// When the first lock ends of those that the round under way has seen.
    pub(super) fn first_lock_so_far(
        &self,
        repository: RepositoryId,
        destination: &DestinationName,
    ) -> Result<Option<u64>, DatabaseError> {
        self.database.read(|connection| {
            let secs: Option<Option<i64>> = connection
                .query_row(
                    "SELECT so_far FROM lock_rounds WHERE repository = ?1 AND destination = ?2",
                    params![repository.as_bytes(), destination.to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(secs.flatten().map(i64::unsigned_abs))
        })
    }

    /// When the first lock ends of those that a round has seen, so far or, if it `is_whole`, to its end.
    pub(super) fn note_first_lock(
        &mut self,
        repository: RepositoryId,
        destination: &DestinationName,
        first_unix_secs: Option<u64>,
        is_whole: bool,
    ) -> Result<(), DatabaseError> {
        let first = first_unix_secs.map(|secs| i64::try_from(secs).unwrap_or(i64::MAX));
        let sql = match is_whole {
            true => {
                "INSERT INTO lock_rounds (repository, destination, whole) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET whole = excluded.whole, so_far = NULL"
            }
            false => {
                "INSERT INTO lock_rounds (repository, destination, so_far) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET so_far = excluded.so_far"
            }
        };
        self.database.write(|transaction| {
            let values = params![repository.as_bytes(), destination.to_string(), first];
            transaction.execute(sql, values)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use append_server::destination::DestinationName;
    use formats::ids::RepositoryId;
    use jiff::Timestamp;

    use super::Bounds;
    use crate::scan::progress::ScanState;

    #[test]
    fn only_a_round_that_came_to_its_end_bounds_anything() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = ScanState::open(&dir.path().join("scan.db")).unwrap();
        let repository = RepositoryId([7; 16]);
        let nas: DestinationName = "nas".parse().unwrap();
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let bounds = |read: Option<i64>, locked: Option<i64>| Bounds {
            repository,
            destination: "nas".to_owned(),
            read_since: read.map(at),
            locked_until: locked.map(at),
        };
        assert!(state.bounds().unwrap().is_empty());
        state.note_beginning(repository, &nas, 0, at(10)).unwrap();
        state
            .note_first_lock(repository, &nas, Some(500), false)
            .unwrap();
        assert_eq!(state.bounds().unwrap(), [bounds(None, None)]);
        assert_eq!(
            state.first_lock_so_far(repository, &nas).unwrap(),
            Some(500)
        );
        state.note_whole(repository, &nas).unwrap();
        state
            .note_first_lock(repository, &nas, Some(400), true)
            .unwrap();
        assert_eq!(state.bounds().unwrap(), [bounds(Some(10), Some(400))]);
        assert_eq!(state.first_lock_so_far(repository, &nas).unwrap(), None);
        // The next one changes nothing before its end.
        state.note_beginning(repository, &nas, 0, at(20)).unwrap();
        state
            .note_first_lock(repository, &nas, Some(300), false)
            .unwrap();
        assert_eq!(state.bounds().unwrap(), [bounds(Some(10), Some(400))]);
        state.note_whole(repository, &nas).unwrap();
        assert_eq!(state.bounds().unwrap(), [bounds(Some(20), Some(400))]);
        // Not kept there any more, it bounds nothing, whatever becomes of what is there.
        state.forget_destination(repository, &nas).unwrap();
        assert!(state.bounds().unwrap().is_empty());
    }
}
