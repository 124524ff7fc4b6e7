//! What the schedule is to know of a host, out of the state.

use jiff::Timestamp;

use crate::catalog::state::occasions::{AttemptResult, OccasionRow};
use crate::catalog::state::{Outcome, State};
use crate::config::Config;
use crate::config::host::Host;
use crate::database::DatabaseError;
use crate::schedule::outlook::{Attempted, LastOccasion, Record};
use crate::status::hosts_backed_up;

/// What is known of a host, whose schedule is as old as `since`.
pub fn record_of(
    state: &State,
    host: &str,
    since: Timestamp,
    now: Timestamp,
) -> Result<Record, DatabaseError> {
    let last = state.last_occasion(host, now)?;
    let good = state.last_good(host)?;
    let begun = state.runs(host, 1)?;
    Ok(Record {
        // A clock that went back stands before it, and hosts are to be backed up all the same.
        since: since.min(now),
        last: last.map(last_of),
        last_good: good.map(|(_, result)| result.committed.min(now)),
        last_tried: begun
            .first()
            .map(|run| run.finished.map_or(run.started, |(at, _)| at)),
    })
}

fn last_of(row: OccasionRow) -> LastOccasion {
    let (tried, result) = match row.ended {
        None => (row.begun, Attempted::Running),
        Some((ended, result)) => (ended, attempted(result)),
    };
    LastOccasion {
        at: row.occasion,
        attempts: row.attempts,
        tried,
        result,
    }
}

/// What an attempt's result means for its occasion.
pub fn attempted(result: AttemptResult) -> Attempted {
    match result {
        AttemptResult::PutOff => Attempted::PutOff,
        AttemptResult::Ran(Outcome::Failed | Outcome::Died) => Attempted::Failed,
        // What a person stopped, or has to look at, is not tried again by itself.
        AttemptResult::Ran(
            Outcome::Ok | Outcome::Warnings | Outcome::Held | Outcome::Skipped | Outcome::Cancelled,
        ) => Attempted::Done,
    }
}

/// What is known of every host that is backed up, and since when each has its schedule.
pub fn records_of_all<'a>(
    state: &mut State,
    config: &'a Config,
    now: Timestamp,
) -> Result<Vec<(&'a Host, Record)>, DatabaseError> {
    let hosts: Vec<&Host> = hosts_backed_up(config).collect();
    let schedules: Vec<(String, String)> = hosts
        .iter()
        .map(|host| (host.name.to_string(), schedule_text(host)))
        .collect();
    let since = state.scheduled_since(&schedules, now)?;
    let each = hosts.into_iter().zip(since);
    each.map(|(host, since)| Ok((host, record_of(state, host.name.as_str(), since, now)?)))
        .collect()
}

/// What makes a schedule another one: then occasions of the one before count no more.
fn schedule_text(host: &Host) -> String {
    let timing = &host.timing;
    match &timing.calendar {
        Some(calendar) => format!("{calendar} {}", timing.zone),
        None => String::new(),
    }
}
