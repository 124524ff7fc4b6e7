//! Whether the clock can be relied on to drop anything. Two sources must agree: the machine's clock, and what the log and the
//! kernel's count since boot say. Backups go on with a doubted clock; a prune does not. What a run wrote to the log by a clock that
//! was ahead bears that clock out no more than the clock itself does.

use std::time::Duration;

use append_server::age_clock::{Reading, stepped_secs};
use jiff::Timestamp;
use serde::Serialize;

use crate::clock::utc;

/// How far the log may be ahead: two machines' clocks, and a leap second.
const AHEAD_MAX: Duration = Duration::from_secs(300);
/// How old the log's last record may be: a host without a backup for longer is not pruned by itself.
pub const SILENCE_MAX: Duration = Duration::from_secs(35 * 24 * 3_600);
/// By how much the clock may have been set since a prune last looked.
const STEP_MAX_SECS: u64 = 900;

/// Why the clock is doubted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockDoubt {
    /// The log is ahead.
    #[error("the log has a record of {recorded}, and it is {now} now: one of the clocks was wrong")]
    LogAhead {
        /// The latest time in the log.
        recorded: String,
        /// The time now.
        now: String,
    },
    /// The log is far behind.
    #[error(
        "the log's last record is of {recorded}, and it is {now} now: the clock may be ahead, or nothing was backed up since"
    )]
    LongSilence {
        /// The latest time in the log.
        recorded: String,
        /// The time now.
        now: String,
    },
    /// The log leaps.
    #[error(
        "the log leaps from {before} to {recorded}, and nothing tells that so much time went by: the clock may be ahead, or nothing \
         was backed up in between"
    )]
    Leap {
        /// The last time before it.
        before: String,
        /// The first one after it.
        recorded: String,
    },
    /// It was set.
    #[error("the clock was set by {secs} seconds since a prune last looked at it")]
    Stepped {
        /// By how much.
        secs: u64,
    },
}

/// What the log says of times.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogTimes {
    /// The latest time in it.
    pub latest: Option<Timestamp>,
    /// Before and after the last silence that was longer than [`SILENCE_MAX`], of those that ended.
    pub leap: Option<(Timestamp, Timestamp)>,
}

/// What the clocks said when a prune looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenClock {
    /// That.
    pub reading: Reading,
    /// Since when the machine's clock went on as the kernel counted, in seconds since 1970: without a step or a start of the
    /// machine, as far as prunes looked.
    pub unbroken_since_unix_secs: u64,
}

impl SeenClock {
    /// What is known once a prune has looked again.
    pub fn after(before: Option<&Self>, reading: Reading) -> Self {
        let unbroken = before.filter(|before| {
            stepped_secs(&before.reading, &reading).is_some_and(|secs| secs <= STEP_MAX_SECS)
        });
        Self {
            unbroken_since_unix_secs: unbroken
                .map_or(reading.unix_secs, |before| before.unbroken_since_unix_secs),
            reading,
        }
    }
}

