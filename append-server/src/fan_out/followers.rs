//! The destinations that nobody waits for: what is stored is queued for each, and brought there by its courier. One that is
//! waited for has a courier too, which fills it when it was added later (`filling`). Also keeps the queue's other notes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use formats::ids::RepositoryId;
use formats::object::ObjectName;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::answer::chain;
use crate::clock::Clock;
use crate::destination::{Destination, DestinationName, ObjectKey, ObjectList};
use crate::fan_out::courier::{Courier, CourierTools};
use crate::fan_out::queue::intents::Intent;
use crate::fan_out::queue::{Queue, QueueError, QueuedObject};
use crate::fan_out::{DestinationStatus, FanOutError, FanOutPolicy, FanOutTools, Placement};
use crate::spool::SpooledObject;

/// The destinations that nobody waits for.
#[derive(Debug)]
pub(super) struct Followers {
    pub(super) couriers: Vec<Arc<Courier>>,
    /// Of the destinations that are waited for.
    pub(super) filling: Vec<Arc<Courier>>,
    pub(super) queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    pub(super) delivered: Arc<Notify>,
    /// Whether this process brought anything that is worth waiting for at its end.
    took: AtomicBool,
    _ending: DropGuard,
}

impl Followers {
    /// Deliveries to these begin at once, with what the queue has.
    pub(super) fn start(
        placements: Vec<Placement>,
        required: &[Arc<dyn Destination>],
        queue: Queue,
        tools: &FanOutTools,
    ) -> Self {
        let queue = Arc::new(queue);
        let delivered = Arc::new(Notify::new());
        let tools = CourierTools {
            sources: required.to_vec(),
            queue: Arc::clone(&queue),
            spool: Arc::clone(&tools.spool),
            clock: Arc::clone(&tools.clock),
            delivered: Arc::clone(&delivered),
        };
        let couriers: Vec<_> = placements
            .into_iter()
            .map(|placement| Arc::new(Courier::new(placement.destination, &tools)))
            .collect();
        let filling: Vec<_> = required
            .iter()
            .map(|destination| {
                let followers = couriers.iter().map(|courier| &courier.destination);
                let others = required.iter().chain(followers);
                let sources = others.filter(|other| other.name() != destination.name());
                let tools = CourierTools {
                    sources: sources.cloned().collect(),
                    ..tools.clone()
                };
                Arc::new(Courier::new(Arc::clone(destination), &tools))
            })
            .collect();
        let ending = CancellationToken::new();
        for courier in couriers.iter().chain(&filling) {
            tokio::spawn(Arc::clone(courier).run(ending.clone()));
        }
        Self {
            couriers,
            filling,
            queue,
            clock: tools.clock,
            delivered,
            took: AtomicBool::new(false),
            _ending: ending.drop_guard(),
        }
    }

    /// Notes an object for every follower that its repository is kept at, and hands it over.
    pub(super) async fn take(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
        is_awaited: bool,
    ) -> Result<(), FanOutError> {
        let couriers = self.couriers_of(key)?;
        if couriers.is_empty() {
            return Ok(());
        }
        self.took.store(true, Ordering::Relaxed);
        for courier in &couriers {
            courier.hand_over(key, source, is_awaited);
        }
        let object = QueuedObject {
            key: key.clone(),
            bytes: source.bytes(),
            digest: Some(source.digest()),
        };
        let names = couriers.iter().map(|courier| courier.destination.name());
        let added = self.add_where_kept(names.cloned().collect(), key.repository, vec![object]);
        let added = added.await;
        let is_added = |courier: &Courier| {
            let name = courier.destination.name();
            added.as_ref().is_ok_and(|added| added.contains(name))
        };
        for courier in couriers {
            match is_added(courier) {
                true => courier.wake(),
                false => courier.take_back(key),
            }
        }
        added.map(drop)
    }

    /// How each of them is doing.
    pub(super) fn status(
        &self,
        of: Option<RepositoryId>,
    ) -> impl Iterator<Item = Result<DestinationStatus, FanOutError>> {
        self.couriers.iter().map(move |courier| {
            let name = courier.destination.name();
            let problem = match courier.problem() {
                None => self.queue.problem(name)?,
                problem => problem,
            };
            Ok(DestinationStatus {
                name: name.clone(),
                required: false,
                lag: self.queue.lag(name, of)?,
                problem,
                conditional_writes: courier.destination.known_conditional_writes(),
                placed: self.placed(name, of)?,
            })
        })
    }

