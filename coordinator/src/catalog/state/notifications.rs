//! What was told to whom: conditions that hold, how far the audit log was gone through, and messages that wait to be
//! delivered. All that one step finds is written at once, so that nothing is told twice or forgotten, whenever it ends.

use formats::ids::RunId;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::catalog::state::State;
use crate::clock::{from_nanos, to_nanos};
use crate::database::{DatabaseError, signed, unsigned};

macro_rules! notification_tables {
    () => {
        "
CREATE TABLE conditions (
    subject TEXT NOT NULL,        -- host:web1, destination:nas, coordinator
    facet TEXT NOT NULL,          -- what is wrong with it
    since INTEGER NOT NULL,       -- nanoseconds since 1970
    detail TEXT NOT NULL,
    run BLOB,
    PRIMARY KEY (subject, facet)
) STRICT, WITHOUT ROWID;
CREATE TABLE notify_position (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL,    -- the last audit record that was gone through
    digest INTEGER NOT NULL       -- when the last digest was due
) STRICT;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,            -- what the message is of: told once to each target
    target TEXT NOT NULL,
    level TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    json TEXT NOT NULL,
    created INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER NOT NULL,
    UNIQUE (key, target)
) STRICT;
"
    };
}
pub(super) use notification_tables;

/// New in version 16.
macro_rules! refusals {
    () => {
        "
ALTER TABLE outbox ADD COLUMN refused INTEGER NOT NULL DEFAULT 0; -- attempts that the target refused for what it was given
"
    };
}
pub(super) use refusals;

/// Something that is wrong, and of which was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// With what.
    pub subject: String,
    /// What.
    pub facet: String,
    /// Since when.
    pub since: Timestamp,
    /// What more is known.
    pub detail: String,
    /// In which run it was found.
    pub run: Option<RunId>,
}

/// How far was gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last audit record.
    pub sequence: u64,
    /// When the last digest was due.
    pub digest: Timestamp,
}

/// A message to one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is of.
    pub key: String,
    /// To whom.
    pub target: String,
    /// How bad it is.
    pub level: String,
    /// In one line.
    pub title: String,
    /// In full.
    pub body: String,
    /// For programs.
    pub json: String,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub id: i64,
    /// The message.
    pub message: Outgoing,
    /// When it was made.
    pub created: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// How often the target refused it for what it is: that many of the attempts.
    pub refused: u32,
}

/// Which messages count as old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldLimits {
    /// Those made before.
    pub before: Timestamp,
    /// Those that are not among the last so many.
    pub newest: u32,
    /// Those that were refused so often.
    pub refused: u32,
}

/// What one step changes.
#[derive(Debug, Default)]
pub struct NotifyStep {
    /// Conditions that hold from now on, or hold with another detail.
    pub raised: Vec<Condition>,
    /// Conditions that hold no more, by subject and facet.
    pub cleared: Vec<(String, String)>,
    /// Messages to deliver.
    pub messages: Vec<Outgoing>,
}

