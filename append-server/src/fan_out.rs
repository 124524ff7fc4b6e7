//! Writes every object to all configured destinations and acknowledges once each required one has it durably.
//! Reads from the first that can answer. Never calls an object absent while a required destination has not said so.

use std::sync::Arc;

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, ObjectKey, ObjectList, ObjectRead,
    PutOutcome,
};
use crate::limits::LATE_DELIVERIES_MAX;
use crate::spool::SpooledObject;

/// A destination and what it is worth to an acknowledgement.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Where.
    pub destination: Arc<dyn Destination>,
    /// Whether nothing is acknowledged without it.
    pub required: bool,
}

/// All destinations, in the order of the configuration.
#[derive(Debug)]
pub struct FanOut {
    required: Vec<Arc<dyn Destination>>,
    optional: Vec<Optional>,
    reserve_bytes: u64,
    deliveries: TaskTracker,
}

#[derive(Debug)]
struct Optional {
    destination: Arc<dyn Destination>,
    deliveries: Arc<Semaphore>,
}

/// A fan-out did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FanOutError {
    /// No destination is required, so nothing could ever be acknowledged.
    #[error("no destination is required; configure at least one with `required = true`")]
    NothingRequired,
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
}

impl FanOut {
    /// Over these destinations; data packs leave `reserve_bytes` free on each required one.
    pub fn new(placements: Vec<Placement>, reserve_bytes: u64) -> Result<Self, FanOutError> {
        let (required, optional): (Vec<_>, Vec<_>) = placements
            .into_iter()
            .partition(|placement| placement.required);
        if required.is_empty() {
            return Err(FanOutError::NothingRequired);
        }
        Ok(Self {
            required: required
                .into_iter()
                .map(|placement| placement.destination)
                .collect(),
            optional: optional
                .into_iter()
                .map(|placement| Optional {
                    destination: placement.destination,
                    deliveries: Arc::new(Semaphore::new(LATE_DELIVERIES_MAX)),
                })
                .collect(),
            reserve_bytes,
            deliveries: TaskTracker::new(),
        })
    }

    /// Refuses when a required destination has only its reserve left.
    pub async fn check_reserve(&self) -> Result<(), FanOutError> {
        for destination in &self.required {
            let free = destination
                .free_bytes()
                .await
                .map_err(|error| FanOutError::Read(Box::new(error)))?;
            if let Some(free_bytes) = free.filter(|free| *free < self.reserve_bytes) {
                return Err(FanOutError::ReserveReached {
                    destination: destination.name().clone(),
                    free_bytes,
                    reserve_bytes: self.reserve_bytes,
                });
            }
        }
        Ok(())
    }

    /// Stores an object everywhere. `Created` and `ExistsSame` mean durable on every required destination.
    pub async fn put(
        &self,
        key: &ObjectKey,
        source: SpooledObject,
    ) -> Result<PutOutcome, FanOutError> {
        // A name that is chosen, not computed, can be chosen twice. The first required destination decides
        // between two writers before the others see either.
        let computed = matches!(key.name, ObjectName::Pack(_) | ObjectName::Meta(_));
        let first = usize::from(!computed).min(self.required.len());
        let (arbiter, others) = self.required.split_at(first);
        let decided = self.put_on(arbiter, key, &source).await?;
        self.deliver_late(key, &source);
        let rest = self.put_on(others, key, &source).await?;
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
            let put = destination.put_if_absent(key.clone(), source.clone());
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

    /// Writes to destinations that are not required, without holding up the acknowledgement. A failure is a
    /// warning; one that is far behind misses the object. The durable queue of a later version belongs here.
    fn deliver_late(&self, key: &ObjectKey, source: &SpooledObject) {
        for optional in &self.optional {
            let (key, source) = (key.clone(), source.clone());
            let destination = Arc::clone(&optional.destination);
            let Ok(place) = Arc::clone(&optional.deliveries).try_acquire_owned() else {
                tracing::warn!(destination = %destination.name(), object = %key, "destination is behind and misses this object");
                continue;
            };
            self.deliveries.spawn(async move {
                let _place = place;
                match destination.put_if_absent(key.clone(), source).await {
                    Ok(PutOutcome::Created | PutOutcome::ExistsSame) => {}
                    Ok(PutOutcome::ExistsDifferent) => {
                        tracing::warn!(destination = %destination.name(), object = %key, "destination has other bytes of this name");
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(destination = %destination.name(), object = %key, error, "destination misses this object");
                    }
                }
            });
        }
    }

    /// Waits for late deliveries.
    pub async fn drain(&self) {
        self.deliveries.close();
        self.deliveries.wait().await;
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
        let optional = self.optional.iter();
        required.chain(optional.map(|optional| (&optional.destination, false)))
    }
}

/// What destinations answered that had nothing to give.
#[derive(Default)]
struct Failures {
    absent: Option<DestinationError>,
    required: Option<DestinationError>,
    optional: Option<DestinationError>,
}

impl Failures {
    fn add(&mut self, error: DestinationError, required: bool) {
        let place = match (error.is_absent(), required) {
            (true, true) => &mut self.absent,
            (false, true) => &mut self.required,
            (_, false) => &mut self.optional,
        };
        if !error.is_absent() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a destination could not answer"
            );
        }
        place.get_or_insert(error);
    }

    /// Absent only when no required destination failed otherwise.
    fn verdict(self) -> FanOutError {
        let error = self.required.or(self.absent).or(self.optional);
        match error {
            Some(error) => FanOutError::Read(Box::new(error)),
            None => FanOutError::NothingRequired,
        }
    }
}
