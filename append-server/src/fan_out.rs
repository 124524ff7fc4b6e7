//! Writes every object to all configured destinations and acknowledges once each required one has it durably, and as
//! many of all as the policy asks for. The others follow from a durable queue (`followers`, `queue`, `courier`). A put that is
//! cut short leaves no log record on some destinations alone (`settle`), and nothing is put to a repository before every
//! destination that counts has what came before (`complete`). A repository may be kept at some of those alone that nobody waits
//! for, and have to be on more of them than others before they are acknowledged (`placing`, `copies`). Reads from the first that
//! can answer, and never calls an object absent while a required destination has not said so.

mod complete;
pub mod copies;
mod courier;
mod error;
mod failures;
mod filling;
mod followers;
mod heal;
mod patience;
mod placing;
pub mod probes;
pub mod queue;
mod remove;
mod settle;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::destinations::{ConditionalWrites, Placed};
use formats::wire::upload::repairs::Queued;
use futures_util::future::join_all;

use crate::clock::Clock;
use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, LockState, ObjectKey, ObjectList,
    ObjectRead, PutOutcome,
};
use crate::fan_out::complete::Compared;
use crate::fan_out::failures::Failures;
use crate::fan_out::followers::Followers;
use crate::fan_out::patience::patiently;
use crate::fan_out::probes::{Probes, probes_beside};
use crate::fan_out::queue::{Lag, Queue};
use crate::grants::RepairGrant;
use crate::limits::READ_PATIENCE_MAX;
use crate::spool::{Spool, SpooledObject};

