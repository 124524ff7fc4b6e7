//! `[scan]` of coordinator.toml: the scans that the daemon makes of its own accord.

use append_server::quantity::Size;
use serde::Deserialize;
use toml::Spanned;

use crate::config::prune_settings::{Zone, read_zone};
use crate::config::raw::Text;
use crate::config::settings::ValueReader;
use crate::scan::Depth;
use crate::schedule::calendar::Calendar;

/// `[scan]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScan {
    pub(super) schedule: Option<Text>,
    pub(super) timezone: Option<Text>,
    pub(super) percent: Option<Spanned<u64>>,
    pub(super) verify: Option<bool>,
    pub(super) repair: Option<bool>,
    pub(super) extend_locks: Option<bool>,
    pub(super) budget: Option<Text>,
}

/// The scans that the daemon makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanSettings {
    /// When; never without it.
    pub schedule: Option<Calendar>,
    /// Whose clocks that means.
    pub timezone: Zone,
    /// How many percent of everything is read again each time; names and sizes alone without it.
    pub percent: Option<u8>,
    /// Whether what is read is opened with the keys, too.
    pub verify: bool,
    /// Whether what is missing or damaged is put right.
    pub repair: bool,
    /// Whether locks are prolonged.
    pub extend_locks: bool,
    /// The most bytes that are read of each destination.
    pub budget: Option<Size>,
}

impl Default for ScanSettings {
    fn default() -> Self {
        Self {
            schedule: None,
            timezone: Zone::default(),
            percent: None,
            verify: false,
            repair: true,
            extend_locks: true,
            budget: None,
        }
    }
}

impl ScanSettings {
    /// How much is read again.
    pub fn depth(&self) -> Depth {
        match self.percent {
            None => Depth::Names,
            Some(100) => Depth::Whole,
            Some(percent) => Depth::Percent(percent),
        }
    }
}

pub(super) fn read_scan(reader: &mut ValueReader<'_>, raw: &RawScan) -> ScanSettings {
    let built_in = ScanSettings::default();
    let percent = reader.number(raw.percent.as_ref(), 100);
    ScanSettings {
        schedule: reader.maybe(raw.schedule.as_ref()),
        timezone: raw
            .timezone
            .as_ref()
            .and_then(|text| read_zone(reader, text))
            .unwrap_or(built_in.timezone),
        percent: percent.and_then(|percent| u8::try_from(percent).ok()),
        verify: raw.verify.unwrap_or(built_in.verify),
        repair: raw.repair.unwrap_or(built_in.repair),
        extend_locks: raw.extend_locks.unwrap_or(built_in.extend_locks),
        budget: reader.maybe(raw.budget.as_ref()),
    }
}
