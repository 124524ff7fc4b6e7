//! What was counted of each host's runs, so that a suspicious one can be told from a usual one.

use formats::ids::RunId;
use jiff::Timestamp;
use rusqlite::{Row, params};

use crate::catalog::state::State;
use crate::catalog::state::holds::HoldKind;
use crate::clock::{from_nanos, to_nanos};
use crate::database::{DatabaseError, unsigned};
use crate::safety::anomaly::{Compared, Figures};

/// Good runs of a host that are looked at.
pub const RUNS_COMPARED: u32 = 30;
/// Runs of a host that are remembered.
const RUNS_KEPT: u32 = 200;

macro_rules! figure_tables {
    () => {
        "
CREATE TABLE figures (
    run BLOB PRIMARY KEY,
    host TEXT NOT NULL,
    at INTEGER NOT NULL,          -- nanoseconds since 1970
    good INTEGER NOT NULL,        -- 0 while it is suspicious
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    new_bytes INTEGER NOT NULL,
    incompressible INTEGER NOT NULL,
    before INTEGER NOT NULL,      -- files of the parent, and what became of them
    gone INTEGER NOT NULL,
    moved INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    added INTEGER NOT NULL,
    added_bytes INTEGER NOT NULL,
    same_inode INTEGER NOT NULL,
    rules BLOB NOT NULL           -- digest of what was asked for
) STRICT;
CREATE INDEX figures_by_host ON figures (host, at);
"
    };
}
pub(super) use figure_tables;

/// New in version 14: bytes are those of data, and those with holes beside them. Runs before it counted holes alone.
macro_rules! figures_without_holes {
    () => {
        "
ALTER TABLE figures ADD COLUMN bytes_with_holes INTEGER; -- nothing where `bytes` count holes
"
    };
}
pub(super) use figures_without_holes;

impl State {
    /// Notes what was counted of a run. The oldest of its host are let go.
    pub fn note_figures(
        &mut self,
        host: &str,
        run: RunId,
        at: Timestamp,
        figures: &Figures,
        good: bool,
    ) -> Result<(), DatabaseError> {
        let counts = &figures.compared;
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO figures (run, host, at, good, files, bytes, new_bytes, incompressible, before,
                 gone, moved, changed, added, added_bytes, same_inode, rules, bytes_with_holes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
                params![
                    run.as_bytes(),
                    host,
                    to_nanos(at),
                    good,
                    saturated(figures.files),
                    saturated(figures.bytes),
                    saturated(figures.new_bytes),
                    saturated(figures.incompressible),
                    saturated(counts.before),
                    saturated(counts.gone),
                    saturated(counts.moved),
                    saturated(counts.changed),
                    saturated(counts.added),
                    saturated(counts.added_bytes),
                    saturated(counts.same_inode),
                    figures.rules,
                    figures.bytes_with_holes.map(saturated),
                ],
            )?;
            transaction.execute(
                "DELETE FROM figures WHERE host = ?1 AND rowid NOT IN
                 (SELECT rowid FROM figures WHERE host = ?1 ORDER BY at DESC, rowid DESC LIMIT ?2)",
                params![host, RUNS_KEPT],
            )?;
            Ok(())
        })
    }

    /// What was counted of a host's last good runs, the newest first.
    pub fn good_figures(&self, host: &str) -> Result<Vec<Figures>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT files, bytes, new_bytes, incompressible, before, gone, moved, changed, added,
                 added_bytes, same_inode, rules, bytes_with_holes FROM figures WHERE host = ?1 AND good
                 ORDER BY at DESC, rowid DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![host, RUNS_COMPARED], read_figures)?;
            rows.collect()
        })
    }

    /// When a host's last good runs were counted, the newest first.
    pub fn good_times(&self, host: &str) -> Result<Vec<Timestamp>, DatabaseError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT at FROM figures WHERE host = ?1 AND good ORDER BY at DESC, rowid DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![host, RUNS_COMPARED], |row| {
                Ok(from_nanos(row.get(0)?))
            })?;
            rows.collect()
        })
    }

    /// How many of a host's last good runs are not older than the last one that was there when a person ended a hold for what a run
    /// looked like; all, where nobody did.
    pub fn accepted_runs(&self, host: &str) -> Result<usize, DatabaseError> {
        self.database.read(|connection| {
            let accepted: Option<i64> = connection
                .prepare_cached("SELECT max(released) FROM holds WHERE host = ?1 AND kind = ?2")?
                .query_row(params![host, HoldKind::Anomaly.as_str()], |row| row.get(0))?;
            let Some(accepted) = accepted else {
                return Ok(usize::MAX);
            };
            let later = connection
                .prepare_cached(
                    "SELECT count(*) FROM figures WHERE host = ?1 AND good AND at > ?2",
                )?
                .query_row(params![host, accepted], |row| unsigned(row, 0))?;
            Ok(usize::try_from(later).map_or(usize::MAX, |later| later.saturating_add(1)))
        })
    }

    /// A person has looked: the host's suspicious runs were as they should be.
    pub fn accept_figures(&mut self, host: &str) -> Result<(), DatabaseError> {
        self.database.write(|transaction| {
            transaction.execute("UPDATE figures SET good = 1 WHERE host = ?1", [host])?;
            Ok(())
        })
    }
}

