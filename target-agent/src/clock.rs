//! The target's clock: for change detection and as information, never as a snapshot's time.

use formats::listing::entry::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Now, by the target's clock.
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: u32::try_from(time.tv_nsec).unwrap_or(0),
    }
}

/// A time as nanoseconds since 1970, as far as they reach.
pub fn nanos(time: Timestamp) -> i64 {
    time.seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(time.nanoseconds.into())
}
