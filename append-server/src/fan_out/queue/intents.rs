//! Names that were chosen and are being stored: noted before the first destination sees one, so that a put that is cut
//! short anywhere is known of at the next start. What it takes to use them is in `fan_out/settle.rs`.

use formats::ids::{PackId, RepositoryId};
use formats::object::ObjectName;
use rusqlite::{OptionalExtension as _, params};

use crate::destination::{DestinationName, ObjectKey};
use crate::fan_out::queue::{Lag, Queue, QueueError};

/// An object that may be on some destinations and not on others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its name, which others may have given to other bytes.
    pub key: ObjectKey,
    /// Its bytes.
    pub bytes: u64,
    /// Their digest.
    pub digest: PackId,
}

impl Queue {
    /// Notes, durably, that an object is about to be stored.
    pub fn intend(&self, intent: &Intent, now_unix_secs: u64) -> Result<(), QueueError> {
        self.with("write", |database| {
            database
                .prepare_cached(
                    "INSERT INTO intent (repository, name, bytes, digest, since_unix_secs)
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                )
                .and_then(|mut insert| {
                    insert.execute(params![
                        intent.key.repository.to_string(),
                        intent.key.name.to_string(),
                        intent.bytes.cast_signed(),
                        *intent.digest.as_bytes(),
                        now_unix_secs.cast_signed(),
                    ])
                })
                .map(drop)
        })
    }

    /// What of a repository is noted, oldest first.
    pub fn intents(&self, repository: RepositoryId) -> Result<Vec<Intent>, QueueError> {
        self.with("read", |database| {
            let mut select = database.prepare_cached(
                "SELECT name, bytes, digest FROM intent WHERE repository = ?1 ORDER BY id",
            )?;
            let rows = select.query_map([repository.to_string()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, [u8; 32]>(2)?,
                ))
            })?;
            let mut found = Vec::new();
            for row in rows {
                let (name, bytes, digest) = row?;
                // Written by us from names like these.
                let Ok(name) = name.parse::<ObjectName>() else {
                    tracing::warn!(%repository, name, "the queue holds what is no object's name");
                    continue;
                };
                found.push(Intent {
                    key: ObjectKey { repository, name },
                    bytes: bytes.cast_unsigned(),
                    digest: PackId(digest),
                });
            }
            Ok(found)
        })
    }

    /// Notes which destination would not take it, and why.
    pub fn note_owed(
        &self,
        intent: &Intent,
        destination: &DestinationName,
        problem: &str,
    ) -> Result<(), QueueError> {
        self.with("write", |database| {
            database
                .prepare_cached(
                    "UPDATE intent SET owed_to = ?4, problem = ?5
                     WHERE repository = ?1 AND name = ?2 AND digest = ?3",
                )
                .and_then(|mut update| {
                    update.execute(params![
                        intent.key.repository.to_string(),
                        intent.key.name.to_string(),
                        *intent.digest.as_bytes(),
                        destination.to_string(),
                        problem,
                    ])
                })
                .map(drop)
        })
    }

    /// It is nowhere, and never will be: other bytes have its name.
    pub fn forget(&self, intent: &Intent) -> Result<(), QueueError> {
        self.with("write", |database| {
            database
                .prepare_cached(
                    "DELETE FROM intent WHERE repository = ?1 AND name = ?2 AND digest = ?3",
                )
                .and_then(|mut delete| {
                    delete.execute(params![
                        intent.key.repository.to_string(),
                        intent.key.name.to_string(),
                        *intent.digest.as_bytes(),
                    ])
                })
                .map(drop)
        })
    }

    /// The name's object is everywhere it must be. Whatever else wanted the name has lost it.
    pub fn settled(&self, key: &ObjectKey) -> Result<(), QueueError> {
        self.with("write", |database| {
            database
                .prepare_cached("DELETE FROM intent WHERE repository = ?1 AND name = ?2")
                .and_then(|mut delete| {
                    delete.execute(params![key.repository.to_string(), key.name.to_string()])
                })
                .map(drop)
        })
    }

    /// What a destination would not take so far: of one repository, or of all.
    pub fn owed(
        &self,
        destination: &DestinationName,
        of: Option<RepositoryId>,
    ) -> Result<Lag, QueueError> {
        self.sum("intent", "owed_to", destination, of)
    }

    /// Why it would not.
    pub fn owed_problem(
        &self,
        destination: &DestinationName,
    ) -> Result<Option<String>, QueueError> {
        self.with("read", |database| {
            database
                .prepare_cached(
                    "SELECT repository || '/' || name || ': ' || problem FROM intent
                     WHERE owed_to = ?1 ORDER BY id LIMIT 1",
                )
                .and_then(|mut select| {
                    select
                        .query_row([destination.to_string()], |row| row.get(0))
                        .optional()
                })
        })
    }
}
