//! What the runs came to that a daemon left behind when it died: nothing that was committed is done a second time, and nothing
//! that was not is taken for done.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::catalog::state::RunRow;
use crate::catalog::state::holds::HoldKind;
use crate::catalog::state::results::RunResult;
use crate::coordinator::{Coordinator, OpenError};
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::lock::HostLock;
use crate::terminal::error_line;

/// How long logs are asked for records; what is not known then is done again.
const LOGS_ASKED_MAX: Duration = Duration::from_secs(30);

/// At the daemon's start: runs that nobody is at any more have ended with the daemon before, and so have attempts at occasions.
/// Before anything else begins, or it would be taken for one of them. Gives what is to be told once somebody listens.
pub async fn note_the_dead(coordinator: &Coordinator) -> Result<Vec<Event>, DatabaseError> {
    let now = coordinator.clock.now();
    let deadline = Instant::now() + LOGS_ASKED_MAX;
    let mut told = Vec::new();
    let hosts_dir = coordinator.state_dir.hosts_dir();
    let open = coordinator.state.lock().await.open_runs()?;
    for run in open {
        // A run that was begun by hand may go on in a process of its own: then its host is locked.
        let Ok(_lock) = HostLock::take(&hosts_dir, &run.host, run.run, now) else {
            continue;
        };
        told.push(note_dead(coordinator, &run, now, deadline).await?);
    }
    let mut state = coordinator.state.lock().await;
    let died = state.occasions_died(now)?;
    if died > 0 {
        tracing::info!(
            died,
            "occasions that the daemon before did not see the end of"
        );
    }
    Ok(told)
}

async fn note_dead(
    coordinator: &Coordinator,
    run: &RunRow,
    now: Timestamp,
    deadline: Instant,
) -> Result<Event, DatabaseError> {
    let may_be_committed = coordinator.state.lock().await.may_be_committed(run.run)?;
    if may_be_committed && let Some(found) = ask_log(coordinator, run, deadline).await {
        let mut state = coordinator.state.lock().await;
        state.note_result(&run.host, run.run, &found)?;
    }
    let mut state = coordinator.state.lock().await;
    let outcome = state.run_died(run.run, now)?;
    let result = state.result(run.run)?;
    let why = state.run(run.run)?.and_then(|row| row.error);
    drop(state);
    tracing::warn!(host = run.host, run = %run.run, %outcome, "the coordinator died in a run");
    let took = now.duration_since(run.started);
    let totals = result.map(|result| result.totals);
    let ended = What::run_ended(outcome, totals, took, why);
    let ended = Event::of_host(&run.host, ended);
    Ok(ended.in_run(run.run))
}

/// What the log has of a run that was about to be committed.
async fn ask_log(coordinator: &Coordinator, run: &RunRow, deadline: Instant) -> Option<RunResult> {
    // Losing the work is safe: the log is read again by whoever opens the repository next.
    let found = tokio::time::timeout_at(deadline, find_in_log(coordinator, run)).await;
    match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            let why = error_line(&error);
            tracing::warn!(
                host = run.host,
                why,
                "whether a run was committed is not known"
            );
            None
        }
        Err(_) => {
            tracing::warn!(
                host = run.host,
                "the log does not say in time whether a run was committed"
            );
            None
        }
    }
}

async fn find_in_log(
    coordinator: &Coordinator,
    run: &RunRow,
) -> Result<Option<RunResult>, OpenError> {
    let Ok(host) = coordinator.config.host(&run.host) else {
        return Ok(None); // It is not backed up any more.
    };
    let Some(opened) = coordinator.find(host).await? else {
        return Ok(None);
    };
    let rows = opened.catalog.snapshots(Some(&run.host))?;
    let Some(row) = rows.into_iter().rev().find(|row| row.run == run.run) else {
        return Ok(None);
    };
    let holds = coordinator.state.lock().await.holds(Some(&run.host))?;
    Ok(Some(RunResult {
        snapshot: row.id,
        committed: row.committed,
        // A run that looks wrong has its host on hold before it is committed.
        good: !holds.iter().any(|hold| hold.kind == HoldKind::Anomaly),
        verified: row.verified,
        totals: row.totals,
    }))
}