pub use error::FanOutError;
pub use heal::Healed;

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
    /// On how many destinations an object must be at least, the required ones among them; a repository may ask for more.
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
    /// Where there is more than one destination.
    followers: Option<Followers>,
    policy: FanOutPolicy,
    spool: Arc<Spool>,
    /// Repositories that every destination has, as far as it counts.
    complete: Mutex<HashMap<RepositoryId, Compared>>,
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
    /// What is known of its conditional writes.
    pub conditional_writes: ConditionalWrites,
    /// Whether the repository that was asked about is kept there; of none, whether each is that is to be.
    pub placed: Placed,
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
        let probes = Probes::new(probes_beside(&tools.queue));
        for placement in &placements {
            placement.destination.keep_probes(&probes);
        }
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
        let queue = (destinations > 1 || tools.queue.exists())
            .then(|| Queue::open(&tools.queue))
            .transpose()?;
        let followers = queue.map(|queue| Followers::start(followers, &required, queue, tools));
        Ok(Self {
            required,
            followers,
            policy,
            spool: Arc::clone(&tools.spool),
            complete: Mutex::default(),
        })
    }

    fn complete(&self) -> MutexGuard<'_, HashMap<RepositoryId, Compared>> {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses when a required destination has only its reserve left.
    pub async fn check_reserve(&self) -> Result<(), FanOutError> {
        let reserve_bytes = self.policy.reserve_bytes;
        match self.with_less_free(reserve_bytes).await? {
            Some((destination, free_bytes)) => Err(FanOutError::ReserveReached {
                destination,
                free_bytes,
                reserve_bytes,
            }),
            None => Ok(()),
        }
    }

    /// Refuses when a required destination has no room for so many bytes beside its reserve.
    pub async fn check_room(&self, asked_bytes: u64) -> Result<(), FanOutError> {
        let reserve_bytes = self.policy.reserve_bytes;
        let needed = reserve_bytes.saturating_add(asked_bytes);
        match self.with_less_free(needed).await? {
            Some((destination, free_bytes)) => Err(FanOutError::NoRoom {
                destination,
                free_bytes,
                reserve_bytes,
                asked_bytes,
            }),
            None => Ok(()),
        }
    }

    /// The first required destination that tells its free space and has less, and what it has.
    async fn with_less_free(
        &self,
        bytes: u64,
    ) -> Result<Option<(DestinationName, u64)>, FanOutError> {
        for destination in &self.required {
            let free = match destination.free_bytes().await {
                // Not known at present; the put itself has the patience.
                Err(error) if error.is_retryable() => None,
                free => free.map_err(|error| FanOutError::Read(Box::new(error)))?,
            };
            if let Some(free_bytes) = free.filter(|free| *free < bytes) {
                return Ok(Some((destination.name().clone(), free_bytes)));
            }
        }
        Ok(None)
    }

    /// Stores an object everywhere. `Created` and `ExistsSame` mean durable on every required destination, on as many of
    /// all as the policy and the repository ask for, and on its way to the others.
    pub async fn put(
        &self,
        key: &ObjectKey,
        source: SpooledObject,
    ) -> Result<PutOutcome, FanOutError> {
        self.check_complete(key.repository).await?;
        match &self.followers {
            Some(followers) if key.name.digest().is_none() => {
                self.put_named(followers, key, &source).await
            }
            _ => self.put_everywhere(key, &source, self.policy).await,
        }
    }

    async fn put_everywhere(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
        policy: FanOutPolicy,
    ) -> Result<PutOutcome, FanOutError> {
        // A name that is chosen, not computed, can be chosen twice. The first required destination decides
        // between two writers before the others see either.
        let computed = key.name.digest().is_some();
        let first = usize::from(!computed).min(self.required.len());
        let (arbiter, others) = self.required.split_at(first);
        let decided = self.put_on(arbiter, key, source, policy).await?;
        let rest = self.put_on(others, key, source, policy).await?;
        if let Some(followers) = &self.followers {
            let required = self.required.len();
            let is_awaited = self.asked(followers, key.repository)?.copies > required;
            // After the required ones: what is queued can be read there.
            followers.take(key, source, is_awaited).await?;
            followers.wait_for(key, source, required, policy).await?;
            self.check_followers(followers, key).await?;
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
        policy: FanOutPolicy,
    ) -> Result<Option<PutOutcome>, FanOutError> {
        let puts = destinations.iter().map(|destination| async {
            // Again while a failure may pass by itself, for as long as the policy has patience.
            let put = || destination.put_if_absent(key.clone(), source.clone());
            let put = patiently(policy.patience, DestinationError::is_retryable, put);
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
                    failure.get_or_insert((destination, error));
                }
            }
        }
        if let Some(destination) = conflict {
            return Err(FanOutError::Conflict {
                key: key.clone(),
                destination,
            });
        }
        if let Some((missing, source)) = failure {
            return Err(FanOutError::TooFewReplicas {
                key: key.clone(),
                missing,
                stored,
                required: destinations.len(),
                source: Box::new(source),
            });
        }
        Ok(merged)
    }

    /// Asks all again when none could answer and that may pass, but not for as long as a put: somebody may be looking.
    async fn ask_patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, FanOutError>
    where
        F: Future<Output = Result<T, FanOutError>>,
    {
        let may_pass = |error: &FanOutError| matches!(error, FanOutError::Read(source) if source.is_retryable());
        let patience = self.policy.patience.min(READ_PATIENCE_MAX);
        patiently(patience, may_pass, ask).await
    }

    /// Queues what a destination lacks of a repository, as far as lists can tell: what is missing, and what has another
    /// size. Records of the log and the config come last, so that what they stand for is there before them.
    pub async fn queue_missing(
        &self,
        repository: RepositoryId,
        name: &DestinationName,
    ) -> Result<Queued, FanOutError> {
        self.queue_missing_but(repository, name, &HashSet::new())
            .await
    }

    /// How every destination is doing.
    pub fn status(&self) -> Result<Vec<DestinationStatus>, FanOutError> {
        self.status_of(None)
    }

    /// The same, with what each lacks of one repository alone.
    pub fn status_of(
        &self,
        repository: Option<RepositoryId>,
    ) -> Result<Vec<DestinationStatus>, FanOutError> {
        let Some(followers) = &self.followers else {
            let alone = self.required.iter().map(|destination| DestinationStatus {
                name: destination.name().clone(),
                required: true,
                lag: Lag::default(),
                problem: None,
                conditional_writes: destination.known_conditional_writes(),
                placed: Placed::Kept,
            });
            return Ok(alone.collect());
        };
        let required = followers.status_of_required(repository);
        required.chain(followers.status(repository)).collect()
    }

    /// Waits, if this process has stored anything, until every follower has everything, or has something that keeps it
    /// from that, or the deadline is there. What is not delivered then stays in the queue.
    pub async fn drain(&self, deadline: Duration) {
        if let Some(followers) = &self.followers {
            let drained = tokio::time::timeout(deadline, followers.drain()).await;
            if drained.is_err() {
                tracing::info!("deliveries that are left go on at the next start");
            }
        }
    }

    /// Reads from one destination, or from the first that can.
    pub async fn get_range(
        &self,
        from: Option<&DestinationName>,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<ObjectRead, FanOutError> {
        if let Some(name) = from {
            let read = self.destination(name)?.get_range(key.clone(), range).await;
            return read.map_err(|error| FanOutError::Read(Box::new(error)));
        }
        self.ask_patiently(|| self.get_range_once(key, range)).await
    }

    async fn get_range_once(
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
                Err(error) => self.add_failure(&mut failures, key, error, required)?,
            }
        }
        Err(failures.verdict_of(key))
    }

    /// What a destination had to give that is still being filled says nothing.
    fn add_failure(
        &self,
        failures: &mut Failures,
        key: &ObjectKey,
        error: DestinationError,
        required: bool,
    ) -> Result<(), FanOutError> {
        if let (DestinationError::Absent { destination, .. }, Some(followers)) =
            (&error, self.followers.as_ref().filter(|_| required))
            && let Some(behind) = followers.is_behind(destination, key.repository)?
        {
            failures.add_behind(behind);
        } else {
            failures.add(error, required);
        }
        Ok(())
    }

    /// An object's bytes.
    pub async fn head(
        &self,
        from: Option<&DestinationName>,
        key: &ObjectKey,
    ) -> Result<u64, FanOutError> {
        if let Some(name) = from {
            let bytes = self.destination(name)?.head(key.clone()).await;
            return bytes.map_err(|error| FanOutError::Read(Box::new(error)));
        }
        self.ask_patiently(|| self.head_once(key)).await
    }

    async fn head_once(&self, key: &ObjectKey) -> Result<u64, FanOutError> {
        let mut failures = Failures::default();
        for (destination, required) in self.in_reading_order() {
            match destination.head(key.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => self.add_failure(&mut failures, key, error, required)?,
            }
        }
        Err(failures.verdict_of(key))
    }

    /// A folder's objects on one destination, or on the first required one that can answer. One that is not required, or
    /// still being filled, may be behind, and is not asked: a list that lacks the newest looks like a rollback.
    pub async fn list(
        &self,
        from: Option<&DestinationName>,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, FanOutError> {
        if let Some(name) = from {
            let listed = self.destination(name)?.list(repository, kind, after, limit);
            return listed
                .await
                .map_err(|error| FanOutError::Read(Box::new(error)));
        }
        let list = self.ask_patiently(|| self.list_once(repository, kind, after.as_ref(), limit));
        self.without_halves(repository, kind, list.await?).await
    }

    async fn list_once(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, FanOutError> {
        let mut failures = Failures::default();
        for destination in &self.required {
            if let Some(followers) = &self.followers
                && let Some(behind) = followers.is_behind(destination.name(), repository)?
            {
                failures.add_behind(behind);
                continue;
            }
            match destination
                .list(repository, kind, after.cloned(), limit)
                .await
            {
                Ok(list) => return Ok(list),
                Err(error) => failures.add(error, true),
            }
        }
        Err(failures.verdict())
    }

    /// Prolongs a lock, where the destination has locks and less than half of its time is left.
    pub async fn renew_lock(
        &self,
        name: &DestinationName,
        key: &ObjectKey,
        now_unix_secs: u64,
        grant: RepairGrant,
    ) -> Result<LockState, FanOutError> {
        let destination = self.destination(name)?;
        let renewed = destination.renew_lock(key.clone(), now_unix_secs, &grant);
        renewed
            .await
            .map_err(|error| FanOutError::Read(Box::new(error)))
    }

    /// What a destination still is to get of a repository, in byte order of names.
    pub fn pending(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<ObjectList, FanOutError> {
        self.destination(name)?;
        match &self.followers {
            Some(followers) => Ok(followers.pending(name, repository, after, limit)?),
            None => Ok(ObjectList::default()),
        }
    }

    fn destination(&self, name: &DestinationName) -> Result<&Arc<dyn Destination>, FanOutError> {
        self.in_reading_order()
            .map(|(destination, _)| destination)
            .find(|destination| destination.name() == name)
            .ok_or_else(|| FanOutError::NoSuchDestination { name: name.clone() })
    }

    fn in_reading_order(&self) -> impl Iterator<Item = (&Arc<dyn Destination>, bool)> {
        let required = self.required.iter().map(|destination| (destination, true));
        let followers = self.followers.iter().flat_map(|all| all.couriers.iter());
        required.chain(followers.map(|courier| (&courier.destination, false)))
    }
}
