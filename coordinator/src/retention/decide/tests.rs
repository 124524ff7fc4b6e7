#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeSet, HashMap, HashSet};

use formats::ids::RecordId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::{Candidate, Decision, Policy, Reason, decide};
use crate::retention::keep::Keep;
use crate::retention::slot::{Slot, SlotKind};

const NOW: &str = "2026-11-28T12:00:00Z";
const HOUR: i64 = 3_600;

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn candidate(number: u32, hours_ago: i64) -> Candidate {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Candidate {
        id: RecordId(id),
        at: Timestamp::from_second(now().as_second() - hours_ago * HOUR).unwrap(),
        complete: true,
        verified: true,
    }
}

fn with(keep: Keep, floor: u32) -> Test {
    Test {
        keep: Some(keep),
        floor,
        pinned: HashMap::new(),
        held: None,
    }
}

struct Test {
    keep: Option<Keep>,
    floor: u32,
    pinned: HashMap<RecordId, String>,
    held: Option<&'static str>,
}

impl Test {
    fn decide(&self, candidates: &[Candidate]) -> Vec<Decision> {
        self.decide_at(candidates, now())
    }

    fn decide_at(&self, candidates: &[Candidate], now: Timestamp) -> Vec<Decision> {
        let zone = TimeZone::UTC;
        let policy = Policy {
            keep: self.keep,
            floor: self.floor,
            zone: &zone,
            now,
            pinned: &self.pinned,
            held: self.held,
        };
        decide(candidates, &policy)
    }

    fn kept(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        kept(&self.decide(candidates))
    }
}

fn kept(decisions: &[Decision]) -> Vec<Candidate> {
    let kept = decisions.iter().filter(|decision| decision.is_kept());
    kept.map(|decision| decision.candidate).collect()
}

fn ids(candidates: &[Candidate]) -> BTreeSet<RecordId> {
    candidates.iter().map(|candidate| candidate.id).collect()
}

fn words(decision: &Decision) -> String {
    let words: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
    words.join(", ")
}

fn daily(count: u32) -> Keep {
    Keep {
        daily: Some(count),
        ..Keep::default()
    }
}

#[test]
fn each_snapshot_is_kept_for_named_reasons() {
    let keep = Keep {
        last: Some(1),
        daily: Some(2),
        monthly: Some(2),
        within: Some("6h".parse().unwrap()),
        ..Keep::default()
    };
    // 6 October, 26 November twice, 28 November twice.
    let candidates: Vec<Candidate> = [(1, 53 * 24), (2, 58), (3, 50), (4, 11), (5, 2)]
        .map(|(number, ago)| candidate(number, ago))
        .to_vec();
    let test = with(keep, 1);
    let told: Vec<String> = test.decide(&candidates).iter().map(words).collect();
    assert_eq!(
        told,
        [
            "monthly 2026-10",
            "daily 2026-11-26, monthly 2026-11",
            "",
            "daily 2026-11-28",
            "within 6h, last 1, floor, newest",
        ]
    );
}

#[test]
fn without_rules_or_on_hold_everything_stays() {
    let candidates: Vec<Candidate> = (0..50)
        .map(|n| candidate(n, 5_000 - i64::from(n)))
        .collect();
    for keep in [
        None,
        Some(Keep::default()),
        Some(daily(0)),
        Some(Keep {
            last: Some(0),
            within: Some("0s".parse().unwrap()),
            ..Keep::default()
        }),
    ] {
        let test = Test {
            keep,
            ..with(daily(1), 1)
        };
        let decisions = test.decide(&candidates);
        assert!(
            decisions
                .iter()
                .all(|decision| decision.reasons.contains(&Reason::NoPolicy))
        );
    }
    let held = Test {
        held: Some("anomaly"),
        ..with(daily(1), 1)
    };
    assert_eq!(held.kept(&candidates).len(), 50);
}

