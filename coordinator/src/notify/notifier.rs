//! Goes through what happened and how hosts are, writes down what is to be told, and delivers it. Each step is one change of
//! the state: what it found, and how far it went.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use formats::audit::AuditHead;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::audit::reader::AuditReader;
use crate::audit::{AuditLogError, read_head};
use crate::catalog::state::State;
use crate::catalog::state::notifications::{NotifyStep, Outgoing, Position, Waiting};
use crate::catalog::{CatalogError, last_known};
use crate::clock::{Clock, to_nanos, utc};
use crate::config::Config;
use crate::config::notify_settings::{Target, Way};
use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::events::EventStream;
use crate::machine;
use crate::notify::alert::{Level, Message};
use crate::notify::deliver::{Ping, deliver, ping};
use crate::notify::digest::{Digest, LogHead, last_due};
use crate::notify::http::{HttpError, Poster};
use crate::notify::transitions::Tracker;
use crate::repository::layout::StateDir;
use crate::status::severity::{Severity, severity};
use crate::status::{DestinationLag, fleet_status};

/// How often one looks, whether something was heard or not: others of this coordinator's programs write to the log too.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long one waits for more after something was heard, so that it is told together.
const GATHER: Duration = Duration::from_secs(1);
/// How long the append-server may take to say how destinations are.
const DESTINATIONS_DEADLINE: Duration = Duration::from_secs(5);
/// After a failed delivery: at first, and at most.
const RETRY_FIRST_SECS: i64 = 15;
const RETRY_SECS_MAX: i64 = 3_600;
/// What could not be delivered for so long is given up.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(72);

