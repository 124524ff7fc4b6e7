//! Where repositories are kept besides the destinations that are waited for, on how many of them an object must be, and which
//! followers do not have all of one because it was not kept there, once. Never drops what is on its way to a destination that is
//! waited for.

use formats::ids::RepositoryId;
use formats::wire::placing::Copies;
use formats::wire::upload::destinations::Placed;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::destination::DestinationName;
use crate::fan_out::queue::{Queue, QueueError, QueuedObject, insert_delivery};

/// Where a repository is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeptAt {
    /// At every destination, those included that are added later.
    Everywhere,
    /// At these, besides those that are waited for.
    These(Vec<DestinationName>),
}

/// How a repository is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keeping {
    /// Where.
    pub kept_at: KeptAt,
    /// On how many destinations there an object must be before it is acknowledged.
    pub copies: Copies,
}

impl Keeping {
    /// Of a repository of which nobody has said anything.
    pub const PLAIN: Self = Self {
        kept_at: KeptAt::Everywhere,
        copies: Copies::Floor,
    };
}

impl KeptAt {
    /// Whether a destination that nobody waits for has the repository.
    pub fn names(&self, destination: &DestinationName) -> bool {
        match self {
            Self::Everywhere => true,
            Self::These(names) => names.contains(destination),
        }
    }

    /// As it stands in the database; no name has a blank.
    fn text(&self) -> Option<String> {
        let Self::These(names) = self else {
            return None;
        };
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        Some(names.join(" "))
    }

    fn from_text(text: Option<&str>) -> Self {
        match text {
            None => Self::Everywhere,
            Some(text) => {
                let names = text.split(' ').filter_map(|name| name.parse().ok());
                Self::These(names.collect())
            }
        }
    }
}

/// That a follower does not have all of a repository; a later one of the same two is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfilled(i64);

/// What came of another placing at one follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacingChange {
    /// Of which repository.
    pub repository: RepositoryId,
    /// Which follower.
    pub destination: DestinationName,
    /// Whether the repository is kept there now, and was not before; else the other way round.
    pub is_kept: bool,
    /// Deliveries that were dropped.
    pub dropped: usize,
}

impl Queue {
    /// Where a repository is kept; everywhere when nobody has said anything else.
    pub fn kept_at(&self, repository: RepositoryId) -> Result<KeptAt, QueueError> {
        self.with("read", |database| kept_at(database, repository))
    }

    /// How a repository is kept.
    pub fn keeping(&self, repository: RepositoryId) -> Result<Keeping, QueueError> {
        self.with("read", |database| {
            Ok(Keeping {
                kept_at: kept_at(database, repository)?,
                copies: copies(database, repository)?,
            })
        })
    }

    /// Says how repositories are kept, for good, all or none of it. What is on its way to a follower that is left out now is
    /// dropped, and one that is left out, now or before, does not have all of the repository until it is [`Queue::filled`].
    pub fn place(
        &self,
        repositories: &[RepositoryId],
        keeping: &Keeping,
        followers: &[DestinationName],
    ) -> Result<Vec<PlacingChange>, QueueError> {
        self.with("write", |database| {
            // What is read here must hold until it is written.
            let change = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut changes = Vec::new();
            for repository in repositories {
                place_one(
                    &change,
                    *repository,
                    &keeping.kept_at,
                    followers,
                    &mut changes,
                )?;
                ask_for_copies(&change, *repository, keeping.copies)?;
            }
            change.commit()?;
            Ok(changes)
        })
    }

    /// Nobody asks for copies of these any more; they stay where they are.
    pub fn forget_copies(&self, repositories: &[RepositoryId]) -> Result<(), QueueError> {
        self.with("write", |database| {
            let change = database.transaction()?;
            for repository in repositories {
                ask_for_copies(&change, *repository, Copies::Floor)?;
            }
            change.commit()
        })
    }

