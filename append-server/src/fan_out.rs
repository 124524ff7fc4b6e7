//! Writes every object to all configured destinations and acknowledges once each required one has it durably, and as
//! many of all as the policy asks for. The others follow from a durable queue (`queue`, `courier`). Reads from the
//! first that can answer, and never calls an object absent while a required destination has not said so.

mod courier;
pub mod queue;
mod reading;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::Queued;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, ObjectKey, ObjectList, ObjectRead,
    PutOutcome,
};
use crate::fan_out::courier::{Courier, CourierTools};
use crate::fan_out::queue::{Lag, Queue, QueueError, QueuedObject};
use crate::fan_out::reading::Failures;
use crate::limits::{LIST_PAGE_OBJECTS, PUT_BACK_OFF_MAX, PUT_BACK_OFF_MIN};
use crate::spool::{Spool, SpooledObject};

/// A destination and what it is worth to an acknowledgement.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Where.
    pub destination: Arc<dyn Destination>,
    /// Whether nothing is acknowledged without it.
    pub required: bool,
}

/// When an object is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanOutPolicy {
    /// What data packs leave free on each required destination that tells its free space.
    pub reserve_bytes: u64,
    /// On how many destinations an object must be, the required ones among them.
    pub copies_min: usize,
    /// For how long a destination that fails is tried again before that is an answer.
    pub patience: Duration,
}

/// What deliveries to destinations that nobody waits for need.
#[derive(Debug, Clone)]
pub struct FanOutTools {
    /// Where the queue is kept; made when there is such a destination.
    pub queue: PathBuf,
    /// Where objects are gathered again.
    pub spool: Arc<Spool>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// All destinations, in the order of the configuration.
#[derive(Debug)]
pub struct FanOut {
    required: Vec<Arc<dyn Destination>>,
    followers: Option<Followers>,
    policy: FanOutPolicy,
}

/// The destinations that nobody waits for.
#[derive(Debug)]
struct Followers {
    couriers: Vec<Arc<Courier>>,
    names: Vec<DestinationName>,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    delivered: Arc<Notify>,
    /// Whether this process brought anything that is worth waiting for at its end.
    took: AtomicBool,
    _ending: DropGuard,
}

/// How a destination is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationStatus {
    /// Which.
    pub name: DestinationName,
    /// Whether nothing is acknowledged without it.
    pub required: bool,
    /// What it does not have yet.
    pub lag: Lag,
    /// Why it does not take anything at present.
    pub problem: Option<String>,
}