/// Looks at the clock from all sides.
pub fn doubt(
    now: Timestamp,
    log: LogTimes,
    last: Option<&SeenClock>,
    reading: &Reading,
) -> Option<ClockDoubt> {
    if let Some(recorded) = log.latest {
        if recorded > now && recorded.duration_since(now).unsigned_abs() > AHEAD_MAX {
            return Some(ClockDoubt::LogAhead {
                recorded: utc(recorded),
                now: utc(now),
            });
        }
        if now > recorded && now.duration_since(recorded).unsigned_abs() > SILENCE_MAX {
            return Some(ClockDoubt::LongSilence {
                recorded: utc(recorded),
                now: utc(now),
            });
        }
    }
    let stepped = last.and_then(|before| stepped_secs(&before.reading, reading));
    if let Some(secs) = stepped.filter(|secs| *secs > STEP_MAX_SECS) {
        return Some(ClockDoubt::Stepped { secs });
    }
    let (before, after) = log.leap?;
    // A clock that went on for as long as that without being set would have been noticed.
    let is_fresh = now.duration_since(after).unsigned_abs() <= SILENCE_MAX;
    let began = u64::try_from(before.as_second()).unwrap_or(0);
    // The kernel counted all of it.
    let is_counted =
        stepped.is_some() && last.is_some_and(|last| last.unbroken_since_unix_secs <= began);
    (is_fresh && !is_counted).then(|| ClockDoubt::Leap {
        before: utc(before),
        recorded: utc(after),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use append_server::age_clock::Reading;
    use jiff::{SignedDuration, Timestamp};

    use super::{ClockDoubt, LogTimes, SeenClock, doubt};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn latest(at: Timestamp) -> LogTimes {
        LogTimes {
            latest: Some(at),
            leap: None,
        }
    }

    fn reading(since_boot_secs: u64, at: Timestamp) -> Reading {
        Reading {
            boot: "one".to_owned(),
            since_boot_secs,
            unix_secs: at.as_second().unsigned_abs(),
        }
    }

    #[test]
    fn a_clock_ten_years_off_either_way_is_doubted_and_a_day_or_daylight_saving_is_not() {
        let last = at("2026-11-27T01:00:00Z");
        let told = |now| doubt(at(now), latest(last), None, &reading(0, at(now)));
        assert_eq!(told("2026-11-28T01:00:00Z"), None);
        assert_eq!(told("2026-12-30T01:00:00Z"), None);
        // A leap second, or the other machine's clock.
        assert_eq!(told("2026-11-27T00:59:00Z"), None);
        assert!(matches!(
            told("2036-11-28T01:00:00Z"),
            Some(ClockDoubt::LongSilence { .. })
        ));
        assert!(matches!(
            told("2016-11-28T01:00:00Z"),
            Some(ClockDoubt::LogAhead { .. })
        ));
        assert_eq!(
            doubt(
                at("2036-01-01T00:00:00Z"),
                LogTimes::default(),
                None,
                &reading(0, last)
            ),
            None
        );
    }

    #[test]
    fn a_step_since_the_last_look_is_found_and_sleep_is_none() {
        let last = at("2026-11-28T01:00:00Z");
        let before = SeenClock::after(None, reading(1_000, last));
        let now = at("2026-12-01T01:00:00Z");
        let days = 3 * 86_400;
        let slept = reading(1_000 + days, now);
        assert_eq!(doubt(now, latest(last), Some(&before), &slept), None);
        let stepped = reading(1_060, now);
        assert_eq!(
            doubt(now, latest(last), Some(&before), &stepped),
            Some(ClockDoubt::Stepped { secs: days - 60 })
        );
    }

    #[test]
    fn a_run_by_a_clock_that_is_ahead_does_not_bear_it_out() {
        let (before, after) = (at("2026-11-27T01:00:00Z"), at("2036-11-28T01:00:00Z"));
        let log = LogTimes {
            latest: Some(after),
            leap: Some((before, after)),
        };
        let told = |now, last: Option<&SeenClock>, boot: &str| {
            let now = at(now);
            let mut reading = reading(20 * 365 * 86_400, now);
            reading.boot = boot.to_owned();
            doubt(now, log, last, &reading)
        };
        let soon = "2036-11-28T02:00:00Z";
        assert!(matches!(
            told(soon, None, "one"),
            Some(ClockDoubt::Leap { .. })
        ));
        // The machine was started anew in between, so that its clock may have been set.
        let since = at(soon).as_second() - at("2026-11-26T01:00:00Z").as_second();
        let since = 20 * 365 * 86_400 - since.unsigned_abs();
        let noted = SeenClock::after(None, reading(since, at("2026-11-26T01:00:00Z")));
        assert!(matches!(
            told(soon, Some(&noted), "two"),
            Some(ClockDoubt::Leap { .. })
        ));
        // The kernel counted the ten years, or it is long ago.
        assert_eq!(told(soon, Some(&noted), "one"), None);
        let late = LogTimes {
            latest: Some(at("2037-01-10T01:00:00Z")),
            ..log
        };
        let now = at("2037-01-10T02:00:00Z");
        assert_eq!(doubt(now, late, None, &reading(0, now)), None);
    }

    #[test]
    fn a_host_that_was_off_for_long_is_pruned_where_prunes_of_others_saw_the_clock_go_on() {
        const DAY: u64 = 86_400;
        let off = at("2026-09-01T01:00:00Z");
        let on = at("2026-11-01T01:00:00Z");
        let log = LogTimes {
            latest: Some(on),
            leap: Some((off, on)),
        };
        let nightly = |first: Timestamp, boots: &dyn Fn(u64) -> &'static str| {
            let mut seen: Option<SeenClock> = None;
            for night in 0..70 {
                let mut clock = reading(
                    night * DAY,
                    first + SignedDuration::from_hours(24 * night.cast_signed()),
                );
                clock.boot = boots(night).to_owned();
                seen = Some(SeenClock::after(seen.as_ref(), clock));
            }
            let seen = seen.unwrap();
            let now = at("2026-11-01T02:00:00Z");
            let mut clock = reading(0, now);
            clock.boot.clone_from(&seen.reading.boot);
            clock.since_boot_secs =
                seen.reading.since_boot_secs + clock.unix_secs - seen.reading.unix_secs;
            doubt(now, log, Some(&seen), &clock)
        };
        let before = at("2026-08-23T01:00:00Z");
        assert_eq!(nightly(before, &|_| "one"), None);
        // Started anew while the host was off, the machine may have come up with another clock.
        let anew = nightly(before, &|night| if night < 30 { "one" } else { "two" });
        assert!(matches!(anew, Some(ClockDoubt::Leap { .. })));
    }
}
