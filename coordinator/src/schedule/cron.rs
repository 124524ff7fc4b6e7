//! cron's way to write a calendar: five fields, or a word with an @.

use crate::schedule::calendar::{DayRule, Parts, Years};
use crate::schedule::error::ScheduleError;
use crate::schedule::field::{self, DAY, Field, HOUR, MINUTE, MONTHS, Set};

const MONTH: Field = Field {
    names: &MONTHS,
    ..field::MONTH
};
/// From Sunday to Sunday: cron counts it as 0 and as 7.
const WEEKDAY: Field = Field {
    name: "day of the week",
    low: 0,
    high: 7,
    names: &[
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ],
    ..MINUTE
};

/// Reads minute, hour, day of the month, month and day of the week.
pub fn read_fields(fields: [&str; 5]) -> Result<Parts, ScheduleError> {
    let [minute, hour, day, month, weekday] = fields;
    // cron's rule: a day fits if either field fits, unless one of them begins with a star.
    let restricted = |field: &str| !field.starts_with('*');
    let day_rule = match restricted(day) && restricted(weekday) {
        true => DayRule::Either,
        false => DayRule::Both,
    };
    Ok(Parts {
        years: vec![Years::ALL],
        months: MONTH.read(month)?,
        days: DAY.read(day)?,
        last_days: Set::EMPTY,
        weekdays: weekdays(weekday)?,
        day_rule,
        hours: HOUR.read(hour)?,
        minutes: MINUTE.read(minute)?,
        seconds: Set::only(0),
    })
}

/// Reads `@daily` and its like.
pub fn read_word(word: &str) -> Result<Parts, ScheduleError> {
    let fields = match word.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => ["0", "0", "1", "1", "*"],
        "@monthly" => ["0", "0", "1", "*", "*"],
        "@weekly" => ["0", "0", "*", "*", "0"],
        "@daily" | "@midnight" => ["0", "0", "*", "*", "*"],
        "@hourly" => ["0", "*", "*", "*", "*"],
        "@reboot" => return Err(ScheduleError::Reboot),
        _ => {
            let text = word.to_owned();
            return Err(ScheduleError::Unknown { text });
        }
    };
    read_fields(fields)
}

/// From cron's count, in which Sunday is 0 and 7, to Monday as 0.
fn weekdays(text: &str) -> Result<Set, ScheduleError> {
    let set = WEEKDAY.read(text)?;
    let days = (0..=7).filter(|day| set.contains(*day));
    Ok(days.map(|day| (day + 6) % 7).collect())
}
