//! A clock that nobody makes run faster by setting the time: it counts the seconds that certainly went by, as the kernel
//! counts them from boot and the wall clock agrees. Graces are measured with it. It may be slow, which only keeps things
//! longer.

use std::fs;

use rustix::time::ClockId;

/// Of the time between the last reading before a boot and the first one after it, at most this much is believed.
pub const ACROSS_BOOTS_SECS_MAX: u64 = 7 * 24 * 3_600;

/// What the machine's clocks said at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which boot of which machine it was.
    pub boot: String,
    /// Seconds since then, those of sleep included.
    pub since_boot_secs: u64,
    /// Seconds since 1970, as the wall clock says.
    pub unix_secs: u64,
}

impl Reading {
    /// The machine's clocks now, given what its wall clock says.
    pub fn now(unix_secs: u64) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let since = rustix::time::clock_gettime(ClockId::Boottime);
        Self {
            boot: boot.trim().to_owned(),
            since_boot_secs: u64::try_from(since.tv_sec).unwrap_or(0),
            unix_secs,
        }
    }

    /// Whether both were taken in one boot.
    pub fn same_boot(&self, other: &Self) -> bool {
        !self.boot.is_empty() && self.boot == other.boot
    }
}

/// The seconds that certainly went by between two readings.
pub fn certain_secs(before: &Reading, now: &Reading) -> u64 {
    let wall = now.unix_secs.saturating_sub(before.unix_secs);
    if before.same_boot(now) {
        wall.min(now.since_boot_secs.saturating_sub(before.since_boot_secs))
    } else {
        wall.min(ACROSS_BOOTS_SECS_MAX)
    }
}

/// By how many seconds the wall clock was set between two readings of one boot; nothing where that cannot be told.
pub fn stepped_secs(before: &Reading, now: &Reading) -> Option<u64> {
    before.same_boot(now).then(|| {
        let (before, now) = (
            i128::from(before.unix_secs) - i128::from(before.since_boot_secs),
            i128::from(now.unix_secs) - i128::from(now.since_boot_secs),
        );
        u64::try_from((now - before).unsigned_abs()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::{ACROSS_BOOTS_SECS_MAX, Reading, certain_secs, stepped_secs};

    const YEAR: u64 = 365 * 24 * 3_600;

    fn reading(boot: &str, since_boot_secs: u64, unix_secs: u64) -> Reading {
        Reading {
            boot: boot.to_owned(),
            since_boot_secs,
            unix_secs,
        }
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_older() {
        let before = reading("a", 1_000, YEAR);
        assert_eq!(certain_secs(&before, &reading("a", 1_060, YEAR + 60)), 60);
        // Ten years ahead, ten years back, three days asleep.
        assert_eq!(certain_secs(&before, &reading("a", 1_060, 11 * YEAR)), 60);
        assert_eq!(certain_secs(&before, &reading("a", 1_060, 0)), 0);
        let asleep = 3 * 86_400;
        let later = reading("a", 1_000 + asleep, YEAR + asleep);
        assert_eq!(certain_secs(&before, &later), asleep);
        // Across a boot nobody knows: little is believed, and nothing of a clock that went back.
        let other = reading("b", 10, 11 * YEAR);
        assert_eq!(certain_secs(&before, &other), ACROSS_BOOTS_SECS_MAX);
        assert_eq!(certain_secs(&before, &reading("b", 10, YEAR + 90)), 90);
        assert_eq!(certain_secs(&before, &reading("b", 10, 0)), 0);
        // A machine that does not tell its boots.
        assert_eq!(certain_secs(&reading("", 0, 0), &reading("", 9, 5)), 5);
    }

    #[test]
    fn a_step_is_told_where_it_can_be() {
        let before = reading("a", 1_000, YEAR);
        assert_eq!(
            stepped_secs(&before, &reading("a", 1_060, YEAR + 61)),
            Some(1)
        );
        let ahead = reading("a", 1_060, 11 * YEAR);
        assert_eq!(stepped_secs(&before, &ahead), Some(10 * YEAR - 60));
        assert_eq!(stepped_secs(&before, &reading("b", 1, 11 * YEAR)), None);
    }
}
