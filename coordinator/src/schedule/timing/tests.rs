//! Occasions lie in the window, jitter is the same whenever it is asked, and retries wait longer and longer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use crate::config::prune_settings::Zone;
use crate::schedule::error::ScheduleError;
use crate::schedule::timing::Timing;

pub fn timing(calendar: &str, zone: &str, jitter: &str, window: &str) -> Timing {
    Timing {
        calendar: Some(calendar.parse().unwrap()),
        zone: Zone::named(zone).unwrap(),
        jitter: jitter.parse().unwrap(),
        window: (!window.is_empty()).then(|| window.parse().unwrap()),
        ..Timing::default()
    }
}

#[test]
fn occasions_outside_the_window_are_none() {
    let hourly = timing("0 * * * *", "Europe/Zurich", "0s", "00:30-02:30");
    let mut at: Timestamp = "2026-07-15T12:00:00Z".parse().unwrap();
    let mut found = Vec::new();
    for _ in 0..3 {
        at = hourly.next("web1", at).unwrap().at;
        found.push(at.to_string());
    }
    assert_eq!(
        found,
        [
            "2026-07-15T23:00:00Z",
            "2026-07-16T00:00:00Z",
            "2026-07-16T23:00:00Z"
        ]
    );
    let noon: Timestamp = "2026-07-16T10:00:00Z".parse().unwrap();
    let newest = hourly
        .newest_due("web1", Timestamp::UNIX_EPOCH, noon)
        .unwrap();
    assert_eq!(newest.at.to_string(), "2026-07-16T00:00:00Z");
    // One at the very minute of opening belongs to it.
    let opening = timing("30 0 * * *", "UTC", "0s", "00:30-02:30");
    assert!(opening.next("web1", noon).is_some());
}

#[test]
fn a_schedule_that_never_comes_within_its_window_is_refused() {
    let never = timing("0 12 * * *", "Europe/Zurich", "0s", "00:30-05:30");
    assert!(matches!(
        never.check(),
        Err(ScheduleError::NeverInWindow { .. })
    ));
    timing("0 12 * * *", "Europe/Zurich", "0s", "11:59-12:01")
        .check()
        .unwrap();
    timing("0 1 29 2 *", "Europe/Zurich", "0s", "00:30-05:30")
        .check()
        .unwrap();
    Timing::default().check().unwrap();
}

#[test]
fn jitter_spreads_hosts_and_nights() {
    let spread = timing("0 1 * * *", "UTC", "30m", "");
    let at: Timestamp = "2026-07-15T12:00:00Z".parse().unwrap();
    let minutes: std::collections::BTreeSet<i64> = (0..500)
        .map(|number| {
            let occasion = spread.next(&format!("host{number}"), at).unwrap();
            occasion.begins.duration_since(occasion.at).as_mins()
        })
        .collect();
    assert_eq!(minutes, (0..30).collect());
    let first = spread.next("web1", at).unwrap();
    let second = spread.next("web1", first.at).unwrap();
    assert_ne!(
        first.begins.duration_since(first.at),
        second.begins.duration_since(second.at)
    );
}

#[test]
fn each_retry_waits_twice_as_long_up_to_six_hours() {
    let timing = timing("0 1 * * *", "UTC", "0s", "");
    let minutes = |attempts| timing.retry_after(attempts).as_mins();
    assert_eq!([minutes(1), minutes(2), minutes(3)], [15, 30, 60]);
    assert_eq!([minutes(10), minutes(200)], [360, 360]);
    let slow = Timing {
        retry_delay: "12h".parse().unwrap(),
        ..timing
    };
    assert_eq!(slow.retry_after(5).as_hours(), 12);
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Those few nights at which clocks change are where it goes wrong.
        cases: 4_096,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_occasion_is_after_the_one_before_and_begins_within_the_window(
        text in select(vec!["0 * * * *", "*/7 * * * *", "15 1 * * *", "30 2 * * *", "*:0/20", "Mon..Fri 02:30"]),
        zone in select(vec!["UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe"]),
        window in select(vec!["", "00:30-05:30", "22:00-03:00", "02:10-02:50"]),
        jitter in select(vec!["0s", "30m", "3h"]),
        from in (1_600_000_000_i64..2_200_000_000).prop_map(|secs| Timestamp::from_second(secs).unwrap()),
        host in "[a-z]{1,8}",
    ) {
        let timing = timing(text, zone, jitter, window);
        if timing.check().is_ok() {
            let mut before = from;
            for _ in 0..20 {
                let occasion = timing.next(&host, before).unwrap();
                prop_assert!(occasion.at > before && occasion.begins >= occasion.at);
                prop_assert!(timing.is_open(occasion.at) && timing.is_open(occasion.begins));
                prop_assert!(occasion.begins.duration_since(occasion.at) <= timing.jitter.duration().try_into().unwrap());
                prop_assert_eq!(timing.next(&host, before).unwrap(), occasion);
                // Once its time to begin has come, it is what is due, unless a newer one is.
                let due = timing.newest_due(&host, before, occasion.begins).unwrap();
                prop_assert!(due.at >= occasion.at && due.begins <= occasion.begins);
                let just_before = occasion.at - SignedDuration::from_nanos(1);
                prop_assert_eq!(timing.newest_due(&host, before, just_before), None);
                before = occasion.at;
            }
        }
    }
}