impl State {
    /// Everything that is wrong, as far as was told.
    pub fn conditions(&self) -> Result<Vec<Condition>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT subject, facet, since, detail, run FROM conditions ORDER BY subject, facet",
            )?;
            let rows = statement.query_map([], |row| {
                let run: Option<[u8; 16]> = row.get(4)?;
                Ok(Condition {
                    subject: row.get(0)?,
                    facet: row.get(1)?,
                    since: from_nanos(row.get(2)?),
                    detail: row.get(3)?,
                    run: run.map(RunId),
                })
            })?;
            rows.collect()
        })
    }

    /// How far was gone; nothing before the first step.
    pub fn notify_position(&self) -> Result<Option<Position>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .query_row("SELECT sequence, digest FROM notify_position", [], |row| {
                    Ok(Position {
                        sequence: unsigned(row, 0)?,
                        digest: from_nanos(row.get(1)?),
                    })
                })
                .optional()
        })
    }

    /// Writes all that one step found, and how far it went.
    pub fn notify_step(
        &mut self,
        step: &NotifyStep,
        position: Position,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            for condition in &step.raised {
                transaction.execute(
                    "INSERT INTO conditions (subject, facet, since, detail, run)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET detail = excluded.detail, run = excluded.run",
                    params![
                        condition.subject,
                        condition.facet,
                        to_nanos(condition.since),
                        condition.detail,
                        condition.run.map(|run| run.0)
                    ],
                )?;
            }
            for (subject, facet) in &step.cleared {
                transaction.execute(
                    "DELETE FROM conditions WHERE subject = ?1 AND facet = ?2",
                    params![subject, facet],
                )?;
            }
            transaction.execute(
                "INSERT INTO notify_position (one, sequence, digest) VALUES (1, ?1, ?2)
                 ON CONFLICT DO UPDATE SET sequence = ?1, digest = ?2",
                params![signed(position.sequence)?, to_nanos(position.digest)],
            )?;
            enqueue(transaction, &step.messages, now)
        })
    }

    /// The targets for which [`State::next_message`] has one.
    pub fn due_targets(&self, now: Timestamp) -> Result<Vec<String>, DatabaseError> {
        self.database.read(|connection| {
            // Beside min(), SQLite takes the other columns from the row that has it. What the target refused has its own time.
            let mut statement = connection.prepare_cached(
                "SELECT target FROM outbox WHERE refused > 0 AND due <= ?1
                 UNION
                 SELECT target FROM (SELECT target, due, min(id) FROM outbox WHERE refused = 0
                                     GROUP BY target HAVING due <= ?1)",
            )?;
            let rows = statement.query_map([to_nanos(now)], |row| row.get(0))?;
            rows.collect()
        })
    }

    /// The first message that waits for a target, if it is due: none goes before it. What the target refused for what it is
    /// holds up nothing: it has its own time, and comes after what was not refused.
    pub fn next_message(
        &self,
        target: &str,
        now: Timestamp,
    ) -> Result<Option<Waiting>, DatabaseError> {
        self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, key, target, level, title, body, json, created, attempts, refused FROM outbox
                     WHERE target = ?1 AND due <= ?2 AND (refused > 0 OR id =
                         (SELECT min(id) FROM outbox WHERE target = ?1 AND refused = 0))
                     ORDER BY refused > 0, id LIMIT 1",
                )?
                .query_row(params![target, to_nanos(now)], read_waiting)
                .optional()
        })
    }

    /// What `take` makes of a target's old messages, the oldest first. It is told which ones are too many.
    pub fn old_messages<T>(
        &self,
        target: &str,
        limits: OldLimits,
        take: impl Fn(Waiting, bool) -> T,
    ) -> Result<Vec<T>, DatabaseError> {
        self.database.read(|connection| {
            let last_too_many: Option<i64> = connection
                .prepare_cached(
                    "SELECT id FROM outbox WHERE target = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2",
                )?
                .query_row(params![target, limits.newest], |row| row.get(0))
                .optional()?;
            let mut statement = connection.prepare_cached(
                "SELECT id, key, target, level, title, body, json, created, attempts, refused FROM outbox
                 WHERE target = ?1 AND (created < ?2 OR id <= ?3 OR refused >= ?4) ORDER BY id",
            )?;
            let before = to_nanos(limits.before);
            let old = params![target, before, last_too_many, limits.refused];
            let rows = statement.query_map(old, |row| {
                let waiting = read_waiting(row)?;
                let is_too_many = last_too_many.is_some_and(|last| waiting.id <= last);
                Ok(take(waiting, is_too_many))
            })?;
            rows.collect()
        })
    }

    /// Puts one message in the place of others: that of the first of them, with its age and its attempts. It counts as refused
    /// so often.
    pub fn replace_messages(
        &mut self,
        ids: &[i64],
        message: &Outgoing,
        refused: u32,
    ) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            let Some((first, others)) = ids.split_first() else {
                return Ok(());
            };
            for id in others {
                transaction
                    .prepare_cached("DELETE FROM outbox WHERE id = ?1")?
                    .execute([id])?;
            }
            transaction.execute(
                "UPDATE outbox SET key = ?2, level = ?3, title = ?4, body = ?5, json = ?6, refused = ?7
                 WHERE id = ?1",
                params![
                    first,
                    message.key,
                    message.level,
                    message.title,
                    message.body,
                    message.json,
                    refused
                ],
            )?;
            Ok(())
        })
    }

    /// Drops what waits for a target; says how much that was.
    pub fn drop_messages(&mut self, target: &str) -> Result<usize, DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute("DELETE FROM outbox WHERE target = ?1", [target])
        })
    }

    /// Takes back what a clock that was ahead has written, once it is right again: nothing was made, found or told after `now`,
    /// and no message waits for longer than `wait_max`.
    pub fn forget_the_future(
        &mut self,
        now: Timestamp,
        wait_max: SignedDuration,
    ) -> Result<(), DatabaseError> {
        let latest = to_nanos(now.checked_add(wait_max).unwrap_or(Timestamp::MAX));
        let now = to_nanos(now);
        self.database.write(|transaction| {
            transaction.execute("UPDATE outbox SET created = ?1 WHERE created > ?1", [now])?;
            transaction.execute(
                "UPDATE outbox SET due = ?1 WHERE due > ?2",
                params![now, latest],
            )?;
            transaction.execute("UPDATE conditions SET since = ?1 WHERE since > ?1", [now])?;
            transaction.execute(
                "UPDATE notify_position SET digest = ?1 WHERE digest > ?1",
                [now],
            )?;
            Ok(())
        })
    }

    /// A message was delivered, or is given up.
    pub fn message_done(&mut self, id: i64) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute("DELETE FROM outbox WHERE id = ?1", [id])?;
            Ok(())
        })
    }

    /// A message could not be delivered, and is tried again.
    pub fn message_failed(&mut self, id: i64, due: Timestamp) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE outbox SET attempts = attempts + 1, due = ?2 WHERE id = ?1",
                params![id, to_nanos(due)],
            )?;
            Ok(())
        })
    }

    /// A message was refused for what it is, and is tried again.
    pub fn message_refused(&mut self, id: i64, due: Timestamp) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute(
                "UPDATE outbox SET attempts = attempts + 1, refused = refused + 1, due = ?2 WHERE id = ?1",
                params![id, to_nanos(due)],
            )?;
            Ok(())
        })
    }
}

