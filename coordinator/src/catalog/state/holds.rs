//! Holds: while a host has one, no snapshot of it is dropped. They are added by a run that looks wrong, or by a person, and
//! ended by a person alone. Ended ones stay as history.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use formats::ids::RunId;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::catalog::state::{Outcome, State};
use crate::clock::{from_nanos, to_nanos};
use crate::database::{DatabaseError, bad_value, unsigned};

macro_rules! hold_tables {
    () => {
        "
CREATE TABLE holds (
    number INTEGER PRIMARY KEY,   -- what a person names it by
    host TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    added_by TEXT NOT NULL,
    since INTEGER NOT NULL,       -- nanoseconds since 1970
    run BLOB,                     -- the run that looked wrong
    released INTEGER,
    released_by TEXT
) STRICT;
CREATE INDEX holds_by_host ON holds (host);
"
    };
}
pub(super) use hold_tables;

/// Why a host is on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldKind {
    /// A run looked as if the host were being encrypted or emptied.
    Anomaly,
    /// What answered is another machine than before.
    Identity,
    /// Somebody has to keep everything.
    Legal,
    /// A person wants it.
    Manual,
}

impl HoldKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Anomaly, Self::Identity, Self::Legal, Self::Manual];

    /// Its word, as it is shown and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::Identity => "identity",
            Self::Legal => "legal",
            Self::Manual => "manual",
        }
    }

    /// Whether runs add it. One of such a kind is enough for a host.
    fn is_automatic(self) -> bool {
        matches!(self, Self::Anomaly | Self::Identity)
    }
}

impl fmt::Display for HoldKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A word that is no kind of hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no kind of hold: anomaly, identity, legal or manual")]
pub struct ParseHoldKindError {
    word: String,
}

impl FromStr for HoldKind {
    type Err = ParseHoldKindError;

    fn from_str(word: &str) -> Result<Self, ParseHoldKindError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| ParseHoldKindError {
                word: word.to_owned(),
            })
    }
}

/// A hold to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHold<'a> {
    /// The host.
    pub host: &'a str,
    /// What kind of hold.
    pub kind: HoldKind,
    /// Why, for people.
    pub reason: &'a str,
    /// Who adds it.
    pub by: &'a str,
    /// When.
    pub at: Timestamp,
    /// The run that looked wrong.
    pub run: Option<RunId>,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What a person names it by.
    pub number: u64,
    /// The host.
    pub host: String,
    /// What kind of hold.
    pub kind: HoldKind,
    /// Why.
    pub reason: String,
    /// Who added it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// The run that looked wrong.
    pub run: Option<RunId>,
    /// When it ended, and who ended it.
    pub released: Option<(Timestamp, String)>,
}

const COLUMNS: &str = "number, host, kind, reason, added_by, since, run, released, released_by";

impl State {
    /// The holds of a host, or of all hosts, that have not ended; oldest first.
    pub fn holds(&self, host: Option<&str>) -> Result<Vec<Hold>, DatabaseError> {
        let holds = self.holds_ever(host)?.into_iter();
        Ok(holds.filter(|hold| hold.released.is_none()).collect())
    }

    /// All holds there were; oldest first.
    pub fn holds_ever(&self, host: Option<&str>) -> Result<Vec<Hold>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM holds WHERE ?1 IS NULL OR host = ?1 ORDER BY number"
            ))?;
            let rows = statement.query_map([host], read_hold)?;
            rows.collect()
        })
    }

    /// Adds a hold. Nothing when it is of a kind that runs add, and the host has one of that kind already.
    pub fn add_hold(&mut self, new: &NewHold<'_>) -> Result<Option<Hold>, DatabaseError> {
        self.database.write(|transaction| {
            if new.kind.is_automatic() && has_one(transaction, new)? {
                return Ok(None);
            }
            transaction.execute(
                "INSERT INTO holds (host, kind, reason, added_by, since, run)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    new.host,
                    new.kind.as_str(),
                    new.reason,
                    new.by,
                    to_nanos(new.at),
                    new.run.as_ref().map(RunId::as_bytes),
                ],
            )?;
            find(transaction, transaction.last_insert_rowid())
        })
    }

    /// Ends a hold; nothing when there is none of that number that has not ended.
    pub fn release_hold(
        &mut self,
        number: u64,
        by: &str,
        at: Timestamp,
    ) -> Result<Option<Hold>, DatabaseError> {
        let Ok(number) = i64::try_from(number) else {
            return Ok(None); // More than there can be.
        };
        self.database.write(|transaction| {
            let ended = transaction.execute(
                "UPDATE holds SET released = ?2, released_by = ?3
                 WHERE number = ?1 AND released IS NULL",
                params![number, to_nanos(at), by],
            )?;
            match ended {
                0 => Ok(None),
                _ => find(transaction, number),
            }
        })
    }

    /// The runs of a host whose snapshots looked wrong.
    pub fn held_runs(&self, host: &str) -> Result<HashSet<RunId>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT run FROM runs WHERE host = ?1 AND outcome = ?2")?;
            let rows = statement.query_map(params![host, Outcome::Held.as_str()], |row| {
                Ok(RunId(row.get(0)?))
            })?;
            rows.collect()
        })
    }
}