/// A fan-out did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FanOutError {
    /// No destination is required, so nothing could ever be acknowledged.
    #[error("no destination is required; configure at least one with `required = true`")]
    NothingRequired,
    /// More copies are asked for than there are destinations.
    #[error(
        "min_copies = {copies_min} asks for more copies than there are destinations ({destinations}); add one, or ask for fewer"
    )]
    TooManyCopies {
        /// What is asked for.
        copies_min: usize,
        /// How many there are.
        destinations: usize,
    },
    /// Other bytes have this name.
    #[error(
        "{key} is on destination {destination} with other bytes, which stay; look at both writers"
    )]
    Conflict {
        /// What.
        key: ObjectKey,
        /// Where.
        destination: DestinationName,
    },
    /// Some required destination does not have it.
    #[error("{key} is on {stored} of {required} required destinations")]
    TooFewReplicas {
        /// What.
        key: ObjectKey,
        /// How many have it.
        stored: usize,
        /// How many are needed.
        required: usize,
        /// The first failure.
        source: Box<DestinationError>,
    },
    /// Too few destinations have it in all.
    #[error("{key} is on {stored} destinations after {} seconds, and min_copies = {copies_min}; behind are: {behind}", waited.as_secs())]
    TooFewCopies {
        /// What.
        key: ObjectKey,
        /// How many have it.
        stored: usize,
        /// How many are needed.
        copies_min: usize,
        /// For how long they were waited for.
        waited: Duration,
        /// The others, and what is wrong with them.
        behind: String,
    },
    /// The reserve for the log would be used up.
    #[error(
        "destination {destination} has {free_bytes} bytes free and keeps {reserve_bytes} for the log; free space there"
    )]
    ReserveReached {
        /// Where.
        destination: DestinationName,
        /// What is free.
        free_bytes: u64,
        /// What is kept.
        reserve_bytes: u64,
    },
    /// A read failed.
    #[error("no destination could answer")]
    Read(#[source] Box<DestinationError>),
    /// No destination of that name.
    #[error("there is no destination {name}")]
    NoSuchDestination {
        /// The name.
        name: DestinationName,
    },
    /// A destination that is waited for lacks nothing that was acknowledged.
    #[error("{name} is not a destination with required = false, and needs no sync")]
    NotAFollower {
        /// The name.
        name: DestinationName,
    },
    /// A destination that was not waited for is waited for now, and still lacks something.
    #[error(
        "destination {name} still lacks {objects} objects and cannot be required yet: set required = false until `coordinator destination ls` says that it has everything"
    )]
    RequiredIsBehind {
        /// Which.
        name: DestinationName,
        /// What it lacks.
        objects: u64,
    },
    /// The server ends.
    #[error("cut short")]
    Cut(#[source] tokio::task::JoinError),
    /// The queue of deliveries.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl FanOut {
    /// Over these destinations. Deliveries to those that nobody waits for begin at once, with what an earlier process
    /// left.
    pub fn start(
        placements: Vec<Placement>,
        policy: FanOutPolicy,
        tools: &FanOutTools,
    ) -> Result<Self, FanOutError> {
        let destinations = placements.len();
        let (required, followers): (Vec<_>, Vec<_>) = placements
            .into_iter()
            .partition(|placement| placement.required);
        if required.is_empty() {
            return Err(FanOutError::NothingRequired);
        }
        if policy.copies_min > destinations {
            return Err(FanOutError::TooManyCopies {
                copies_min: policy.copies_min,
                destinations,
            });
        }
        let required: Vec<_> = required
            .into_iter()
            .map(|placement| placement.destination)
            .collect();
        refuse_required_that_lack(&required, tools)?;
        let followers = if followers.is_empty() {
            None
        } else {
            Some(Followers::start(followers, &required, tools)?)
        };
        Ok(Self {
            required,
            followers,
            policy,
        })
    }

    /// Refuses when a required destination has only its reserve left.
    pub async fn check_reserve(&self) -> Result<(), FanOutError> {
        let reserve_bytes = self.policy.reserve_bytes;
        for destination in &self.required {
            let free = match destination.free_bytes().await {
                // Not known at present; the put itself has the patience.
                Err(error) if error.is_retryable() => None,
                free => free.map_err(|error| FanOutError::Read(Box::new(error)))?,
            };
            if let Some(free_bytes) = free.filter(|free| *free < reserve_bytes) {
                return Err(FanOutError::ReserveReached {
                    destination: destination.name().clone(),
                    free_bytes,
                    reserve_bytes,
                });
            }
        }
        Ok(())
    }

    /// Stores an object everywhere. `Created` and `ExistsSame` mean durable on every required destination, on as many of
    /// all as the policy asks for, and on its way to the others.
    pub async fn put(
        &self,
        key: &ObjectKey,
        source: SpooledObject,
    ) -> Result<PutOutcome, FanOutError> {
        // A name that is chosen, not computed, can be chosen twice. The first required destination decides
        // between two writers before the others see either.
        let computed = key.name.digest().is_some();
        let first = usize::from(!computed).min(self.required.len());
        let (arbiter, others) = self.required.split_at(first);
        let decided = self.put_on(arbiter, key, &source).await?;
        let rest = self.put_on(others, key, &source).await?;
        if let Some(followers) = &self.followers {
            let wanted = self.policy.copies_min.saturating_sub(self.required.len());
            // After the required ones: what is queued can be read there.
            followers.take(key, &source, wanted > 0).await?;
            let stored = self.required.len();
            followers
                .wait_for(key, &source, stored, wanted, self.policy)
                .await?;
        }
        // Healing a destination that missed it is "created" too; all alike is "the same".
        let created = [decided, rest].contains(&Some(PutOutcome::Created));
        Ok(if created {
            PutOutcome::Created
        } else {
            PutOutcome::ExistsSame
        })
    }

    async fn put_on(
        &self,
        destinations: &[Arc<dyn Destination>],
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<Option<PutOutcome>, FanOutError> {
        let puts = destinations.iter().map(|destination| async {
            let put = self.put_patiently(destination, key, source);
            (destination.name().clone(), put.await)
        });
        let mut merged = None;
        let (mut conflict, mut failure) = (None, None);
        let mut stored = 0;
        for (destination, result) in join_all(puts).await {
            match result {
                Ok(PutOutcome::ExistsDifferent) => {
                    conflict.get_or_insert(destination);
                }
                Ok(outcome) => {
                    stored += 1;
                    if merged != Some(PutOutcome::Created) {
                        merged = Some(outcome);
                    }
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        if let Some(destination) = conflict {
            return Err(FanOutError::Conflict {
                key: key.clone(),
                destination,
            });
        }
        if let Some(source) = failure {
            return Err(FanOutError::TooFewReplicas {
                key: key.clone(),
                stored,
                required: destinations.len(),
                source: Box::new(source),
            });
        }
        Ok(merged)
    }

    /// Tries again while a failure may pass by itself, for as long as the policy has patience.
    async fn put_patiently(
        &self,
        destination: &Arc<dyn Destination>,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, DestinationError> {
        let deadline = Instant::now() + self.policy.patience;
        let mut back_off = PUT_BACK_OFF_MIN;
        loop {
            let error = match destination.put_if_absent(key.clone(), source.clone()).await {
                Err(error) if error.is_retryable() && Instant::now() + back_off < deadline => error,
                done => return done,
            };
            tracing::warn!(
                destination = %destination.name(), object = %key,
                error = &error as &dyn std::error::Error, "trying again"
            );
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(PUT_BACK_OFF_MAX);
        }
    }

    /// Queues what a follower lacks of a repository, as far as lists can tell: what is missing, and what has another size.
    /// Records of the log come last, so that what they name is there before them.
    pub async fn queue_missing(
        &self,
        repository: RepositoryId,
        name: &DestinationName,
    ) -> Result<Queued, FanOutError> {
        let (Some(followers), Some(source)) = (&self.followers, self.required.first()) else {
            return Err(FanOutError::NotAFollower { name: name.clone() });
        };
        let courier = followers
            .couriers
            .iter()
            .find(|courier| courier.destination.name() == name)
            .ok_or_else(|| FanOutError::NotAFollower { name: name.clone() })?;
        let mut queued = Queued::default();
        let names = vec![name.clone()];
        for kind in [
            ObjectKind::Config,
            ObjectKind::Keys,
            ObjectKind::Pack,
            ObjectKind::Meta,
            ObjectKind::Log,
        ] {
            let have = every_object(&courier.destination, repository, kind).await?;
            let have: HashMap<ObjectName, u64> = have.into_iter().collect();
            let objects = every_object(source, repository, kind).await?;
            let missing: Vec<_> = objects
                .into_iter()
                .filter(|(object, bytes)| have.get(object) != Some(bytes))
                .map(|(name, bytes)| QueuedObject {
                    key: ObjectKey { repository, name },
                    bytes,
                    digest: None,
                })
                .collect();
            queued.objects += missing.len() as u64;
            queued.bytes += missing.iter().map(|object| object.bytes).sum::<u64>();
            followers.add(names.clone(), missing).await?;
        }
        courier.wake();
        Ok(queued)
    }

    /// How every destination is doing.
    pub fn status(&self) -> Result<Vec<DestinationStatus>, FanOutError> {
        let required = self.required.iter().map(|destination| {
            Ok(DestinationStatus {
                name: destination.name().clone(),
                required: true,
                lag: Lag::default(),
                problem: None,
            })
        });
        let followers = self.followers.iter().flat_map(|followers| {
            followers.couriers.iter().map(|courier| {
                let name = courier.destination.name();
                let problem = match courier.problem() {
                    None => followers.queue.problem(name)?,
                    problem => problem,
                };
                Ok(DestinationStatus {
                    name: name.clone(),
                    required: false,
                    lag: followers.queue.lag(name)?,
                    problem,
                })
            })
        });
        required.chain(followers).collect()
    }

    /// Waits, if this process has stored anything, until every follower has everything, or has something that keeps it from that, or the deadline is there.
    /// What is not delivered then stays in the queue.
    pub async fn drain(&self, deadline: Duration) {
        if let Some(followers) = &self.followers {
            let drained = tokio::time::timeout(deadline, followers.drain()).await;
            if drained.is_err() {
                tracing::info!("deliveries that are left go on at the next start");
            }
        }
    }

    /// Reads from the first destination that can.
    pub async fn get_range(
        &self,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<ObjectRead, FanOutError> {
        let mut failures = Failures::default();
        for (destination, required) in self.in_reading_order() {
            match destination.get_range(key.clone(), range).await {
                Ok(read) => return Ok(read),
                Err(error @ DestinationError::PastEnd { .. }) => {
                    return Err(FanOutError::Read(Box::new(error)));
                }
                Err(error) => failures.add(error, required),
            }
        }
        Err(failures.verdict())
    }

    /// An object's bytes.
    pub async fn head(&self, key: &ObjectKey) -> Result<u64, FanOutError> {
        let mut failures = Failures::default();
        for (destination, required) in self.in_reading_order() {
            match destination.head(key.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => failures.add(error, required),
            }
        }
        Err(failures.verdict())
    }

    /// A folder's objects on the first required destination that can answer. One that is not required may be
    /// behind, and is not asked: a list that lacks the newest looks like a rollback.
    pub async fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, FanOutError> {
        let mut failures = Failures::default();
        for destination in &self.required {
            match destination
                .list(repository, kind, after.clone(), limit)
                .await
            {
                Ok(list) => return Ok(list),
                Err(error) => failures.add(error, true),
            }
        }
        Err(failures.verdict())
    }

    fn in_reading_order(&self) -> impl Iterator<Item = (&Arc<dyn Destination>, bool)> {
        let required = self.required.iter().map(|destination| (destination, true));
        let followers = self.followers.iter().flat_map(|all| all.couriers.iter());
        required.chain(followers.map(|courier| (&courier.destination, false)))
    }

    /// The destination of a name, to ask it alone.
    pub fn destination(
        &self,
        name: &DestinationName,
    ) -> Result<&Arc<dyn Destination>, FanOutError> {
        self.in_reading_order()
            .map(|(destination, _)| destination)
            .find(|destination| destination.name() == name)
            .ok_or_else(|| FanOutError::NoSuchDestination { name: name.clone() })
    }
}

/// A destination that has not everything looks, once it is trusted, as if the rest had never been.
fn refuse_required_that_lack(
    required: &[Arc<dyn Destination>],
    tools: &FanOutTools,
) -> Result<(), FanOutError> {
    if !tools.queue.exists() {
        return Ok(());
    }
    let queue = Queue::open(&tools.queue)?;
    for destination in required {
        let name = destination.name();
        let objects = queue.lag(name)?.objects;
        if objects > 0 {
            return Err(FanOutError::RequiredIsBehind {
                name: name.clone(),
                objects,
            });
        }
    }
    Ok(())
}

/// All objects of a folder on one destination.
async fn every_object(
    destination: &Arc<dyn Destination>,
    repository: RepositoryId,
    kind: ObjectKind,
) -> Result<Vec<(ObjectName, u64)>, FanOutError> {
    let mut objects: Vec<(ObjectName, u64)> = Vec::new();
    loop {
        let after = objects.last().map(|(name, _)| name.clone());
        let page = destination.list(repository, kind, after, LIST_PAGE_OBJECTS);
        let page = page
            .await
            .map_err(|error| FanOutError::Read(Box::new(error)))?;
        objects.extend(page.objects);
        if !page.more {
            return Ok(objects);
        }
    }
}

impl Followers {
    fn start(
        placements: Vec<Placement>,
        required: &[Arc<dyn Destination>],
        tools: &FanOutTools,
    ) -> Result<Self, FanOutError> {
        let queue = Arc::new(Queue::open(&tools.queue)?);
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
        let ending = CancellationToken::new();
        for courier in &couriers {
            tokio::spawn(Arc::clone(courier).run(ending.clone()));
        }
        let names = couriers.iter().map(|courier| courier.destination.name());
        Ok(Self {
            names: names.cloned().collect(),
            couriers,
            queue,
            clock: tools.clock,
            delivered,
            took: AtomicBool::new(false),
            _ending: ending.drop_guard(),
        })
    }

    /// Notes an object for every follower and hands it over.
    async fn take(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
        is_awaited: bool,
    ) -> Result<(), FanOutError> {
        self.took.store(true, Ordering::Relaxed);
        for courier in &self.couriers {
            courier.hand_over(key, source, is_awaited);
        }
        let object = QueuedObject {
            key: key.clone(),
            bytes: source.bytes(),
            digest: Some(source.digest()),
        };
        if let Err(error) = self.add(self.names.clone(), vec![object]).await {
            for courier in &self.couriers {
                courier.take_back(key);
            }
            return Err(error);
        }
        for courier in &self.couriers {
            courier.wake();
        }
        Ok(())
    }

    /// Writes to the queue, which takes a sync of its disk.
    async fn add(
        &self,
        names: Vec<DestinationName>,
        objects: Vec<QueuedObject>,
    ) -> Result<(), FanOutError> {
        let (queue, now) = (Arc::clone(&self.queue), self.clock.now_unix_secs());
        let adding = tokio::task::spawn_blocking(move || queue.add(&names, &objects, now));
        match adding.await {
            Ok(added) => Ok(added?),
            Err(error) => Err(FanOutError::Cut(error)),
        }
    }

    /// Waits until so many followers have the object.
    async fn wait_for(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
        stored: usize,
        wanted: usize,
        policy: FanOutPolicy,
    ) -> Result<(), FanOutError> {
        if wanted == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + policy.patience;
        loop {
            // Listening before looking: what is delivered in between is not missed.
            let delivered = self.delivered.notified();
            let mut behind = Vec::new();
            for courier in &self.couriers {
                let name = courier.destination.name();
                if self.queue.is_pending(name, key)? {
                    // Held here anyway, whatever the courier had to let go of.
                    courier.hand_over(key, source, true);
                    let problem = courier.problem().unwrap_or_else(|| "slow".to_owned());
                    behind.push(format!("{name} ({problem})"));
                }
            }
            let have = self.couriers.len() - behind.len();
            if have >= wanted {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, delivered).await.is_err() {
                return Err(FanOutError::TooFewCopies {
                    key: key.clone(),
                    stored: stored + have,
                    copies_min: policy.copies_min,
                    waited: policy.patience,
                    behind: behind.join(", "),
                });
            }
        }
    }

    async fn drain(&self) {
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
