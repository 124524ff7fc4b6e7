//! A target's turn: what waits for it is delivered one after the other, in its order, until the target fails. What came of each
//! message is written down before the next one, so that whoever goes on later gives it to nobody again.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::catalog::state::State;
use crate::config::notify_settings::Target;
use crate::coordinator::Coordinator;
use crate::daemon::health::Health;
use crate::database::DatabaseError;
use crate::notify::alert::Message;
use crate::notify::deliver::{DeliverError, deliver};
use crate::notify::http::Poster;
use crate::notify::missed::{MISSED_AFTER, Old, Summary, WAITING_MAX, summary};
use crate::terminal::error_line;

/// The most messages of one turn; then the next one begins, with the configuration that is in force by then.
const TURN_MESSAGES_MAX: u32 = 20;
/// A message that was not taken, and with it all that come after, waits: at first, and at most.
const RETRY_FIRST_SECS: i64 = 15;
const RETRY_SECS_MAX: i64 = 600;
/// The longest that a message waits after a failure.
pub const RETRY_MAX: SignedDuration = SignedDuration::from_secs(RETRY_SECS_MAX);

/// What waits could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The state.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// A thread was ended.
    #[error("using the state was ended")]
    Ended(#[from] JoinError),
}

/// Why a turn ended before everything was delivered.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The target.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// What came of a message, or the next one, is not known to the state.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Taken,
    /// It is given again then.
    Again(Timestamp),
}

/// What came of a message and is not written down yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unnoted {
    /// The message's place.
    pub id: i64,
    /// What came of it.
    pub outcome: Outcome,
}

/// How a turn, or a call, ended.
#[derive(Debug)]
pub struct Ended {
    /// What could not be written down.
    pub unnoted: Option<Unnoted>,
    /// Whether more may be begun at once: not while the state takes nothing.
    pub goes_on: bool,
}

/// A target, and what its turn needs.
#[derive(Debug)]
pub struct Turn {
    /// Whose turn it is.
    pub target: Target,
    /// With the configuration in force.
    pub current: Arc<Coordinator>,
    /// What this machine is called.
    pub machine: Arc<str>,
    /// Makes requests.
    pub poster: Arc<Poster>,
    /// Hears whether the target takes messages.
    pub health: Health,
    /// Cancelled when no further message is to be begun.
    pub stop: CancellationToken,
    /// What a turn before could not write down: nothing else is done before it is.
    pub unnoted: Option<Unnoted>,
}

impl Turn {
    /// Takes the turn.
    pub async fn take(mut self) -> Ended {
        let mut goes_on = true;
        if let Err(error) = self.deliver_waiting().await {
            goes_on = !matches!(error, TurnError::Outbox(_));
            let to = &self.target.name;
            self.health.target_fails(to, error_line(&error));
            let error = &error as &dyn std::error::Error;
            tracing::error!(%to, error, "a message is not delivered yet");
        }
        Ended {
            unnoted: self.unnoted,
            goes_on,
        }
    }

    async fn deliver_waiting(&mut self) -> Result<(), TurnError> {
        self.note().await?;
        self.sum_up_missed().await?;
        for _ in 0..TURN_MESSAGES_MAX {
            if self.stop.is_cancelled() {
                break;
            }
            let name = self.target.name.clone();
            let next = on_state(&self.current, move |state, now| {
                state.next_message(&name, now)
            });
            let Some(waiting) = next.await? else {
                break;
            };
            let message = Message::from(waiting.message);
            let delivered = deliver(&self.target, &message, &self.machine, &self.poster).await;
            let outcome = match &delivered {
                Ok(()) => {
                    tracing::info!(to = %self.target.name, title = %message.title, "told");
                    Outcome::Taken
                }
                Err(_) => Outcome::Again(self.current.clock.now() + retry_after(waiting.attempts)),
            };
            let id = waiting.id;
            self.unnoted = Some(Unnoted { id, outcome });
            self.note().await?;
            delivered?;
            self.health.target_took(&self.target.name);
        }
        Ok(())
    }

    /// Writes down what came of a message; until it is, it is kept.
    async fn note(&mut self) -> Result<(), OutboxError> {
        let Some(Unnoted { id, outcome }) = self.unnoted else {
            return Ok(());
        };
        let noted = on_state(&self.current, move |state, _| match outcome {
            Outcome::Taken => state.message_done(id),
            Outcome::Again(due) => state.message_failed(id, due),
        });
        noted.await?;
        self.unnoted = None;
        Ok(())
    }

    /// Puts one message in the place of those that missed their time.
    async fn sum_up_missed(&self) -> Result<(), OutboxError> {
        let (name, machine) = (self.target.name.clone(), Arc::clone(&self.machine));
        let summed_up = on_state(&self.current, move |state, now| {
            let before = now - MISSED_AFTER;
            let old = state.old_messages(&name, before, WAITING_MAX, Old::of)?;
            if old.is_empty() {
                return Ok(None);
            }
            let Some(summary) = summary(&old, &state.conditions()?, &machine, now) else {
                return Ok(None);
            };
            let Summary { ids, message } = summary;
            state.replace_messages(&ids, &message.to(&name))?;
            Ok(Some(message.title))
        });
        if let Some(title) = summed_up.await? {
            tracing::warn!(to = %self.target.name, title, "messages missed their time");
        }
        Ok(())
    }
}

/// Does something with the state on a thread that may wait.
pub async fn on_state<T: Send + 'static>(
    current: &Coordinator,
    work: impl FnOnce(&mut State, Timestamp) -> Result<T, DatabaseError> + Send + 'static,
) -> Result<T, OutboxError> {
    let (file, now) = (current.state_dir.state_file(), current.clock.now());
    let done = spawn_blocking(move || work(&mut State::open(&file)?, now));
    Ok(done.await??)
}

fn retry_after(attempts: u32) -> SignedDuration {
    let factor = 1_i64.checked_shl(attempts.min(16)).unwrap_or(i64::MAX);
    let secs = RETRY_FIRST_SECS.saturating_mul(factor).min(RETRY_SECS_MAX);
    SignedDuration::from_secs(secs)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::{RETRY_MAX, retry_after};

    #[test]
    fn what_fails_is_tried_again_ever_more_seldom_and_never_not_at_all() {
        assert_eq!(retry_after(0), SignedDuration::from_secs(15));
        assert_eq!(retry_after(2), SignedDuration::from_secs(60));
        assert_eq!(retry_after(u32::MAX), RETRY_MAX);
    }
}
