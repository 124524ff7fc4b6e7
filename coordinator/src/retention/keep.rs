//! `keep`: how many snapshots of which kinds stay. A policy that says nothing, or nothing that can be understood, is refused
//! when it is read: it never means "keep none".

use std::fmt;

use append_server::quantity::Span;

use crate::retention::slot::SlotKind;

/// The most of each kind that can be asked for.
pub const KEEP_COUNT_MAX: u64 = 100_000;
/// Verified snapshots that are never dropped, without `keep_floor`.
pub const KEEP_FLOOR_DEFAULT: u32 = 3;

/// A host's keep rules. At least one says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The last snapshots.
    pub last: Option<u32>,
    /// The first snapshot of each of the last hours that have one.
    pub hourly: Option<u32>,
    /// Of each of the last days.
    pub daily: Option<u32>,
    /// Of each of the last weeks, which begin on Monday.
    pub weekly: Option<u32>,
    /// Of each of the last months.
    pub monthly: Option<u32>,
    /// Of each of the last years.
    pub yearly: Option<u32>,
    /// Everything that is younger.
    pub within: Option<Span>,
}

impl Keep {
    /// The rules of slots, the shortest first.
    pub fn slots(&self) -> [(SlotKind, u32); 5] {
        [
            (SlotKind::Hour, self.hourly.unwrap_or(0)),
            (SlotKind::Day, self.daily.unwrap_or(0)),
            (SlotKind::Week, self.weekly.unwrap_or(0)),
            (SlotKind::Month, self.monthly.unwrap_or(0)),
            (SlotKind::Year, self.yearly.unwrap_or(0)),
        ]
    }

    /// Whether it keeps nothing at all.
    pub fn is_empty(&self) -> bool {
        let counts = self.slots().iter().any(|(_, count)| *count > 0);
        !counts && self.last.unwrap_or(0) == 0 && self.within.is_none_or(is_nothing)
    }
}

fn is_nothing(span: Span) -> bool {
    span.duration().is_zero()
}

impl fmt::Display for Keep {
    /// As the inline table of hosts.toml has it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("last", self.last),
            ("hourly", self.hourly),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("yearly", self.yearly),
        ];
        let counts = counts
            .into_iter()
            .filter_map(|(name, count)| Some(format!("{name} = {}", count?)));
        let within = self.within.map(|within| format!("within = \"{within}\""));
        let parts: Vec<String> = counts.chain(within).collect();
        write!(out, "{{ {} }}", parts.join(", "))
    }
}
