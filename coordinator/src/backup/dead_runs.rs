//! What a run came to whose coordinator died in it: nothing that was committed is done a second time, and nothing that was not is
//! taken for done. Whoever comes next finds it out, the daemon at its start or another run of the host.

use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::state::RunRow;
use crate::catalog::state::holds::HoldKind;
use crate::catalog::state::results::RunResult;
use crate::coordinator::{Coordinator, OpenError};
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::terminal::error_line;

/// How long logs are asked for records; what is not known then is done again.
pub const LOGS_ASKED_MAX: Duration = Duration::from_secs(30);

/// Before a host's next run begins, which has its lock: notes and tells what became of those that never ended.
pub async fn note_dead_of(coordinator: &Coordinator, host: &str) -> Result<(), DatabaseError> {
    let deadline = Instant::now() + LOGS_ASKED_MAX;
    let open = coordinator.state.lock().await.open_runs()?;
    for run in open.iter().filter(|run| run.host == host) {
        if let Some(ended) = note_dead(coordinator, run, deadline).await? {
            coordinator.events.tell(ended);
        }
    }
    Ok(())
}

/// Notes what became of a run that nobody is at any more, with what the log has of it until `deadline`. Gives what is to be told:
/// nothing when another process was faster.
pub async fn note_dead(
    coordinator: &Coordinator,
    run: &RunRow,
    deadline: Instant,
) -> Result<Option<Event>, DatabaseError> {
    let now = coordinator.clock.now();
    let may_be_committed = coordinator.state.lock().await.may_be_committed(run.run)?;
    if may_be_committed && let Some(found) = ask_log(coordinator, run, deadline).await {
        let mut state = coordinator.state.lock().await;
        state.note_result(&run.host, run.run, &found)?;
    }
    let mut state = coordinator.state.lock().await;
    let Some(outcome) = state.run_died(run.run, now)? else {
        return Ok(None);
    };
    let result = state.result(run.run)?;
    let why = state.run(run.run)?.and_then(|row| row.error);
    drop(state);
    tracing::warn!(host = run.host, run = %run.run, %outcome, "the coordinator died in a run");
    let took = now.duration_since(run.started);
    let totals = result.map(|result| result.totals);
    let ended = What::run_ended(outcome, totals, took, why);
    let ended = Event::of_host(&run.host, ended);
    Ok(Some(ended.in_run(run.run)))
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
