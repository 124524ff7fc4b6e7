//! What each destination does not have yet, and what is being stored: a small database beside the spool, so that both
//! survive whatever ends this process. Holds names, never bytes; those are read again where they are.

pub mod intents;
pub mod placing;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use formats::ids::{PackId, RepositoryId};
use formats::object::ObjectName;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Transaction, params};

use crate::destination::{DestinationName, ObjectKey, ObjectList};
use crate::small_database::{self, OpenFailure, Schema, aside};

const SCHEMA: Schema = Schema {
    version: VERSION,
    sql: "
    CREATE TABLE IF NOT EXISTS delivery (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        destination TEXT NOT NULL,
        repository TEXT NOT NULL,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        digest BLOB,
        since_unix_secs INTEGER NOT NULL,
        not_before_unix_secs INTEGER NOT NULL DEFAULT 0,
        problem TEXT,
        UNIQUE (destination, repository, name)
    );
    CREATE INDEX IF NOT EXISTS delivery_in_order ON delivery (destination, id);
    CREATE TABLE IF NOT EXISTS intent (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        repository TEXT NOT NULL,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        digest BLOB NOT NULL,
        since_unix_secs INTEGER NOT NULL,
        owed_to TEXT,
        problem TEXT,
        UNIQUE (repository, name, digest)
    );
    CREATE TABLE IF NOT EXISTS placing (
        repository TEXT PRIMARY KEY,
        destinations TEXT NOT NULL -- the names of those that it is kept at, with blanks between them
    );
    CREATE TABLE IF NOT EXISTS copies (
        repository TEXT PRIMARY KEY,
        at_least INTEGER -- on how many destinations an object must be; without a number on every one that it is kept at
    );
    CREATE TABLE IF NOT EXISTS unfilled (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        repository TEXT NOT NULL,
        destination TEXT NOT NULL,
        UNIQUE (repository, destination)
    );
",
};

/// The usual name of its file.
pub const QUEUE_FILE: &str = "deliveries.sqlite";

/// The version of the schema above. Version 1 had no intents, version 2 no placing, version 3 no copies.
const VERSION: i64 = 4;

/// How long one waits who only looks.
const READ_DEADLINE: Duration = Duration::from_secs(3);

/// The queue of one server's deliveries.
#[derive(Debug)]
pub struct Queue {
    path: PathBuf,
    database: Mutex<Connection>,
}

/// The queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The database.
    #[error("could not {action} the queue of deliveries {}; look at its disk", path.display())]
    Database {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Made by another version.
    #[error("the queue of deliveries {} is of version {found}, known is {VERSION}: use the version of Capstan that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: i64,
    },
}

/// An object that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedObject {
    /// Its name.
    pub key: ObjectKey,
    /// Its bytes.
    pub bytes: u64,
    /// BLAKE3 of them, where it is known.
    pub digest: Option<PackId>,
}

/// What a destination is behind by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Objects that it does not have yet.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when the oldest of them waits, in seconds since 1970.
    pub oldest_unix_secs: Option<u64>,
}

impl Lag {
    /// From a row of objects, bytes and the oldest one's time.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            objects: row.get::<_, i64>(0)?.cast_unsigned(),
            bytes: row.get::<_, i64>(1)?.cast_unsigned(),
            oldest_unix_secs: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
        })
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        let since = [self.oldest_unix_secs, other.oldest_unix_secs];
        Self {
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
            oldest_unix_secs: since.into_iter().flatten().min(),
        }
    }
}

