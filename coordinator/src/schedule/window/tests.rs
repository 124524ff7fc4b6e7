//! Windows by day, over midnight, and on days that are longer or shorter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use crate::clock::local;
use crate::schedule::window::{Window, just_before};

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn zurich() -> TimeZone {
    TimeZone::get("Europe/Zurich").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_window_is_open_from_its_first_minute_to_before_its_last() {
    let night = window("00:30-05:30");
    for (time, open) in [
        ("2026-07-15T00:29:59+02:00", false),
        ("2026-07-15T00:30:00+02:00", true),
        ("2026-07-15T05:29:59.9+02:00", true),
        ("2026-07-15T05:30:00+02:00", false),
    ] {
        assert_eq!(night.is_open(at(time), &zurich()), open, "{time}");
    }
    let over_midnight = window("22:00-05:00");
    for (time, open) in [
        ("2026-07-15T21:59:59+02:00", false),
        ("2026-07-15T22:00:00+02:00", true),
        ("2026-07-16T00:00:00+02:00", true),
        ("2026-07-16T04:59:59+02:00", true),
        ("2026-07-16T05:00:00+02:00", false),
    ] {
        assert_eq!(over_midnight.is_open(at(time), &zurich()), open, "{time}");
    }
    let evening = window("18:00-24:00");
    assert!(evening.is_open(at("2026-07-15T23:59:59+02:00"), &zurich()));
    assert!(!evening.is_open(at("2026-07-16T00:00:00+02:00"), &zurich()));
}

#[test]
fn a_window_that_ends_in_a_gap_ends_with_it_and_one_that_begins_in_it_begins_with_its_end() {
    let zone = zurich();
    let early = window("00:30-02:30");
    let closes = early
        .closes(at("2026-03-29T01:00:00+01:00"), &zone)
        .unwrap();
    assert_eq!(local(closes, &zone), "2026-03-29T03:00:00+02:00");
    let late = window("02:30-05:00");
    let opens = late.opens(at("2026-03-28T12:00:00+01:00"), &zone).unwrap();
    assert_eq!(local(opens, &zone), "2026-03-29T03:00:00+02:00");
}

#[test]
fn a_window_in_a_repeated_hour_is_open_twice_and_one_within_a_gap_not_at_all() {
    let zone = zurich();
    let edges = |text: &str, from: &str, count: usize| -> Vec<String> {
        let (window, mut from) = (window(text), at(from));
        let mut next = || {
            from = window.next_edge(from, &zone).unwrap();
            local(from, &zone)
        };
        std::iter::repeat_with(&mut next).take(count).collect()
    };
    assert_eq!(
        edges("02:10-02:50", "2026-10-25T00:00:00+02:00", 5),
        [
            "2026-10-25T02:10:00+02:00",
            "2026-10-25T02:50:00+02:00",
            "2026-10-25T02:10:00+01:00",
            "2026-10-25T02:50:00+01:00",
            "2026-10-26T02:10:00+01:00",
        ]
    );
    assert_eq!(
        edges("00:30-02:30", "2026-10-25T00:30:00+02:00", 3),
        [
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
        ]
    );
    // At the very instant of the change.
    let closed = window("02:30-05:00").closed(at("2026-10-25T02:00:00+01:00"), &zone);
    assert_eq!(
        closed.map(|closed| local(closed, &zone)),
        Some("2026-10-25T02:00:00+01:00".to_owned())
    );
    assert_eq!(
        edges("02:10-02:50", "2026-03-29T00:00:00+01:00", 1),
        ["2026-03-30T02:10:00+02:00"]
    );
}

#[test]
fn what_is_no_window_is_refused() {
    for text in [
        "",
        "00:30",
        "00:30-00:30",
        "24:30-05:00",
        "5-6",
        "00:60-01:00",
        "a:b-c:d",
        "0:30–5:30",
        "-1:00-02:00",
        "00:00-24:00",
    ] {
        assert!(text.parse::<Window>().is_err(), "{text:?}");
    }
    assert_eq!(window(" 0:30 - 5:30 ").to_string(), "00:30-05:30");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_096,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_window_opens_when_it_says_and_is_shut_from_its_close_on(
        zone in select(vec!["UTC", "Europe/Zurich", "America/New_York", "Pacific/Apia"]),
        from in 0..1440_u16, to in 0..1440_u16,
        now in (1_104_537_600_i64..2_840_140_800).prop_map(|secs| Timestamp::from_second(secs).unwrap()),
        minutes_from_change in proptest::option::of(-90..90_i64),
    ) {
        if from != to {
            let zone = TimeZone::get(zone).unwrap();
            let change = zone.following(now).next().map(|change| change.timestamp());
            let now = match (change, minutes_from_change) {
                (Some(change), Some(minutes)) => change + SignedDuration::from_mins(minutes),
                _ => now,
            };
            let text = format!("{}:{:02}-{}:{:02}", from / 60, from % 60, to / 60, to % 60);
            let window = window(&text);
            let (opens, closes) = (window.opens(now, &zone).unwrap(), window.closes(now, &zone).unwrap());
            let closed = window.closed(now, &zone).unwrap();
            prop_assert!(opens > now && closes > now && closed <= now);
            let is_open = |at| window.is_open(at, &zone);
            prop_assert!(is_open(opens) && !is_open(just_before(opens)));
            prop_assert!(!is_open(closes) && is_open(just_before(closes)));
            prop_assert!(!is_open(closed) && is_open(just_before(closed)));
            prop_assert_eq!(is_open(now), closes < opens);
            prop_assert_eq!(window.next_edge(now, &zone), Some(opens.min(closes)));
        }
    }
}
