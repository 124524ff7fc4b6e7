//! What a host's rules would keep over the years to come, with a run at every interval and a prune after each: the same
//! decisions as in earnest, about snapshots that do not exist.

use std::collections::HashMap;

use append_server::quantity::Span;
use formats::ids::RecordId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::retention::decide::{Candidate, Policy};
use crate::retention::kept_at::{KeepingPlace, Verdict, decide_at};

/// The most runs that are simulated.
pub const RUNS_MAX: u64 = 200_000;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Simulation<'a> {
    /// The destinations that the host is kept at, and the rules that count there.
    pub places: Vec<KeepingPlace>,
    /// The floor.
    pub floor: u32,
    /// Whose calendar.
    pub zone: &'a TimeZone,
    /// The first run.
    pub from: Timestamp,
    /// How long.
    pub span: Span,
    /// From one run to the next.
    pub every: Span,
}

/// A simulation that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    /// No interval, or too short a one.
    #[error(
        "one run every {every} for {span} would be more than {RUNS_MAX} runs: choose a longer interval, or less time"
    )]
    TooMany {
        /// The interval.
        every: String,
        /// How long.
        span: String,
    },
    /// Past the end of the calendar.
    #[error("{span} from now is past the end of the calendar")]
    Calendar {
        /// How long.
        span: String,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// Runs that were made.
    pub runs: u64,
    /// The most snapshots there were after a prune.
    pub most: usize,
    /// What is there in the end, and why.
    pub left: Vec<Verdict>,
    /// The end.
    pub until: Timestamp,
}

/// Simulates runs and prunes.
pub fn simulate(simulation: &Simulation<'_>) -> Result<Simulated, SimulationError> {
    let (every, span) = (simulation.every.duration(), simulation.span.duration());
    let too_many = || SimulationError::TooMany {
        every: simulation.every.to_string(),
        span: simulation.span.to_string(),
    };
    if every.is_zero() {
        return Err(too_many());
    }
    let runs = u64::try_from(span.as_millis() / every.as_millis().max(1)).unwrap_or(u64::MAX);
    if runs > RUNS_MAX {
        return Err(too_many());
    }
    let past_the_end = |_| SimulationError::Calendar {
        span: simulation.span.to_string(),
    };
    let pinned = HashMap::new();
    let mut at = simulation.from;
    let mut left: Vec<Candidate> = Vec::new();
    let mut places = simulation.places.clone();
    let mut verdicts = Vec::new();
    let mut most = 0;
    for number in 0..=runs {
        left.push(Candidate {
            id: simulated_id(number),
            at,
            complete: true,
            verified: true,
        });
        let policy = Policy {
            keep: None,
            floor: simulation.floor,
            zone: simulation.zone,
            now: at,
            pinned: &pinned,
            held: None,
        };
        verdicts = decide_at(&left, &policy, &places);
        verdicts.retain(Verdict::is_kept);
        for place in &mut places {
            let drops = verdicts.iter();
            let drops = drops.filter(|verdict| verdict.drops.contains(&place.name));
            place
                .dropped
                .extend(drops.map(|verdict| verdict.candidate.id));
        }
        left = verdicts.iter().map(|kept| kept.candidate).collect();
        most = most.max(left.len());
        if number < runs {
            at = at.checked_add(every).map_err(past_the_end)?;
        }
    }
    Ok(Simulated {
        runs: runs + 1,
        most,
        left: verdicts,
        until: at,
    })
}

fn simulated_id(number: u64) -> RecordId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    RecordId(id)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use jiff::tz::TimeZone;

    use std::collections::HashSet;

    use super::{Simulation, simulate};
    use crate::retention::keep::Keep;
    use crate::retention::kept_at::KeepingPlace;

    fn place(name: &str, keep: Keep, has_own: bool) -> KeepingPlace {
        KeepingPlace {
            name: name.parse().unwrap(),
            keep: Some(keep),
            has_own,
            may_drop: true,
            dropped: HashSet::new(),
        }
    }

    fn years(keep: Keep, every: &str) -> super::Simulated {
        years_at(vec![place("local", keep, false)], every)
    }

    fn years_at(places: Vec<KeepingPlace>, every: &str) -> super::Simulated {
        let zone = TimeZone::get("Europe/Zurich").unwrap();
        simulate(&Simulation {
            places,
            floor: 3,
            zone: &zone,
            from: "2026-11-28T01:00:00Z".parse().unwrap(),
            span: "730d".parse().unwrap(),
            every: every.parse().unwrap(),
        })
        .unwrap()
    }

    #[test]
    fn two_years_of_nights_leave_what_the_rules_say() {
        let keep = Keep {
            last: Some(3),
            daily: Some(14),
            weekly: Some(8),
            monthly: Some(12),
            yearly: Some(3),
            within: Some("14d".parse().unwrap()),
            hourly: None,
        };
        let simulated = years(keep, "24h");
        assert_eq!(simulated.runs, 731);
        let count = |word: &str| {
            let told = |reason: &String| reason.starts_with(word);
            let left = simulated.left.iter();
            left.filter(|kept| kept.reasons.iter().any(told)).count()
        };
        assert_eq!(
            ["daily", "weekly", "monthly", "yearly", "last"].map(count),
            [14, 8, 12, 3, 3]
        );
        assert!(simulated.most < 45, "{}", simulated.most);
    }

    #[test]
    fn each_destination_is_left_with_what_its_own_rules_say() {
        let days = Keep {
            daily: Some(14),
            ..Keep::default()
        };
        let months = Keep {
            monthly: Some(24),
            ..Keep::default()
        };
        let near = place("near", days, true);
        let simulated = years_at(vec![near, place("far", months, false)], "24h");
        let at = |name: &str| {
            let left = simulated.left.iter();
            left.filter(|kept| kept.at.iter().any(|at| at.to_string() == name))
                .count()
        };
        // Of `far` also the last verified ones.
        assert_eq!((at("near"), at("far")), (14, 27));
        assert!(simulated.left.len() < 40, "{}", simulated.left.len());
    }

    #[test]
    fn more_runs_than_can_be_looked_at_are_refused() {
        let zone = TimeZone::UTC;
        let simulation = Simulation {
            places: Vec::new(),
            floor: 3,
            zone: &zone,
            from: "2026-11-28T01:00:00Z".parse().unwrap(),
            span: "3650d".parse().unwrap(),
            every: "1s".parse().unwrap(),
        };
        let error = simulate(&simulation).unwrap_err().to_string();
        assert!(error.contains("every 1s"), "{error}");
    }
}
