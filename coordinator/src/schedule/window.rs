//! A window: the hours of a day within which runs begin and end. May go over midnight.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::schedule::error::ScheduleError;
use crate::schedule::occasions::{Repeated, instant};

/// From one time of day to another, which is not in it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
}

impl FromStr for Window {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let times = text.split_once('-');
        let times = times.and_then(|(from, to)| Some((time(from.trim())?, time(to.trim())?)));
        match times {
            Some((from, to)) if from != to => Ok(Self { from, to }),
            _ => Err(ScheduleError::Window {
                text: text.to_owned(),
            }),
        }
    }
}

/// `05:30`; `24:00` is midnight.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |field: &str| -> Option<i8> {
        let plain =
            (1..=2).contains(&field.len()) && field.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| field.parse().ok()).flatten()
    };
    match (two_digits(hour)?, two_digits(minute)?) {
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.from_text(), self.to_text())
    }
}

fn time_text(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

impl Window {
    /// Whether it is open.
    pub fn is_open(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let now = zone.to_datetime(at).time();
        match self.from < self.to {
            true => self.from <= now && now < self.to,
            false => self.from <= now || now < self.to,
        }
    }

    /// When it closes next.
    pub fn closes(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        next_time(at, self.to, zone, Repeated::Second)
    }

    /// When it opens next.
    pub fn opens(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        next_time(at, self.from, zone, Repeated::First)
    }

    /// The next instant at which clocks show when it opens or closes, each time in an hour that comes twice.
    pub fn next_edge(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let edge = |time, repeated| next_time(at, time, zone, repeated);
        let edges = [self.from, self.to].into_iter();
        edges
            .flat_map(|time| [edge(time, Repeated::First), edge(time, Repeated::Second)])
            .flatten()
            .min()
    }

    /// When it opens, as it is written.
    pub fn from_text(&self) -> String {
        time_text(self.from)
    }

    /// When it closes, as it is written.
    pub fn to_text(&self) -> String {
        time_text(self.to)
    }

    /// When it closed last.
    pub fn closed(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = zone.to_datetime(at).date();
        let mut date = today.tomorrow().ok()?;
        for _ in 0..4 {
            let found = on(date, self.to, zone, Repeated::Second)?;
            if found <= at {
                return Some(found);
            }
            date = date.yesterday().ok()?;
        }
        None
    }
}

/// The next instant at which clocks show a time. Yesterday's may still come, where days are put forward.
fn next_time(at: Timestamp, time: Time, zone: &TimeZone, repeated: Repeated) -> Option<Timestamp> {
    let mut date = zone.to_datetime(at).date().yesterday().ok()?;
    for _ in 0..4 {
        let found = on(date, time, zone, repeated)?;
        if found > at {
            return Some(found);
        }
        date = date.tomorrow().ok()?;
    }
    None
}

fn on(date: Date, time: Time, zone: &TimeZone, repeated: Repeated) -> Option<Timestamp> {
    instant(date.to_datetime(time), zone, repeated)
}

/// The last instant before another.
pub fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1))
        .unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
