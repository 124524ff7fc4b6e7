#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{HashMap, HashSet};

use append_server::destination::DestinationName;
use formats::ids::RecordId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::{KeepingPlace, Verdict, decide_at, forgotten};
use crate::retention::decide::{Candidate, Decision, Policy, decide};
use crate::retention::keep::Keep;

fn id(number: u32) -> RecordId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    RecordId(id)
}

/// One each day, the last one yesterday.
fn days(count: u32) -> Vec<Candidate> {
    let day = |number: u32| Candidate {
        id: id(number),
        at: Timestamp::from_second(1_700_000_000 + i64::from(number) * 86_400).unwrap(),
        complete: true,
        verified: true,
    };
    (0..count).map(day).collect()
}

fn place(name: &str, last: Option<u32>, dropped: &[u32]) -> KeepingPlace {
    KeepingPlace {
        name: name.parse().unwrap(),
        keep: Some(Keep {
            last: Some(last.unwrap_or(4)),
            ..Keep::default()
        }),
        has_own: last.is_some(),
        may_drop: true,
        dropped: dropped.iter().map(|number| id(*number)).collect(),
    }
}

fn decided(candidates: &[Candidate], places: &[KeepingPlace]) -> Vec<Verdict> {
    let pinned = HashMap::new();
    let zone = TimeZone::UTC;
    let count = i64::try_from(candidates.len()).unwrap();
    let policy = Policy {
        keep: None,
        floor: 1,
        zone: &zone,
        now: Timestamp::from_second(1_700_000_000 + count * 86_400).unwrap(),
        pinned: &pinned,
        held: None,
    };
    decide_at(candidates, &policy, places)
}

fn names(at: &[DestinationName]) -> Vec<String> {
    at.iter().map(ToString::to_string).collect()
}

fn at(verdicts: &[Verdict]) -> Vec<String> {
    let at = verdicts.iter().map(|verdict| names(&verdict.at).join("+"));
    at.collect()
}

#[test]
fn each_destination_keeps_by_its_rules_and_what_none_keeps_is_forgotten() {
    let places = [place("near", Some(1), &[]), place("far", None, &[])];
    let verdicts = decided(&days(6), &places);
    assert_eq!(at(&verdicts), ["", "", "far", "far", "far", "near+far"]);
    assert_eq!(forgotten(&verdicts), HashSet::from([id(0), id(1)]));
    let drops: Vec<_> = verdicts
        .iter()
        .map(|verdict| names(&verdict.drops))
        .collect();
    assert_eq!(
        drops[1],
        Vec::<String>::new(),
        "it is forgotten, not dropped"
    );
    assert_eq!(drops[2], ["near"]);
    assert_eq!(verdicts[2].reasons, ["last 4"]);
    // Where it is the other way round, the reason says whose rules these are.
    let places = [place("near", None, &[]), place("far", Some(6), &[])];
    let verdicts = decided(&days(6), &places);
    assert_eq!(verdicts[0].reasons, ["last 6 at far"]);
    assert_eq!(names(&verdicts[0].at), ["far"]);
    assert_eq!(verdicts[5].reasons[0], "last 1");
}

#[test]
fn what_only_those_would_keep_that_dropped_it_stays_where_it_is() {
    // `near` has longer rules now, and dropped the first three; `far` has shorter ones.
    let places = [
        place("near", Some(6), &[0, 1, 2]),
        place("far", Some(2), &[]),
    ];
    let verdicts = decided(&days(6), &places);
    assert_eq!(
        at(&verdicts),
        ["far", "far", "far", "near", "near+far", "near+far"]
    );
    assert!(forgotten(&verdicts).is_empty());
    // Nothing is dropped where nothing is ever removed, and what is nowhere is told.
    let kept = KeepingPlace {
        may_drop: false,
        ..place("near", Some(1), &[])
    };
    let verdicts = decided(&days(3), &[kept, place("far", Some(3), &[])]);
    assert_eq!(at(&verdicts), ["near+far", "near+far", "near+far"]);
    let verdicts = decided(&days(3), &[place("near", Some(3), &[0])]);
    assert!(verdicts[0].is_nowhere && verdicts[0].is_kept());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn alike_destinations_decide_as_one_and_the_last_copy_is_never_dropped(
        count in 1u32..14,
        rules in proptest::collection::vec((1u32..9, 0u32..0x4000, any::<bool>()), 1..4),
    ) {
        let candidates = days(count);
        let places: Vec<KeepingPlace> = (0..)
            .zip(&rules)
            .map(|(number, (last, dropped, may_drop))| {
                let dropped: Vec<u32> = (0..count).filter(|day| dropped & (1 << day) != 0).collect();
                KeepingPlace {
                    may_drop: *may_drop,
                    ..place(&format!("d{number}"), Some(*last), &dropped)
                }
            })
            .collect();
        for verdict in decided(&candidates, &places) {
            let dropped = |name: &DestinationName| {
                let place = places.iter().find(|place| place.name == *name);
                place.is_none_or(|place| place.dropped.contains(&verdict.candidate.id))
            };
            prop_assert!(!verdict.at.iter().chain(&verdict.drops).any(dropped));
            prop_assert_eq!(verdict.is_kept() && !verdict.is_nowhere, !verdict.at.is_empty());
            prop_assert!(verdict.drops.is_empty() || !verdict.at.is_empty());
        }
        let keep = places[0].keep;
        let alike: Vec<KeepingPlace> = places
            .iter()
            .map(|place| KeepingPlace {
                keep,
                has_own: false,
                dropped: HashSet::new(),
                ..place.clone()
            })
            .collect();
        let zone = TimeZone::UTC;
        let pinned = HashMap::new();
        let policy = Policy {
            keep,
            floor: 1,
            zone: &zone,
            now: Timestamp::from_second(1_700_000_000 + i64::from(count) * 86_400).unwrap(),
            pinned: &pinned,
            held: None,
        };
        let one = decide(&candidates, &policy);
        let verdicts = decided(&candidates, &alike);
        let kept: Vec<bool> = one.iter().map(Decision::is_kept).collect();
        prop_assert_eq!(kept, verdicts.iter().map(Verdict::is_kept).collect::<Vec<_>>());
        prop_assert!(verdicts.iter().all(|verdict| verdict.drops.is_empty()));
    }
}
