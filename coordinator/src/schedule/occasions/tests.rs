//! Each hour that clocks skip or repeat, in several zones, and the rules that hold for every calendar.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use crate::clock::local;
use crate::schedule::calendar::Calendar;

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Zurich",
    "America/New_York",
    "Australia/Lord_Howe", // Half an hour.
    "Africa/Casablanca",   // Back for Ramadan.
    "Pacific/Apia",        // Once skipped a whole day.
    "Asia/Kathmandu",      // Quarters of an hour, no changes.
    "America/Havana",      // At midnight.
];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn after(calendar: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let (calendar, zone) = (calendar.parse::<Calendar>().unwrap(), zone(zone_name));
    let mut at: Timestamp = from.parse().unwrap();
    let mut found = Vec::new();
    for _ in 0..count {
        at = calendar.occasion_after(at, &zone).unwrap();
        found.push(local(at, &zone));
    }
    found
}

#[test]
fn a_skipped_time_of_day_comes_once_right_after_the_gap() {
    // 2026-03-29, 02:00 to 03:00.
    assert_eq!(
        after("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    );
    // Several in the gap, and one at its end, are one.
    assert_eq!(
        after(
            "0,10,50 2,3 * * *",
            "Europe/Zurich",
            "2026-03-29T00:59:59Z",
            3
        ),
        [
            "2026-03-29T03:00:00+02:00",
            "2026-03-29T03:10:00+02:00",
            "2026-03-29T03:50:00+02:00"
        ]
    );
    // 2026-03-08, 02:00 to 03:00.
    assert_eq!(
        after("02:15", "America/New_York", "2026-03-07T12:00:00Z", 2),
        ["2026-03-08T03:00:00-04:00", "2026-03-09T02:15:00-04:00"]
    );
    // 2026-10-04, 02:00 to 02:30.
    assert_eq!(
        after("02:15", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2),
        ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]
    );
    // 2026-03-08, midnight to 01:00: the day begins an hour late.
    assert_eq!(
        after("daily", "America/Havana", "2026-03-07T12:00:00Z", 2),
        ["2026-03-08T01:00:00-04:00", "2026-03-09T00:00:00-04:00"]
    );
    // 2011-12-30 was no day there.
    assert_eq!(
        after("03:00", "Pacific/Apia", "2011-12-29T14:00:00Z", 3),
        [
            "2011-12-31T00:00:00+14:00",
            "2011-12-31T03:00:00+14:00",
            "2012-01-01T03:00:00+14:00"
        ]
    );
}

#[test]
fn a_repeated_time_of_day_comes_once_the_first_time() {
    // 2026-10-25, 03:00 back to 02:00.
    assert_eq!(
        after("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    );
    // Asked in the second time, it does not come again.
    assert_eq!(
        after("30 2 * * *", "Europe/Zurich", "2026-10-25T01:15:00Z", 1),
        ["2026-10-26T02:30:00+01:00"]
    );
    // 2026-11-01, 02:00 back to 01:00.
    assert_eq!(
        after("01:30", "America/New_York", "2026-10-31T12:00:00Z", 2),
        ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]
    );
    // 2026-04-05, 02:00 back to 01:30.
    assert_eq!(
        after("01:45", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2),
        ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]
    );
    // 2026-11-01, 01:00 back to midnight: one day has midnight twice.
    assert_eq!(
        after("daily", "America/Havana", "2026-10-31T12:00:00Z", 2),
        ["2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"]
    );
}

#[test]
fn what_comes_every_hour_goes_on_through_both() {
    assert_eq!(
        after("30 * * * *", "Europe/Zurich", "2026-03-29T00:00:00Z", 3),
        [
            "2026-03-29T01:30:00+01:00",
            "2026-03-29T03:30:00+02:00",
            "2026-03-29T04:30:00+02:00"
        ]
    );
    assert_eq!(
        after("30 * * * *", "Europe/Zurich", "2026-10-24T23:45:00Z", 4),
        [
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T03:30:00+01:00",
            "2026-10-25T04:30:00+01:00"
        ]
    );
    let steps = after("*:0/5", "Europe/Zurich", "2026-10-24T22:00:00Z", 60);
    let times: Vec<Timestamp> = steps.iter().map(|at| at.parse().unwrap()).collect();
    for pair in times.windows(2) {
        assert_eq!(pair[1].duration_since(pair[0]).as_secs(), 300);
    }
}

fn calendars() -> impl Strategy<Value = &'static str> {
    select(vec![
        "0 1 * * *",
        "*/7 * * * *",
        "30 2 * * *",
        "15 2,3 * * 0",
        "0 0 29 2 *",
        "0 0 13 * fri",
        "daily",
        "weekly",
        "monthly",
        "*:0/5",
        "*-*-* *:*:0/10",
        "Mon..Fri 02:30",
        "*-*~01 23:59:59",
    ])
}

fn instants() -> impl Strategy<Value = Timestamp> {
    // 2005 to 2060, to the nanosecond.
    (1_104_537_600_i64..2_840_140_800, 0..1_000_000_000_i32)
        .prop_map(|(secs, nanos)| Timestamp::new(secs, nanos).unwrap())
}

proptest! {
    #[test]
    fn the_next_occasion_is_strictly_after_and_none_lies_between(
        text in calendars(), name in select(ZONES.to_vec()), from in instants(), part in 0.0..1.0_f64,
    ) {
        let (calendar, zone) = (text.parse::<Calendar>().unwrap(), zone(name));
        let next = calendar.occasion_after(from, &zone).unwrap();
        prop_assert!(next > from);
        prop_assert_eq!(next.subsec_nanosecond(), 0);
        // From anywhere in between, it is the same one.
        let between = from.checked_add(next.duration_since(from).mul_f64(part)).unwrap();
        if between < next {
            prop_assert_eq!(calendar.occasion_after(between, &zone).unwrap(), next);
        }
    }

    #[test]
    fn the_last_occasion_is_the_one_that_counting_forward_ends_at(
        text in calendars(), name in select(ZONES.to_vec()), from in instants(), count in 1..40_usize,
        rest in any::<u16>(),
    ) {
        let (calendar, zone) = (text.parse::<Calendar>().unwrap(), zone(name));
        let mut last = from;
        for _ in 0..count {
            last = calendar.occasion_after(last, &zone).unwrap();
        }
        let next = calendar.occasion_after(last, &zone).unwrap();
        let until = last + SignedDuration::from_secs(rest.into()).min(next.duration_since(last) - SignedDuration::from_nanos(1));
        prop_assert_eq!(calendar.last_occasion(from, until, &zone), Some(last));
        prop_assert_eq!(calendar.last_occasion(last, until, &zone), None);
    }
}