fn enqueue(
    transaction: &Transaction<'_>,
    messages: &[Outgoing],
    now: Timestamp,
) -> rusqlite::Result<()> {
    for message in messages {
        transaction.execute(
            "INSERT INTO outbox (key, target, level, title, body, json, created, attempts, due)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?7) ON CONFLICT DO NOTHING",
            params![
                message.key,
                message.target,
                message.level,
                message.title,
                message.body,
                message.json,
                to_nanos(now)
            ],
        )?;
    }
    Ok(())
}

fn read_waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting {
        id: row.get(0)?,
        message: Outgoing {
            key: row.get(1)?,
            target: row.get(2)?,
            level: row.get(3)?,
            title: row.get(4)?,
            body: row.get(5)?,
            json: row.get(6)?,
        },
        created: from_nanos(row.get(7)?),
        attempts: row.get(8)?,
        refused: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use jiff::{SignedDuration, Timestamp};

    use super::{Condition, NotifyStep, OldLimits, Outgoing, Position};
    use crate::catalog::state::State;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn message(target: &str, number: usize) -> Outgoing {
        Outgoing {
            key: format!("{number}"),
            target: target.to_owned(),
            level: "warning".to_owned(),
            title: String::new(),
            body: String::new(),
            json: "{}".to_owned(),
        }
    }

    fn position(digest: Timestamp) -> Position {
        Position {
            sequence: 7,
            digest,
        }
    }

    fn with_messages(messages: Vec<Outgoing>) -> (tempfile::TempDir, State, Timestamp) {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(&dir.path().join("state.db")).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let step = NotifyStep {
            messages,
            ..NotifyStep::default()
        };
        state.notify_step(&step, position(now), now).unwrap();
        (dir, state, now)
    }

    #[test]
    fn no_message_goes_before_one_that_waits_for_the_same_target() {
        let messages = vec![
            message("dead", 1),
            message("phone", 2),
            message("dead", 3),
            message("phone", 4),
        ];
        let (_dir, mut state, now) = with_messages(messages);
        assert_eq!(state.due_targets(now).unwrap(), ["dead", "phone"]);
        let first = state.next_message("dead", now).unwrap().unwrap();
        assert_eq!(first.message.key, "1");
        state.message_failed(first.id, now + HOUR).unwrap();
        assert_eq!(state.due_targets(now).unwrap(), ["phone"]);
        assert_eq!(state.next_message("dead", now).unwrap(), None);
        let again = state.next_message("dead", now + HOUR).unwrap().unwrap();
        assert_eq!((again.id, again.attempts), (first.id, 1));
        for key in ["2", "4"] {
            let next = state.next_message("phone", now).unwrap().unwrap();
            assert_eq!(next.message.key, key);
            state.message_done(next.id).unwrap();
        }
        assert_eq!(state.next_message("phone", now).unwrap(), None);
    }

    #[test]
    fn one_message_takes_the_place_and_the_attempts_of_many() {
        let messages = (0..5).map(|number| message("dead", number)).collect();
        let (_dir, mut state, now) = with_messages(messages);
        let first = state.next_message("dead", now).unwrap().unwrap();
        state.message_failed(first.id, now + HOUR).unwrap();
        let old = |state: &State, before, newest| {
            let keys = |waiting: super::Waiting, is_too_many| (waiting.message.key, is_too_many);
            let limits = OldLimits {
                before,
                newest,
                refused: 3,
            };
            state.old_messages("dead", limits, keys).unwrap()
        };
        assert_eq!(old(&state, now, 5), []);
        let too_many = [("0".to_owned(), true), ("1".to_owned(), true)];
        assert_eq!(old(&state, now, 3), too_many);
        assert_eq!(old(&state, now + HOUR, 5).len(), 5);
        let ids = [first.id, first.id + 2];
        state
            .replace_messages(&ids, &message("dead", 9), 0)
            .unwrap();
        assert_eq!(state.next_message("dead", now).unwrap(), None);
        let next = state.next_message("dead", now + HOUR).unwrap().unwrap();
        assert_eq!((next.message.key.as_str(), next.attempts), ("9", 1));
        let keys: Vec<String> = old(&state, now + HOUR, 5)
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, ["9", "1", "3", "4"]);
    }

    #[test]
    fn what_a_target_refuses_holds_up_nothing_and_is_old_when_it_was_refused_often() {
        let messages = (1..=3).map(|number| message("mail", number)).collect();
        let (_dir, mut state, now) = with_messages(messages);
        let first = state.next_message("mail", now).unwrap().unwrap();
        state.message_refused(first.id, now + HOUR).unwrap();
        assert_eq!(state.due_targets(now).unwrap(), ["mail"]);
        // The order among the others stays, and the refused one comes after them although its time has come.
        let second = state.next_message("mail", now + HOUR).unwrap().unwrap();
        assert_eq!((second.message.key.as_str(), second.refused), ("2", 0));
        // One that is held up by the target holds up those after it, and not the refused one.
        state.message_failed(second.id, now + HOUR * 2).unwrap();
        assert_eq!(state.next_message("mail", now).unwrap(), None);
        assert!(state.due_targets(now).unwrap().is_empty());
        assert_eq!(state.due_targets(now + HOUR).unwrap(), ["mail"]);
        let again = state.next_message("mail", now + HOUR).unwrap().unwrap();
        assert_eq!((again.id, again.attempts, again.refused), (first.id, 1, 1));
        let old = |state: &State| {
            let limits = OldLimits {
                before: now,
                newest: 9,
                refused: 2,
            };
            let ids = state.old_messages("mail", limits, |waiting, _| waiting.id);
            ids.unwrap()
        };
        assert!(old(&state).is_empty());
        state.message_refused(first.id, now + HOUR).unwrap();
        assert_eq!(old(&state), [first.id]);
    }

    #[test]
    fn a_clock_that_was_ahead_silences_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(&dir.path().join("state.db")).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let ahead = now + SignedDuration::from_hours(24 * 365);
        let step = NotifyStep {
            raised: vec![Condition {
                subject: "host:web1".to_owned(),
                facet: "never".to_owned(),
                since: ahead,
                detail: String::new(),
                run: None,
            }],
            cleared: Vec::new(),
            messages: vec![message("phone", 1)],
        };
        state.notify_step(&step, position(ahead), ahead).unwrap();
        let first = state.next_message("phone", ahead).unwrap().unwrap();
        state.message_failed(first.id, ahead + HOUR).unwrap();
        assert_eq!(state.next_message("phone", now).unwrap(), None);

        state.forget_the_future(now, HOUR).unwrap();
        let due = state.next_message("phone", now).unwrap().unwrap();
        assert_eq!(due.created, now);
        assert_eq!(state.conditions().unwrap()[0].since, now);
        // The next digest is due tomorrow, and not in a year.
        assert_eq!(state.notify_position().unwrap(), Some(position(now)));

        // What waits as it should goes on waiting.
        state.message_failed(due.id, now + HOUR).unwrap();
        state.forget_the_future(now, HOUR).unwrap();
        assert_eq!(state.next_message("phone", now).unwrap(), None);
    }
}
