//! State survives being closed, and never changes its mind about an established repository.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formats::ids::{CoordinatorId, RepositoryId, RunId};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::catalog::state::settled_clocks::SettledClock;
use crate::catalog::state::{ForeignRecords, Outcome, State};
use crate::clock::from_nanos;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn open(dir: &TempDir) -> State {
    State::open(&dir.path().join("state.db")).unwrap()
}

#[test]
fn a_name_keeps_its_first_repository_once_that_is_established() {
    let dir = TempDir::new().unwrap();
    let mut state = open(&dir);
    let (first, second) = (RepositoryId([1; 16]), RepositoryId([2; 16]));
    assert_eq!(state.repository("web1").unwrap(), None);
    state.remember_repository("web1", first, NOW).unwrap();
    let known = state.remember_repository("web1", second, NOW).unwrap();
    assert_eq!((known.repository, known.established), (first, false));

    state.forget_unestablished(first).unwrap();
    state.remember_repository("web1", second, NOW).unwrap();
    state.mark_established(second).unwrap();
    state.forget_unestablished(second).unwrap();
    drop(state);
    let known = open(&dir).repository("web1").unwrap().unwrap();
    assert_eq!((known.repository, known.established), (second, true));
    assert_eq!(open(&dir).repositories().unwrap(), [known]);
}

#[test]
fn runs_are_listed_newest_first_and_one_that_never_ended_has_died() {
    let dir = TempDir::new().unwrap();
    let mut state = open(&dir);
    for number in 1..=3u8 {
        let started = from_nanos(number.into());
        state
            .run_started("web1", RunId([number; 16]), started)
            .unwrap();
        if number == 2 {
            let run = RunId([2; 16]);
            state
                .run_finished(run, started, Outcome::Failed, Some("host is down"))
                .unwrap();
        }
    }
    state.run_started("web2", RunId([9; 16]), NOW).unwrap();
    let runs = state.runs("web1", 10).unwrap();
    let outcomes: Vec<Option<Outcome>> = runs
        .iter()
        .map(|run| run.finished.map(|(_, outcome)| outcome))
        .collect();
    assert_eq!(outcomes, [None, Some(Outcome::Failed), Some(Outcome::Died)]);
    assert_eq!(runs[1].error.as_deref(), Some("host is down"));
    assert_eq!(state.runs("web1", 1).unwrap().len(), 1);
}

#[test]
fn outcomes_have_one_word_each() {
    for outcome in Outcome::ALL {
        assert_eq!(outcome.to_string().parse(), Ok(outcome));
    }
}

#[test]
fn runs_since_a_snapshot_are_those_of_the_host_that_began_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(&dir.path().join("state.db")).unwrap();
    for (host, run) in [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("a", 5)] {
        let run = RunId([run; 16]);
        // All in one moment: a clock may stand still, or be set back.
        state.run_started(host, run, Timestamp::UNIX_EPOCH).unwrap();
    }
    let since = |host, run, committed| {
        let (run, committed) = (RunId([run; 16]), RunId([committed; 16]));
        let runs = state.runs_since_snapshot(host, run, committed).unwrap();
        runs.into_iter().map(|run| run.0[0]).collect::<Vec<u8>>()
    };
    assert_eq!(since("a", 5, 2), [4, 5]);
    assert_eq!(since("a", 5, 4), [5]);
    assert_eq!(since("b", 3, 9), [3], "the last is of another coordinator");
}

#[test]
fn processes_that_begin_the_file_together_wait_for_one_another() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let together = std::sync::Barrier::new(8);
        std::thread::scope(|threads| {
            let opened: Vec<_> = (0..8)
                .map(|_| {
                    threads.spawn(|| {
                        together.wait();
                        State::open(&path).map(drop)
                    })
                })
                .collect();
            for opened in opened {
                opened.join().unwrap().unwrap();
            }
        });
    }
}

/// Every table and index with its columns.
fn columns_of(file: &rusqlite::Connection) -> Vec<(String, String, Option<String>)> {
    let mut columns = file
        .prepare(
            "SELECT object.name, object.type, column.name || ' ' || column.type FROM sqlite_schema AS object
             LEFT JOIN pragma_table_info(object.name) AS column ORDER BY object.name, column.name",
        )
        .unwrap();
    let columns = columns
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    columns.map(Result::unwrap).collect()
}