    /// What one of them still is to get of a repository.
    pub(super) fn pending(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, QueueError> {
        self.queue.pending(name, repository, after, limit)
    }

    /// All of it.
    pub(super) fn every_pending(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
    ) -> Result<Vec<ObjectName>, QueueError> {
        let list = self.queue.pending(name, repository, None, usize::MAX)?;
        Ok(list.objects.into_iter().map(|(name, _)| name).collect())
    }

    /// Whether one of them still is to get an object.
    pub(super) fn is_pending(
        &self,
        name: &DestinationName,
        key: &ObjectKey,
    ) -> Result<bool, QueueError> {
        self.queue.is_pending(name, key)
    }

    /// How those are doing that are waited for.
    pub(super) fn status_of_required(
        &self,
        of: Option<RepositoryId>,
    ) -> impl Iterator<Item = Result<DestinationStatus, FanOutError>> {
        self.filling.iter().map(move |courier| {
            let name = courier.destination.name();
            let problem = match courier.problem() {
                None => self.queue.problem(name)?,
                problem => problem,
            };
            let problem = match problem {
                None => self.queue.owed_problem(name)?,
                problem => problem,
            };
            Ok(DestinationStatus {
                name: name.clone(),
                required: true,
                lag: self.queue.lag(name, of)?.and(self.queue.owed(name, of)?),
                problem,
                conditional_writes: courier.destination.known_conditional_writes(),
                placed: self.placed(name, of)?,
            })
        })
    }

    /// The names of a repository that are being stored, or were when a process ended.
    pub(super) fn intents(&self, repository: RepositoryId) -> Result<Vec<Intent>, QueueError> {
        self.queue.intents(repository)
    }

    /// Notes, durably, that an object is about to be stored.
    pub(super) async fn intend(&self, intent: &Intent) -> Result<(), FanOutError> {
        let (intent, now) = (intent.clone(), self.clock.now_unix_secs());
        self.write(move |queue| queue.intend(&intent, now)).await
    }

    /// Notes which destination would not take an object.
    pub(super) async fn note_owed(
        &self,
        intent: &Intent,
        destination: &DestinationName,
        problem: &FanOutError,
    ) -> Result<(), FanOutError> {
        let (intent, destination, problem) = (intent.clone(), destination.clone(), chain(problem));
        self.write(move |queue| queue.note_owed(&intent, &destination, &problem))
            .await
    }

    /// Forgets an object that is nowhere.
    pub(super) async fn forget(&self, intent: &Intent) -> Result<(), FanOutError> {
        let intent = intent.clone();
        self.write(move |queue| queue.forget(&intent)).await
    }

    /// The object is everywhere it must be.
    pub(super) async fn settled(&self, key: &ObjectKey) -> Result<(), FanOutError> {
        let key = key.clone();
        self.write(move |queue| queue.settled(&key)).await
    }

    pub(super) async fn add(
        &self,
        names: Vec<DestinationName>,
        objects: Vec<QueuedObject>,
    ) -> Result<(), FanOutError> {
        let now = self.clock.now_unix_secs();
        self.write(move |queue| queue.add(&names, &objects, now))
            .await
    }

    /// The same, but for those at which the repository is not kept; gives the others.
    pub(super) async fn add_where_kept(
        &self,
        names: Vec<DestinationName>,
        repository: RepositoryId,
        objects: Vec<QueuedObject>,
    ) -> Result<Vec<DestinationName>, FanOutError> {
        let now = self.clock.now_unix_secs();
        self.write(move |queue| queue.add_where_kept(&names, repository, &objects, now))
            .await
    }

    /// Writes to the queue, which takes a sync of its disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Queue) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, FanOutError> {
        let queue = Arc::clone(&self.queue);
        match tokio::task::spawn_blocking(move || change(&queue)).await {
            Ok(written) => Ok(written?),
            Err(error) => Err(FanOutError::Cut(error)),
        }
    }

    /// Waits until so many of the followers that count have the object as are asked for beside those that are waited for anyway,
    /// and have it. What is asked for may change meanwhile.
    pub(super) async fn wait_for(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
        required: usize,
        policy: FanOutPolicy,
    ) -> Result<(), FanOutError> {
        let deadline = Instant::now() + policy.patience;
        loop {
            // Listening before looking: what is delivered in between is not missed.
            let delivered = self.delivered.notified();
            let kept = self.kept(key.repository)?;
            let asked = kept.asked(required, policy.copies_min);
            if asked.copies <= required {
                return Ok(());
            }
            let mut behind = Vec::new();
            for courier in &kept.counted {
                let name = courier.destination.name();
                if self.queue.is_pending(name, key)? {
                    // Held here anyway, whatever the courier had to let go of.
                    courier.hand_over(key, source, true);
                    let problem = courier.problem().unwrap_or_else(|| "slow".to_owned());
                    behind.push(format!("{name} ({problem})"));
                }
            }
            let stored = required + kept.counted.len() - behind.len();
            if stored >= asked.copies {
                return Ok(());
            }
            for courier in &kept.unfilled {
                let name = courier.destination.name();
                behind.push(format!("{name} (not filled)"));
            }
            if tokio::time::timeout_at(deadline, delivered).await.is_err() {
                return Err(FanOutError::TooFewCopies {
                    key: key.clone(),
                    stored,
                    asked,
                    waited: policy.patience,
                    behind: behind.join(", ").into(),
                });
            }
        }
    }

    /// Waits until every one has everything that is due, or has something that keeps it from that.
    pub(super) async fn drain(&self) {
        if !self.took.load(Ordering::Relaxed) {
            return;
        }
        for courier in &self.couriers {
            loop {
                let delivered = self.delivered.notified();
                let name = courier.destination.name();
                let now = self.clock.now_unix_secs();
                let due = self.queue.due(name, now, 1);
                if !due.is_ok_and(|due| !due.is_empty()) || courier.problem().is_some() {
                    break;
                }
                courier.wake();
                delivered.await;
            }
        }
    }
}
