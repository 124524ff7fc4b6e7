//! Delivers what waits in the state: to each target in its order, and to all of them side by side. One that is dead, slow or has
//! much waiting keeps nothing from the others: it has a turn like them, which is bounded, and is left alone after a failure.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::catalog::state::State;
use crate::catalog::state::notifications::Waiting;
use crate::clock::Clock;
use crate::config::notify_settings::{Endpoint, Target};
use crate::coordinator::Coordinator;
use crate::daemon::health::Health;
use crate::database::DatabaseError;
use crate::notify::alert::{Level, Message};
use crate::notify::deliver::{Ping, deliver, ping};
use crate::notify::http::Poster;
use crate::terminal::error_line;

/// The most messages that a target is given in one turn, and after how long it is given no more.
const TURN_MESSAGES_MAX: u32 = 20;
const TURN_MAX: Duration = Duration::from_secs(30);
/// A message that could not be delivered waits: at first, and at most.
const RETRY_FIRST_SECS: i64 = 15;
const RETRY_SECS_MAX: i64 = 3_600;
/// The longest that a message waits after a failure.
pub const RETRY_MAX: SignedDuration = SignedDuration::from_secs(RETRY_SECS_MAX);
/// A target that failed is left alone: at first, and at most. It takes its next message then, whichever that is.
const PAUSE_FIRST: Duration = Duration::from_secs(15);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// What is as old as this and was tried as often is given up: age alone may be a clock's that is wrong.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(72);
const GIVE_UP_ATTEMPTS: u32 = 10;

/// Delivers.
#[derive(Debug)]
pub struct Deliveries {
    /// What this machine is called.
    machine: String,
    poster: Poster,
    health: Health,
    pauses: BTreeMap<String, Pause>,
}

/// A target that is left alone for a while.
#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

/// What came of a message.
enum Outcome {
    Done,
    Again(Timestamp),
}

/// What came of a target's turn.
struct Turn {
    target: String,
    outcomes: Vec<(i64, Outcome)>,
    /// Why it failed; nothing when it took everything.
    problem: Option<String>,
}

impl Deliveries {
    /// Deliveries from a machine, which tell `health` of targets that take nothing.
    pub fn new(machine: String, health: Health) -> Self {
        Self {
            machine,
            poster: Poster::new(),
            health,
            pauses: BTreeMap::new(),
        }
    }

    /// Gives each target that is not left alone its turn.
    pub async fn deliver_due(&mut self, current: &Coordinator) -> Result<(), DatabaseError> {
        let targets = &current.config.notify.targets;
        let find = |name: &str| targets.iter().find(|target| target.name == name);
        self.health.keep_targets(|name| find(name).is_some());
        self.pauses.retain(|name, _| find(name).is_some());
        let mut state = State::open(&current.state_dir.state_file())?;
        let mut by_target: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
        for waiting in state.due_messages(current.clock.now(), TURN_MESSAGES_MAX)? {
            let target = waiting.message.target.clone();
            if !self.is_paused(&target, Instant::now()) {
                by_target.entry(target).or_default().push(waiting);
            }
        }
        let (machine, poster) = (self.machine.as_str(), &self.poster);
        let turns = by_target.into_iter().map(|(name, waiting)| {
            let target = find(&name);
            turn(name, target, waiting, machine, poster, &*current.clock)
        });
        let mut turns: FuturesUnordered<_> = turns.collect();
        let mut ended = Vec::new();
        while let Some(turn) = turns.next().await {
            // At once, while others may take long: what is not noted is delivered again after a kill.
            let noted = turn
                .outcomes
                .into_iter()
                .try_for_each(|(id, outcome)| match outcome {
                    Outcome::Done => state.message_done(id),
                    Outcome::Again(due) => state.message_failed(id, due),
                });
            // What cannot be noted would be delivered again at once: the target is left alone for as long as one that fails.
            let problem = match noted {
                Ok(()) => turn.problem,
                Err(error) => Some(error_line(&error)),
            };
            ended.push((turn.target, problem));
        }
        drop(turns);
        for (target, problem) in ended {
            self.note(&target, problem, Instant::now());
        }
        Ok(())
    }