impl Queue {
    /// Opens the queue, making it when it is not there.
    pub fn open(path: &Path) -> Result<Self, QueueError> {
        let database = small_database::open(path, SCHEMA).map_err(|failure| {
            let path = path.to_owned();
            match failure {
                OpenFailure::Database(source) => QueueError::Database {
                    action: "open",
                    path,
                    source,
                },
                OpenFailure::Version { found } => QueueError::Version { path, found },
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            database: Mutex::new(database),
        })
    }

    /// Opens a queue that is there, changing nothing, to look at what another process does with it; one of an earlier version is
    /// refused, too.
    pub fn open_to_read(path: &Path) -> Result<Self, QueueError> {
        let fail = |source| QueueError::Database {
            action: "open",
            path: path.to_owned(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags).map_err(fail)?;
        database.busy_timeout(READ_DEADLINE).map_err(fail)?;
        let found: i64 = database
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(fail)?;
        if found != VERSION {
            let path = path.to_owned();
            return Err(QueueError::Version { path, found });
        }
        Ok(Self {
            path: path.to_owned(),
            database: Mutex::new(database),
        })
    }

    /// Does something with the database, for one caller at a time.
    fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        let done = aside(|| {
            let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut database)
        });
        done.map_err(|source| QueueError::Database {
            action,
            path: self.path.clone(),
            source,
        })
    }

    /// Notes that these destinations are to get these objects, all or none of it, durably, after what is in the queue
    /// already. What is to be delivered anyway goes to the end too, and may be tried again now.
    pub fn add(
        &self,
        destinations: &[DestinationName],
        objects: &[QueuedObject],
        now_unix_secs: u64,
    ) -> Result<(), QueueError> {
        self.with("write", |database| {
            let change = database.transaction()?;
            for destination in destinations {
                for object in objects {
                    insert_delivery(&change, destination, object, now_unix_secs)?;
                }
            }
            change.commit()
        })
    }

