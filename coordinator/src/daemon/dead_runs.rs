//! What the runs came to that a daemon left behind when it died, and its attempts at occasions.

use tokio::time::Instant;

use crate::backup::dead_runs::{LOGS_ASKED_MAX, note_dead};
use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::events::Event;
use crate::lock::{HostLock, LockError};

/// At the daemon's start: runs that nobody is at any more have ended with the daemon before, and so have attempts at occasions.
/// Before anything else begins, or it would be taken for one of them. Gives what is to be told once somebody listens.
pub async fn note_the_dead(coordinator: &Coordinator) -> Result<Vec<Event>, DatabaseError> {
    let now = coordinator.clock.now();
    let deadline = Instant::now() + LOGS_ASKED_MAX;
    let mut told = Vec::new();
    let hosts_dir = coordinator.state_dir.hosts_dir();
    let open = coordinator.state.lock().await.open_runs()?;
    for run in open {
        let lock = HostLock::take(&hosts_dir, &run.host, run.run, now);
        let may_go_on = match &lock {
            Ok(_) => false,
            // Begun by hand, it goes on in a process of its own; or another one does, which finds out of this one too.
            Err(LockError::Locked { holder, .. }) => holder.run.is_none_or(|held| held == run.run),
            Err(_) => true,
        };
        if !may_go_on {
            told.extend(note_dead(coordinator, &run, deadline).await?);
        }
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
