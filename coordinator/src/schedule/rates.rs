//! How fast a host may send at which hours of the day. Pure: an instant comes in, the rate and how long it holds go out.

use std::sync::Arc;

use append_server::destination::bandwidth::Bandwidth;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::schedule::window::Window;

/// A rate, and when it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateHours {
    /// Within which hours; at all of them without.
    pub hours: Option<Window>,
    /// The rate.
    pub rate: Bandwidth,
}

/// Rates by hours of the day: the first that applies counts. Where none does, there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates(Arc<[RateHours]>);

/// A rate for the time being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateNow {
    /// The rate; nothing without a limit.
    pub rate: Option<Bandwidth>,
    /// Up to when it surely holds; nothing for always. It may hold on.
    pub until: Option<Timestamp>,
}

impl Rates {
    /// These, in the order in which they count.
    pub fn new(rates: Vec<RateHours>) -> Self {
        Self(rates.into())
    }

    /// One for all hours.
    pub fn always(rate: Bandwidth) -> Self {
        Self::new(vec![RateHours { hours: None, rate }])
    }

    /// What there is, in order.
    pub fn entries(&self) -> &[RateHours] {
        &self.0
    }

    /// Which rate applies, and until when.
    pub fn at(&self, at: Timestamp, zone: &TimeZone) -> RateNow {
        let applies = |entry: &&RateHours| entry.hours.is_none_or(|hours| hours.is_open(at, zone));
        let rate = self.0.iter().find(applies).map(|entry| entry.rate);
        let windows = self.0.iter().filter_map(|entry| entry.hours);
        let edges = windows.filter_map(|hours| hours.next_edge(at, zone));
        RateNow {
            rate,
            until: edges.min(),
        }
    }
}

#[cfg(test)]
mod tests;