fn has_one(transaction: &Transaction<'_>, new: &NewHold<'_>) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("SELECT 1 FROM holds WHERE host = ?1 AND kind = ?2 AND released IS NULL")?
        .exists(params![new.host, new.kind.as_str()])
}

fn find(transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<Option<Hold>> {
    transaction
        .prepare_cached(&format!("SELECT {COLUMNS} FROM holds WHERE number = ?1"))?
        .query_row([number], read_hold)
        .optional()
}

fn read_hold(row: &Row<'_>) -> rusqlite::Result<Hold> {
    let kind: String = row.get(2)?;
    let kind = kind.parse().map_err(|source| bad_value(2, source))?;
    let run: Option<[u8; 16]> = row.get(6)?;
    let released: Option<i64> = row.get(7)?;
    let by: Option<String> = row.get(8)?;
    Ok(Hold {
        number: unsigned(row, 0)?,
        host: row.get(1)?,
        kind,
        reason: row.get(3)?,
        by: row.get(4)?,
        since: from_nanos(row.get(5)?),
        run: run.map(RunId),
        released: released.map(from_nanos).zip(by),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{HoldKind, NewHold};
    use crate::catalog::state::State;

    fn new(kind: HoldKind, host: &str) -> NewHold<'_> {
        NewHold {
            host,
            kind,
            reason: "900 of 1,000 files",
            by: "daemon",
            at: Timestamp::UNIX_EPOCH,
            run: None,
        }
    }

    #[test]
    fn a_run_adds_one_hold_of_a_kind_and_a_person_as_many_as_wanted() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut state = State::open(&dir.path().join("state.db")).expect("opens");
        let mut add = |kind, host| state.add_hold(&new(kind, host)).expect("writes").is_some();
        assert!(add(HoldKind::Anomaly, "web1"));
        assert!(!add(HoldKind::Anomaly, "web1"));
        assert!(add(HoldKind::Anomaly, "web2"));
        assert!(add(HoldKind::Legal, "web1"));
        assert!(add(HoldKind::Legal, "web1"));
        let holds = state.holds(Some("web1")).expect("reads");
        assert_eq!(holds.len(), 3);
        assert_eq!(state.holds(None).expect("reads").len(), 4);
    }

    #[test]
    fn a_hold_ends_once_and_stays_as_history() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.db");
        let mut state = State::open(&path).expect("opens");
        let added = state.add_hold(&new(HoldKind::Anomaly, "web1"));
        let added = added.expect("writes").expect("is new");
        drop(state);
        let mut state = State::open(&path).expect("opens again");
        assert_eq!(state.holds(None).expect("reads").first(), Some(&added));
        let at = Timestamp::UNIX_EPOCH;
        let mut release = |number| {
            state
                .release_hold(number, "user:root(0)", at)
                .expect("writes")
        };
        assert!(release(added.number + 1).is_none());
        let ended = release(added.number).expect("it was there");
        assert_eq!(ended.released, Some((at, "user:root(0)".to_owned())));
        assert!(release(added.number).is_none());
        assert!(state.holds(None).expect("reads").is_empty());
        assert_eq!(state.holds_ever(Some("web1")).expect("reads"), [ended]);
        let again = state.add_hold(&new(HoldKind::Anomaly, "web1"));
        assert!(again.expect("writes").is_some());
    }

    #[test]
    fn kinds_have_one_word_each() {
        for kind in HoldKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("anomalies".parse::<HoldKind>().is_err());
    }
}
