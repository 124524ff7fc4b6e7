//! systemd's way to write a calendar: `Mon..Fri *-*-* 02:00:00`, any part of which but one may be left out, or a word.

use crate::schedule::calendar::{DayRule, Parts, Years};
use crate::schedule::error::ScheduleError;
use crate::schedule::field::{self, Field, Set};

const RANGE: &str = "..";

const MONTH: Field = in_ranges(field::MONTH);
const DAY: Field = in_ranges(field::DAY);
const HOUR: Field = in_ranges(field::HOUR);
const MINUTE: Field = in_ranges(field::MINUTE);
const SECOND: Field = Field {
    name: "second",
    ..MINUTE
};

/// What days of the week are called in errors.
pub const WEEKDAY_FIELD: &str = "day of the week";

const WEEKDAY: Field = Field {
    name: WEEKDAY_FIELD,
    low: 0,
    high: 6,
    names: &[
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ],
    range: RANGE,
};

/// A field whose ranges are written as systemd does.
const fn in_ranges(field: Field) -> Field {
    Field {
        range: RANGE,
        ..field
    }
}

/// Days of the week, date and time of day, as far as they are there.
pub fn read(words: &[&str]) -> Result<Parts, ScheduleError> {
    if let [word] = words
        && let Some(spelled_out) = spelled_out(word)
    {
        return read(&spelled_out);
    }
    let mut rest = words;
    let mut parts = Parts {
        years: vec![Years::ALL],
        months: Set::range(1, 12),
        days: Set::range(1, 31),
        last_days: Set::EMPTY,
        weekdays: Set::range(0, 6),
        day_rule: DayRule::Both,
        hours: Set::only(0),
        minutes: Set::only(0),
        seconds: Set::only(0),
    };
    if let [word, after @ ..] = rest
        && word.starts_with(|first: char| first.is_ascii_alphabetic())
    {
        parts.weekdays = weekdays(word)?;
        rest = after;
    }
    if let [word, after @ ..] = rest
        && !word.contains(':')
        && word.contains(['-', '~'])
    {
        read_date(word, &mut parts)?;
        rest = after;
    }
    if let [word, after @ ..] = rest
        && word.contains(':')
    {
        read_time(word, &mut parts)?;
        rest = after;
    }
    match rest {
        [] => Ok(parts),
        [zone]
            if rest.len() < words.len()
                && zone.starts_with(|first: char| first.is_alphabetic()) =>
        {
            let zone = (*zone).to_owned();
            Err(ScheduleError::Zone { zone })
        }
        _ => Err(ScheduleError::Unknown {
            text: words.join(" "),
        }),
    }
}

/// What a word stands for.
fn spelled_out(word: &str) -> Option<Vec<&'static str>> {
    Some(match word.to_ascii_lowercase().as_str() {
        "minutely" => vec!["*:*"],
        "hourly" => vec!["*:00"],
        "daily" => vec!["*-*-*"],
        "weekly" => vec!["Mon", "*-*-*"],
        "monthly" => vec!["*-*-01"],
        "quarterly" => vec!["*-01,04,07,10-01"],
        "semiannually" | "semi-annually" => vec!["*-01,07-01"],
        "yearly" | "annually" => vec!["*-01-01"],
        _ => return None,
    })
}

/// `Mon..Fri,Sun`; systemd also takes a dash.
fn weekdays(word: &str) -> Result<Set, ScheduleError> {
    let word = word.trim_end_matches(',');
    // Numbers are no days of the week here.
    if word.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(WEEKDAY.refused(word));
    }
    match word.contains('-') {
        true => WEEKDAY.read(&word.replace('-', RANGE)),
        false => WEEKDAY.read(word),
    }
}

/// `2026-*-01`, `*-*-01`, `*-01`, `*-*~01` for the last day.
fn read_date(word: &str, parts: &mut Parts) -> Result<(), ScheduleError> {
    let (before, day, from_end) = match word.rsplit_once('~') {
        Some((before, day)) => (before, day, true),
        None => match word.rsplit_once('-') {
            Some((before, day)) => (before, day, false),
            None => return Err(DAY.refused(word)),
        },
    };
    let (year, month) = match before.rsplit_once('-') {
        Some((year, month)) => (year, month),
        None => ("*", before),
    };
    parts.years = years(year)?;
    parts.months = MONTH.read(month)?;
    match from_end {
        true => (parts.days, parts.last_days) = (Set::EMPTY, DAY.read(day)?),
        false => parts.days = DAY.read(day)?,
    }
    Ok(())
}

/// `02:00`, `*:0/5`, `*:*:0/10`.
fn read_time(word: &str, parts: &mut Parts) -> Result<(), ScheduleError> {
    let fields: Vec<&str> = word.split(':').collect();
    let (hour, minute, second) = match fields.as_slice() {
        [hour, minute] => (*hour, *minute, "0"),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return Err(HOUR.refused(word)),
    };
    parts.hours = HOUR.read(hour)?;
    parts.minutes = MINUTE.read(minute)?;
    parts.seconds = SECOND.read(second)?;
    Ok(())
}

fn years(text: &str) -> Result<Vec<Years>, ScheduleError> {
    text.split(',')
        .map(|item| {
            year_item(item).ok_or_else(|| ScheduleError::Field {
                text: item.to_owned(),
                field: "year",
                expected: "years from 1970 to 9999, lists, ranges such as 2026..2030 and steps"
                    .to_owned(),
            })
        })
        .collect()
}

fn year_item(item: &str) -> Option<Years> {
    let year = |text: &str| -> Option<i16> {
        let digits = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => (span, Some(step.parse().ok().filter(|step| *step > 0)?)),
        None => (item, None),
    };
    let (first, last) = if span == "*" {
        (Years::ALL.first, Years::ALL.last)
    } else if let Some((first, last)) = span.split_once(RANGE) {
        (year(first)?, year(last)?)
    } else {
        let first = year(span)?;
        (first, step.map_or(first, |_: i16| Years::ALL.last))
    };
    let step = step.unwrap_or(1);
    (first >= Years::ALL.first && first <= last).then_some(Years { first, last, step })
}
