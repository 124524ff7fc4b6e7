//! When a host is backed up, of hosts.toml: from its text to checked values, and to what its tables give.

use append_server::quantity::Span;
use serde::Deserialize;
use toml::Spanned;

use crate::config::error::ValueError;
use crate::config::layers::Layers;
use crate::config::name::ConcurrencyKey;
use crate::config::prune_settings::{Zone, read_zone};
use crate::config::raw::{RawSettings, Text};
use crate::config::settings::ValueReader;
use crate::schedule::calendar::Calendar;
use crate::schedule::timing::{RETRIES_MAX, Timing};
use crate::schedule::window::Window;

/// The longest jitter: with more, a day's run could be another day's.
const JITTER_MAX: Span = Span::from_secs(24 * 3600);

/// What becomes of an occasion that the daemon missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// One run as soon as may be, however many were missed.
    #[default]
    Once,
    /// Nothing, until the next one.
    No,
}

impl CatchUp {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::No => "no",
        }
    }
}

/// The checked values; `None` where the table is silent.
#[derive(Debug, Default)]
pub(super) struct TimingSettings {
    /// An empty text takes an inherited one away.
    pub(super) schedule: Option<Option<Calendar>>,
    pub(super) timezone: Option<Zone>,
    pub(super) jitter: Option<Span>,
    pub(super) window: Option<Option<Window>>,
    pub(super) catch_up: Option<CatchUp>,
    pub(super) retries: Option<u32>,
    pub(super) retry_delay: Option<Span>,
    pub(super) concurrency_key: Option<Option<ConcurrencyKey>>,
    pub(super) sla: Option<Span>,
}

pub(super) fn read_timing(reader: &mut ValueReader<'_>, raw: &RawSettings) -> TimingSettings {
    let jitter: Option<Span> = reader.maybe(raw.jitter.as_ref());
    TimingSettings {
        schedule: or_none(reader, raw.schedule.as_ref()),
        timezone: raw
            .timezone
            .as_ref()
            .and_then(|text| read_zone(reader, text)),
        jitter: jitter.and_then(|span| reader.at_most(span, JITTER_MAX, raw.jitter.as_ref())),
        window: or_none(reader, raw.window.as_ref()),
        catch_up: raw.catch_up,
        retries: retries(reader, raw.retries.as_ref()),
        retry_delay: reader.deadline(raw.retry_delay.as_ref()),
        concurrency_key: or_none(reader, raw.concurrency_key.as_ref()),
        sla: reader.deadline(raw.sla.as_ref()),
    }
}

/// The parsed text; nothing at all for an empty one.
fn or_none<T>(reader: &mut ValueReader<'_>, text: Option<&Text>) -> Option<Option<T>>
where
    T: std::str::FromStr,
    ValueError: From<T::Err>,
{
    let text = text?;
    match text.get_ref().is_empty() {
        true => Some(None),
        false => reader.one(text).map(Some),
    }
}

fn retries(reader: &mut ValueReader<'_>, value: Option<&Spanned<u64>>) -> Option<u32> {
    let value = value?;
    if *value.get_ref() <= RETRIES_MAX {
        return u32::try_from(*value.get_ref()).ok();
    }
    let refused = ValueError::OutOfRange {
        value: *value.get_ref(),
        min: 0,
        max: RETRIES_MAX,
    };
    reader.refuse(&value.span(), refused);
    None
}

/// What the tables that a host's values come from give.
pub(super) fn merge_timing(layers: &Layers<'_, TimingSettings>) -> Result<Timing, ValueError> {
    let built_in = Timing::default();
    let timing = Timing {
        calendar: layers.pick(|table| &table.schedule).flatten(),
        zone: layers
            .pick(|table| &table.timezone)
            .unwrap_or(built_in.zone),
        jitter: layers
            .pick(|table| &table.jitter)
            .unwrap_or(built_in.jitter),
        window: layers.pick(|table| &table.window).flatten(),
        catch_up: layers
            .pick(|table| &table.catch_up)
            .unwrap_or(built_in.catch_up),
        retries: layers
            .pick(|table| &table.retries)
            .unwrap_or(built_in.retries),
        retry_delay: layers
            .pick(|table| &table.retry_delay)
            .unwrap_or(built_in.retry_delay),
        concurrency_key: layers.pick(|table| &table.concurrency_key).flatten(),
        sla: layers.pick(|table| &table.sla),
    };
    timing.check()?;
    Ok(timing)
}
