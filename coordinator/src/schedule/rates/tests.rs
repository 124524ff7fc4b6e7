//! Rates by the hour, over midnight, and on days that are longer or shorter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use super::{RateHours, RateNow, Rates};

fn entry(hours: &str, rate: &str) -> RateHours {
    RateHours {
        hours: (!hours.is_empty()).then(|| hours.parse().unwrap()),
        rate: rate.parse().unwrap(),
    }
}

fn office() -> Rates {
    Rates::new(vec![
        entry("12:00-13:00", "8MiB/s"),
        entry("08:00-18:00", "2MiB/s"),
        entry("", "20MiB/s"),
    ])
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn the_first_rate_whose_hours_it_is_counts() {
    let zurich = zone("Europe/Zurich");
    for (time, rate, until) in [
        (
            "2026-07-15T07:59:59+02:00",
            "20MiB/s",
            "2026-07-15T08:00:00+02:00",
        ),
        (
            "2026-07-15T08:00:00+02:00",
            "2MiB/s",
            "2026-07-15T12:00:00+02:00",
        ),
        (
            "2026-07-15T12:59:59+02:00",
            "8MiB/s",
            "2026-07-15T13:00:00+02:00",
        ),
        (
            "2026-07-15T13:00:00+02:00",
            "2MiB/s",
            "2026-07-15T18:00:00+02:00",
        ),
        (
            "2026-07-15T18:00:00+02:00",
            "20MiB/s",
            "2026-07-16T08:00:00+02:00",
        ),
    ] {
        let found = office().at(at(time), &zurich);
        let expected = RateNow {
            rate: Some(rate.parse().unwrap()),
            until: Some(at(until)),
        };
        assert_eq!(found, expected, "{time}");
    }
}

#[test]
fn without_hours_a_rate_holds_for_ever_and_without_any_there_is_no_limit() {
    let rates = Rates::always("1MiB/s".parse().unwrap());
    let found = rates.at(Timestamp::UNIX_EPOCH, &zone("Europe/Zurich"));
    assert_eq!(
        (found.rate, found.until),
        (Some("1MiB/s".parse().unwrap()), None)
    );
    let night = Rates::new(vec![entry("22:00-05:00", "1MiB/s")]);
    let found = night.at(at("2026-07-15T12:00:00Z"), &TimeZone::UTC);
    assert_eq!(
        (found.rate, found.until),
        (None, Some(at("2026-07-15T22:00:00Z")))
    );
    assert!(
        Rates::new(Vec::new())
            .at(Timestamp::UNIX_EPOCH, &TimeZone::UTC)
            .until
            .is_none()
    );
}

#[test]
fn clocks_that_change_change_the_rate() {
    let zurich = zone("Europe/Zurich");
    let rates = Rates::new(vec![entry("02:30-04:00", "1MiB/s")]);
    // 02:00 becomes 03:00, which is within these hours.
    let before = rates.at(at("2026-03-29T01:59:59+01:00"), &zurich);
    assert_eq!(
        (before.rate, before.until),
        (None, Some(at("2026-03-29T03:00:00+02:00")))
    );
    let after = rates.at(at("2026-03-29T03:00:00+02:00"), &zurich);
    assert!(after.rate.is_some(), "{after:?}");
    // 03:00 becomes 02:00, which is outside of them, and 02:30 comes a second time.
    let repeated = rates.at(at("2026-10-25T02:45:00+02:00"), &zurich);
    assert!(repeated.rate.is_some(), "{repeated:?}");
    assert_eq!(repeated.until, Some(at("2026-10-25T02:00:00+01:00")));
    let outside = rates.at(at("2026-10-25T02:00:00+01:00"), &zurich);
    assert_eq!(
        (outside.rate, outside.until),
        (None, Some(at("2026-10-25T02:30:00+01:00")))
    );
}

/// The rate by the definition alone: what clocks on the wall show.
fn by_the_wall(rates: &Rates, at: Timestamp, zone: &TimeZone) -> Option<u64> {
    let time = zone.to_datetime(at).time();
    let shown = format!("{:02}:{:02}", time.hour(), time.minute());
    let shown = shown.as_str();
    let applies = |entry: &&RateHours| {
        entry.hours.is_none_or(|hours| {
            let text = hours.to_string();
            let (from, to) = text.split_once('-').unwrap();
            match from < to {
                true => from <= shown && shown < to,
                false => from <= shown || shown < to,
            }
        })
    };
    let entry = rates.entries().iter().find(applies);
    entry.map(|entry| entry.rate.bytes_per_sec())
}

fn hours() -> impl Strategy<Value = RateHours> {
    let time = || (0u32..24, select(vec![0u32, 1, 15, 30, 59]));
    (time(), time(), 1u32..50)
        .prop_filter("two different times", |(from, to, _)| from != to)
        .prop_map(|(from, to, rate)| {
            let hours = format!("{:02}:{:02}-{:02}:{:02}", from.0, from.1, to.0, to.1);
            entry(&hours, &format!("{rate}MiB/s"))
        })
}

proptest! {
    /// Followed from change to change over three days, the rate is at every minute what the clocks on the wall say.
    #[test]
    fn a_rate_holds_as_long_as_it_is_said_to(
        entries in proptest::collection::vec(hours(), 1..4),
        fallback in proptest::option::of(1u32..50),
        name in select(vec![
            "UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu",
        ]),
        day in select(vec![
            "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z", "2026-03-07T18:00:00Z", "2026-10-31T18:00:00Z",
            "2026-04-04T00:00:00Z", "2026-10-03T00:00:00Z", "2018-11-03T12:00:00Z", "2026-07-15T00:00:00Z",
        ]),
    ) {
        let zone = zone(name);
        let mut entries = entries;
        entries.extend(fallback.map(|rate| entry("", &format!("{rate}MiB/s"))));
        let rates = Rates::new(entries);
        let mut now = at(day);
        let end = now + SignedDuration::from_hours(72);
        let mut held = rates.at(now, &zone);
        while now < end {
            let until = held.until.unwrap();
            prop_assert!(until > now, "{until} is not after {now}");
            if now + SignedDuration::from_mins(1) >= until {
                held = rates.at(until, &zone);
            }
            now += SignedDuration::from_mins(1);
            let rate = held.rate.map(|rate| rate.bytes_per_sec());
            prop_assert_eq!(rate, by_the_wall(&rates, now, &zone), "{}", now);
        }
    }
}
