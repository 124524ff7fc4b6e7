//! What real puts showed of each service's conditional writes, kept from one process to the next in a small database beside
//! the queue: for people to see, and to notice when a service stops. Nobody stores by what is kept here: every process finds
//! out for itself.

use std::path::{Path, PathBuf};

use formats::wire::upload::destinations::TriedWrites;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::destination::DestinationName;
use crate::small_database::{self, OpenFailure, Schema, aside};

const SCHEMA: Schema = Schema {
    version: VERSION,
    sql: "
    CREATE TABLE IF NOT EXISTS probe (
        destination TEXT PRIMARY KEY,
        place TEXT NOT NULL,
        found TEXT NOT NULL,
        at_unix_secs INTEGER NOT NULL
    ) STRICT;
",
};

/// The usual name of its file.
pub const PROBES_FILE: &str = "probes.sqlite";

/// The version of the schema above.
const VERSION: i64 = 1;

/// What was found out could not be kept, or read again.
#[derive(Debug, thiserror::Error)]
pub enum ProbesError {
    /// The database.
    #[error("could not {action} what is known of conditional writes, {}; look at its disk", path.display())]
    Database {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Made by another version.
    #[error("{} is of version {found}, known is {VERSION}: delete it, and it is made anew", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: i64,
    },
}

/// What was found out, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// What.
    pub found: TriedWrites,
    /// When, in seconds since 1970.
    pub at_unix_secs: u64,
}

/// What was found out of every destination. Opened for each question, of which a process has few.
#[derive(Debug, Clone)]
pub struct Probes {
    path: PathBuf,
}

impl Probes {
    /// Kept in this file, which is made when something is noted.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is known of a destination, if it was in this place then.
    pub fn last(
        &self,
        destination: &DestinationName,
        place: &str,
    ) -> Result<Option<Probe>, ProbesError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let database = self.open()?;
        aside(|| read(&database, destination, place)).map_err(|source| self.failed("read", source))
    }

    /// Notes what was found out; says what was known of that place before.
    pub fn note(
        &self,
        destination: &DestinationName,
        place: &str,
        probe: Probe,
    ) -> Result<Option<Probe>, ProbesError> {
        let database = self.open()?;
        let note = || {
            let before = read(&database, destination, place)?;
            database.execute(
                "INSERT INTO probe (destination, place, found, at_unix_secs) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET
                   place = excluded.place, found = excluded.found, at_unix_secs = excluded.at_unix_secs",
                params![
                    destination.to_string(),
                    place,
                    probe.found.word(),
                    probe.at_unix_secs.cast_signed(),
                ],
            )?;
            Ok(before)
        };
        aside(note).map_err(|source| self.failed("write", source))
    }

    fn open(&self) -> Result<Connection, ProbesError> {
        small_database::open(&self.path, SCHEMA).map_err(|failure| match failure {
            OpenFailure::Database(source) => self.failed("open", source),
            OpenFailure::Version { found } => ProbesError::Version {
                path: self.path.clone(),
                found,
            },
        })
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> ProbesError {
        ProbesError::Database {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

/// The usual file beside a queue.
pub fn probes_beside(queue: &Path) -> PathBuf {
    queue.with_file_name(PROBES_FILE)
}

fn read(
    database: &Connection,
    destination: &DestinationName,
    place: &str,
) -> rusqlite::Result<Option<Probe>> {
    let row: Option<(String, i64)> = database
        .query_row(
            "SELECT found, at_unix_secs FROM probe WHERE destination = ?1 AND place = ?2",
            params![destination.to_string(), place],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(row.and_then(|(word, at)| {
        let mut known = TriedWrites::ALL.into_iter();
        Some(Probe {
            found: known.find(|found| found.word() == word)?,
            at_unix_secs: at.cast_unsigned(),
        })
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use formats::wire::upload::destinations::TriedWrites;

    use super::{Probe, Probes, ProbesError};

    #[test]
    fn what_was_found_out_is_kept_for_the_place_it_was_found_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("probes");
        let far = "far".parse().unwrap();
        let probe = |found, at_unix_secs| Probe {
            found,
            at_unix_secs,
        };
        let enforced = probe(TriedWrites::Enforced, 10);
        assert_eq!(Probes::new(path.clone()).last(&far, "a").unwrap(), None);
        assert!(!path.exists(), "a question makes no file");
        let noted = Probes::new(path.clone()).note(&far, "a", enforced);
        assert_eq!(noted.unwrap(), None);
        // As another process does.
        let probes = Probes::new(path.clone());
        assert_eq!(probes.last(&far, "a").unwrap(), Some(enforced));
        assert_eq!(probes.last(&far, "b").unwrap(), None);
        let ignored = probe(TriedWrites::Ignored, 20);
        assert_eq!(probes.note(&far, "a", ignored).unwrap(), Some(enforced));
        assert_eq!(probes.last(&far, "a").unwrap(), Some(ignored));
        // Another bucket under the same name is another story.
        assert_eq!(probes.note(&far, "b", enforced).unwrap(), None);
        assert_eq!(probes.last(&far, "a").unwrap(), None);
    }

    #[test]
    fn a_file_of_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("probes");
        let database = rusqlite::Connection::open(&path).unwrap();
        database.pragma_update(None, "user_version", 9).unwrap();
        let asked = Probes::new(path).last(&"far".parse().unwrap(), "a");
        assert!(
            matches!(asked, Err(ProbesError::Version { found: 9, .. })),
            "{asked:?}"
        );
    }
}
