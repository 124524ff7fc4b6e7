//! Keeps the agent's CPU time within its limit: threads stand still before their next piece of work until the process has
//! used no more than the limit allows for the time that has passed. Needs no right on the host. Never counts what commands
//! use that the agent starts.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// CPU time that may be used at once after a time with little to do. What was not used before is not kept.
const BURST: Duration = Duration::from_millis(50);
/// How often the CPU time is looked at while it is within the limit: to ask the kernel for it takes some itself.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What there is again after work stood still. To wake up takes CPU time too: threads that wake up as soon as anything may be
/// used would use all of a small limit for that.
const RESUMED_WITH: Duration = Duration::from_millis(25);
/// How long is waited for that at most.
const RESUMED_WITHIN: Duration = Duration::from_secs(1);
/// How long work stands still at most that a server waits for, which gives up on packs that stop coming. The limit holds all the
/// same, since the work before it stands still for longer.
const BRIEFLY_MAX: Duration = Duration::from_secs(5);

/// The limit; cheap to clone, all clones are one.
#[derive(Debug, Clone, Default)]
pub struct CpuLimit(Option<Arc<Meter>>);

#[derive(Debug)]
struct Meter {
    began: Instant,
    credit: Mutex<Credit>,
}

impl CpuLimit {
    /// So many percent of one CPU, from now on; 0 is no limit.
    pub fn new(percent: u16) -> Self {
        let meter = (percent > 0).then(|| Meter {
            began: Instant::now(),
            credit: Mutex::new(Credit::new(percent, cpu_time())),
        });
        Self(meter.map(Arc::new))
    }

    /// Waits until the process is within its limit.
    pub fn pace(&self) {
        self.wait(Duration::MAX);
    }

    /// The same, but not for long: for work on packs that a server waits for.
    pub fn pace_briefly(&self) {
        self.wait(BRIEFLY_MAX);
    }

    fn wait(&self, mut left: Duration) {
        let Some(meter) = &self.0 else {
            return;
        };
        loop {
            // Others work meanwhile, so it is looked at again after each wait.
            let wait = meter.owed().min(left);
            if wait.is_zero() {
                return;
            }
            sleep(wait);
            left = left.saturating_sub(wait);
        }
    }
}

impl Meter {
    fn owed(&self) -> Duration {
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.began.elapsed();
        if credit.is_fresh(now) {
            return Duration::ZERO;
        }
        credit.owed(now, cpu_time())
    }
}

/// The CPU time that this process has used, all its threads together.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time that may be used: grows with the time that passes, and shrinks with use.
#[derive(Debug)]
struct Credit {
    percent: i64,
    /// In nanoseconds; below zero, more was used than allowed.
    nanos: i64,
    /// When it was looked at last, and what was used by then.
    at: Duration,
    used: Duration,
}

impl Credit {
    fn new(percent: u16, used: Duration) -> Self {
        Self {
            percent: percent.into(),
            nanos: nanos(BURST),
            at: Duration::ZERO,
            used,
        }
    }

    /// Whether it was looked at a moment ago, and there was some.
    fn is_fresh(&self, now: Duration) -> bool {
        self.nanos >= 0 && now.saturating_sub(self.at) < LOOK_EVERY
    }

    /// How long nothing may be used, so that what was used too early is made up for, and there is something to go on with.
    fn owed(&mut self, now: Duration, used: Duration) -> Duration {
        let passed = nanos(now.saturating_sub(self.at));
        let grown = passed.saturating_mul(self.percent) / 100;
        let shrunk = nanos(used.saturating_sub(self.used));
        let sum = self.nanos.saturating_add(grown).saturating_sub(shrunk);
        self.nanos = sum.min(nanos(BURST));
        self.at = now;
        self.used = used;
        if self.nanos >= 0 {
            return Duration::ZERO;
        }
        let made_up_for = self.time_to_grow(self.nanos.unsigned_abs());
        made_up_for
            + self
                .time_to_grow(nanos(RESUMED_WITH).unsigned_abs())
                .min(RESUMED_WITHIN)
    }

    fn time_to_grow(&self, nanos: u64) -> Duration {
        let percent = self.percent.unsigned_abs();
        Duration::from_nanos(nanos.saturating_mul(100).div_ceil(percent))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_oneof, proptest};

    use super::{BURST, CpuLimit, Credit, LOOK_EVERY, RESUMED_WITH, cpu_time, nanos};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    const CPUS_MAX: u32 = 8;

