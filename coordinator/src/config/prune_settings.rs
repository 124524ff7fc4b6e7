//! `[prune]` of coordinator.toml, and `keep` of hosts and of destinations: from their text to checked values.

use std::collections::BTreeMap;
use std::fmt;

use append_server::destination::DestinationName;
use append_server::places::keep::KeepTable;
use append_server::places::table::DestinationTable;
use append_server::quantity::{Size, Span};
use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Spanned;

use crate::config::error::ValueError;
use crate::config::raw::Text;
use crate::config::settings::ValueReader;
use crate::retention::keep::{KEEP_COUNT_MAX, Keep};
use crate::schedule::calendar::Calendar;

/// `[prune]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrune {
    pub(super) schedule: Option<Text>,
    pub(super) grace: Option<Text>,
    pub(super) delete_max: Option<Text>,
    pub(super) repack_above: Option<Spanned<u64>>,
    pub(super) repack_max: Option<Text>,
    pub(super) abort_uploads_after: Option<Text>,
    pub(super) timezone: Option<Text>,
}

/// How packs that nothing needs are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneSettings {
    /// When the daemon prunes every host that has keep rules; never without it.
    pub schedule: Option<Calendar>,
    /// How long what is condemned stays, to be brought back.
    pub grace: Span,
    /// The most bytes that one prune has removed.
    pub delete_max: Size,
    /// From how many percent of dead bytes on a pack is written anew; 100 for never.
    pub repack_above: u8,
    /// The most bytes that one prune writes anew.
    pub repack_max: Size,
    /// Uploads to S3 that nobody completed are ended after this time.
    pub abort_uploads_after: Span,
    /// Whose days, weeks, months and years keep rules mean, and whose clocks the schedule.
    pub timezone: Zone,
}

/// A zone of time with the name that it was given by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// The zone of that name, where there is one.
    pub fn named(name: &str) -> Option<Self> {
        let zone = TimeZone::get(name).ok()?;
        let name = name.to_owned();
        Some(Self { name, zone })
    }

    /// The zone itself.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self {
            name: "UTC".to_owned(),
            zone: TimeZone::UTC,
        }
    }
}

impl Default for PruneSettings {
    fn default() -> Self {
        Self {
            schedule: None,
            grace: Span::from_secs(7 * 24 * 3600),
            delete_max: Size::from_bytes(1 << 40),
            repack_above: 30,
            repack_max: Size::from_bytes(20 << 30),
            abort_uploads_after: Span::from_secs(7 * 24 * 3600),
            timezone: Zone::default(),
        }
    }
}

pub(super) fn read_prune(reader: &mut ValueReader<'_>, raw: &RawPrune) -> PruneSettings {
    let built_in = PruneSettings::default();
    let above = reader.number(raw.repack_above.as_ref(), 100);
    PruneSettings {
        schedule: reader.maybe(raw.schedule.as_ref()),
        grace: reader
            .deadline(raw.grace.as_ref())
            .unwrap_or(built_in.grace),
        delete_max: reader
            .maybe(raw.delete_max.as_ref())
            .unwrap_or(built_in.delete_max),
        repack_above: above
            .and_then(|above| u8::try_from(above).ok())
            .unwrap_or(built_in.repack_above),
        repack_max: reader
            .maybe(raw.repack_max.as_ref())
            .unwrap_or(built_in.repack_max),
        abort_uploads_after: reader
            .deadline(raw.abort_uploads_after.as_ref())
            .unwrap_or(built_in.abort_uploads_after),
        timezone: raw
            .timezone
            .as_ref()
            .and_then(|text| read_zone(reader, text))
            .unwrap_or_default(),
    }
}

/// The zone of a name.
pub(super) fn read_zone(reader: &mut ValueReader<'_>, text: &Text) -> Option<Zone> {
    let name = text.get_ref().as_str();
    let zone = Zone::named(name);
    if zone.is_none() {
        let zone = name.to_owned();
        reader.refuse(&text.span(), ValueError::UnknownZone { zone });
    }
    zone
}

pub(super) fn read_keep(reader: &mut ValueReader<'_>, raw: &KeepTable) -> Keep {
    Keep {
        last: count(reader, raw.last.as_ref()),
        hourly: count(reader, raw.hourly.as_ref()),
        daily: count(reader, raw.daily.as_ref()),
        weekly: count(reader, raw.weekly.as_ref()),
        monthly: count(reader, raw.monthly.as_ref()),
        yearly: count(reader, raw.yearly.as_ref()),
        within: reader.maybe(raw.within.as_ref()),
    }
}

/// The keep rules of destinations that have their own. A name that is none is refused elsewhere.
pub(super) fn read_destination_keep(
    reader: &mut ValueReader<'_>,
    tables: &[Spanned<DestinationTable>],
) -> BTreeMap<DestinationName, Keep> {
    let mut rules = BTreeMap::new();
    for table in tables.iter().map(Spanned::get_ref) {
        if let Some(raw) = &table.keep {
            let keep = read_keep(reader, raw);
            if let Ok(name) = table.name.get_ref().parse() {
                rules.insert(name, keep);
            }
        }
    }
    rules
}

fn count(reader: &mut ValueReader<'_>, value: Option<&Spanned<i64>>) -> Option<u32> {
    let value = value?;
    let found = u64::try_from(*value.get_ref());
    let found = found.ok().filter(|count| *count <= KEEP_COUNT_MAX);
    if found.is_none() {
        let value = &value;
        reader.refuse(
            &value.span(),
            ValueError::KeepCount {
                value: *value.get_ref(),
                max: KEEP_COUNT_MAX,
            },
        );
    }
    found.and_then(|count| u32::try_from(count).ok())
}
