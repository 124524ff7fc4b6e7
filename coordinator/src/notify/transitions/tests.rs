use formats::audit::AuditHead;
use formats::ids::RunId;
use jiff::{SignedDuration, Timestamp};

use super::{FirstLock, Tracker};
use crate::audit::record::record_of;
use crate::catalog::state::Outcome;
use crate::catalog::state::notifications::Condition;
use crate::config::commit_setting::Commit;
use crate::events::actor::Actor;
use crate::events::what::What;
use crate::events::{Event, Told};
use crate::notify::alert::Level;
use crate::status::{Freshness, HostStatus};

fn ended(outcome: Outcome) -> What {
    What::RunEnded {
        outcome,
        problems: match outcome {
            Outcome::Warnings => 2,
            _ => 0,
        },
        files: 0,
        bytes: 0,
        new_bytes: 0,
        millis: 0,
        error: (outcome == Outcome::Failed).then(|| "the line was cut".to_owned()),
    }
}

fn run(number: u8) -> RunId {
    RunId([number; 16])
}

/// Keeps conditions from step to step, as the state does.
#[derive(Default)]
struct Kept(Vec<Condition>);

impl Kept {
    fn step(&mut self, step: impl FnOnce(&mut Tracker)) -> Vec<(Level, String)> {
        let mut tracker = Tracker::new(self.0.clone());
        step(&mut tracker);
        let changes = tracker.finish();
        self.0.retain(|condition| {
            let key = (condition.subject.clone(), condition.facet.clone());
            let is_raised = changes
                .raised
                .iter()
                .any(|raised| (&raised.subject, &raised.facet) == (&key.0, &key.1));
            !changes.cleared.contains(&key) && !is_raised
        });
        self.0.extend(changes.raised);
        let told = changes.alerts.into_iter();
        told.map(|alert| (alert.level, alert.title)).collect()
    }

    fn hear(&mut self, event: Event) -> Vec<(Level, String)> {
        let told = Told {
            at: Timestamp::UNIX_EPOCH,
            actor: Actor::Daemon,
            event,
        };
        let record = record_of(&told, &AuditHead::EMPTY);
        self.step(|tracker| tracker.hear(&record))
    }

    fn of_web1(&mut self, what: What, number: u8) -> Vec<(Level, String)> {
        self.hear(Event::of_host("web1", what).in_run(run(number)))
    }

    fn look(&mut self, hosts: &[HostStatus], hours: i64) -> Vec<(Level, String)> {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        self.step(|tracker| tracker.look(hosts, now))
    }
}

fn host(freshness: Freshness) -> HostStatus {
    HostStatus {
        host: "web1".to_owned(),
        tags: Vec::new(),
        freshness,
        sla: Some("26h".parse().expect("a span")),
        last_good: None,
        last_run: None,
        running_since: None,
        verified: None,
        holds: Vec::new(),
        commit: Commit::Any,
        next_run: None,
    }
}

fn one(level: Level, title: &str) -> Vec<(Level, String)> {
    vec![(level, title.to_owned())]
}

const NOTHING: Vec<(Level, String)> = Vec::new();

#[test]
fn a_host_that_fails_is_told_of_once_and_once_when_it_is_backed_up_again() {
    let mut kept = Kept::default();
    assert_eq!(kept.of_web1(ended(Outcome::Ok), 1), NOTHING);
    let failing = one(Level::Warning, "web1: backing up fails");
    assert_eq!(kept.of_web1(ended(Outcome::Failed), 2), failing);
    assert_eq!(kept.of_web1(ended(Outcome::Failed), 3), NOTHING);
    assert_eq!(kept.of_web1(ended(Outcome::Died), 4), NOTHING);
    assert_eq!(kept.of_web1(ended(Outcome::Cancelled), 5), NOTHING);
    assert_eq!(kept.of_web1(ended(Outcome::Skipped), 6), NOTHING);
    let again = one(Level::Ok, "web1: is backed up again");
    assert_eq!(kept.of_web1(ended(Outcome::Ok), 7), again);
    assert_eq!(kept.of_web1(ended(Outcome::Ok), 8), NOTHING);
    assert_eq!(kept.0, []);
}

#[test]
fn what_cannot_be_read_is_told_once_and_so_is_its_end() {
    let mut kept = Kept::default();
    let unread = one(Level::Warning, "web1: 2 things could not be read");
    assert_eq!(kept.of_web1(ended(Outcome::Warnings), 1), unread);
    assert_eq!(kept.of_web1(ended(Outcome::Warnings), 2), NOTHING);
    let read = one(Level::Ok, "web1: everything can be read again");
    assert_eq!(kept.of_web1(ended(Outcome::Ok), 3), read);
}

#[test]
fn what_a_held_run_could_not_read_is_told_too() {
    let mut kept = Kept::default();
    let held = |problems| What::RunEnded {
        outcome: Outcome::Held,
        problems,
        files: 0,
        bytes: 0,
        new_bytes: 0,
        millis: 0,
        error: Some("all is new".to_owned()),
    };
    let unread = one(Level::Warning, "web1: 3 things could not be read");
    assert_eq!(kept.of_web1(held(3), 1), unread);
    assert_eq!(kept.of_web1(held(3), 2), NOTHING);
    let read = one(Level::Ok, "web1: everything can be read again");
    assert_eq!(kept.of_web1(held(0), 3), read);
}

