//! Slots of time in a zone: the hour, day, week, month or year that a snapshot falls into. Days and hours are those of the
//! calendar there, so that the hour that a change of the clock repeats is one slot and no day has two.

use jiff::Timestamp;
use jiff::civil::{Date, ISOWeekDate};
use jiff::tz::TimeZone;

/// A length of slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SlotKind {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl SlotKind {
    /// All, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The rule's name.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }
}

/// One slot. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    begins: Date,
    /// Of an hour.
    hour: i8,
}

impl Slot {
    /// The slot that a time falls into.
    pub fn of(kind: SlotKind, at: Timestamp, zone: &TimeZone) -> Self {
        let there = at.to_zoned(zone.clone());
        let date = there.date();
        let (begins, hour) = match kind {
            SlotKind::Hour => (date, there.hour()),
            SlotKind::Day => (date, 0),
            SlotKind::Week => (monday_of(date), 0),
            SlotKind::Month => (date.first_of_month(), 0),
            SlotKind::Year => (date.first_of_year(), 0),
        };
        Self { begins, hour }
    }

    /// How it is written: `2026-11-03`, `2026-11-03 14h`, `2026-W45`, `2026-11`, `2026`.
    pub fn name(self, kind: SlotKind) -> String {
        let date = self.begins;
        match kind {
            SlotKind::Hour => format!("{date} {:02}h", self.hour),
            SlotKind::Day => date.to_string(),
            SlotKind::Week => {
                let week = ISOWeekDate::from(date);
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            SlotKind::Month => format!("{:04}-{:02}", date.year(), date.month()),
            SlotKind::Year => format!("{:04}", date.year()),
        }
    }
}

fn monday_of(date: Date) -> Date {
    let since = i64::from(date.weekday().to_monday_zero_offset());
    // The first days of the calendar have no Monday before them.
    date.checked_sub(jiff::Span::new().days(since))
        .unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::{Slot, SlotKind};

    fn name(kind: SlotKind, at: &str, zone: &str) -> String {
        let at: Timestamp = at.parse().expect("a time");
        let zone = TimeZone::get(zone).expect("a zone");
        Slot::of(kind, at, &zone).name(kind)
    }

    #[test]
    fn slots_are_those_of_the_zones_calendar() {
        let at = "2026-12-31T23:30:00Z";
        assert_eq!(name(SlotKind::Day, at, "UTC"), "2026-12-31");
        assert_eq!(name(SlotKind::Day, at, "Europe/Zurich"), "2027-01-01");
        assert_eq!(name(SlotKind::Year, at, "Europe/Zurich"), "2027");
        assert_eq!(name(SlotKind::Month, at, "America/New_York"), "2026-12");
        assert_eq!(name(SlotKind::Week, at, "UTC"), "2026-W53");
        assert_eq!(name(SlotKind::Hour, at, "Asia/Kolkata"), "2027-01-01 05h");
    }

    #[test]
    fn the_hour_that_comes_twice_is_one_slot_and_the_day_of_25_hours_one_day() {
        // In Zurich clocks go back from 03:00 to 02:00 at 01:00 UTC on 25 October 2026.
        let zone = TimeZone::get("Europe/Zurich").expect("a zone");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let twice = [at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")];
        for kind in [SlotKind::Hour, SlotKind::Day] {
            let [first, second] = twice.map(|at| Slot::of(kind, at, &zone));
            assert_eq!(first, second, "{kind:?}");
        }
        let ends = [at("2026-10-24T22:00:00Z"), at("2026-10-25T22:59:59Z")];
        let [first, last] = ends.map(|at| Slot::of(SlotKind::Day, at, &zone));
        assert_eq!(first, last);
        let next = Slot::of(SlotKind::Day, at("2026-10-25T23:00:00Z"), &zone);
        assert!(next > last);
    }
}
