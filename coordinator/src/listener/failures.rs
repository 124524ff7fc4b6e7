//! How often each address has shown no good token lately. One that did too often is not listened to for a while.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::listener::address_range::masked;

/// So many failures in [`WINDOW`] are too many.
pub const FAILURES_MAX: u32 = 10;
/// Failures are forgotten this long after the first.
pub const WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// The most addresses that are remembered.
const ADDRESSES_MAX: usize = 4_096;
/// Whoever has one IPv6 address has a whole network of them.
const IPV6_BITS: u8 = 64;

/// The failures of all addresses.
#[derive(Debug, Default)]
pub struct Failures {
    by_address: HashMap<IpAddr, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Timestamp,
    failures: u32,
}

impl Failures {
    /// Whether an address failed too often; if so, in how many seconds it may try again.
    pub fn blocked(&self, address: IpAddr, now: Timestamp) -> Option<u64> {
        let count = self.by_address.get(&group(address))?;
        let age = now.duration_since(count.since);
        // A clock that was set back must not block for ever.
        let is_recent = age < WINDOW && age > -WINDOW;
        let left = (WINDOW - age).as_secs().max(1).unsigned_abs();
        (is_recent && count.failures >= FAILURES_MAX).then_some(left)
    }

    /// Notes a failure.
    pub fn note(&mut self, address: IpAddr, now: Timestamp) {
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address
                .retain(|_, count| now.duration_since(count.since) < WINDOW);
        }
        let group = group(address);
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&group) {
            // As many addresses within a minute: the oldest makes room.
            let oldest = self.by_address.iter().min_by_key(|(_, count)| count.since);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.by_address.remove(&oldest);
            }
        }
        let fresh = Count {
            since: now,
            failures: 0,
        };
        let count = self.by_address.entry(group).or_insert(fresh);
        if now.duration_since(count.since) >= WINDOW || now < count.since {
            *count = fresh;
        }
        count.failures = count.failures.saturating_add(1);
    }
}

fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        address @ IpAddr::V6(_) => masked(address, IPV6_BITS),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use jiff::Timestamp;

    use super::{ADDRESSES_MAX, FAILURES_MAX, Failures, WINDOW};

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let mut failures = Failures::default();
        let now = Timestamp::UNIX_EPOCH;
        let address: IpAddr = "2001:db8::1".parse().expect("an address");
        let beside: IpAddr = "2001:db8::2".parse().expect("an address");
        let other: IpAddr = "192.0.2.1".parse().expect("an address");
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.blocked(address, now), None);
            failures.note(address, now);
        }
        assert_eq!(failures.blocked(address, now), Some(60));
        assert!(failures.blocked(beside, now).is_some());
        assert_eq!(failures.blocked(other, now), None);
        assert_eq!(failures.blocked(address, now + WINDOW), None);
        failures.note(address, now + WINDOW);
        assert_eq!(failures.blocked(address, now + WINDOW), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_a_bounded_room() {
        let mut failures = Failures::default();
        for number in 0..20_000_u32 {
            failures.note(IpAddr::V4(number.into()), Timestamp::UNIX_EPOCH);
        }
        assert!(failures.by_address.len() <= ADDRESSES_MAX);
    }
}