    /// Notes that these followers are to get objects of a repository, but for those at which it is not kept; gives the others.
    pub fn add_where_kept(
        &self,
        followers: &[DestinationName],
        repository: RepositoryId,
        objects: &[QueuedObject],
        now_unix_secs: u64,
    ) -> Result<Vec<DestinationName>, QueueError> {
        self.with("write", |database| {
            let change = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let placed = kept_at(&change, repository)?;
            let kept: Vec<DestinationName> = followers
                .iter()
                .filter(|name| placed.names(name))
                .cloned()
                .collect();
            for destination in &kept {
                for object in objects {
                    insert_delivery(&change, destination, object, now_unix_secs)?;
                }
            }
            change.commit()?;
            Ok(kept)
        })
    }

    /// Whether a destination does not have all of a repository because it was left out.
    pub fn unfilled(
        &self,
        destination: &DestinationName,
        repository: RepositoryId,
    ) -> Result<Option<Unfilled>, QueueError> {
        self.with("read", |database| {
            database
                .prepare_cached(
                    "SELECT id FROM unfilled WHERE repository = ?1 AND destination = ?2",
                )
                .and_then(|mut select| {
                    select
                        .query_row(
                            params![repository.to_string(), destination.to_string()],
                            |row| row.get(0).map(Unfilled),
                        )
                        .optional()
                })
        })
    }

    /// Whether a destination, which is a follower or is waited for, has a repository; without one, whether it has each that is to
    /// be there.
    pub fn placed(
        &self,
        destination: &DestinationName,
        follows: bool,
        of: Option<RepositoryId>,
    ) -> Result<Placed, QueueError> {
        let is_unfilled = match of {
            Some(repository) => {
                if follows && !self.kept_at(repository)?.names(destination) {
                    return Ok(Placed::LeftOut);
                }
                self.unfilled(destination, repository)?.is_some()
            }
            None => {
                let kept_at = self.unfilled_kept_at(destination)?;
                let is_kept = |kept: &KeptAt| !follows || kept.names(destination);
                kept_at.iter().any(is_kept)
            }
        };
        Ok(match is_unfilled {
            true => Placed::Unfilled,
            false => Placed::Kept,
        })
    }

    /// Where each repository is kept that a destination does not have all of because it was left out.
    fn unfilled_kept_at(&self, destination: &DestinationName) -> Result<Vec<KeptAt>, QueueError> {
        self.with("read", |database| {
            let mut select = database.prepare_cached(
                "SELECT placing.destinations FROM unfilled LEFT JOIN placing USING (repository)
                     WHERE unfilled.destination = ?1",
            )?;
            let rows = select.query_map([destination.to_string()], |row| {
                row.get::<_, Option<String>>(0)
            })?;
            rows.map(|text| text.map(|text| KeptAt::from_text(text.as_deref())))
                .collect::<Result<_, _>>()
        })
    }

    /// It has all of it, or the rest is on its way. Says nothing of a time after that, when it may have been left out again.
    pub fn filled(&self, unfilled: Unfilled) -> Result<(), QueueError> {
        self.with("write", |database| {
            database
                .prepare_cached("DELETE FROM unfilled WHERE id = ?1")
                .and_then(|mut delete| delete.execute([unfilled.0]))
                .map(drop)
        })
    }
}

fn kept_at(connection: &Connection, repository: RepositoryId) -> rusqlite::Result<KeptAt> {
    let text: Option<String> = connection
        .prepare_cached("SELECT destinations FROM placing WHERE repository = ?1")?
        .query_row([repository.to_string()], |row| row.get(0))
        .optional()?;
    Ok(KeptAt::from_text(text.as_deref()))
}

fn copies(connection: &Connection, repository: RepositoryId) -> rusqlite::Result<Copies> {
    let at_least: Option<Option<i64>> = connection
        .prepare_cached("SELECT at_least FROM copies WHERE repository = ?1")?
        .query_row([repository.to_string()], |row| row.get(0))
        .optional()?;
    Ok(match at_least {
        None => Copies::Floor,
        Some(None) => Copies::All,
        Some(Some(copies)) => Copies::AtLeast(copies.cast_unsigned()),
    })
}