/// The notifier failed; what it had to tell is told later.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The state.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The audit log.
    #[error(transparent)]
    Log(#[from] AuditLogError),
    /// A catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What delivers over HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A thread was ended.
    #[error("looking for what is to be told was ended")]
    Ended(#[from] tokio::task::JoinError),
}

/// Tells what is to be told.
#[derive(Debug)]
pub struct Notifier {
    /// With the configuration in force.
    coordinator: watch::Receiver<Arc<Coordinator>>,
    /// What this machine is called.
    machine: String,
    poster: Poster,
    /// Nothing after a failure: what was read then was not told.
    reader: Option<AuditReader>,
    /// When each dead-man switch is called next.
    pings: BTreeMap<String, Instant>,
}

impl Notifier {
    /// Begins where the last one ended; the first one begins with what happens from now on.
    pub fn open(coordinator: watch::Receiver<Arc<Coordinator>>) -> Result<Self, NotifyError> {
        let current = Arc::clone(&coordinator.borrow());
        let mut state = State::open(&current.state_dir.state_file())?;
        if state.notify_position()?.is_none() {
            let head = read_head(&current.state_dir.audit_dir());
            let now = current.clock.now();
            let position = Position {
                sequence: head.map_or(0, |head| head.sequence),
                digest: now,
            };
            state.notify_step(&NotifyStep::default(), position, now)?;
        }
        Ok(Self {
            coordinator,
            machine: machine::name(),
            poster: Poster::new()?,
            reader: None,
            pings: BTreeMap::new(),
        })
    }

    /// Tells until `ending` is cancelled. What is not delivered by then is delivered by the next one.
    pub async fn run(mut self, mut events: EventStream, ending: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hears = true;
        self.ping_all(Some(Ping::Start)).await;
        loop {
            // Losing any arm is safe: events are in the audit log, where they are looked for.
            tokio::select! {
                () = ending.cancelled() => break,
                _ = ticks.tick() => {}
                heard = events.next(), if hears => {
                    hears = heard.is_some();
                    sleep(GATHER).await;
                    while events.next_waiting().is_some() {}
                }
            }
            // What cannot be looked for keeps nothing from being delivered.
            let round = async {
                let looked = self.look().await;
                let delivered = self.deliver_due().await;
                self.ping_all(None).await;
                looked.and(delivered)
            };
            // Losing a round is safe: what it had not written down is found again, and a message that was just being
            // delivered is delivered once more.
            let done = tokio::select! {
                () = ending.cancelled() => break,
                done = round => done,
            };
            if let Err(error) = done {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "nothing can be told at present");
            }
        }
        if let Err(error) = self.look().await {
            tracing::error!(%error, "the end could not be written down to be told");
        }
    }

    /// Finds what changed, and writes it down together with the messages that tell it.
    pub async fn look(&mut self) -> Result<(), NotifyError> {
        let current = self.current();
        let position = State::open(&current.state_dir.state_file())?.notify_position()?;
        let due = digest_due(&current.config, position, current.clock.now());
        let destinations = match due {
            Some(_) => destinations(&current).await,
            None => Vec::new(),
        };
        let (machine, mut reader) = (self.machine.clone(), self.reader.take());
        let looked = tokio::task::spawn_blocking(move || {
            look_once(&current, &machine, &mut reader, &destinations).map(|()| reader)
        });
        self.reader = looked.await??;
        Ok(())
    }

    fn current(&self) -> Arc<Coordinator> {
        Arc::clone(&self.coordinator.borrow())
    }

    /// Delivers what waits and is due.
    pub async fn deliver_due(&self) -> Result<(), NotifyError> {
        let current = self.current();
        let mut state = State::open(&current.state_dir.state_file())?;
        let mut by_target: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
        for waiting in state.due_messages(current.clock.now())? {
            let target = waiting.message.target.clone();
            by_target.entry(target).or_default().push(waiting);
        }
        let tasks = by_target.into_iter().map(|(name, waiting)| {
            let mut targets = current.config.notify.targets.iter();
            let target = targets.find(|target| target.name == name);
            self.deliver_to(&*current.clock, target, waiting)
        });
        for (id, outcome) in join_all(tasks).await.into_iter().flatten() {
            match outcome {
                Outcome::Done => state.message_done(id)?,
                Outcome::Again(due) => state.message_failed(id, due)?,
            }
        }
        Ok(())
    }

    /// One after the other, in their order; a target that fails is left alone until later.
    async fn deliver_to(
        &self,
        clock: &dyn Clock,
        target: Option<&Target>,
        waiting: Vec<Waiting>,
    ) -> Vec<(i64, Outcome)> {
        let mut outcomes = Vec::new();
        for one in waiting {
            let name = &one.message.target;
            let Some(target) = target else {
                tracing::warn!(to = %name, title = %one.message.title, "a message to a target that is not there any more");
                outcomes.push((one.id, Outcome::Done));
                continue;
            };
            let message = message_of(&one);
            let Err(error) = deliver(target, &message, &self.machine, &self.poster).await else {
                tracing::info!(to = %name, title = %message.title, "told");
                outcomes.push((one.id, Outcome::Done));
                continue;
            };
            let error = &error as &dyn std::error::Error;
            let now = clock.now();
            if now.duration_since(one.created) > GIVE_UP_AFTER {
                tracing::error!(to = %name, title = %message.title, error, "a message is given up");
                outcomes.push((one.id, Outcome::Done));
            } else {
                tracing::error!(to = %name, title = %message.title, error, "a message is not delivered yet");
                outcomes.push((one.id, Outcome::Again(now + retry_after(one.attempts))));
            }
            break;
        }
        outcomes
    }

    /// Calls the dead-man switches whose time has come: with `told`, or by how hosts are.
    async fn ping_all(&mut self, told: Option<Ping>) {
        let current = self.current();
        let now = Instant::now();
        let mut due = Vec::new();
        for target in &current.config.notify.targets {
            let Way::Ping { endpoint, every } = &target.way else {
                continue;
            };
            let next = self.pings.get(&target.name);
            if told.is_none() && next.is_some_and(|next| *next > now) {
                continue;
            }
            if told.is_none() {
                self.pings
                    .insert(target.name.clone(), now + every.duration());
            }
            due.push((target, endpoint));
        }
        if due.is_empty() {
            return;
        }
        let told = match told {
            Some(told) => told,
            None => fleet(&current),
        };
        let poster = &self.poster;
        let calls = due.into_iter().map(|(target, endpoint)| async move {
            if let Err(error) = ping(endpoint, told, poster).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(to = %target.name, error, "a dead-man switch was not reached");
            }
        });
        join_all(calls).await;
    }
}

/// Whether every host has the snapshots that it was promised.
fn fleet(current: &Coordinator) -> Ping {
    let read = || -> Result<bool, DatabaseError> {
        let state = State::open(&current.state_dir.state_file())?;
        let hosts = fleet_status(&state, &current.config, current.clock.now())?;
        let is_well = |host| severity(host) != Severity::Critical;
        Ok(hosts.iter().all(is_well))
    };
    match read() {
        Ok(true) => Ping::Success,
        Ok(false) | Err(_) => Ping::Fail,
    }
}

