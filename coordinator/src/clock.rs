//! The coordinator's clock, and how times are written. The only place that reads the system's time:
//! everything else is given a [`Clock`] or a [`Timestamp`], so that tests choose the time.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Tells the time.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands until it is moved, for tests.
#[derive(Debug)]
pub struct FixedClock(AtomicI64);

impl FixedClock {
    /// Stands at `at`.
    pub fn at(at: Timestamp) -> Self {
        Self(AtomicI64::new(to_nanos(at)))
    }

    /// Moves it forward.
    pub fn advance_secs(&self, secs: u32) {
        self.0
            .fetch_add(i64::from(secs) * 1_000_000_000, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// Nanoseconds since 1970, as formats have them; a time they cannot hold becomes the nearest they can.
pub fn to_nanos(at: Timestamp) -> i64 {
    let nearest = if at < Timestamp::UNIX_EPOCH {
        i64::MIN
    } else {
        i64::MAX
    };
    i64::try_from(at.as_nanosecond()).unwrap_or(nearest)
}

/// The time of a format's nanoseconds since 1970.
pub fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanos.into())
        .expect("an i64 of nanoseconds reaches from 1677 to 2262, within what a Timestamp holds")
}

/// RFC 3339 in UTC, for machines: `2026-11-20T00:30:00Z`.
pub fn utc(at: Timestamp) -> String {
    at.to_string()
}

/// RFC 3339 in a zone to the second, for people: `2026-11-20T01:30:00+01:00`.
pub fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone())
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string()
}

#[cfg(test)]
mod tests {
    use jiff::tz::{Offset, TimeZone};

    use super::{Clock, FixedClock, from_nanos, local, to_nanos, utc};

    #[test]
    fn times_are_written_as_rfc_3339_in_utc_and_locally() {
        let at = "2026-11-20T00:30:00.25Z".parse().expect("a time");
        assert_eq!(utc(at), "2026-11-20T00:30:00.25Z");
        let zone = TimeZone::fixed(Offset::constant(1));
        assert_eq!(local(at, &zone), "2026-11-20T01:30:00+01:00");
    }

    #[test]
    fn nanoseconds_round_trip_and_the_fixed_clock_moves_only_when_told() {
        for nanos in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(to_nanos(from_nanos(nanos)), nanos);
        }
        let clock = FixedClock::at(from_nanos(5));
        assert_eq!(clock.now(), clock.now());
        clock.advance_secs(2);
        assert_eq!(to_nanos(clock.now()), 2_000_000_005);
    }
}
