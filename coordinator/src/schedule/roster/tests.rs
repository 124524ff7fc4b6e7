//! Limits are kept, keys are taken by one, and whoever has waited longest begins first.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::config::timing_settings::CatchUp;
use crate::schedule::outlook::{Attempted, Record};
use crate::schedule::roster::{Act, Asked, Roster};
use crate::schedule::timing::Timing;

fn at(text: &str) -> Timestamp {
    format!("2026-07-{text}Z").parse().unwrap()
}

fn timing(key: &str) -> Timing {
    Timing {
        calendar: Some("0 1 * * *".parse().unwrap()),
        concurrency_key: (!key.is_empty()).then(|| key.parse().unwrap()),
        ..Timing::default()
    }
}

fn record(good: Option<&str>) -> Record {
    Record {
        last_good: good.map(at),
        last_tried: good.map(at),
        ..Record::new(at("01T00:00:00"))
    }
}

fn begun(acts: &[Act]) -> Vec<&str> {
    acts.iter()
        .filter_map(|act| match act {
            Act::Begin { host, .. } => Some(host.as_str()),
            Act::LetGo { .. } => None,
        })
        .collect()
}

#[test]
fn the_oldest_good_snapshot_comes_first_and_never_more_than_the_limit() {
    let mut roster = Roster::new(2);
    for (host, good) in [
        ("a", Some("14T00:00:00")),
        ("b", Some("12T00:00:00")),
        ("c", None),
        ("d", Some("13T00:00:00")),
    ] {
        roster.put(host, timing(""), record(good));
    }
    let now = at("15T03:00:00");
    assert_eq!(begun(&roster.poll(now)), ["c", "b"]);
    assert_eq!(begun(&roster.poll(now)), [""; 0]);
    roster.ended("b", Some(Attempted::Done), Some(now), now);
    assert_eq!(begun(&roster.poll(now)), ["d"]);
    roster.ended("c", Some(Attempted::Done), Some(now), now);
    roster.ended("d", Some(Attempted::Done), Some(now), now);
    assert_eq!(begun(&roster.poll(now)), ["a"]);
    roster.ended("a", Some(Attempted::Failed), None, now);
    assert_eq!(roster.poll(now), []);
    assert_eq!(roster.wake(), Some(at("15T03:15:00")));
}

#[test]
fn a_host_that_fails_takes_nobodys_place() {
    let mut roster = Roster::new(1);
    for host in ["down", "up1", "up2"] {
        let minutely = Timing {
            calendar: Some("* * * * *".parse().unwrap()),
            ..timing("")
        };
        roster.put(host, minutely, record(None));
    }
    let mut now = at("15T03:00:00");
    let mut turns = Vec::new();
    for _ in 0..9 {
        let acts = roster.poll(now);
        let host = begun(&acts)[0].to_owned();
        now += SignedDuration::from_secs(90);
        let good = (host != "down").then_some(now);
        let result = good.map_or(Attempted::Failed, |_| Attempted::Done);
        roster.ended(&host, Some(result), good, now);
        turns.push(host);
    }
    for host in ["down", "up1", "up2"] {
        assert_eq!(
            turns.iter().filter(|turn| *turn == host).count(),
            3,
            "{turns:?}"
        );
    }
}

#[test]
fn one_host_of_a_key_runs_at_a_time_and_others_pass_by() {
    let mut roster = Roster::new(10);
    for host in ["a1", "a2", "b1"] {
        roster.put(host, timing(&host[..1]), record(None));
    }
    let now = at("15T03:00:00");
    assert_eq!(begun(&roster.poll(now)), ["a1", "b1"]);
    roster.ended("b1", Some(Attempted::Done), Some(now), now);
    assert_eq!(begun(&roster.poll(now)), [""; 0]);
    roster.ended("a1", Some(Attempted::Done), Some(now), now);
    assert_eq!(begun(&roster.poll(now)), ["a2"]);
}

#[test]
fn a_run_that_was_asked_for_keeps_the_limits_too() {
    let mut roster = Roster::new(1);
    for host in ["a", "b"] {
        roster.put(host, Timing::default(), record(None));
    }
    let now = at("15T03:00:00");
    for (host, first) in [("a", false), ("b", true)] {
        let host = host.to_owned();
        roster.ask(Asked { host, first });
    }
    assert_eq!(roster.poll_asked(now), ["b"]);
    assert_eq!(roster.poll_asked(now), [""; 0]);
    roster.ended("b", None, Some(now), now);
    assert!(roster.unask("a"));
    assert!(!roster.unask("a"));
    assert_eq!(roster.poll_asked(now), [""; 0]);
}

#[test]
fn an_occasion_that_waits_for_its_turn_was_not_missed() {
    let mut roster = Roster::new(1);
    for host in ["a", "b"] {
        let no = Timing {
            catch_up: CatchUp::No,
            ..timing("")
        };
        roster.put(host, no, record(None));
    }
    assert_eq!(begun(&roster.poll(at("15T01:00:00"))), ["a"]);
    let later = at("15T09:00:00");
    roster.ended("a", Some(Attempted::Done), Some(later), later);
    assert_eq!(begun(&roster.poll(later)), ["b"]);
    let act = Act::LetGo {
        host: "a".to_owned(),
        occasion: at("17T01:00:00"),
    };
    assert_eq!(roster.poll(at("17T09:00:00")), [act]);
}

#[test]
fn hosts_that_are_gone_are_not_begun_any_more_and_their_runs_still_count() {
    let mut roster = Roster::new(1);
    roster.put("a", timing(""), record(None));
    roster.put("b", timing(""), record(None));
    assert_eq!(begun(&roster.poll(at("15T03:00:00"))), ["a"]);
    roster.keep_only(&BTreeSet::from(["b".to_owned()]));
    assert_eq!(roster.poll(at("15T03:00:01")), []);
    roster.ended("a", Some(Attempted::Done), None, at("15T03:10:00"));
    assert_eq!(begun(&roster.poll(at("15T03:10:00"))), ["b"]);
}
