//! Whether the clock can be relied on to drop anything. Two sources must agree: the machine's clock, and what the log and the
//! kernel's count since boot say. Backups go on with a doubted clock; a prune does not.

use std::time::Duration;

use append_server::age_clock::{Reading, stepped_secs};
use jiff::Timestamp;
use serde::Serialize;

use crate::clock::utc;

/// How far the log may be ahead: two machines' clocks, and a leap second.
const AHEAD_MAX: Duration = Duration::from_secs(300);
/// How old the log's last record may be: a host without a backup for longer is not pruned by itself.
const SILENCE_MAX: Duration = Duration::from_secs(35 * 24 * 3_600);
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
    /// It was set.
    #[error("the clock was set by {secs} seconds since a prune last looked at it")]
    Stepped {
        /// By how much.
        secs: u64,
    },
}

/// Looks at the clock from all sides.
pub fn doubt(
    now: Timestamp,
    latest_record: Option<Timestamp>,
    last_reading: Option<&Reading>,
    reading: &Reading,
) -> Option<ClockDoubt> {
    if let Some(recorded) = latest_record {
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
    let stepped = last_reading.and_then(|before| stepped_secs(before, reading));
    stepped
        .filter(|secs| *secs > STEP_MAX_SECS)
        .map(|secs| ClockDoubt::Stepped { secs })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use append_server::age_clock::Reading;
    use jiff::Timestamp;

    use super::{ClockDoubt, doubt};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
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
        let told = |now| doubt(at(now), Some(last), None, &reading(0, at(now)));
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
            doubt(at("2036-01-01T00:00:00Z"), None, None, &reading(0, last)),
            None
        );
    }

    #[test]
    fn a_step_since_the_last_look_is_found_and_sleep_is_none() {
        let last = at("2026-11-28T01:00:00Z");
        let before = reading(1_000, last);
        let now = at("2026-12-01T01:00:00Z");
        let days = 3 * 86_400;
        let slept = reading(1_000 + days, now);
        assert_eq!(doubt(now, Some(last), Some(&before), &slept), None);
        let stepped = reading(1_060, now);
        assert_eq!(
            doubt(now, Some(last), Some(&before), &stepped),
            Some(ClockDoubt::Stepped { secs: days - 60 })
        );
    }
}
