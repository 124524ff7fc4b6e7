//! Keeps a throttle at the rate of the hour. Looks at the clock when something is sent, so that nothing runs beside.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use append_server::destination::throttle::{Throttle, Transfer};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::schedule::rates::Rates;

/// What a host may send, as its hours go by.
#[derive(Debug)]
pub struct Pace {
    rates: Rates,
    zone: TimeZone,
    clock: Arc<dyn Clock>,
    throttle: Arc<Throttle>,
    /// Within which times the throttle's rate is the right one.
    holds: Mutex<Range<Timestamp>>,
}

impl Pace {
    /// Rates by the hours of a zone; nothing for no limit at any hour.
    pub fn new(rates: Option<Rates>, zone: &TimeZone, clock: Arc<dyn Clock>) -> Self {
        let rates = rates.unwrap_or_else(|| Rates::new(Vec::new()));
        let throttle = match rates.entries() {
            [] => Throttle::new(None),
            _ => Throttle::changing(),
        };
        Self {
            rates,
            zone: zone.clone(),
            clock,
            throttle,
            holds: Mutex::new(Timestamp::MIN..Timestamp::MIN),
        }
    }

    /// Begins to carry one connection.
    pub fn transfer(&self) -> Arc<Transfer> {
        self.throttle.transfer()
    }

    /// Sets the rate of this moment. A clock that was put back counts as well.
    pub fn keep(&self) {
        let now = self.clock.now();
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds.contains(&now) {
            let found = self.rates.at(now, &self.zone);
            self.throttle.set(found.rate);
            *holds = now..found.until.unwrap_or(Timestamp::MAX);
        }
    }
}
