//! Prunes and scans on calendars of their own, never beside each other, and lets go of old runs. What a prune finds in use by a run waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::catalog::state::occasions::AttemptResult;
use crate::catalog::state::trim::RUNS_KEPT;
use crate::catalog::state::{Outcome, State};
use crate::config::Config;
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::daemon::records::record_of;
use crate::daemon::services::Parts;
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::retention::prune::{PruneOptions, prune_host};
use crate::scan::{RepositoryScan, ScanOptions, ScanState, scan_repository};
use crate::schedule::outlook::{Outlook, outlook};
use crate::schedule::timing::Timing;
use crate::terminal::error_line;

/// How long it sleeps at most: then it looks at the clock, which may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How often old runs are let go of.
const TRIM_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// How often a prune looks whether what is in use is so still, and for how many times.
const IN_USE_LOOK_EVERY: Duration = Duration::from_secs(120);
const IN_USE_LOOKS_MAX: usize = 90;

/// What is done of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    Prune,
    Scan,
}

impl Chore {
    const ALL: [Self; 2] = [Self::Prune, Self::Scan];

    /// What stands for it where hosts stand: no host can have such a name.
    fn name(self) -> &'static str {
        match self {
            Self::Prune => "[prune]",
            Self::Scan => "[scan]",
        }
    }

    fn timing(self, config: &Config) -> Timing {
        let (calendar, zone) = match self {
            Self::Prune => (&config.prune.schedule, &config.prune.timezone),
            Self::Scan => (&config.scan.schedule, &config.scan.timezone),
        };
        Timing {
            calendar: calendar.clone(),
            zone: zone.clone(),
            // What could not be done now is done the next time.
            retries: 0,
            ..Timing::default()
        }
    }
}

/// Does what is due, one after the other, until the daemon ends.
pub async fn keep_house(parts: Parts) {
    let mut trimmed: Option<Instant> = None;
    loop {
        let coordinator = Arc::clone(&parts.coordinator.borrow());
        if trimmed.is_none_or(|at| at.elapsed() > TRIM_EVERY) {
            trim(&coordinator);
            trimmed = Some(Instant::now());
        }
        let work = do_what_is_due(&coordinator);
        // Losing the work is safe: a prune or scan that is cut short at any point is gone on with by the next one.
        let next = tokio::select! {
            next = work => next,
            () = parts.stop.cancelled() => return,
        };
        let next = next.unwrap_or_else(|error| {
            tracing::error!(%error, "what prunes and scans are due is not known");
            None
        });
        let left = next.map(|next| next.duration_since(coordinator.clock.now()));
        let left = left.map_or(SLEEP_MAX, |left| {
            left.max(SignedDuration::ZERO).unsigned_abs()
        });
        // Losing either arm is safe: what is due is looked for anew.
        tokio::select! {
            () = tokio::time::sleep(left.min(SLEEP_MAX) + Duration::from_millis(1)) => {}
            () = parts.stop.cancelled() => return,
        }
    }
}

/// Lets go of what runs came to long ago. Over a connection of its own: it may take a while, and others need the state.
fn trim(coordinator: &Coordinator) {
    let state = State::open(&coordinator.state_dir.state_file());
    match state.and_then(|mut state| state.trim_runs(RUNS_KEPT)) {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "let go of what runs came to long ago"),
        Err(error) => tracing::error!(error = error_line(&error), "old runs stay in the state"),
    }
}

/// Does what is due; gives when something will be next.
async fn do_what_is_due(coordinator: &Coordinator) -> Result<Option<Timestamp>, DatabaseError> {
    let mut next = None;
    for chore in Chore::ALL {
        let timing = chore.timing(&coordinator.config);
        let Some(calendar) = &timing.calendar else {
            continue;
        };
        let now = coordinator.clock.now();
        let seen = [(
            chore.name().to_owned(),
            format!("{calendar} {}", timing.zone),
        )];
        let mut state = coordinator.state.lock().await;
        let since = state.scheduled_since(&seen, now)?;
        let since = since.first().copied().unwrap_or(now);
        let record = record_of(&state, chore.name(), since, now)?;
        match outlook(chore.name(), &timing, &record, None, now) {
            Outlook::Due { occasion, .. } => {
                let begins = state.occasion_begun(chore.name(), occasion, None, now)?;
                drop(state);
                next = Some(now);
                if !begins {
                    continue;
                }
                let outcome = match chore {
                    Chore::Prune => prune_all(coordinator).await,
                    Chore::Scan => scan_all(coordinator).await,
                };
                let now = coordinator.clock.now();
                let mut state = coordinator.state.lock().await;
                let result = AttemptResult::Ran(outcome);
                state.occasion_ended(chore.name(), occasion, result, now)?;
                next = Some(now);
            }
            Outlook::Waits { until, .. } => next = Some(next.map_or(until, |next| until.min(next))),
            Outlook::Idle | Outlook::Missed { .. } => {}
        }
    }
    Ok(next)
}

