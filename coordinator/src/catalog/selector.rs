//! How an operator names one snapshot, and which one that is. Pure: takes rows, returns a place.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::catalog::{CatalogError, SnapshotRow};
use crate::clock;

/// The fewest digits of an id.
pub const ID_DIGITS_MIN: usize = 4;
const ID_DIGITS: usize = 64;

/// One snapshot, by age, id or time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest, or so many before it.
    Latest {
        /// How many to go back.
        back: u32,
    },
    /// The one whose id begins so (lower-case hexadecimal).
    IdPrefix(String),
    /// The last one begun on a day, in local time.
    OnDay(Date),
    /// The last one begun before a day, in local time.
    BeforeDay(Date),
    /// The last one begun before a time.
    Before(Timestamp),
}

/// Text that names no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no snapshot: write latest, latest~2, the first {ID_DIGITS_MIN} or more digits of an id, \
     2026-11-20, before:2026-11-20 or before:2026-11-20T12:00:00Z"
)]
pub struct ParseSelectorError {
    text: String,
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        parse(text).ok_or_else(|| ParseSelectorError {
            text: text.chars().take(100).collect(),
        })
    }
}

fn parse(text: &str) -> Option<Selector> {
    if text == "latest" {
        return Some(Selector::Latest { back: 0 });
    }
    if let Some(back) = text.strip_prefix("latest~") {
        // Rust's number parser also takes a plus sign.
        let digits = back.bytes().all(|byte| byte.is_ascii_digit());
        let back = back.parse().ok().filter(|_| digits)?;
        return Some(Selector::Latest { back });
    }
    if let Some(time) = text.strip_prefix("before:") {
        return match parse_day(time) {
            Some(day) => Some(Selector::BeforeDay(day)),
            None => time.parse().ok().map(Selector::Before),
        };
    }
    if let Some(day) = parse_day(text) {
        return Some(Selector::OnDay(day));
    }
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let length = (ID_DIGITS_MIN..=ID_DIGITS).contains(&text.len());
    (hex && length).then(|| Selector::IdPrefix(text.to_ascii_lowercase()))
}

/// Only the plain form: the date parser also takes times and zones, and would drop them.
fn parse_day(text: &str) -> Option<Date> {
    let plain = text.len() == "2026-11-20".len() && text.contains('-');
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest { back: 0 } => out.write_str("latest"),
            Self::Latest { back } => write!(out, "latest~{back}"),
            Self::IdPrefix(prefix) => out.write_str(prefix),
            Self::OnDay(day) => write!(out, "{day}"),
            Self::BeforeDay(day) => write!(out, "before:{day}"),
            Self::Before(at) => write!(out, "before:{}", clock::utc(*at)),
        }
    }
}

/// The row that is meant, of rows oldest first.
pub fn select<'a>(
    rows: &'a [SnapshotRow],
    host: Option<&str>,
    selector: &Selector,
    zone: &TimeZone,
) -> Result<&'a SnapshotRow, CatalogError> {
    let host = || host.map(str::to_owned);
    if rows.is_empty() {
        return Err(CatalogError::NoSnapshots { host: host() });
    }
    let day_of = |row: &SnapshotRow| row.started.to_zoned(zone.clone()).date();
    let found = match selector {
        Selector::Latest { back } => rows.iter().rev().nth(*back as usize),
        Selector::IdPrefix(prefix) => by_prefix(rows, prefix)?,
        Selector::OnDay(day) => last(rows, |row| day_of(row) == *day),
        Selector::BeforeDay(day) => last(rows, |row| day_of(row) < *day),
        Selector::Before(at) => last(rows, |row| row.started < *at),
    };
    found.ok_or_else(|| CatalogError::NoSuchSnapshot {
        host: host(),
        selector: selector.clone(),
        count: rows.len(),
    })
}

fn last(rows: &[SnapshotRow], meant: impl Fn(&SnapshotRow) -> bool) -> Option<&SnapshotRow> {
    rows.iter().rev().find(|row| meant(row))
}

fn by_prefix<'a>(
    rows: &'a [SnapshotRow],
    prefix: &str,
) -> Result<Option<&'a SnapshotRow>, CatalogError> {
    let matching: Vec<&SnapshotRow> = rows
        .iter()
        .filter(|row| row.id.to_string().starts_with(prefix))
        .collect();
    match matching.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(CatalogError::Ambiguous {
            prefix: prefix.to_owned(),
            candidates: several.iter().map(|row| (row.id, row.started)).collect(),
        }),
    }
}

#[cfg(test)]
mod tests;
