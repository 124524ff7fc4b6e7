//! `bandwidth` of a host's limits: a rate, or rates by hours of the day. From its text to checked values, and back.

use std::fmt;

use append_server::destination::bandwidth::{Bandwidth, ParseBandwidthError};
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::{Value, json};
use toml::Spanned;

use crate::config::error::ValueError;
use crate::config::raw::Text;
use crate::config::settings::ValueReader;
use crate::schedule::error::ScheduleError;
use crate::schedule::rates::{RateHours, Rates};
use crate::schedule::window::Window;

/// The most entries: one for every quarter of an hour.
const ENTRIES_MAX: usize = 96;

/// `bandwidth`.
#[derive(Debug)]
pub(super) enum RawBandwidth {
    Rate(String),
    ByHours(Vec<Spanned<RawRateHours>>),
}

/// One entry of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRateHours {
    pub(super) from: Option<Text>,
    pub(super) to: Option<Text>,
    pub(super) rate: Text,
}

// Derived code for an untagged enum would lose the places of the values.
impl<'de> Deserialize<'de> for RawBandwidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BandwidthVisitor)
    }
}

struct BandwidthVisitor;

impl<'de> Visitor<'de> for BandwidthVisitor {
    type Value = RawBandwidth;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(
            "a rate such as \"10MiB/s\", or a list of tables with `from`, `to` and `rate`",
        )
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawBandwidth, E> {
        Ok(RawBandwidth::Rate(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawBandwidth, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(RawBandwidth::ByHours)
    }
}

pub(super) fn read_bandwidth(
    reader: &mut ValueReader<'_>,
    raw: &Spanned<RawBandwidth>,
) -> Option<Rates> {
    let entries = match raw.get_ref() {
        RawBandwidth::Rate(text) => {
            let rate: Result<Bandwidth, ParseBandwidthError> = text.parse();
            let rate = rate.map_err(|reason| reader.refuse(&raw.span(), reason));
            return rate.ok().map(Rates::always);
        }
        RawBandwidth::ByHours(entries) => entries,
    };
    if entries.len() > ENTRIES_MAX {
        reader.refuse(&raw.span(), ValueError::TooMany { max: ENTRIES_MAX });
        return None;
    }
    let mut rates: Vec<RateHours> = Vec::with_capacity(entries.len());
    for entry in entries {
        if rates.last().is_some_and(|last| last.hours.is_none()) {
            reader.refuse(&entry.span(), ValueError::NeverApplies);
        }
        rates.push(read_entry(reader, entry)?);
    }
    Some(Rates::new(rates))
}

fn read_entry(reader: &mut ValueReader<'_>, entry: &Spanned<RawRateHours>) -> Option<RateHours> {
    let raw = entry.get_ref();
    let rate = reader.one(&raw.rate);
    let hours = match (&raw.from, &raw.to) {
        (None, None) => None,
        (Some(from), Some(to)) => {
            let window = format!("{}-{}", from.get_ref(), to.get_ref()).parse();
            let window: Result<Window, ScheduleError> = window;
            let window = window.map_err(|reason| reader.refuse(&from.span(), reason));
            Some(window.ok()?)
        }
        _ => {
            reader.refuse(&entry.span(), ValueError::HalfHours);
            return None;
        }
    };
    Some(RateHours { hours, rate: rate? })
}

/// The value that gives these rates.
pub(super) fn bandwidth_value(rates: &Rates) -> Value {
    match rates.entries() {
        [RateHours { hours: None, rate }] => json!(rate.to_string()),
        entries => entries.iter().map(entry_value).collect(),
    }
}

fn entry_value(entry: &RateHours) -> Value {
    let rate = entry.rate.to_string();
    match entry.hours {
        None => json!({ "rate": rate }),
        Some(hours) => json!({
            "from": hours.from_text(),
            "to": hours.to_text(),
            "rate": rate,
        }),
    }
}
