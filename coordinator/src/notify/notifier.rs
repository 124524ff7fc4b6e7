//! Goes through what happened and how hosts are, writes down what is to be told, and has it delivered. Each step is one change of
//! the state: what it found, and how far it went.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use append_server::places::Place;
use formats::audit::AuditHead;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::audit::reader::AuditReader;
use crate::audit::{AuditLogError, read_head};
use crate::catalog::state::State;
use crate::catalog::state::notifications::{NotifyStep, Outgoing, Position};
use crate::catalog::{CatalogError, last_known};
use crate::clock::{to_nanos, utc};
use crate::config::Config;
use crate::config::notify_settings::Target;
use crate::coordinator::Coordinator;
use crate::daemon::health::Health;
use crate::database::DatabaseError;
use crate::events::EventStream;
use crate::machine;
use crate::notify::alert::{Level, Message};
use crate::notify::deliveries::Deliveries;
use crate::notify::digest::{Digest, LogHead, last_due};
use crate::notify::transitions::{FirstLock, Tracker};
use crate::notify::turn::{OutboxError, RETRY_MAX};
use crate::repository::layout::StateDir;
use crate::scan::known::scanned;
use crate::status::{DestinationLag, fleet_status};
use crate::terminal::error_line;

/// For how long objects are usually locked.
const RETAIN_USUAL: Duration = Duration::from_secs(30 * 86_400);
/// How often one looks, whether something was heard or not: others of this coordinator's programs write to the log too.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long one waits for more after something was heard, so that it is told together.
const GATHER: Duration = Duration::from_secs(1);
/// How long the append-server may take to say how destinations are.
const DESTINATIONS_DEADLINE: Duration = Duration::from_secs(5);
/// What finding and delivering is called among the services: it may fail while the notifier itself goes on.
const ALERTS: &str = "alerts";

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
    /// What waits.
    #[error(transparent)]
    Deliveries(#[from] OutboxError),
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
    deliveries: Deliveries,
    health: Health,
    /// Nothing after a failure: what was read then was not told.
    reader: Option<AuditReader>,
}

impl Notifier {
    /// Begins where the last one ended; the first one begins with what happens from now on.
    pub fn open(
        coordinator: watch::Receiver<Arc<Coordinator>>,
        health: Health,
    ) -> Result<Self, NotifyError> {
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
        let machine = machine::name();
        Ok(Self {
            coordinator,
            deliveries: Deliveries::new(&machine, health.clone()),
            health,
            machine,
            reader: None,
        })
    }

    /// Tells until `ending` is cancelled. What is not delivered by then is delivered by the next one.
    pub async fn run(mut self, mut events: EventStream, ending: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hears = true;
        loop {
            // Losing any arm is safe: events are in the audit log, where they are looked for, and turns go on by themselves.
            let looks = tokio::select! {
                () = ending.cancelled() => break,
                _ = ticks.tick() => true,
                heard = events.next(), if hears => {
                    hears = heard.is_some();
                    sleep(GATHER).await;
                    while events.next_waiting().is_some() {}
                    true
                }
                goes_on = self.deliveries.turn_ended(), if self.deliveries.has_turns() => match goes_on {
                    true => false,
                    false => continue,
                },
            };
            // What cannot be looked for keeps nothing from being delivered.
            let round = async {
                let looked = match looks {
                    true => self.look().await,
                    false => Ok(()),
                };
                let current = self.current();
                let begun = self.deliveries.begin_due(&current).await;
                looked.and(begun.map_err(NotifyError::from))
            };
            // Losing a round is safe: what it had not written down is found again.
            let done = tokio::select! {
                () = ending.cancelled() => break,
                done = round => done,
            };
            match done {
                Ok(()) if looks => self.health.service_up(ALERTS),
                Ok(()) => {}
                Err(error) => {
                    self.health.service_down(ALERTS, error_line(&error));
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "nothing can be told at present");
                }
            }
        }
        if let Err(error) = self.look().await {
            tracing::error!(%error, "the end could not be written down to be told");
        }
        self.deliveries.end().await;
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
}

async fn destinations(current: &Coordinator) -> Vec<DestinationLag> {
    match timeout(DESTINATIONS_DEADLINE, current.storage.destinations()).await {
        Ok(Ok(states)) => states.into_iter().map(DestinationLag::from).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn digest_due(config: &Config, position: Option<Position>, now: Timestamp) -> Option<Timestamp> {
    let at = config.notify.digest?;
    let due = last_due(at, config.notify.timezone.zone(), now)?;
    position
        .is_some_and(|position| due > position.digest)
        .then_some(due)
}

/// When the first locks end at the destinations whose `retain` is known here: an append-server of its own has them in its own
/// configuration, and then the usual time is taken.
fn first_locks(state: &State, current: &Coordinator) -> Result<Vec<FirstLock>, DatabaseError> {
    let places = &current.config.destinations;
    let known = scanned(state, current)?.into_iter();
    let locks = known.filter_map(|scanned| {
        let mut places = places.iter();
        let place = places.find(|place| place.name.to_string() == scanned.destination);
        let retain = place.and_then(Place::lock_time).unwrap_or(RETAIN_USUAL);
        Some(FirstLock {
            left: scanned.lock_left?,
            repository: scanned.repository,
            destination: scanned.destination,
            retain: SignedDuration::try_from(retain).unwrap_or(SignedDuration::MAX),
        })
    });
    Ok(locks.collect())
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
    state.forget_the_future(now, RETRY_MAX)?;
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
    match first_locks(&state, current) {
        Ok(locks) => tracker.look_at_locks(&locks, now),
        // Everything else is told all the same.
        Err(error) => tracing::error!(%error, "when locks end is not known"),
    }
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
    state.notify_step(&step, position, now)?;
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
    targets.map(|target| message.to(&target.name)).collect()
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
