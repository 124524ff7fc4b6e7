//! How much more may have changed on a host that was not backed up for long. More does when more time passes, so what is usual is
//! grown with it, for the signs of an amount: files gone, files changed, data that is new.
//!
//! Bounded, because a machine that somebody is about to encrypt can be kept from its backups first: time counts in days at least
//! and up to [`PERIODS_MAX`], and raises no threshold above [`RAISED_MAX`]. So whoever waits still has to leave a tenth as it
//! was. Signs of a kind (no compression, one new ending, next to nothing left, a stream that collapses) know no time at all:
//! a host that was only away gives none of them.

use jiff::{SignedDuration, Timestamp};

/// Backups more often than this count as one a day: a night without is no absence.
const PERIOD_MIN: SignedDuration = SignedDuration::from_hours(24);
/// More periods than this count as this many.
pub const PERIODS_MAX: u64 = 30;
/// No threshold is raised above so many percent for the time that has passed.
pub const RAISED_MAX: u64 = 90;

/// How many of a host's usual periods between two good runs have passed since the parent, at least one; `good` are the times of
/// its good runs, the newest first.
pub fn periods_passed(parent: Timestamp, now: Timestamp, good: &[Timestamp]) -> u64 {
    let between = good.windows(2).filter_map(|pair| match pair {
        [later, earlier] => Some(later.duration_since(*earlier)),
        _ => None,
    });
    let mut between: Vec<SignedDuration> = between.collect();
    between.sort_unstable();
    let usual = between.get(between.len() / 2).copied();
    let period = usual.unwrap_or(PERIOD_MIN).max(PERIOD_MIN);
    let passed = now.duration_since(parent).as_secs() / period.as_secs().max(1);
    u64::try_from(passed).unwrap_or(0).clamp(1, PERIODS_MAX)
}

/// The share, in percent, that is usual after so many periods where `usual` is after one: each takes as much of what the ones
/// before it have left.
pub fn usual_after(usual: u64, periods: u64) -> u64 {
    const WHOLE: u64 = 1_000_000;
    let stays = 100u64.saturating_sub(usual);
    let mut left = WHOLE;
    for _ in 0..periods.min(PERIODS_MAX) {
        left = left * stays / 100;
    }
    (WHOLE - left) * 100 / WHOLE
}

/// From which share on, in percent, something is suspicious: from so many times the usual one on, and never below `limit`.
pub fn threshold(limit: u64, usual: u64, times: u64, periods: u64) -> u64 {
    let after_one = usual.saturating_mul(times);
    limit.max(after_one).max(raised(usual, times, periods))
}

/// The same, where what is usual counts for nothing unless more than one period has passed.
pub fn threshold_of_absence(limit: u64, usual: u64, times: u64, periods: u64) -> u64 {
    match periods {
        0 | 1 => limit,
        _ => limit.max(raised(usual, times, periods)),
    }
}

fn raised(usual: u64, times: u64, periods: u64) -> u64 {
    let after_all = usual_after(usual, periods).saturating_mul(times);
    after_all.min(RAISED_MAX)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{
        PERIODS_MAX, RAISED_MAX, periods_passed, threshold, threshold_of_absence, usual_after,
    };

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    #[test]
    fn periods_are_a_hosts_own_and_a_day_at_least() {
        let nightly: Vec<Timestamp> = (0..10).rev().map(|night| at(night * 24)).collect();
        let passed = |hours, good: &[Timestamp]| periods_passed(at(0), at(hours), good);
        assert_eq!(passed(24, &nightly), 1);
        assert_eq!(passed(24 * 21, &nightly), 21);
        assert_eq!(passed(24 * 4_000, &nightly), PERIODS_MAX);
        // One night in ten was missed: that is not what is usual.
        let mut missed = nightly.clone();
        missed.remove(5);
        assert_eq!(passed(24 * 3, &missed), 3);
        let weekly: Vec<Timestamp> = (0..10).rev().map(|week| at(week * 168)).collect();
        assert_eq!(passed(24 * 21, &weekly), 3);
        let hourly: Vec<Timestamp> = (0..10).rev().map(at).collect();
        assert_eq!(passed(12, &hourly), 1);
        assert_eq!(passed(72, &hourly), 3);
        // A clock that went back, and a host without a history.
        assert_eq!(passed(-50, &nightly), 1);
        assert_eq!(passed(48, &[]), 2);
    }

    #[test]
    fn what_is_usual_grows_towards_all_and_not_past_it() {
        assert_eq!(usual_after(10, 1), 10);
        assert_eq!(usual_after(10, 21), 89);
        assert_eq!(usual_after(2, 3), 5);
        assert_eq!((usual_after(0, 30), usual_after(100, 2)), (0, 100));
        for usual in 0..=100 {
            for periods in 1..PERIODS_MAX {
                let next = usual_after(usual, periods + 1);
                assert!(usual_after(usual, periods) <= next && next <= 100);
            }
        }
    }

    #[test]
    fn no_time_raises_a_threshold_above_its_bound_and_one_period_raises_none() {
        for usual in 0..=100 {
            for times in [2, 4] {
                let once = threshold(50, usual, times, 1);
                assert_eq!(once, 50.max(usual * times));
                assert_eq!(threshold_of_absence(50, usual, times, 1), 50);
                for periods in 2..=60 {
                    let raised = threshold(50, usual, times, periods);
                    assert!(raised >= once && raised <= once.max(RAISED_MAX));
                    let raised = threshold_of_absence(50, usual, times, periods);
                    assert!((50..=RAISED_MAX).contains(&raised));
                }
            }
        }
        // What is configured above the bound stays.
        assert_eq!(threshold_of_absence(95, 50, 2, 30), 95);
    }
}
