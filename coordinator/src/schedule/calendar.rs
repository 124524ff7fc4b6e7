//! A calendar: which seconds of which days are meant, on the clock of a place. Knows nothing of zones; `occasions` does.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};

use crate::schedule::cron;
use crate::schedule::error::ScheduleError;
use crate::schedule::field::Set;
use crate::schedule::systemd;

/// How far a date is looked for: every date that there is comes within 40 years (a 29th of February on a given day of the
/// week, over a year 2100 that is no leap year).
const YEARS_MAX: i16 = 41;

/// The longest text that is read as one.
pub const TEXT_BYTES_MAX: usize = 256;

/// How the day of the month and the day of the week go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayRule {
    /// Both must fit.
    Both,
    /// One of them is enough: cron's rule, when both are restricted.
    Either,
}

/// Which years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Years {
    /// The first.
    pub first: i16,
    /// The last.
    pub last: i16,
    /// From one to the next.
    pub step: i16,
}

impl Years {
    /// Every year.
    pub const ALL: Self = Self {
        first: 1970,
        last: 9999,
        step: 1,
    };

    fn contains(self, year: i16) -> bool {
        (self.first..=self.last).contains(&year) && (year - self.first) % self.step == 0
    }
}

/// The parts of a calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Years; any of these.
    pub years: Vec<Years>,
    /// 1 to 12.
    pub months: Set,
    /// 1 to 31.
    pub days: Set,
    /// Days from the month's end, the last one being 1.
    pub last_days: Set,
    /// 0 for Monday to 6 for Sunday.
    pub weekdays: Set,
    /// How days and weekdays go together.
    pub day_rule: DayRule,
    /// 0 to 23.
    pub hours: Set,
    /// 0 to 59.
    pub minutes: Set,
    /// 0 to 59.
    pub seconds: Set,
}

/// A checked calendar with the text that it was given by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    text: String,
    parts: Parts,
}

impl FromStr for Calendar {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let unknown = || ScheduleError::Unknown {
            text: text.chars().take(TEXT_BYTES_MAX).collect(),
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(unknown());
        }
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let parts = match words.as_slice() {
            [word] if word.starts_with('@') => cron::read_word(word)?,
            [minute, hour, day, month, weekday] => {
                cron::read_fields([minute, hour, day, month, weekday])?
            }
            [_] | [_, _] | [_, _, _] => systemd::read(&words).map_err(|error| match error {
                ScheduleError::Unknown { .. } => unknown(),
                // Whatever begins with a word that is no day is most likely no calendar at all.
                ScheduleError::Field {
                    field: systemd::WEEKDAY_FIELD,
                    ..
                } => unknown(),
                other => other,
            })?,
            _ => return Err(unknown()),
        };
        let calendar = Self {
            text: words.join(" "),
            parts,
        };
        // From a leap year's beginning: a calendar that ever comes, comes.
        let begins = calendar.parts.years.iter().map(|years| years.first).min();
        let begins = Date::new(begins.unwrap_or(1970).max(2024), 1, 1);
        let comes = begins
            .ok()
            .and_then(|date| calendar.next_from(date.to_datetime(Time::midnight())));
        match comes {
            Some(_) => Ok(calendar),
            None => Err(ScheduleError::Never {
                text: calendar.text,
            }),
        }
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Calendar {
    /// Whether it means every hour of its days: then it is a distance from one occasion to the next rather than a time of day.
    pub fn is_every_hour(&self) -> bool {
        self.parts.hours == Set::range(0, 23)
    }

    /// The first time that is meant after this one.
    pub fn next_after(&self, local: DateTime) -> Option<DateTime> {
        let second = jiff::SignedDuration::from_secs(1);
        self.next_from(whole_second(local)?.checked_add(second).ok()?)
    }

    /// The first time that is meant from this one on.
    pub fn next_from(&self, local: DateTime) -> Option<DateTime> {
        let second = jiff::SignedDuration::from_secs(1);
        let whole = whole_second(local)?;
        let from = match whole == local {
            true => whole,
            false => whole.checked_add(second).ok()?,
        };
        let last_year = from.year().saturating_add(YEARS_MAX);
        let mut date = from.date();
        let mut earliest = from.time();
        while date.year() <= last_year {
            let next = if !self.year_fits(date.year()) {
                date.last_of_year().tomorrow()
            } else if !self.parts.months.contains(number(date.month())) {
                date.last_of_month().tomorrow()
            } else {
                if self.day_fits(date)
                    && let Some(time) = self.time_from(earliest)
                {
                    return Some(date.to_datetime(time));
                }
                date.tomorrow()
            };
            date = next.ok()?;
            earliest = Time::midnight();
        }
        None
    }

    fn year_fits(&self, year: i16) -> bool {
        self.parts.years.iter().any(|years| years.contains(year))
    }

    fn day_fits(&self, date: Date) -> bool {
        let parts = &self.parts;
        let from_end = date.days_in_month() - date.day() + 1;
        let day =
            parts.days.contains(number(date.day())) || parts.last_days.contains(number(from_end));
        let weekday = date.weekday().to_monday_zero_offset();
        let weekday = parts.weekdays.contains(number(weekday));
        match parts.day_rule {
            DayRule::Both => day && weekday,
            DayRule::Either => day || weekday,
        }
    }

    /// The first time of a day from this one on.
    fn time_from(&self, from: Time) -> Option<Time> {
        let parts = &self.parts;
        let (hour, minute, second) = (
            number(from.hour()),
            number(from.minute()),
            number(from.second()),
        );
        let first = |set: Set| set.next_from(0);
        if parts.hours.contains(hour) {
            if parts.minutes.contains(minute)
                && let Some(second) = parts.seconds.next_from(second)
            {
                return time(hour, minute, second);
            }
            if let Some(minute) = parts.minutes.next_from(minute + 1) {
                return time(hour, minute, first(parts.seconds)?);
            }
        }
        let hour = parts.hours.next_from(hour + 1)?;
        time(hour, first(parts.minutes)?, first(parts.seconds)?)
    }
}

fn whole_second(local: DateTime) -> Option<DateTime> {
    local.with().subsec_nanosecond(0).build().ok()
}

/// Fields of dates and times are small and not negative.
fn number(field: i8) -> u8 {
    field.unsigned_abs()
}

fn time(hour: u8, minute: u8, second: u8) -> Option<Time> {
    let field = |number: u8| i8::try_from(number).ok();
    Time::new(field(hour)?, field(minute)?, field(second)?, 0).ok()
}

#[cfg(test)]
mod tests;
