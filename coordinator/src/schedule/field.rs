//! One field of a calendar: a set of small numbers, written as a list of numbers, names, ranges and steps.

use crate::schedule::error::ScheduleError;

/// Numbers from 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(u64);

impl Set {
    /// Nothing.
    pub const EMPTY: Self = Self(0);

    /// From one number to another, both of them included.
    pub fn range(low: u8, high: u8) -> Self {
        (low..=high).collect()
    }

    /// One number.
    pub fn only(number: u8) -> Self {
        Self(1 << (number & 63))
    }

    /// Whether a number is in it.
    pub fn contains(self, number: u8) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }

    /// The first number from this one on.
    pub fn next_from(self, number: u8) -> Option<u8> {
        let rest = self.0.checked_shr(number.into()).unwrap_or(0);
        #[expect(clippy::cast_possible_truncation, reason = "there are 64 bits")]
        (rest != 0).then(|| number + rest.trailing_zeros() as u8)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both together.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        let numbers = numbers.into_iter();
        numbers.fold(Self::EMPTY, |set, number| set.with(Self::only(number)))
    }
}

/// What may stand in a field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// What it is called.
    pub name: &'static str,
    /// The least.
    pub low: u8,
    /// The greatest.
    pub high: u8,
    /// Names for the numbers, from the least on.
    pub names: &'static [&'static str],
    /// What stands between the two ends of a range.
    pub range: &'static str,
}

/// A minute of an hour, as cron writes it; this and the ones below.
pub const MINUTE: Field = Field {
    name: "minute",
    low: 0,
    high: 59,
    names: &[],
    range: "-",
};
/// An hour of a day.
pub const HOUR: Field = Field {
    name: "hour",
    high: 23,
    ..MINUTE
};
/// A day of a month.
pub const DAY: Field = Field {
    name: "day of the month",
    low: 1,
    high: 31,
    ..MINUTE
};
/// A month of a year, by its number.
pub const MONTH: Field = Field {
    name: "month",
    high: 12,
    ..DAY
};

/// The months' names.
pub const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl Field {
    /// The numbers that a text means.
    pub fn read(&self, text: &str) -> Result<Set, ScheduleError> {
        let mut set = Set::EMPTY;
        for item in text.split(',') {
            set = set.with(self.item(item).ok_or_else(|| self.refused(item))?);
        }
        Ok(set)
    }

    /// The error for what is none.
    pub fn refused(&self, text: &str) -> ScheduleError {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(", or names from {first} to {last}"),
            _ => String::new(),
        };
        ScheduleError::Field {
            text: text.to_owned(),
            field: self.name,
            expected: format!(
                "numbers from {} to {}{names}, lists, ranges such as {}{}{} and steps such as */{}",
                self.low,
                self.high,
                self.low,
                self.range,
                self.high,
                self.low + 2
            ),
        }
    }

    fn item(&self, item: &str) -> Option<Set> {
        let (span, step) = match item.split_once('/') {
            Some((span, step)) => (span, Some(plain_number(step).filter(|step| *step > 0)?)),
            None => (item, None),
        };
        let (low, high) = if span == "*" {
            (self.low, self.high)
        } else if let Some((low, high)) = span.split_once(self.range) {
            (self.value(low)?, self.value(high)?)
        } else {
            let low = self.value(span)?;
            // A step without an end goes on to the end.
            (low, step.map_or(low, |_| self.high))
        };
        if low > high {
            return None;
        }
        let step = step.unwrap_or(1);
        Some((low..=high).step_by(step.into()).collect())
    }

    fn value(&self, text: &str) -> Option<u8> {
        if let Some(number) = plain_number(text) {
            return (self.low..=self.high).contains(&number).then_some(number);
        }
        let text = text.to_ascii_lowercase();
        let named = |name: &&str| text.len() >= 3 && name.starts_with(text.as_str());
        let place = self.names.iter().position(named)?;
        Some(self.low + u8::try_from(place).ok()?)
    }
}

/// Digits alone: no sign, no space.
fn plain_number(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