/// A host's counts reach 2^64; SQLite's numbers end at half of it.
fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read_figures(row: &Row<'_>) -> rusqlite::Result<Figures> {
    Ok(Figures {
        files: unsigned(row, 0)?,
        bytes: unsigned(row, 1)?,
        new_bytes: unsigned(row, 2)?,
        incompressible: unsigned(row, 3)?,
        compared: Compared {
            before: unsigned(row, 4)?,
            gone: unsigned(row, 5)?,
            moved: unsigned(row, 6)?,
            changed: unsigned(row, 7)?,
            added: unsigned(row, 8)?,
            added_bytes: unsigned(row, 9)?,
            grown_bytes: None,
            same_inode: unsigned(row, 10)?,
        },
        new_ending: None,
        streams: Vec::new(),
        rules: row.get(11)?,
        bytes_with_holes: match row.get::<_, Option<i64>>(12)? {
            Some(_) => Some(unsigned(row, 12)?),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use formats::ids::RunId;

    use crate::catalog::state::State;
    use crate::catalog::state::holds::{HoldKind, NewHold};
    use crate::clock::from_nanos;
    use crate::safety::anomaly::{Compared, Figures};

    #[test]
    fn good_runs_are_read_back_newest_first_and_suspicious_ones_once_accepted() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut state = State::open(&dir.path().join("state.db")).expect("opens");
        let figures = |files| Figures {
            files,
            bytes: u64::MAX >> 1,
            bytes_with_holes: Some(7),
            compared: Compared {
                before: 7,
                same_inode: 6,
                ..Compared::default()
            },
            rules: [3; 32],
            ..Figures::default()
        };
        for number in 1..=3u8 {
            let (run, at) = (RunId([number; 16]), from_nanos(number.into()));
            let noted = state.note_figures("web1", run, at, &figures(number.into()), number != 3);
            noted.expect("writes");
        }
        let good = state.good_figures("web1").expect("reads");
        assert_eq!(good, [figures(2), figures(1)]);
        let times = state.good_times("web1").expect("reads");
        assert_eq!(times, [from_nanos(2), from_nanos(1)]);
        assert!(state.good_figures("web2").expect("reads").is_empty());
        state.accept_figures("web1").expect("writes");
        let good = state.good_figures("web1").expect("reads");
        assert_eq!(good, [figures(3), figures(2), figures(1)]);
    }

    #[test]
    fn runs_count_as_accepted_up_to_the_last_end_of_a_hold_for_what_one_looked_like() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut state = State::open(&dir.path().join("state.db")).expect("opens");
        let accepted = |state: &State| state.accepted_runs("web1").expect("reads");
        let hold = |state: &mut State, kind, at| {
            let new = NewHold {
                host: "web1",
                kind,
                reason: "why",
                by: "daemon",
                at: from_nanos(at),
                run: None,
            };
            let added = state.add_hold(&new).expect("writes").expect("a hold");
            let released = state.release_hold(added.number, "root", from_nanos(at + 1));
            released.expect("writes").expect("ends");
        };
        for number in 1..=4u8 {
            let (run, at) = (RunId([number; 16]), from_nanos(i64::from(number) * 10));
            let noted = state.note_figures("web1", run, at, &Figures::default(), true);
            noted.expect("writes");
        }
        assert_eq!(accepted(&state), usize::MAX);
        hold(&mut state, HoldKind::Manual, 35);
        assert_eq!(accepted(&state), usize::MAX);
        hold(&mut state, HoldKind::Anomaly, 15);
        hold(&mut state, HoldKind::Anomaly, 25);
        assert_eq!(accepted(&state), 3);
        hold(&mut state, HoldKind::Anomaly, 45);
        assert_eq!(accepted(&state), 1);
    }

    #[test]
    fn runs_of_a_version_that_counted_holes_alone_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.db");
        let note = |state: &mut State, number: u8, figures: &Figures| {
            let (run, at) = (RunId([number; 16]), from_nanos(number.into()));
            let noted = state.note_figures("web1", run, at, figures, true);
            noted.expect("writes");
        };
        let figures = |bytes_with_holes| Figures {
            bytes: 5,
            bytes_with_holes,
            ..Figures::default()
        };
        let mut state = State::open(&path).expect("opens");
        note(&mut state, 1, &figures(Some(9)));
        drop(state);
        let old = rusqlite::Connection::open(&path).expect("opens");
        old.execute_batch(
            "ALTER TABLE figures DROP COLUMN bytes_with_holes;
             DROP TABLE settled_clocks;
             ALTER TABLE clock_reading DROP COLUMN unbroken_since;
             ALTER TABLE outbox DROP COLUMN refused;
             PRAGMA user_version = 13",
        )
        .expect("goes back to the version before");
        drop(old);
        let mut state = State::open(&path).expect("is brought up");
        note(&mut state, 2, &figures(Some(9)));
        let good = state.good_figures("web1").expect("reads");
        assert_eq!(good, [figures(Some(9)), figures(None)]);
    }
}