/// Prunes every host that has keep rules.
async fn prune_all(coordinator: &Coordinator) -> Outcome {
    let hosts = coordinator.config.hosts.values();
    let mut waiting: Vec<&Host> = hosts.filter(|host| host.keep.is_some()).collect();
    let mut outcome = Outcome::Ok;
    for look in 0..IN_USE_LOOKS_MAX {
        let mut in_use = Vec::new();
        for host in waiting {
            match prune_one(coordinator, host).await {
                Pruned::Done => {}
                Pruned::Failed => outcome = Outcome::Failed,
                Pruned::InUse => in_use.push(host),
            }
        }
        waiting = in_use;
        if waiting.is_empty() || look + 1 == IN_USE_LOOKS_MAX {
            break;
        }
        tokio::time::sleep(IN_USE_LOOK_EVERY).await;
    }
    for host in waiting {
        tracing::warn!(
            host = host.name.as_str(),
            "not pruned: it was in use all the time"
        );
    }
    outcome
}

enum Pruned {
    Done,
    Failed,
    InUse,
}

async fn prune_one(coordinator: &Coordinator, host: &Host) -> Pruned {
    let name = host.name.as_str();
    let options = PruneOptions {
        execute: true,
        ..PruneOptions::default()
    };
    match prune_host(coordinator, host, options).await {
        Ok(report) => match report.refused {
            None => {
                let (forgotten, removed) = (report.forgotten, report.removed.bytes);
                tracing::info!(host = name, forgotten, removed, "pruned");
                Pruned::Done
            }
            Some(why) => {
                tracing::error!(host = name, why, "the prune refuses");
                Pruned::Failed
            }
        },
        Err(error) if error.exit_code() == ExitCode::Locked => Pruned::InUse,
        // Nothing to prune yet.
        Err(error) if error.exit_code() == ExitCode::NotFound => Pruned::Done,
        Err(error) => {
            tracing::error!(host = name, error = error_line(&error), "the prune failed");
            Pruned::Failed
        }
    }
}

/// Scans every repository at every destination.
async fn scan_all(coordinator: &Coordinator) -> Outcome {
    match try_scan_all(coordinator).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(error = error_line(&error), "the scan failed");
            Outcome::Failed
        }
    }
}

async fn try_scan_all(coordinator: &Coordinator) -> Result<Outcome, DatabaseError> {
    let settings = &coordinator.config.scan;
    let options = ScanOptions {
        depth: settings.depth(),
        verify: settings.verify,
        repair: settings.repair,
        extend_locks: settings.extend_locks,
        locks_max: None,
        budget_bytes: settings.budget.map(|size| size.bytes()),
    };
    let destinations = coordinator.storage.destination_names().to_vec();
    let known = coordinator.state.lock().await.repositories()?;
    let mut state = ScanState::open(&coordinator.state_dir.scan_file())?;
    let mut outcome = Outcome::Ok;
    for repository in known.into_iter().filter(|known| known.established) {
        let name = repository.name;
        let scans = scan_repository(coordinator, &name, &destinations, options, &mut state).await;
        match scans {
            Ok(Some(scan)) => {
                let events = scan.events().into_iter();
                events.for_each(|event| coordinator.events.tell(event));
                outcome = worse(outcome, log_scan(&scan));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(
                    repository = name,
                    error = error_line(&error),
                    "the scan failed"
                );
                outcome = Outcome::Failed;
            }
        }
    }
    Ok(outcome)
}

fn worse(one: Outcome, other: Outcome) -> Outcome {
    match one {
        Outcome::Ok => other,
        one => one,
    }
}

fn log_scan(scan: &RepositoryScan) -> Outcome {
    let repository = scan.name.as_str();
    for here in &scan.destinations {
        if here.locks_at_limit + here.locks_longer > 0 {
            tracing::warn!(
                repository,
                destination = here.name,
                at_limit = here.locks_at_limit,
                longer = here.locks_longer,
                "locks are not as they would be made: `coordinator scan --extend-locks` tells more"
            );
        }
    }
    if scan.is_damaged() {
        tracing::error!(
            repository,
            lost = scan.lost.len(),
            "a scan found damage: `coordinator scan` tells more"
        );
        return Outcome::Failed;
    }
    if scan.is_incomplete() {
        tracing::warn!(repository, "a destination could not be scanned to the end");
        return Outcome::Failed;
    }
    match scan.was_healed() {
        true => tracing::warn!(repository, "a scan found damage and put it right"),
        false => tracing::info!(repository, "scanned"),
    }
    Outcome::Ok
}