    /// The deliveries of a destination that may be tried now, in the order they came. A record of a log, or a config, waits
    /// for everything of its repository that came before it: what it stands for is there when it is.
    pub fn due(
        &self,
        destination: &DestinationName,
        now_unix_secs: u64,
        limit: usize,
    ) -> Result<Vec<QueuedObject>, QueueError> {
        self.with("read", |database| {
            let mut select = database.prepare_cached(
                "SELECT repository, name, bytes, digest FROM delivery AS one
                     WHERE destination = ?1 AND not_before_unix_secs <= ?2
                       AND NOT ((name LIKE 'log/%' OR name = 'config') AND EXISTS (
                         SELECT 1 FROM delivery AS before
                         WHERE before.destination = one.destination
                           AND before.repository = one.repository
                           AND before.id < one.id))
                     ORDER BY id LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = select.query_map(
                params![destination.to_string(), now_unix_secs.cast_signed(), limit],
                |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, String>(1)?,
                        row.get::<_, i64>(2)?,
                        row.get::<_, Option<[u8; 32]>>(3)?,
                    ))
                },
            )?;
            let mut found = Vec::new();
            for row in rows {
                let (repository, name, bytes, digest) = row?;
                // Written by us from names like these.
                let (Ok(repository), Ok(name)) = (repository.parse(), name.parse::<ObjectName>())
                else {
                    tracing::warn!(repository, name, "the queue holds what is no object's name");
                    continue;
                };
                found.push(QueuedObject {
                    key: ObjectKey { repository, name },
                    bytes: bytes.cast_unsigned(),
                    digest: digest.map(PackId),
                });
            }
            Ok(found)
        })
    }

    /// What a destination still is to get of a repository after a name, in byte order of names.
    pub fn pending(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, QueueError> {
        self.with("read", |database| {
            let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let mut select = database
                .prepare_cached(
                    "SELECT name, bytes FROM delivery
                     WHERE destination = ?1 AND repository = ?2 AND name > ?3 ORDER BY name LIMIT ?4",
                )?;
            let after = after.map(ToString::to_string).unwrap_or_default();
            let rows = select
                .query_map(
                    params![
                        destination.to_string(),
                        repository.to_string(),
                        after,
                        limit_rows
                    ],
                    |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
                )?;
            let mut list = ObjectList::default();
            for row in rows {
                let (name, bytes) = row?;
                if list.objects.len() == limit {
                    list.more = true;
                    break;
                }
                if let Ok(name) = name.parse::<ObjectName>() {
                    let bytes = u64::try_from(bytes).unwrap_or_default();
                    list.objects.push((name, bytes));
                }
            }
            Ok(list)
        })
    }

    /// Whether a destination still is to get an object.
    pub fn is_pending(
        &self,
        destination: &DestinationName,
        key: &ObjectKey,
    ) -> Result<bool, QueueError> {
        self.with("read", |database| {
            database
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM delivery
                     WHERE destination = ?1 AND repository = ?2 AND name = ?3)",
                )
                .and_then(|mut select| {
                    select.query_row(
                        params![
                            destination.to_string(),
                            key.repository.to_string(),
                            key.name.to_string()
                        ],
                        |row| row.get(0),
                    )
                })
        })
    }

    /// A destination has it.
    pub fn done(&self, destination: &DestinationName, key: &ObjectKey) -> Result<(), QueueError> {
        self.with("write", |database| {
            database
                .prepare_cached(
                    "DELETE FROM delivery WHERE destination = ?1 AND repository = ?2 AND name = ?3",
                )
                .and_then(|mut delete| {
                    delete.execute(params![
                        destination.to_string(),
                        key.repository.to_string(),
                        key.name.to_string()
                    ])
                })
                .map(drop)
        })
    }

    /// It cannot have it for now, for a reason of the object's own.
    pub fn postpone(
        &self,
        destination: &DestinationName,
        key: &ObjectKey,
        until_unix_secs: u64,
        problem: &str,
    ) -> Result<(), QueueError> {
        self.with("write", |database| {
            database
                .prepare_cached(
                    "UPDATE delivery SET not_before_unix_secs = ?4, problem = ?5
                     WHERE destination = ?1 AND repository = ?2 AND name = ?3",
                )
                .and_then(|mut update| {
                    update.execute(params![
                        destination.to_string(),
                        key.repository.to_string(),
                        key.name.to_string(),
                        until_unix_secs.cast_signed(),
                        problem,
                    ])
                })
                .map(drop)
        })
    }

    /// Why a delivery was postponed, if one was.
    pub fn problem(&self, destination: &DestinationName) -> Result<Option<String>, QueueError> {
        self.with("read", |database| {
            database
                .prepare_cached(
                    "SELECT repository || '/' || name || ': ' || problem FROM delivery
                     WHERE destination = ?1 AND problem IS NOT NULL ORDER BY id LIMIT 1",
                )
                .and_then(|mut select| {
                    select
                        .query_row(params![destination.to_string()], |row| row.get(0))
                        .optional()
                })
        })
    }

    /// How many objects of a repository a destination still is to get.
    pub fn behind(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
    ) -> Result<u64, QueueError> {
        self.with("read", |database| {
            database
                .prepare_cached(
                    "SELECT count(*) FROM delivery WHERE destination = ?1 AND repository = ?2",
                )
                .and_then(|mut select| {
                    let names = params![destination.to_string(), repository.to_string()];
                    select.query_row(names, |row| row.get::<_, i64>(0))
                })
                .map(i64::cast_unsigned)
        })
    }

    /// What a destination is behind by: of one repository, or of all.
    pub fn lag(
        &self,
        destination: &DestinationName,
        of: Option<RepositoryId>,
    ) -> Result<Lag, QueueError> {
        self.sum("delivery", "destination", destination, of)
    }

    /// Sums up what a table has for a destination.
    fn sum(
        &self,
        table: &'static str,
        column: &'static str,
        destination: &DestinationName,
        of: Option<RepositoryId>,
    ) -> Result<Lag, QueueError> {
        let sum = format!(
            "SELECT count(*), coalesce(sum(bytes), 0), min(since_unix_secs)
             FROM {table} WHERE {column} = ?1"
        );
        let name = destination.to_string();
        self.with("read", |database| match of {
            None => database.prepare_cached(&sum)?.query_row([name], Lag::read),
            Some(repository) => database
                .prepare_cached(&format!("{sum} AND repository = ?2"))?
                .query_row([name, repository.to_string()], Lag::read),
        })
    }
}