    /// What a process does next.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        /// Works on so many CPUs at once, for so many microseconds.
        Work { cpus: u32, micros: u64 },
        /// Waits for something else.
        Idle { micros: u64 },
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            8 => (1..=CPUS_MAX, 1..=20_000u64).prop_map(|(cpus, micros)| Act::Work { cpus, micros }),
            1 => (1..=3_000_000u64).prop_map(|micros| Act::Idle { micros }),
        ];
        proptest::collection::vec(act, 1..200)
    }

    /// The times after each act, and the CPU time used by then.
    fn live(percent: u16, acts: &[Act]) -> Vec<(Duration, Duration)> {
        let (mut now, mut used) = (Duration::ZERO, MS(700));
        let mut credit = Credit::new(percent, used);
        let mut points = vec![(now, used)];
        for act in acts {
            match *act {
                Act::Idle { micros } => now += Duration::from_micros(micros),
                Act::Work { cpus, micros } => {
                    while !credit.is_fresh(now) {
                        let wait = credit.owed(now, used);
                        if wait.is_zero() {
                            break;
                        }
                        now += wait;
                    }
                    points.push((now, used));
                    now += Duration::from_micros(micros);
                    used += Duration::from_micros(micros) * cpus;
                }
            }
            points.push((now, used));
        }
        points
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_window_has_more_than_the_limit_a_burst_and_a_piece_of_work(
            percent in 1..=1_600u16,
            acts in acts(),
        ) {
            let pieces = acts.iter().map(|act| match *act {
                Act::Work { cpus, micros } => Duration::from_micros(micros) * cpus,
                Act::Idle { .. } => Duration::ZERO,
            });
            let piece = pieces.max().unwrap_or_default() + LOOK_EVERY * CPUS_MAX;
            let points = live(percent, &acts);
            for (index, (began, before)) in points.iter().enumerate() {
                for (ended, after) in &points[index..] {
                    let passed = *ended - *began;
                    let allowed = passed * percent.into() / 100;
                    let used = *after - *before;
                    prop_assert!(
                        used <= allowed + BURST + piece,
                        "{used:?} in {passed:?} at {percent} %"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_allowed_can_be_used() {
        for percent in [1, 20, 100, 150] {
            let work = Act::Work {
                cpus: 2,
                micros: 4_000,
            };
            let points = live(percent, &[work; 500]);
            let (took, used) = points[points.len() - 1];
            let allowed = took * percent.into() / 100;
            let used = used - points[0].1;
            assert!(
                used + RESUMED_WITH >= allowed,
                "{used:?} in {took:?} at {percent} %"
            );
        }
    }

    #[test]
    fn threads_that_only_wake_up_leave_most_of_a_small_limit_to_work() {
        let (waking, work) = (Duration::from_micros(50), MS(2));
        let mut credit = Credit::new(1, Duration::ZERO);
        let (mut now, mut used, mut wakings) = (Duration::ZERO, Duration::ZERO, 0);
        let mut wake_at = [Duration::ZERO; 40];
        while now < MS(600_000) {
            let next = wake_at.iter_mut().min().unwrap();
            now = now.max(*next);
            wakings += 1;
            used += waking;
            let wait = credit.owed(now, used);
            if wait.is_zero() {
                now += work;
                used += work;
            }
            *next = now + wait;
        }
        let lost = waking * wakings;
        assert!(lost < used / 4, "{lost:?} of {used:?}");
    }

    #[test]
    fn an_hour_of_nothing_allows_no_more_than_a_burst_and_owes_nothing() {
        let mut credit = Credit::new(20, Duration::ZERO);
        assert_eq!(credit.owed(MS(3_600_000), MS(1)), Duration::ZERO);
        assert_eq!(credit.nanos, nanos(BURST));
        // 70 ms at once: 20 are too much; five times as long makes up for them, and for what it goes on with.
        assert_eq!(credit.owed(MS(3_600_000), MS(71)), MS(100 + 125));
        assert_eq!(credit.owed(MS(3_600_100), MS(71)), Duration::ZERO);
    }

    #[test]
    fn without_a_limit_nothing_is_measured_and_work_shows_in_what_is() {
        assert!(CpuLimit::new(0).0.is_none());
        CpuLimit::new(0).pace();
        let (before, mut sum) = (cpu_time(), 0u64);
        while cpu_time() < before + MS(2) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }
}