#[test]
fn what_a_run_found_holds_until_a_run_does_not_find_it() {
    let mut kept = Kept::default();
    let gap = |first: &str| What::CoverageGap {
        count: 3,
        first: first.to_owned(),
    };
    let told = one(Level::Warning, "web1: 3 things on it are in no backup");
    assert_eq!(kept.of_web1(gap("/srv"), 1), told);
    assert_eq!(kept.of_web1(ended(Outcome::Ok), 1), NOTHING);
    assert_eq!(kept.of_web1(gap("/srv"), 2), NOTHING);
    assert_eq!(kept.of_web1(ended(Outcome::Ok), 2), NOTHING);
    assert_eq!(kept.of_web1(gap("/var"), 3), told);
    let gone = one(Level::Ok, "web1: coverage is as it should be again");
    assert_eq!(kept.of_web1(ended(Outcome::Ok), 4), gone);
}

#[test]
fn a_hold_is_critical_until_a_person_releases_it() {
    let mut kept = Kept::default();
    let (kind, reason) = ("anomaly".to_owned(), "all is new".to_owned());
    let added = What::HoldAdded {
        kind: kind.clone(),
        reason: reason.clone(),
    };
    let told = one(Level::Critical, "web1: snapshots are on hold (anomaly)");
    assert_eq!(kept.of_web1(added.clone(), 1), told);
    assert_eq!(kept.of_web1(ended(Outcome::Held), 1), NOTHING);
    assert_eq!(kept.of_web1(added, 2), NOTHING);
    let released = What::HoldReleased { kind, reason };
    let told = one(Level::Ok, "web1: the hold (anomaly) is released by daemon");
    assert_eq!(kept.of_web1(released, 3), told);
}

#[test]
fn a_late_host_is_told_of_once_and_a_new_one_has_time_for_its_first_snapshot() {
    let mut kept = Kept::default();
    assert_eq!(kept.look(&[host(Freshness::Never)], 0), NOTHING);
    assert_eq!(kept.look(&[host(Freshness::Never)], 26), NOTHING);
    let late = one(Level::Critical, "web1: no good snapshot within 1d2h");
    assert_eq!(kept.look(&[host(Freshness::Never)], 27), late);
    assert_eq!(kept.look(&[host(Freshness::Never)], 28), NOTHING);
    let again = one(Level::Ok, "web1: has a good snapshot in time again");
    assert_eq!(kept.look(&[host(Freshness::Ok)], 29), again);
    assert_eq!(kept.look(&[host(Freshness::Late)], 60), late);
    // Nothing is left of a host that is not there any more.
    assert_eq!(kept.look(&[], 61), NOTHING);
    assert_eq!(kept.0, []);
}

#[test]
fn a_daemon_that_was_killed_is_told_of_and_one_that_was_ended_is_not() {
    let mut kept = Kept::default();
    let started = || {
        Event::new(What::DaemonStarted {
            version: "1".to_owned(),
            revision: None,
        })
    };
    assert_eq!(kept.hear(started()), NOTHING);
    let told = one(
        Level::Warning,
        "the daemon runs again after it ended without being told to",
    );
    assert_eq!(kept.hear(started()), told);
    assert_eq!(kept.hear(Event::new(What::DaemonStopped {})), NOTHING);
    assert_eq!(kept.hear(started()), NOTHING);
}

#[test]
fn destinations_and_configurations_are_told_of_when_they_change() {
    let mut kept = Kept::default();
    let behind = || {
        Event::new(What::DestinationBehind {
            destination: "nas".to_owned(),
            bytes: 7,
            objects: 1,
            since: None,
            problem: None,
        })
    };
    let told = one(Level::Warning, "destination nas lacks what others have");
    assert_eq!(kept.hear(behind()), told);
    assert_eq!(kept.hear(behind()), NOTHING);
    let back = Event::new(What::DestinationBack {
        destination: "nas".to_owned(),
    });
    let told = one(Level::Ok, "destination nas has everything again");
    assert_eq!(kept.hear(back), told);
    let refused = |problem: &str| {
        Event::new(What::ConfigRefused {
            problem: problem.to_owned(),
        })
    };
    assert_eq!(kept.hear(refused("a")).len(), 1);
    assert_eq!(kept.hear(refused("a")), NOTHING);
    assert_eq!(kept.hear(refused("b")).len(), 1);
    let good = Event::new(What::ConfigReloaded {
        revision: "r".to_owned(),
    });
    assert_eq!(kept.hear(good.clone()).len(), 1);
    assert_eq!(kept.hear(good), NOTHING);
}

#[test]
fn locks_that_nobody_prolongs_are_told_once_and_when_they_are_again() {
    let mut kept = Kept::default();
    let lock = |repository: &str, hours: i64| FirstLock {
        repository: repository.to_owned(),
        destination: "s3".to_owned(),
        left: SignedDuration::from_hours(hours),
        retain: SignedDuration::from_hours(40),
    };
    let mut look = |locks: &[FirstLock]| {
        kept.step(|tracker| tracker.look_at_locks(locks, Timestamp::UNIX_EPOCH))
    };
    assert_eq!(look(&[lock("a", 20), lock("b", 10)]), NOTHING);
    let title = "destination s3: locks run out, and no scan prolongs them";
    assert_eq!(
        look(&[lock("a", 9), lock("b", 3)]),
        one(Level::Critical, title)
    );
    assert_eq!(look(&[lock("a", 2), lock("b", -3)]), NOTHING);
    let title = "destination s3: locks are prolonged again";
    assert_eq!(look(&[lock("a", 39)]), one(Level::Ok, title));
    assert_eq!(look(&[]), NOTHING);
}

#[test]
fn warnings_without_a_problem_are_not_things_that_could_not_be_read() {
    let mut kept = Kept::default();
    let what = What::RunEnded {
        outcome: Outcome::Warnings,
        problems: 0,
        files: 1,
        bytes: 1,
        new_bytes: 0,
        millis: 0,
        error: None,
    };
    let title = "web1: is backed up, with warnings";
    assert_eq!(kept.of_web1(what, 1), one(Level::Warning, title));
}
