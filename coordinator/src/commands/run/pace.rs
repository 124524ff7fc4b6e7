//! How fast a run is and how long it will take, from counts and times alone.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backup::progress::Counts;

/// The time over which the speed is taken.
const WINDOW: Duration = Duration::from_secs(10);
/// Samples kept; at ten a second they fill the window.
const SAMPLES_MAX: usize = 128;
/// Before that much is done, a guess would be worth nothing.
const GUESS_FROM: f64 = 0.02;

/// The speed of late.
#[derive(Debug, Default)]
pub struct Pace {
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Notes how many bytes were read by `at`, a time since the run's beginning.
    pub fn note(&mut self, at: Duration, bytes: u64) {
        while self.samples.len() >= SAMPLES_MAX
            || self
                .samples
                .get(1)
                .is_some_and(|(second, _)| *second + WINDOW <= at)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((at, bytes));
    }

    /// Bytes a second over the last while.
    pub fn bytes_per_sec(&self) -> u64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let millis = (last.0 - first.0).as_millis();
        let bytes = u128::from(last.1.saturating_sub(first.1)) * 1000;
        u64::try_from(bytes.checked_div(millis).unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

/// How much is done, from 0 to 1, if the parent snapshot says how much there is.
///
/// Every entry costs something and so does every byte, so both count.
pub fn fraction(counts: &Counts) -> Option<f64> {
    let (entries, bytes) = counts.expected;
    if entries == 0 {
        return None;
    }
    let of_entries = ratio(counts.entries, entries);
    let done = match bytes {
        0 => of_entries,
        bytes => of_entries.midpoint(ratio(counts.bytes, bytes)),
    };
    // A host that has grown is not done before it says so.
    Some(done.min(0.99))
}

/// The time that is left, when `done` of the work took `spent`.
pub fn time_left(done: f64, spent: Duration) -> Option<Duration> {
    if done < GUESS_FROM {
        return None;
    }
    Duration::try_from_secs_f64(spent.as_secs_f64() * (1.0 - done) / done).ok()
}

fn ratio(part: u64, whole: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of progress needs no last digit"
    )]
    let ratio = part as f64 / whole as f64;
    ratio.min(1.0)
}
