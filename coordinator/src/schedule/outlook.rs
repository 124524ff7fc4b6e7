//! What is to be done with one host now: begin, wait and for what, or let an occasion go.

use jiff::{SignedDuration, Timestamp};

use crate::config::timing_settings::CatchUp;
use crate::schedule::timing::{Occasion, Timing};

/// How late the daemon may see an occasion without having missed it.
pub const LATE_MAX: SignedDuration = SignedDuration::from_secs(120);
/// When a run is tried again that found its host locked, or that the daemon's end cut short.
pub const PUT_OFF: SignedDuration = SignedDuration::from_secs(15);

/// What an attempt at an occasion came to, as far as it matters for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempted {
    /// It is under way.
    Running,
    /// The occasion is done with: a snapshot, or somebody's decision against one.
    Done,
    /// No snapshot, for a reason that may pass.
    Failed,
    /// It does not count as one.
    PutOff,
}

/// The last occasion of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastOccasion {
    /// By the calendar.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When the last attempt ended, or began if it goes on.
    pub tried: Timestamp,
    /// What that came to.
    pub result: Attempted,
}

/// What is known of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Occasions up to this are not looked at: the host, or its schedule, is newer.
    pub since: Timestamp,
    /// The last occasion that was attempted or let go, by the calendar, of those that are not in the future.
    pub last: Option<LastOccasion>,
    /// The last good snapshot.
    pub last_good: Option<Timestamp>,
    /// When a run began or ended last, for whatever reason.
    pub last_tried: Option<Timestamp>,
}

impl Record {
    /// Of a host that nothing is known of.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            last: None,
            last_good: None,
            last_tried: None,
        }
    }

    /// What stands in for how long a host has waited: its last good snapshot, or where runs fail the last try, so that a host
    /// that is down takes nobody's place.
    pub fn served(&self) -> Option<Timestamp> {
        self.last_good.max(self.last_tried)
    }

    fn handled(&self) -> Timestamp {
        self.last.map_or(self.since, |last| last.at.max(self.since))
    }
}

/// What a host waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// Its next occasion, by the calendar.
    Occasion(Timestamp),
    /// Its window to open.
    Window,
    /// The time to try again.
    Retry,
}

/// What is to be done with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing, ever: it has no schedule.
    Idle,
    /// Nothing yet.
    Waits {
        /// Until then.
        until: Timestamp,
        /// For this.
        what: WaitsFor,
    },
    /// A run.
    Due {
        /// For this occasion, by the calendar.
        occasion: Timestamp,
        /// Since when.
        since: Timestamp,
    },
    /// An occasion that is let go.
    Missed {
        /// Which, by the calendar.
        occasion: Timestamp,
    },
}

/// What is to be done with a host that is not being backed up now. `seen` is when the daemon first found the occasion due
/// that is due now.
pub fn outlook(
    host: &str,
    timing: &Timing,
    record: &Record,
    seen: Option<Timestamp>,
    now: Timestamp,
) -> Outlook {
    let handled = record.handled();
    if let Some(occasion) = timing.newest_due(host, handled, now) {
        let late = seen.unwrap_or(now).duration_since(occasion.begins);
        let missed = late > LATE_MAX || !timing.is_open(now);
        if timing.catch_up == CatchUp::No && missed {
            return Outlook::Missed {
                occasion: occasion.at,
            };
        }
        if timing.is_open(now) {
            return Outlook::Due {
                occasion: occasion.at,
                since: occasion.begins,
            };
        }
        return match timing.opens(now) {
            Some(until) => Outlook::Waits {
                until,
                what: WaitsFor::Window,
            },
            None => Outlook::Idle,
        };
    }
    let next = timing.next(host, handled);
    if let Some(retry) = retry(timing, record, next.map(|next| next.begins)) {
        return match retry.until <= now {
            true if timing.is_open(now) => Outlook::Due {
                occasion: retry.occasion,
                since: retry.until,
            },
            true => waits_for_next(next),
            false => Outlook::Waits {
                until: retry.until,
                what: WaitsFor::Retry,
            },
        };
    }
    waits_for_next(next)
}

fn waits_for_next(next: Option<Occasion>) -> Outlook {
    match next {
        Some(next) => Outlook::Waits {
            until: next.begins,
            what: WaitsFor::Occasion(next.at),
        },
        None => Outlook::Idle,
    }
}

struct Retry {
    occasion: Timestamp,
    until: Timestamp,
}

/// A further attempt at the last occasion, when it comes before the next one and within the window.
fn retry(timing: &Timing, record: &Record, next: Option<Timestamp>) -> Option<Retry> {
    timing.calendar.as_ref()?;
    let last = record.last.filter(|last| last.at >= record.since)?;
    let after = match last.result {
        Attempted::Running | Attempted::Done => return None,
        Attempted::Failed if last.attempts > timing.retries => return None,
        Attempted::Failed => timing.retry_after(last.attempts),
        Attempted::PutOff => PUT_OFF,
    };
    let until = last.tried.checked_add(after).ok()?;
    let before_next = next.is_none_or(|next| until < next);
    (before_next && timing.is_open(until)).then_some(Retry {
        occasion: last.at,
        until,
    })
}

#[cfg(test)]
mod tests;
