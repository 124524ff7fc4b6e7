//! Gives each target its turns, and each dead-man switch its calls, in a task of its own: one that is dead, slow or has much
//! waiting keeps nothing from the others. A target has one turn at a time, so that it is told everything in its order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::notify_settings::{Target, Way};
use crate::coordinator::Coordinator;
use crate::daemon::health::Health;
use crate::notify::http::Poster;
use crate::notify::switch::Call;
use crate::notify::turn::{Ended, Outbox, OutboxError, Turn, Unnoted};

/// How long a turn may go on once the daemon ends: what a target is just taking is written down in that time.
const END_MAX: Duration = Duration::from_secs(3);

/// Who is being told, and what is known of it.
#[derive(Debug)]
pub struct Deliveries {
    /// What this machine is called.
    machine: Arc<str>,
    poster: Arc<Poster>,
    health: Health,
    /// Turns and calls.
    turns: JoinSet<Ended>,
    /// Whose each of them is.
    busy: HashMap<Id, String>,
    /// What could not be written down, by target.
    unnoted: BTreeMap<String, Unnoted>,
    /// When each target took a message last.
    took: BTreeMap<String, Timestamp>,
    /// When each switch is called next.
    calls: BTreeMap<String, Instant>,
    /// Cancelled when no further message is to be begun.
    stop: CancellationToken,
}

impl Deliveries {
    /// Deliveries from a machine, which tell `health` of targets that take nothing.
    pub fn new(machine: &str, health: Health) -> Self {
        Self {
            machine: machine.into(),
            poster: Arc::new(Poster::new()),
            health,
            turns: JoinSet::new(),
            busy: HashMap::new(),
            unnoted: BTreeMap::new(),
            took: BTreeMap::new(),
            calls: BTreeMap::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Calls the switches whose time has come, and begins the turn of each target for which something is due. Goes on at once,
    /// however long these take.
    pub async fn begin_due(&mut self, current: &Arc<Coordinator>) -> Result<(), OutboxError> {
        let targets = &current.config.notify.targets;
        let find = |name: &str| targets.iter().find(|target| target.name == name);
        self.health.keep_targets(|name| find(name).is_some());
        self.unnoted.retain(|name, _| find(name).is_some());
        self.took.retain(|name, _| find(name).is_some());
        self.calls.retain(|name, _| find(name).is_some());
        for target in targets {
            self.call_if_due(target, current);
        }
        let outbox = Outbox::of(current);
        let due = outbox.with(|state, now| state.due_targets(now)).await?;
        for name in due {
            if self.is_busy(&name) {
                continue;
            }
            match find(&name) {
                Some(target) => self.begin_turn(target, &outbox),
                None => {
                    let gone = name.clone();
                    let dropped = outbox.with(move |state, _| state.drop_messages(&gone));
                    let dropped = dropped.await?;
                    tracing::warn!(to = %name, dropped, "messages to a target that is not there any more");
                }
            }
        }
        Ok(())
    }

    /// Whether there is one whose end can be waited for.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Waits for the end of a turn or a call. Says whether more may be begun at once.
    pub async fn turn_ended(&mut self) -> bool {
        match self.turns.join_next_with_id().await {
            Some(Ok((id, ended))) => {
                let name = self.busy.remove(&id).unwrap_or_default();
                if let Some(took) = ended.took {
                    self.took.insert(name.clone(), took);
                }
                if let Some(unnoted) = ended.unnoted {
                    self.unnoted.insert(name, unnoted);
                }
                ended.goes_on
            }
            Some(Err(error)) => {
                let name = self.busy.remove(&error.id()).unwrap_or_default();
                self.health.target_fails(&name, error.to_string());
                tracing::error!(to = %name, %error, "a turn was ended");
                false
            }
            None => false,
        }
    }

    /// Begins nothing more, and gives what goes on a moment to end and to be written down. What is not by then is delivered
    /// again by the next daemon.
    pub async fn end(mut self) {
        self.stop.cancel();
        let all = async {
            while self.has_turns() {
                self.turn_ended().await;
            }
        };
        if timeout(END_MAX, all).await.is_err() {
            tracing::warn!(
                "a target was being told when the daemon ended, and may be told the same again"
            );
        }
    }

    fn call_if_due(&mut self, target: &Target, current: &Arc<Coordinator>) {
        let Way::Ping { endpoint, every } = &target.way else {
            return;
        };
        let next = self.calls.get(&target.name).copied();
        if self.is_busy(&target.name) || next.is_some_and(|next| next > Instant::now()) {
            return;
        }
        let call = Call {
            name: target.name.clone(),
            endpoint: endpoint.clone(),
            is_first: next.is_none(),
            current: Arc::clone(current),
            poster: Arc::clone(&self.poster),
            health: self.health.clone(),
        };
        let next = Instant::now() + every.duration();
        self.calls.insert(target.name.clone(), next);
        let task = self.turns.spawn(async move {
            call.make().await;
            Ended {
                unnoted: None,
                goes_on: true,
                took: None,
            }
        });
        self.busy.insert(task.id(), target.name.clone());
    }

    fn begin_turn(&mut self, target: &Target, outbox: &Outbox) {
        let turn = Turn {
            target: target.clone(),
            outbox: outbox.clone(),
            machine: Arc::clone(&self.machine),
            poster: Arc::clone(&self.poster),
            health: self.health.clone(),
            stop: self.stop.clone(),
            unnoted: self.unnoted.remove(&target.name),
            took: self.took.get(&target.name).copied(),
        };
        let task = self.turns.spawn(turn.take());
        self.busy.insert(task.id(), target.name.clone());
    }

    fn is_busy(&self, name: &str) -> bool {
        self.busy.values().any(|busy| busy == name)
    }
}
