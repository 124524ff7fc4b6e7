//! A target's turn: what waits for it is delivered one after the other, in its order, until the target fails. A message that it
//! refuses for what it is holds up no other one, and is given up in the end; but a target that refuses everything says nothing of
//! one message, and is kept what waits for it, as one that is down. What came of each message is written down before the next one, so that whoever
//! goes on later gives it to nobody again.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::catalog::state::State;
use crate::catalog::state::notifications::{OldLimits, Waiting};
use crate::clock::Clock;
use crate::config::notify_settings::Target;
use crate::coordinator::Coordinator;
use crate::daemon::health::Health;
use crate::database::DatabaseError;
use crate::notify::alert::Message;
use crate::notify::deliver::{DeliverError, deliver};
use crate::notify::http::Poster;
use crate::notify::missed::{
    MISSED_AFTER, Old, REFUSED_MAX, Summary, WAITING_MAX, is_refused_for_good, summary,
};
use crate::terminal::error_line;

/// The most messages of one turn; then the next one begins, with the configuration that is in force by then.
const TURN_MESSAGES_MAX: u32 = 20;
/// A message that was not taken, and with it all that come after, waits: at first, and at most.
const RETRY_FIRST_SECS: i64 = 15;
const RETRY_SECS_MAX: i64 = 600;
/// The longest that a message waits after a failure.
pub const RETRY_MAX: SignedDuration = SignedDuration::from_secs(RETRY_SECS_MAX);

/// A target that took something within so long takes messages. What it has refused often enough to be given up, it has refused
/// before that and after.
const TOOK_LATELY: SignedDuration = SignedDuration::from_secs(2 * RETRY_SECS_MAX);

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
    /// It is given again then, and what comes after it waits.
    Again(Timestamp),
    /// It was refused for what it is; it is given again then, and nothing waits for it.
    Refused(Timestamp),
    /// It was refused so often that it is not given again.
    GivenUp,
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
    /// When the target took a message last, as far as is known.
    pub took: Option<Timestamp>,
}

/// Where what waits is kept.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// The state file.
    pub file: PathBuf,
    /// By what time it is used.
    pub clock: Arc<dyn Clock>,
}

impl Outbox {
    /// A coordinator's.
    pub fn of(current: &Coordinator) -> Self {
        Self {
            file: current.state_dir.state_file(),
            clock: Arc::clone(&current.clock),
        }
    }

    /// Does something with the state on a thread that may wait.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State, Timestamp) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let (file, now) = (self.file.clone(), self.clock.now());
        let done = spawn_blocking(move || work(&mut State::open(&file)?, now));
        Ok(done.await??)
    }
}

/// A target, and what its turn needs.
#[derive(Debug)]
pub struct Turn {
    /// Whose turn it is.
    pub target: Target,
    /// Where what waits for it is.
    pub outbox: Outbox,
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
    /// When the target took a message last, as far as is known.
    pub took: Option<Timestamp>,
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
            took: self.took,
        }
    }

    async fn deliver_waiting(&mut self) -> Result<(), TurnError> {
        self.note().await?;
        self.sum_up_missed().await?;
        let mut refusal = None;
        for _ in 0..TURN_MESSAGES_MAX {
            if self.stop.is_cancelled() {
                break;
            }
            let name = self.target.name.clone();
            let next = self
                .outbox
                .with(move |state, now| state.next_message(&name, now));
            let Some(waiting) = next.await? else {
                break;
            };
            let message = Message::from(waiting.message.clone());
            let delivered = deliver(&self.target, &message, &self.machine, &self.poster).await;
            let outcome = match &delivered {
                Ok(()) => {
                    tracing::info!(to = %self.target.name, title = %message.title, "told");
                    self.took = Some(self.outbox.clock.now());
                    Outcome::Taken
                }
                Err(error) => self.after_failure(&waiting, error),
            };
            let id = waiting.id;
            self.unnoted = Some(Unnoted { id, outcome });
            self.note().await?;
            match delivered {
                Ok(()) => self.health.target_took(&self.target.name),
                // The target may take the next one.
                Err(error) if error.is_of_the_message() => refusal = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        match refusal {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn after_failure(&self, waiting: &Waiting, error: &DeliverError) -> Outcome {
        let now = self.outbox.clock.now();
        let due = now + retry_after(waiting.attempts);
        if !error.is_of_the_message() {
            return Outcome::Again(due);
        }
        let (to, title) = (&self.target.name, &waiting.message.title);
        let took_lately = self
            .took
            .is_some_and(|took| now.duration_since(took).abs() <= TOOK_LATELY);
        if !is_refused_for_good(waiting) || !took_lately {
            let error = error as &dyn std::error::Error;
            tracing::warn!(%to, title, error, took_lately, "a message is refused and kept, and the next one is tried");
            return Outcome::Refused(due);
        }
        let problem = format!("given up: {title}: {}", error_line(error));
        self.health.target_lost(to, problem);
        let error = error as &dyn std::error::Error;
        tracing::error!(%to, title, error, "a message is given up: it was refused all the time");
        Outcome::GivenUp
    }

    /// Writes down what came of a message; until it is, it is kept.
    async fn note(&mut self) -> Result<(), OutboxError> {
        let Some(Unnoted { id, outcome }) = self.unnoted else {
            return Ok(());
        };
        let noted = self.outbox.with(move |state, _| match outcome {
            Outcome::Taken | Outcome::GivenUp => state.message_done(id),
            Outcome::Again(due) => state.message_failed(id, due),
            Outcome::Refused(due) => state.message_refused(id, due),
        });
        noted.await?;
        self.unnoted = None;
        Ok(())
    }

    /// Puts one message in the place of those that missed their time.
    async fn sum_up_missed(&self) -> Result<(), OutboxError> {
        let (name, machine) = (self.target.name.clone(), Arc::clone(&self.machine));
        let summed_up = self.outbox.with(move |state, now| {
            let limits = OldLimits {
                before: now - MISSED_AFTER,
                newest: WAITING_MAX,
                refused: REFUSED_MAX,
            };
            let old = state.old_messages(&name, limits, Old::of)?;
            if old.is_empty() {
                return Ok(None);
            }
            let Some(summary) = summary(&old, &state.conditions()?, &machine, now) else {
                return Ok(None);
            };
            let Summary {
                ids,
                message,
                refused,
            } = summary;
            state.replace_messages(&ids, &message.to(&name), refused)?;
            Ok(Some(message.title))
        });
        if let Some(title) = summed_up.await? {
            tracing::warn!(to = %self.target.name, title, "messages missed their time");
        }
        Ok(())
    }
}

fn retry_after(attempts: u32) -> SignedDuration {
    let factor = 1_i64.checked_shl(attempts.min(16)).unwrap_or(i64::MAX);
    let secs = RETRY_FIRST_SECS.saturating_mul(factor).min(RETRY_SECS_MAX);
    SignedDuration::from_secs(secs)
}

#[cfg(test)]
mod tests;