#[test]
fn pinned_ones_and_the_last_verified_ones_stay() {
    let mut candidates: Vec<Candidate> =
        (0..30).map(|n| candidate(n, 300 - i64::from(n))).collect();
    // The newest five were never verified.
    for candidate in &mut candidates[25..] {
        candidate.verified = false;
    }
    let mut test = with(
        Keep {
            last: Some(1),
            ..Keep::default()
        },
        3,
    );
    test.pinned.insert(candidates[4].id, "audit".to_owned());
    let kept: Vec<u8> = test.kept(&candidates).iter().map(|c| c.id.0[3]).collect();
    // The pin, the floor, the last of those that count and of those that do not.
    assert_eq!(kept, [4, 22, 23, 24, 29]);
}

#[test]
fn what_comes_later_in_a_slot_never_takes_its_place() {
    let good = candidate(1, 11);
    let later: Vec<Candidate> = (2..400).map(|n| candidate(n, 9)).collect();
    let test = with(daily(3), 1);
    let all: Vec<Candidate> = [good].into_iter().chain(later).collect();
    assert!(ids(&test.kept(&all)).contains(&good.id));
}

#[test]
fn incomplete_ones_are_thinned_by_themselves_and_take_no_place() {
    let mut candidates: Vec<Candidate> = (0..20)
        .map(|n| candidate(n, 24 * (20 - i64::from(n))))
        .collect();
    for candidate in &mut candidates[10..] {
        candidate.complete = false;
    }
    let test = with(daily(4), 1);
    let kept: Vec<u8> = test.kept(&candidates).iter().map(|c| c.id.0[3]).collect();
    assert_eq!(kept, [6, 7, 8, 9, 16, 17, 18, 19]);
}

#[test]
fn times_that_contradict_the_log_are_kept() {
    let mut candidates: Vec<Candidate> = (0..10)
        .map(|n| candidate(n, 24 * (10 - i64::from(n))))
        .collect();
    // The clock was ten years behind for two runs, then ten years ahead for one.
    candidates[4].at = "2016-11-24T00:00:00Z".parse().unwrap();
    candidates[5].at = "2016-11-25T00:00:00Z".parse().unwrap();
    candidates[7].at = "2036-11-27T00:00:00Z".parse().unwrap();
    let test = with(daily(2), 1);
    let kept: Vec<u8> = test.kept(&candidates).iter().map(|c| c.id.0[3]).collect();
    assert_eq!(kept, [4, 5, 7, 8, 9]);
}

fn keeps() -> impl Strategy<Value = Keep> {
    let count = || proptest::option::of(0u32..12);
    (
        count(),
        count(),
        count(),
        count(),
        count(),
        count(),
        proptest::option::of(0u32..20),
    )
        .prop_map(
            |(last, hourly, daily, weekly, monthly, yearly, days)| Keep {
                last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                within: days.map(|days| format!("{days}d").parse().unwrap()),
            },
        )
}

/// A history of runs: hours between one and the next, and what each says of itself.
fn histories(count: usize) -> impl Strategy<Value = Vec<(i64, bool, bool)>> {
    let run = (
        prop_oneof![0i64..3, 20i64..30, 100i64..1_000],
        proptest::bool::weighted(0.9),
        proptest::bool::weighted(0.9),
    );
    proptest::collection::vec(run, 0..count)
}

fn history(runs: &[(i64, bool, bool)], ends_hours_ago: i64, first: u32) -> Vec<Candidate> {
    let mut ago = ends_hours_ago + runs.iter().map(|run| run.0).sum::<i64>();
    let mut made = Vec::new();
    for (number, (hours, complete, verified)) in (first..).zip(runs) {
        ago -= hours;
        made.push(Candidate {
            complete: *complete,
            verified: *verified,
            ..candidate(number, ago)
        });
    }
    made
}

