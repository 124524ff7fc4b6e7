//! A window: the hours of a day within which runs begin and end. May go over midnight.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::schedule::error::ScheduleError;
use crate::schedule::occasions::{Repeated, instant};

/// Days before and after today in which an opening or closing is looked for: one may lie days off, where a day is skipped.
const DAYS_AROUND: i64 = 3;

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
    /// Whether it is open: whether that is what clocks show, in each of two hours that are called the same.
    pub fn is_open(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let now = zone.to_datetime(at).time();
        match self.from < self.to {
            true => self.from <= now && now < self.to,
            false => self.from <= now || now < self.to,
        }
    }

    /// When it closes next.
    pub fn closes(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let edges = self.edges(at, zone).filter(|edge| *edge > at);
        edges.filter(|edge| self.shuts_at(*edge, zone)).min()
    }

    /// When it opens next.
    pub fn opens(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let edges = self.edges(at, zone).filter(|edge| *edge > at);
        let opening = |edge| self.is_open(edge, zone) && !self.is_open(just_before(edge), zone);
        edges.filter(|edge| opening(*edge)).min()
    }

    /// When it closed last.
    pub fn closed(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let edges = self.edges(at, zone).filter(|edge| *edge <= at);
        edges.filter(|edge| self.shuts_at(*edge, zone)).max()
    }

    /// When it opens or closes next.
    pub fn next_edge(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let edges = [self.opens(at, zone), self.closes(at, zone)];
        edges.into_iter().flatten().min()
    }

    /// When it opens, as it is written.
    pub fn from_text(&self) -> String {
        time_text(self.from)
    }

    /// When it closes, as it is written.
    pub fn to_text(&self) -> String {
        time_text(self.to)
    }

    fn shuts_at(&self, edge: Timestamp, zone: &TimeZone) -> bool {
        !self.is_open(edge, zone) && self.is_open(just_before(edge), zone)
    }

    /// Where it may open or close on the days around an instant: at its own times and where clocks are put on or back.
    fn edges(&self, at: Timestamp, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
        let today = zone.to_datetime(at).date();
        let dates = (-DAYS_AROUND..=DAYS_AROUND)
            .filter_map(move |days| today.checked_add(jiff::Span::new().days(days)).ok());
        let times = dates.flat_map(move |date| {
            [self.from, self.to].into_iter().flat_map(move |time| {
                let local = date.to_datetime(time);
                [Repeated::First, Repeated::Second]
                    .into_iter()
                    .filter_map(move |which| instant(local, zone, which))
            })
        });
        let after = zone.following(at).take(1);
        // What is at this very instant is before the next one.
        let before = zone.preceding(just_after(at)).take(1);
        let changes = after.chain(before).map(|change| change.timestamp());
        times.chain(changes)
    }
}

/// The last instant before another.
pub fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1))
        .unwrap_or(Timestamp::MIN)
}

fn just_after(at: Timestamp) -> Timestamp {
    at.checked_add(SignedDuration::from_nanos(1))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