/// What is to be delivered anyway goes to the end, and may be tried again now.
fn insert_delivery(
    change: &Transaction<'_>,
    destination: &DestinationName,
    object: &QueuedObject,
    now_unix_secs: u64,
) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "INSERT INTO delivery
               (destination, repository, name, bytes, digest, since_unix_secs)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET
               id = (SELECT max(id) + 1 FROM delivery),
               digest = coalesce(excluded.digest, digest),
               not_before_unix_secs = 0, problem = NULL",
        )?
        .execute(params![
            destination.to_string(),
            object.key.repository.to_string(),
            object.key.name.to_string(),
            object.bytes.cast_signed(),
            object.digest.map(|digest| *digest.as_bytes()),
            now_unix_secs.cast_signed(),
        ])
        .map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use formats::ids::{PackId, RepositoryId};
    use formats::object::ObjectName;

    use super::{Lag, Queue, QueuedObject};
    use crate::destination::{DestinationName, ObjectKey};

    fn queued(key: ObjectKey) -> QueuedObject {
        QueuedObject {
            key,
            bytes: 100,
            digest: None,
        }
    }

    fn key(sequence: u8) -> ObjectKey {
        ObjectKey {
            repository: RepositoryId([7; 16]),
            name: ObjectName::Pack(PackId([sequence; 32])),
        }
    }

    fn name(text: &str) -> DestinationName {
        text.parse().unwrap()
    }

    #[test]
    fn deliveries_are_kept_in_order_until_they_are_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let (far, other) = (name("far"), name("other"));
        {
            let queue = Queue::open(&path).unwrap();
            for (sequence, at) in [(1, 30), (2, 10), (3, 20)] {
                let destinations = [far.clone(), other.clone()];
                queue
                    .add(&destinations, &[queued(key(sequence))], at)
                    .unwrap();
            }
        }
        // As after a restart.
        let queue = Queue::open(&path).unwrap();
        let due = |limit| -> Vec<ObjectKey> {
            let due = queue.due(&far, 100, limit).unwrap();
            due.into_iter().map(|object| object.key).collect()
        };
        assert_eq!(due(9), [key(1), key(2), key(3)]);
        assert_eq!(due(1), [key(1)]);
        queue.done(&far, &key(1)).unwrap();
        assert!(!queue.is_pending(&far, &key(1)).unwrap());
        assert!(queue.is_pending(&other, &key(1)).unwrap());
        queue.postpone(&far, &key(2), 101, "no").unwrap();
        assert_eq!(due(9), [key(3)]);
        let problem = queue.problem(&far).unwrap().unwrap();
        assert!(problem.ends_with(": no"), "{problem}");
        queue
            .add(std::slice::from_ref(&far), &[queued(key(2))], 50)
            .unwrap();
        assert_eq!(due(9), [key(3), key(2)]);
        assert_eq!(queue.problem(&far).unwrap(), None);
        let lag = Lag {
            objects: 2,
            bytes: 200,
            oldest_unix_secs: Some(10),
        };
        assert_eq!(queue.lag(&far, None).unwrap(), lag);
        assert_eq!(queue.lag(&name("nobody"), None).unwrap(), Lag::default());
        let here = key(1).repository;
        assert_eq!(queue.lag(&far, Some(here)).unwrap(), lag);
        let elsewhere = RepositoryId([0xee; 16]);
        assert_eq!(queue.lag(&far, Some(elsewhere)).unwrap(), Lag::default());
    }

    #[test]
    fn a_record_of_a_log_waits_for_what_came_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::open(&dir.path().join("queue")).unwrap();
        let far = name("far");
        let record = ObjectKey {
            name: ObjectName::Log(1),
            ..key(1)
        };
        let all = [key(1), record.clone(), key(2)].map(queued);
        queue.add(std::slice::from_ref(&far), &all, 10).unwrap();
        let due = || -> Vec<ObjectKey> {
            let due = queue.due(&far, 100, 9).unwrap();
            due.into_iter().map(|object| object.key).collect()
        };
        assert_eq!(due(), [key(1), key(2)]);
        queue.postpone(&far, &key(1), 1_000, "damaged").unwrap();
        assert_eq!(due(), [key(2)]);
        queue.done(&far, &key(1)).unwrap();
        assert_eq!(due(), [record, key(2)]);
    }
}
