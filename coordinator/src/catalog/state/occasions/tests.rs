//! What was attempted stays known, whatever the clock says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::catalog::state::occasions::{AttemptResult, KEPT_MAX};
use crate::catalog::state::results::RunResult;
use crate::catalog::state::{Outcome, State};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).unwrap()
}

#[test]
fn an_attempt_is_known_from_before_it_begins_and_counts_unless_it_was_put_off() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state.db");
    let mut state = State::open(&path).unwrap();
    assert!(
        state
            .occasion_begun("web1", at(100), None, at(105))
            .unwrap()
    );
    drop(state);
    let mut state = State::open(&path).unwrap();
    let last = state.last_occasion("web1", at(110)).unwrap().unwrap();
    assert_eq!(
        (last.occasion, last.attempts, last.ended),
        (at(100), 1, None)
    );
    assert_eq!(state.occasions_died(at(120)).unwrap(), 1);
    assert_eq!(state.occasions_died(at(130)).unwrap(), 0);
    let ended = |state: &State| state.last_occasion("web1", at(999)).unwrap().unwrap();
    let died = AttemptResult::Ran(Outcome::Died);
    assert_eq!(ended(&state).ended, Some((at(120), died)));
    assert!(
        state
            .occasion_begun("web1", at(100), None, at(140))
            .unwrap()
    );
    assert_eq!((ended(&state).attempts, ended(&state).ended), (2, None));
    state
        .occasion_ended("web1", at(100), AttemptResult::PutOff, at(141))
        .unwrap();
    let last = ended(&state);
    assert_eq!(
        (last.attempts, last.ended),
        (1, Some((at(141), AttemptResult::PutOff)))
    );
    assert_eq!(state.last_occasion("web2", at(999)).unwrap(), None);
}

#[test]
fn what_a_run_came_to_before_its_coordinator_died_is_what_the_occasion_came_to() {
    let dir = TempDir::new().unwrap();
    let mut state = State::open(&dir.path().join("state.db")).unwrap();
    let result = |good| RunResult {
        snapshot: RecordId([1; 32]),
        committed: at(101),
        good,
        verified: true,
        totals: SnapshotTotals::default(),
    };
    // What is noted of the run before the death, and what the occasion is to come to.
    let cases = [
        (None, None, AttemptResult::Ran(Outcome::Died)),
        (Some(true), None, AttemptResult::Ran(Outcome::Warnings)),
        (Some(false), None, AttemptResult::Ran(Outcome::Held)),
        (
            Some(true),
            Some(Outcome::Ok),
            AttemptResult::Ran(Outcome::Ok),
        ),
        (
            None,
            Some(Outcome::Failed),
            AttemptResult::Ran(Outcome::Failed),
        ),
        (None, Some(Outcome::Cancelled), AttemptResult::PutOff),
    ];
    for (number, (good, finished, expected)) in (1u8..).zip(cases) {
        let (host, run) = (format!("web{number}"), RunId([number; 16]));
        let begun = state.occasion_begun(&host, at(100), Some(run), at(100));
        assert!(begun.unwrap());
        state.run_started(&host, run, at(100)).unwrap();
        if let Some(good) = good {
            state.note_result(&host, run, &result(good)).unwrap();
        }
        if let Some(outcome) = finished {
            state.run_finished(run, at(102), outcome, None).unwrap();
        }
        for open in state.open_runs().unwrap() {
            let died = state.run_died(open.run, at(110)).unwrap();
            assert_eq!(died.map(AttemptResult::Ran), Some(expected));
            // Another process that finds the same out tells nothing.
            assert_eq!(state.run_died(open.run, at(111)).unwrap(), None);
        }
        assert_eq!(state.occasions_died(at(110)).unwrap(), 1);
        let last = state.last_occasion(&host, at(200)).unwrap().unwrap();
        assert_eq!(last.ended, Some((at(110), expected)), "{host}");
    }
}

#[test]
fn occasions_in_the_future_are_there_and_do_not_stand_in_the_way() {
    let dir = TempDir::new().unwrap();
    let mut state = State::open(&dir.path().join("state.db")).unwrap();
    assert!(
        state
            .occasion_begun("web1", at(100), None, at(100))
            .unwrap()
    );
    state.occasion_let_go("web1", at(900), at(900)).unwrap();
    let last = state.last_occasion("web1", at(200)).unwrap().unwrap();
    assert_eq!(last.occasion, at(100));
    let last = state.last_occasion("web1", at(900)).unwrap().unwrap();
    // When its time comes again, it is done with.
    assert!(
        !state
            .occasion_begun("web1", at(900), None, at(901))
            .unwrap()
    );
    let skipped = AttemptResult::Ran(Outcome::Skipped);
    assert_eq!((last.attempts, last.ended), (0, Some((at(900), skipped))));
}

#[test]
fn another_schedule_begins_anew_and_the_same_one_does_not() {
    let dir = TempDir::new().unwrap();
    let mut state = State::open(&dir.path().join("state.db")).unwrap();
    let hosts = |schedule: &str| vec![("web1".to_owned(), schedule.to_owned())];
    assert_eq!(state.schedule_seen("web1").unwrap(), None);
    let mut since = |schedule: &str, now| state.scheduled_since(&hosts(schedule), at(now)).unwrap();
    assert_eq!(since("daily UTC", 100), [at(100)]);
    assert_eq!(since("daily UTC", 200), [at(100)]);
    assert_eq!(since("weekly UTC", 300), [at(300)]);
    // It was noted by a clock that was ahead.
    assert_eq!(since("weekly UTC", 250), [at(250)]);
    assert_eq!(state.schedule_seen("web1").unwrap(), Some(at(250)));
}

#[test]
fn only_so_many_are_kept_by_number_and_not_by_time() {
    let dir = TempDir::new().unwrap();
    let mut state = State::open(&dir.path().join("state.db")).unwrap();
    let far = at(0) + SignedDuration::from_hours(24 * 3650);
    state.occasion_let_go("web1", far, far).unwrap();
    state.occasion_let_go("web1", at(1), at(1)).unwrap();
    assert_eq!(
        state
            .last_occasion("web1", at(1))
            .unwrap()
            .unwrap()
            .occasion,
        at(1)
    );
    for number in 0..KEPT_MAX {
        let occasion = at(i64::from(number) + 10);
        state.occasion_let_go("web1", occasion, occasion).unwrap();
    }
    assert_eq!(state.last_occasion("web1", at(1)).unwrap(), None);
}
