//! When one host is due: its calendar, zone, jitter and window together.

use std::time::Duration;

use append_server::quantity::Span;
use jiff::{SignedDuration, Timestamp};

use crate::config::name::ConcurrencyKey;
use crate::config::prune_settings::Zone;
use crate::config::timing_settings::CatchUp;
use crate::schedule::calendar::Calendar;
use crate::schedule::error::ScheduleError;
use crate::schedule::jitter::delay;
use crate::schedule::window::{Window, just_before};

/// Retries without `retries`.
pub const RETRIES_DEFAULT: u32 = 2;
/// The most retries.
pub const RETRIES_MAX: u64 = 100;
/// The delay before the first retry without `retry_delay`; each further one is twice as long.
pub const RETRY_DELAY_DEFAULT: Span = Span::from_secs(15 * 60);
/// The longest delay before a retry, unless `retry_delay` itself is longer.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(6 * 3600);

/// Occasions outside the window that are passed before a calendar counts as one that never comes within it.
const SHUT_OUT_MAX: usize = 4_000;
/// Occasions whose jitter is not over that are passed: with more, jitter is longer than a hundred of the calendar's steps.
const JITTERED_MAX: usize = 100;

/// When one host is to be backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Which occasions there are; none for a host that is only backed up by hand.
    pub calendar: Option<Calendar>,
    /// Whose clocks the calendar and the window mean.
    pub zone: Zone,
    /// The most by which a run begins later than its occasion.
    pub jitter: Span,
    /// Within which hours runs begin and end.
    pub window: Option<Window>,
    /// What becomes of an occasion that was missed.
    pub catch_up: CatchUp,
    /// How often a failed run is tried again.
    pub retries: u32,
    /// How long after a failure, the first time.
    pub retry_delay: Span,
    /// Hosts with the same one are backed up one after another.
    pub concurrency_key: Option<ConcurrencyKey>,
    /// How old the last good snapshot may be.
    pub sla: Option<Span>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            calendar: None,
            zone: Zone::default(),
            jitter: Span::from_secs(0),
            window: None,
            catch_up: CatchUp::default(),
            retries: RETRIES_DEFAULT,
            retry_delay: RETRY_DELAY_DEFAULT,
            concurrency_key: None,
            sla: None,
        }
    }
}

/// One time at which a host is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occasion {
    /// By the calendar; it is known by this.
    pub at: Timestamp,
    /// With jitter: not before this.
    pub begins: Timestamp,
}

impl Timing {
    /// Refuses a calendar that never comes within the window.
    pub fn check(&self) -> Result<(), ScheduleError> {
        match (&self.calendar, &self.window) {
            (Some(calendar), Some(window)) if self.next("", Timestamp::UNIX_EPOCH).is_none() => {
                Err(ScheduleError::NeverInWindow {
                    schedule: calendar.to_string(),
                    window: window.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether a run may begin.
    pub fn is_open(&self, at: Timestamp) -> bool {
        let zone = self.zone.zone();
        self.window.is_none_or(|window| window.is_open(at, zone))
    }

    /// When the window closes next; never without one.
    pub fn closes(&self, at: Timestamp) -> Option<Timestamp> {
        self.window?.closes(at, self.zone.zone())
    }

    /// When the window opens next; never without one.
    pub fn opens(&self, at: Timestamp) -> Option<Timestamp> {
        self.window?.opens(at, self.zone.zone())
    }

    /// The first occasion after an instant.
    pub fn next(&self, host: &str, after: Timestamp) -> Option<Occasion> {
        let calendar = self.calendar.as_ref()?;
        let mut from = after;
        for _ in 0..SHUT_OUT_MAX {
            let at = calendar.occasion_after(from, self.zone.zone())?;
            if self.is_open(at) {
                return Some(self.jittered(host, at));
            }
            // Straight to where the window opens: an occasion may be at that very instant.
            from = just_before(self.opens(at)?).max(at);
        }
        None
    }

    /// The newest occasion after `handled` whose time to begin has come.
    pub fn newest_due(&self, host: &str, handled: Timestamp, now: Timestamp) -> Option<Occasion> {
        let calendar = self.calendar.as_ref()?;
        let (zone, mut until) = (self.zone.zone(), now);
        let mut waiting = 0;
        for _ in 0..SHUT_OUT_MAX {
            if until <= handled {
                return None;
            }
            let at = calendar.last_occasion(handled, until, zone)?;
            if !self.is_open(at) {
                until = just_before(self.window?.closed(at, zone)?);
                continue;
            }
            let occasion = self.jittered(host, at);
            if occasion.begins <= now {
                return Some(occasion);
            }
            waiting += 1;
            if waiting > JITTERED_MAX {
                return None;
            }
            until = just_before(at);
        }
        None
    }

    /// How long after its end a run that failed is tried again, after so many attempts.
    pub fn retry_after(&self, attempts: u32) -> SignedDuration {
        let first = self.retry_delay.duration();
        let doubled = 1_u32
            .checked_shl(attempts.saturating_sub(1))
            .and_then(|factor| first.checked_mul(factor))
            .unwrap_or(RETRY_DELAY_MAX);
        let delay = doubled.min(RETRY_DELAY_MAX.max(first));
        SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX)
    }

    /// Jitter never carries a run out of the window that its occasion is in.
    fn jittered(&self, host: &str, at: Timestamp) -> Occasion {
        let closes = self.closes(at);
        let left = closes.and_then(|closes| closes.duration_since(at).try_into().ok());
        let jitter = self.jitter.duration();
        let room = left.map_or(jitter, |left: Duration| jitter.min(left));
        let begins = at.checked_add(delay(host, at, room)).unwrap_or(at);
        Occasion {
            at,
            // Where the hours of a change of the clock lie in between.
            begins: if self.is_open(begins) { begins } else { at },
        }
    }
}

#[cfg(test)]
mod tests;
