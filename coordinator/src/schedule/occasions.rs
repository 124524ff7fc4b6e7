//! From a calendar to instants, in a zone whose clocks are put forward and back.
//!
//! A time of day that a change of the clock skips comes once, right after the gap; one that is repeated comes once, the first
//! time. A calendar of every hour is a distance rather than a time of day: it goes on through both as if nothing had happened.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::schedule::calendar::Calendar;

/// Changes of the clock that are passed to the next occasion: two a year, over the calendar's 41 years.
const CHANGES_MAX: usize = 200;

/// Which of two instants with the same time of day is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// The first.
    First,
    /// The second.
    Second,
}

/// The instant of a time of day; one that was skipped is the end of the gap.
pub fn instant(local: DateTime, zone: &TimeZone, repeated: Repeated) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, after } => match repeated {
            Repeated::First => before.to_timestamp(local).ok(),
            Repeated::Second => after.to_timestamp(local).ok(),
        },
        AmbiguousOffset::Gap { before, .. } => {
            // By the clock before the change, it would be after it.
            let after_gap = before.to_timestamp(local).ok()?;
            let just_after = after_gap.checked_add(SignedDuration::from_nanos(1)).ok()?;
            let change = zone.preceding(just_after).next()?;
            Some(change.timestamp())
        }
    }
}

impl Calendar {
    /// The first occasion after an instant.
    pub fn occasion_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self.is_every_hour() {
            true => self.by_distance(after, zone),
            false => self.by_time_of_day(after, zone),
        }
    }

    fn by_time_of_day(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut local = zone.to_datetime(after);
        loop {
            local = self.next_after(local)?;
            let at = instant(local, zone, Repeated::First)?;
            // In a repeated hour, what has come already does not come again.
            if at > after {
                return Some(at);
            }
        }
    }

    fn by_distance(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let offset = zone.to_offset(after);
        let first = self.next_after(offset.to_datetime(after))?;
        let mut at = offset.to_timestamp(first).ok()?;
        for change in zone.following(after).take(CHANGES_MAX) {
            let change = change.timestamp();
            if change > at {
                break;
            }
            let offset = zone.to_offset(change);
            let local = self.next_from(offset.to_datetime(change))?;
            at = offset.to_timestamp(local).ok()?;
        }
        Some(at)
    }

    /// The last occasion after one instant and not after another.
    pub fn last_occasion(
        &self,
        after: Timestamp,
        until: Timestamp,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        let next = |from: Timestamp| {
            self.occasion_after(from, zone)
                .filter(|found| *found <= until)
        };
        // Back in growing steps until there is one, which is near most of the time.
        let mut back = SignedDuration::from_secs(60);
        let mut last = loop {
            let from = until.checked_sub(back).unwrap_or(Timestamp::MIN).max(after);
            match next(from) {
                Some(found) => break found,
                None if from == after => return None,
                None => back = back.saturating_mul(8),
            }
        };
        // From here to the end by halves: whatever is found, the rest is after it.
        let mut none_after = until;
        while none_after.duration_since(last) > SignedDuration::from_secs(1) {
            let half = none_after.duration_since(last) / 2;
            let middle = last.checked_add(half).ok()?;
            match next(middle) {
                Some(found) => last = found,
                None => none_after = middle,
            }
        }
        Some(next(last).unwrap_or(last))
    }
}

#[cfg(test)]
mod tests;