fn ask_for_copies(
    change: &Transaction<'_>,
    repository: RepositoryId,
    asked: Copies,
) -> rusqlite::Result<()> {
    if copies(change, repository)? == asked {
        return Ok(()); // Said with every run: nothing is to be synced to the disk.
    }
    let at_least = match asked {
        Copies::Floor => {
            return change
                .prepare_cached("DELETE FROM copies WHERE repository = ?1")?
                .execute([repository.to_string()])
                .map(drop);
        }
        Copies::AtLeast(copies) => Some(copies.cast_signed()),
        Copies::All => None,
    };
    change
        .prepare_cached("INSERT OR REPLACE INTO copies (repository, at_least) VALUES (?1, ?2)")?
        .execute(params![repository.to_string(), at_least])
        .map(drop)
}

fn place_one(
    change: &Transaction<'_>,
    repository: RepositoryId,
    kept: &KeptAt,
    followers: &[DestinationName],
    changes: &mut Vec<PlacingChange>,
) -> rusqlite::Result<()> {
    let before = kept_at(change, repository)?;
    if before == *kept {
        return Ok(());
    }
    for destination in followers {
        let (was_kept, is_kept) = (before.names(destination), kept.names(destination));
        if was_kept && is_kept {
            continue;
        }
        let names = params![repository.to_string(), destination.to_string()];
        let dropped = match is_kept {
            true => 0,
            false => change
                .prepare_cached("DELETE FROM delivery WHERE repository = ?1 AND destination = ?2")?
                .execute(names)?,
        };
        // A filling that is under way began without knowing of this.
        change
            .prepare_cached(
                "INSERT OR REPLACE INTO unfilled (repository, destination) VALUES (?1, ?2)",
            )?
            .execute(names)?;
        if was_kept != is_kept {
            changes.push(PlacingChange {
                repository,
                destination: destination.clone(),
                is_kept,
                dropped,
            });
        }
    }
    match kept.text() {
        Some(text) => change
            .prepare_cached(
                "INSERT OR REPLACE INTO placing (repository, destinations) VALUES (?1, ?2)",
            )?
            .execute(params![repository.to_string(), text])?,
        None => change
            .prepare_cached("DELETE FROM placing WHERE repository = ?1")?
            .execute([repository.to_string()])?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use formats::ids::{PackId, RepositoryId};
    use formats::object::ObjectName;

    use formats::wire::placing::Copies;

    use super::{Keeping, KeptAt, PlacingChange};
    use crate::destination::{DestinationName, ObjectKey};
    use crate::fan_out::queue::{Queue, QueuedObject};

    const ONE: RepositoryId = RepositoryId([1; 16]);
    const OTHER: RepositoryId = RepositoryId([2; 16]);

    fn name(text: &str) -> DestinationName {
        text.parse().unwrap()
    }

    fn at(kept_at: &KeptAt) -> Keeping {
        Keeping {
            kept_at: kept_at.clone(),
            copies: Copies::Floor,
        }
    }

    fn object(repository: RepositoryId) -> QueuedObject {
        let name = ObjectName::Pack(PackId([7; 32]));
        QueuedObject {
            key: ObjectKey { repository, name },
            bytes: 100,
            digest: None,
        }
    }

    #[test]
    fn what_was_on_its_way_goes_with_the_change_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let (near, far, first) = (name("near"), name("far"), name("first"));
        let followers = [near.clone(), far.clone()];
        let queue = Queue::open(&path).unwrap();
        for repository in [ONE, OTHER] {
            // The first one is waited for, and is being filled.
            let all = [near.clone(), far.clone(), first.clone()];
            queue.add(&all, &[object(repository)], 10).unwrap();
        }
        let these = KeptAt::These(vec![near.clone()]);
        let changes = queue.place(&[ONE], &at(&these), &followers).unwrap();
        let change = PlacingChange {
            repository: ONE,
            destination: far.clone(),
            is_kept: false,
            dropped: 1,
        };
        assert_eq!(changes, [change]);
        let again = queue.place(&[ONE], &at(&these), &followers).unwrap();
        assert!(again.is_empty());

        // As after a restart.
        drop(queue);
        let queue = Queue::open(&path).unwrap();
        let behind = |destination, repository| queue.behind(destination, repository).unwrap();
        assert_eq!((behind(&far, ONE), behind(&far, OTHER)), (0, 1));
        assert_eq!((behind(&near, ONE), behind(&first, ONE)), (1, 1));
        assert_eq!(queue.kept_at(ONE).unwrap(), these);
        assert_eq!(queue.kept_at(OTHER).unwrap(), KeptAt::Everywhere);
        let add =
            |repository| queue.add_where_kept(&followers, repository, &[object(repository)], 20);
        assert_eq!(add(ONE).unwrap(), followers[..1]);
        assert_eq!(add(OTHER).unwrap(), followers);
        assert_eq!(behind(&far, ONE), 0);
    }

    #[test]
    fn a_filling_that_began_before_the_last_change_fills_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::open(&dir.path().join("queue")).unwrap();
        let far = name("far");
        let followers = std::slice::from_ref(&far);
        let unfilled = || queue.unfilled(&far, ONE).unwrap();
        let nowhere = at(&KeptAt::These(Vec::new()));
        assert_eq!(unfilled(), None);
        queue.place(&[ONE], &nowhere, followers).unwrap();
        queue.place(&[ONE], &Keeping::PLAIN, followers).unwrap();
        let first = unfilled().unwrap();
        queue.place(&[ONE], &nowhere, followers).unwrap();
        queue.place(&[ONE], &Keeping::PLAIN, followers).unwrap();
        queue.filled(first).unwrap();
        let second = unfilled().unwrap();
        queue.filled(second).unwrap();
        assert_eq!(unfilled(), None);
        // Everywhere is what it was before anything was said.
        assert_eq!(queue.kept_at(ONE).unwrap(), KeptAt::Everywhere);
    }

    #[test]
    fn the_copies_that_are_asked_for_are_kept_and_forgotten_beside_the_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let far = [name("far")];
        let these = KeptAt::These(far.to_vec());
        for (kept_at, copies) in [
            (KeptAt::Everywhere, Copies::All),
            (these.clone(), Copies::AtLeast(2)),
            (these.clone(), Copies::Floor),
            (these, Copies::All),
        ] {
            let keeping = Keeping { kept_at, copies };
            // As after a restart, every time.
            let queue = Queue::open(&path).unwrap();
            queue.place(&[ONE], &keeping, &far).unwrap();
            assert_eq!(queue.keeping(OTHER).unwrap(), Keeping::PLAIN);
            drop(queue);
            let queue = Queue::open(&path).unwrap();
            assert_eq!(queue.keeping(ONE).unwrap(), keeping);
        }
        let queue = Queue::open(&path).unwrap();
        queue.forget_copies(&[ONE, OTHER]).unwrap();
        let expected = at(&queue.kept_at(ONE).unwrap());
        assert_eq!(queue.keeping(ONE).unwrap(), expected);
        assert_ne!(expected, Keeping::PLAIN);
    }

    #[test]
    fn a_queue_of_an_earlier_version_is_taken_over_with_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let far = name("far");
        let queue = Queue::open(&path).unwrap();
        queue
            .add(std::slice::from_ref(&far), &[object(ONE)], 10)
            .unwrap();
        let before_copies = "DROP TABLE copies; PRAGMA user_version = 3";
        let before_placing =
            "DROP TABLE copies; DROP TABLE placing; DROP TABLE unfilled; PRAGMA user_version = 2";
        let nowhere = at(&KeptAt::These(Vec::new()));
        queue.place(&[OTHER], &nowhere, &[]).unwrap();
        for (undo, placed) in [(before_copies, nowhere), (before_placing, Keeping::PLAIN)] {
            queue
                .with("undo", |database| database.execute_batch(undo))
                .unwrap();
            let queue = Queue::open(&path).unwrap();
            assert_eq!(queue.keeping(OTHER).unwrap(), placed);
            assert_eq!(queue.behind(&far, ONE).unwrap(), 1);
        }
    }
}