/// Whether a slot is one of the last so many of the calendar, whatever snapshots there are.
fn is_recent(kind: SlotKind, slot: Slot, count: u32) -> bool {
    let zone = TimeZone::UTC;
    let mut seen = HashSet::new();
    let mut at = now();
    loop {
        let found = Slot::of(kind, at, &zone);
        seen.insert(found);
        if seen.len() > count as usize {
            return false;
        }
        if found == slot {
            return true;
        }
        let step = if kind == SlotKind::Hour {
            HOUR
        } else {
            20 * HOUR
        };
        at = Timestamp::from_second(at.as_second() - step).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a host adds from the moment it is taken over, and whatever it says of it: a good snapshot from before that
    /// the policy's calendar reaches is kept.
    #[test]
    fn a_hostile_host_never_makes_a_good_snapshot_younger_than_policy_vanish(
        keep in keeps(),
        good in histories(40),
        hostile in histories(300),
        until in 0i64..200,
        floor in 1u32..5,
    ) {
        let hostile_hours: i64 = hostile.iter().map(|run| run.0).sum();
        let before = history(&good, hostile_hours + until, 1);
        let after = history(&hostile, until, 10_000);
        let test = with(keep, floor);
        let alone = test.decide(&before);
        let all: Vec<Candidate> = before.iter().chain(&after).copied().collect();
        let kept = ids(&test.kept(&all));
        for decision in alone {
            let at = decision.candidate.at;
            let must = decision.reasons.iter().any(|reason| match reason {
                Reason::NoPolicy | Reason::Within(_) => true,
                Reason::Slot(kind, _) => {
                    let count = keep.slots().into_iter().find(|slot| slot.0 == *kind);
                    let slot = Slot::of(*kind, at, &TimeZone::UTC);
                    is_recent(*kind, slot, count.map_or(0, |slot| slot.1))
                }
                _ => false,
            });
            prop_assert!(!must || kept.contains(&decision.candidate.id), "{decision:?}");
        }
    }

    #[test]
    fn deciding_again_about_what_was_kept_drops_nothing(
        keep in keeps(), runs in histories(120), until in 0i64..100, floor in 1u32..5,
    ) {
        let candidates = history(&runs, until, 1);
        let test = with(keep, floor);
        let once = test.kept(&candidates);
        prop_assert_eq!(test.kept(&once), once);
    }

    #[test]
    fn keeping_more_never_keeps_less(
        keep in keeps(), more in 0usize..6, runs in histories(120), until in 0i64..100, floor in 1u32..5,
    ) {
        let candidates = history(&runs, until, 1);
        let test = with(keep, floor);
        prop_assume!(!keep.is_empty());
        let less = ids(&test.kept(&candidates));
        let mut larger = keep;
        let field = [
            &mut larger.last, &mut larger.hourly, &mut larger.daily, &mut larger.weekly,
            &mut larger.monthly, &mut larger.yearly,
        ].into_iter().nth(more).unwrap();
        *field = Some(field.unwrap_or(0) + 1);
        let raised = ids(&with(larger, floor).kept(&candidates));
        prop_assert!(less.is_subset(&raised));
        let floored = ids(&with(keep, floor + 1).kept(&candidates));
        prop_assert!(less.is_subset(&floored));
    }

    #[test]
    fn the_newest_and_the_last_verified_ones_are_always_kept(
        keep in keeps(), runs in histories(60), until in 0i64..100, floor in 1u32..5,
    ) {
        let candidates = history(&runs, until, 1);
        let kept = ids(&with(keep, floor).kept(&candidates));
        let counted = candidates.iter().rev().filter(|candidate| candidate.counts());
        for candidate in counted.take(floor as usize).chain(candidates.last()) {
            prop_assert!(kept.contains(&candidate.id));
        }
    }

    /// Pruning after every run keeps, in the end, every slot that pruning once keeps.
    #[test]
    fn pruning_often_loses_nothing_that_pruning_once_keeps(
        keep in keeps(), runs in histories(60), until in 0i64..100, floor in 1u32..5,
    ) {
        let keep = Keep { last: None, within: None, ..keep };
        prop_assume!(!keep.is_empty());
        let all = history(&runs, until, 1);
        let test = with(keep, floor);
        let once = ids(&test.kept(&all));
        let mut left: Vec<Candidate> = Vec::new();
        for candidate in &all {
            left.push(*candidate);
            left = kept(&test.decide_at(&left, candidate.at));
        }
        left = test.kept(&left);
        prop_assert_eq!(ids(&left), once);
    }
}
