//! How much later than its occasion a run begins: the same for the same host and occasion whenever it is asked, so that a
//! daemon that is started again does not choose anew.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The delay of a host at an occasion: less than `room`, in whole milliseconds.
pub fn delay(host: &str, occasion: Timestamp, room: Duration) -> SignedDuration {
    let room = u64::try_from(room.as_millis()).unwrap_or(u64::MAX);
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"capstan jitter 1\0");
    hasher.update(&occasion.as_nanosecond().to_le_bytes());
    hasher.update(host.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    let millis = u64::from_le_bytes(first).checked_rem(room).unwrap_or(0);
    SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