    /// Calls a dead-man switch.
    pub async fn call(&self, name: &str, endpoint: &Endpoint, told: Ping) {
        let Err(error) = ping(endpoint, told, &self.poster).await else {
            self.health.target_took(name);
            return;
        };
        self.health.target_fails(name, error_line(&error));
        let error = &error as &dyn std::error::Error;
        tracing::error!(to = %name, error, "a dead-man switch was not reached");
    }

    fn is_paused(&self, target: &str, now: Instant) -> bool {
        let pause = self.pauses.get(target);
        pause
            .and_then(|pause| pause.until)
            .is_some_and(|until| until > now)
    }

    fn note(&mut self, target: &str, problem: Option<String>, now: Instant) {
        let Some(problem) = problem else {
            self.pauses.remove(target);
            self.health.target_took(target);
            return;
        };
        let pause = self.pauses.entry(target.to_owned()).or_default();
        pause.until = Some(now + pause_after(pause.failures));
        pause.failures = pause.failures.saturating_add(1);
        self.health.target_fails(target, problem);
    }
}

/// One after the other, in their order, until one fails.
async fn turn(
    name: String,
    target: Option<&Target>,
    waiting: Vec<Waiting>,
    machine: &str,
    poster: &Poster,
    clock: &dyn Clock,
) -> Turn {
    let began = Instant::now();
    let mut turn = Turn {
        target: name,
        outcomes: Vec::new(),
        problem: None,
    };
    for one in waiting {
        let (to, message) = (&turn.target, message_of(&one));
        let Some(target) = target else {
            tracing::warn!(%to, title = %message.title, "a message to a target that is not there any more");
            turn.outcomes.push((one.id, Outcome::Done));
            continue;
        };
        let Err(error) = deliver(target, &message, machine, poster).await else {
            tracing::info!(%to, title = %message.title, "told");
            turn.outcomes.push((one.id, Outcome::Done));
            if began.elapsed() > TURN_MAX {
                break;
            }
            continue;
        };
        turn.problem = Some(error_line(&error));
        let error = &error as &dyn std::error::Error;
        let now = clock.now();
        let is_old = now.duration_since(one.created) > GIVE_UP_AFTER;
        if is_old && one.attempts >= GIVE_UP_ATTEMPTS {
            tracing::error!(%to, title = %message.title, error, "a message is given up");
            turn.outcomes.push((one.id, Outcome::Done));
        } else {
            tracing::error!(%to, title = %message.title, error, "a message is not delivered yet");
            let due = now + retry_after(one.attempts);
            turn.outcomes.push((one.id, Outcome::Again(due)));
        }
        break;
    }
    turn
}

fn message_of(waiting: &Waiting) -> Message {
    let message = &waiting.message;
    let levels = [Level::Ok, Level::Warning, Level::Critical];
    let level = levels
        .into_iter()
        .find(|level| level.as_str() == message.level);
    Message {
        key: message.key.clone(),
        // One that is not known is not made less of.
        level: level.unwrap_or(Level::Critical),
        title: message.title.clone(),
        body: message.body.clone(),
        json: serde_json::from_str(&message.json).unwrap_or_default(),
    }
}

fn retry_after(attempts: u32) -> SignedDuration {
    let factor = 1_i64.checked_shl(attempts.min(16)).unwrap_or(i64::MAX);
    let secs = RETRY_FIRST_SECS.saturating_mul(factor).min(RETRY_SECS_MAX);
    SignedDuration::from_secs(secs)
}

fn pause_after(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures);
    PAUSE_FIRST.saturating_mul(factor).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::{PAUSE_MAX, RETRY_MAX, pause_after, retry_after};

    #[test]
    fn what_fails_is_tried_again_ever_more_seldom_and_never_not_at_all() {
        assert_eq!(retry_after(0), SignedDuration::from_secs(15));
        assert_eq!(retry_after(2), SignedDuration::from_secs(60));
        assert_eq!(retry_after(u32::MAX), RETRY_MAX);
        assert_eq!(pause_after(1), Duration::from_secs(30));
        assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    }
}