#[test]
fn a_file_of_the_version_before_is_brought_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(State::open(&path).unwrap());
    let old = rusqlite::Connection::open(&path).unwrap();
    let fresh = columns_of(&old);
    let newer: Vec<String> = {
        let mut names = old
            .prepare(
                "SELECT name FROM sqlite_schema
                 WHERE type = 'table' AND name NOT IN ('repositories', 'runs') AND name NOT LIKE 'sqlite_%'",
            )
            .unwrap();
        let names = names.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    for name in newer {
        old.execute_batch(&format!("DROP TABLE {name}")).unwrap();
    }
    old.execute_batch(
        "ALTER TABLE runs DROP COLUMN commits;
         DROP INDEX runs_by_host;
         CREATE INDEX runs_by_host ON runs (host, started);
         PRAGMA user_version = 1",
    )
    .unwrap();
    drop(old);
    let mut state = State::open(&path).unwrap();
    // As a file that is made today.
    assert_eq!(
        columns_of(&rusqlite::Connection::open(&path).unwrap()),
        fresh
    );
    let repository = RepositoryId([7; 16]);
    assert_eq!(state.foreign(repository).unwrap(), None);
    let records = |first, last| ForeignRecords { first, last };
    state
        .note_foreign(repository, records(3, 4), Timestamp::UNIX_EPOCH)
        .unwrap();
    state
        .note_foreign(repository, records(5, 5), Timestamp::UNIX_EPOCH)
        .unwrap();
    assert_eq!(state.foreign(repository).unwrap(), Some(records(3, 5)));
    state.accept_foreign(repository).unwrap();
    assert_eq!(state.foreign(repository).unwrap(), None);
}

#[test]
fn a_state_on_another_machine_is_another_coordinator() {
    let dir = TempDir::new().unwrap();
    let mut state = open(&dir);
    let fresh = |number| CoordinatorId([number; 16]);
    let (here, there) = (Some([1; 32]), Some([2; 32]));
    assert_eq!(state.coordinator_id(None, fresh(1)).unwrap(), fresh(1));
    assert_eq!(state.coordinator_id(here, fresh(2)).unwrap(), fresh(1));
    assert_eq!(state.coordinator_id(None, fresh(3)).unwrap(), fresh(1));
    assert_eq!(state.coordinator_id(here, fresh(4)).unwrap(), fresh(1));
    assert_eq!(state.coordinator_id(there, fresh(5)).unwrap(), fresh(5));
    assert_eq!(state.coordinator_id(here, fresh(6)).unwrap(), fresh(6));
}

#[test]
fn finally_hooks_are_owed_until_they_were_run() {
    let dir = TempDir::new().unwrap();
    let mut state = open(&dir);
    assert_eq!(state.finally_owed("web1").unwrap(), None);
    state.owe_finally("web1", RunId([1; 16])).unwrap();
    state.owe_finally("web1", RunId([2; 16])).unwrap();
    drop(state);
    let mut state = open(&dir);
    assert_eq!(state.finally_owed("web1").unwrap(), Some(RunId([2; 16])));
    assert_eq!(state.finally_owed("web2").unwrap(), None);
    state.finally_done("web1").unwrap();
    assert_eq!(state.finally_owed("web1").unwrap(), None);
}

#[test]
fn a_clock_that_was_settled_stays_so_until_the_next_time() {
    let dir = TempDir::new().unwrap();
    let mut state = open(&dir);
    let [one, other] = [1, 2].map(|number| RepositoryId([number; 16]));
    assert_eq!(state.settled_clock(one).unwrap(), None);
    for sequence in [7, 9] {
        let at = from_nanos(i64::try_from(sequence).unwrap() * 1_000);
        let settled = SettledClock { sequence, at };
        state.settle_clock(one, settled).unwrap();
        assert_eq!(state.settled_clock(one).unwrap(), Some(settled));
    }
    assert_eq!(state.settled_clock(other).unwrap(), None);
}
