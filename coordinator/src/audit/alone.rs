//! The audit log for commands that open no coordinator: they write what they did themselves.

use formats::ids::CoordinatorId;
use formats::keys::secret::{RandomError, random};

use crate::audit::log::AuditLog;
use crate::audit::{AUDIT_FILE_BYTES_MAX, AuditLogError};
use crate::catalog::state::State;
use crate::clock::Clock;
use crate::database::DatabaseError;
use crate::events::actor::Actor;
use crate::events::{Event, Told};
use crate::machine;
use crate::repository::layout::StateDir;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The log.
    #[error(transparent)]
    Log(#[from] AuditLogError),
    /// The state, which has the coordinator's name.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Records what the user that runs this program did. What is done stays done when it cannot be recorded; that is told.
pub fn record(state_dir: &StateDir, clock: &dyn Clock, events: Vec<Event>) {
    if let Err(error) = try_record(state_dir, clock, events) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "what was done is not in the audit log"
        );
    }
}

fn try_record(
    state_dir: &StateDir,
    clock: &dyn Clock,
    events: Vec<Event>,
) -> Result<(), RecordError> {
    let mut state = State::open(&state_dir.state_file())?;
    let id = state.coordinator_id(machine::digest(), CoordinatorId(random()?))?;
    let mut log = AuditLog::new(&state_dir.audit_dir(), id.to_string(), AUDIT_FILE_BYTES_MAX);
    let told = events.into_iter().map(|event| Told {
        at: clock.now(),
        actor: Actor::current_user(),
        event,
    });
    log.append(&told.collect::<Vec<_>>())?;
    Ok(())
}