async fn destinations(current: &Coordinator) -> Vec<DestinationLag> {
    match timeout(DESTINATIONS_DEADLINE, current.storage.destinations()).await {
        Ok(Ok(states)) => states.into_iter().map(DestinationLag::from).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// What came of a delivery.
enum Outcome {
    Done,
    Again(Timestamp),
}

fn digest_due(config: &Config, position: Option<Position>, now: Timestamp) -> Option<Timestamp> {
    let at = config.notify.digest?;
    let due = last_due(at, config.notify.timezone.zone(), now)?;
    position
        .is_some_and(|position| due > position.digest)
        .then_some(due)
}

/// One step: reads, compares, and writes down.
fn look_once(
    current: &Coordinator,
    machine: &str,
    reader: &mut Option<AuditReader>,
    destinations: &[DestinationLag],
) -> Result<(), NotifyError> {
    let (config, now) = (&current.config, current.clock.now());
    let mut state = State::open(&current.state_dir.state_file())?;
    let mut position = state.notify_position()?.unwrap_or(Position {
        sequence: 0,
        digest: now,
    });
    let audit_dir = current.state_dir.audit_dir();
    let reader = reader.get_or_insert_with(|| AuditReader::new(&audit_dir, position.sequence));
    let mut tracker = Tracker::new(state.conditions()?);
    let mut last = position.sequence;
    let heard = reader.read(|read| {
        last = read.record.sequence;
        tracker.hear(&read.record);
    });
    position.sequence = last;
    let hosts = fleet_status(&state, config, now)?;
    tracker.look(&hosts, now);
    let changes = tracker.finish();
    let key = format!("{machine} {last} {}", to_nanos(now));
    let message = Message::of_alerts(&changes.alerts, key, machine, now);
    let wants_alerts = |target: &&Target| target.alerts;
    let mut messages = outgoing(message.as_ref(), config, wants_alerts);
    if let Some(due) = digest_due(config, Some(position), now) {
        let digest = Digest {
            hosts: &hosts,
            destinations,
            conditions: &state.conditions()?,
            logs: &log_heads(&state, &current.state_dir)?,
            audit: read_head(&audit_dir).unwrap_or(AuditHead::EMPTY),
            coordinator: machine,
            zone: config.notify.timezone.zone(),
            due,
            now,
        };
        messages.extend(outgoing(Some(&digest.message()), config, |target| {
            target.digest
        }));
        position.digest = due;
    }
    let step = NotifyStep {
        raised: changes.raised,
        cleared: changes.cleared,
        messages,
    };
    let dropped = state.notify_step(&step, position, now)?;
    if dropped > 0 {
        tracing::error!(
            dropped,
            "messages were dropped: too many wait for a target that does not take them"
        );
    }
    // What could be read before the damage is told all the same.
    heard.map_err(NotifyError::from)
}

/// A message for each target that wants it.
fn outgoing(
    message: Option<&Message>,
    config: &Config,
    wants: impl Fn(&&Target) -> bool,
) -> Vec<Outgoing> {
    let Some(message) = message else {
        return Vec::new();
    };
    let targets = config.notify.targets.iter().filter(wants);
    targets
        .map(|target| Outgoing {
            key: message.key.clone(),
            target: target.name.clone(),
            level: message.level.to_string(),
            title: message.title.clone(),
            body: message.body.clone(),
            json: message.json.to_string(),
        })
        .collect()
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

/// Where the log of each repository ends, as far as this coordinator has followed it.
fn log_heads(state: &State, state_dir: &StateDir) -> Result<Vec<LogHead>, NotifyError> {
    let mut heads = Vec::new();
    for known in state.repositories()? {
        let catalog: PathBuf = state_dir.catalog_file(known.repository);
        // A catalog that cannot be read is no reason to tell people nothing.
        let last = last_known(&catalog).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, name = known.name, "the digest lacks this log's head");
            None
        });
        if let Some((sequence, record)) = last {
            heads.push(LogHead {
                name: known.name,
                repository: known.repository,
                sequence,
                record,
            });
        }
    }
    Ok(heads)
}

/// The message that shows that a target can be reached.
pub fn test_message(coordinator: &str, now: Timestamp) -> Message {
    let title = "a test".to_owned();
    let body = format!("{} This is a test, and nothing is wrong.\n", utc(now));
    let key = format!("{coordinator} test {}", to_nanos(now));
    Message {
        json: serde_json::json!({
            "id": key,
            "kind": "test",
            "coordinator": coordinator,
            "at": utc(now),
            "level": Level::Ok.as_str(),
            "title": title,
            "text": body,
        }),
        key,
        level: Level::Ok,
        title,
        body,
    }
}
