//! Filling a destination that was added later, or was away for longer than its queue reaches back: what it lacks is queued
//! for its courier. Never believes what one that is being filled does not have.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::repairs::Queued;
use tokio::time::Instant;

use crate::destination::{Destination, DestinationName, ObjectKey};
use crate::fan_out::FanOutError;
use crate::fan_out::courier::Courier;
use crate::fan_out::followers::Followers;
use crate::fan_out::queue::QueuedObject;
use crate::limits::LIST_PAGE_OBJECTS;

/// The folders of a repository in the order in which a destination is filled: what stands for others comes after them.
const FILLED: [ObjectKind; 5] = [
    ObjectKind::Keys,
    ObjectKind::Pack,
    ObjectKind::Meta,
    ObjectKind::Log,
    ObjectKind::Config,
];

/// How often it is looked whether a destination has been filled.
const FILLED_LOOK_EVERY: Duration = Duration::from_millis(500);

impl Followers {
    /// Queues what a destination lacks of what others have of a repository.
    pub(super) async fn queue_missing(
        &self,
        repository: RepositoryId,
        name: &DestinationName,
        except: &HashSet<ObjectName>,
    ) -> Result<Queued, FanOutError> {
        let mut all = self.couriers.iter().chain(&self.filling);
        let courier = all
            .find(|courier| courier.destination.name() == name)
            .ok_or_else(|| FanOutError::NoSuchDestination { name: name.clone() })?;
        let mut queued = Queued::default();
        if self.leaves_out(name, repository)? {
            return Ok(queued);
        }
        // Before anything is looked at: what is dropped from now on is not filled by this.
        let unfilled = self.queue.unfilled(name, repository)?;
        let follows = !self
            .filling
            .iter()
            .any(|filled| filled.destination.name() == name);
        let mut missed = HashSet::new();
        for kind in FILLED {
            let have = every_object(courier.destination.as_ref(), repository, kind).await?;
            let have: HashMap<ObjectName, u64> = have.into_iter().collect();
            let (objects, silent) = every_object_of_any(courier, repository, kind).await?;
            for source in silent {
                // Where it is not kept, nothing was stored last.
                if !self.leaves_out(&source, repository)? {
                    missed.insert(source);
                }
            }
            let missing: Vec<_> = objects
                .into_iter()
                .filter(|(object, bytes)| have.get(object) != Some(bytes))
                .filter(|(object, _)| !except.contains(object))
                .map(|(name, bytes)| QueuedObject {
                    key: ObjectKey { repository, name },
                    bytes,
                    digest: None,
                })
                .collect();
            queued.objects += missing.len() as u64;
            queued.bytes += missing.iter().map(|object| object.bytes).sum::<u64>();
            let names = vec![name.clone()];
            if !follows {
                self.add(names, missing).await?;
            } else if self
                .add_where_kept(names, repository, missing)
                .await?
                .is_empty()
            {
                return Ok(Queued::default()); // Left out meanwhile.
            }
        }
        if let Some(unfilled) = unfilled
            && self.can_do_without(&missed, name, repository).await?
        {
            self.write(move |queue| queue.filled(unfilled)).await?;
        }
        courier.wake();
        Ok(queued)
    }

    /// Whether a destination can be filled without those that did not say what they have. Whatever was acknowledged is on each of
    /// those that are waited for: where one of them has everything and has said so, followers need not be asked.
    async fn can_do_without(
        &self,
        silent: &HashSet<DestinationName>,
        filled: &DestinationName,
        repository: RepositoryId,
    ) -> Result<bool, FanOutError> {
        let awaited = || self.filling.iter().map(|courier| &courier.destination);
        if silent.is_empty() {
            return Ok(true);
        }
        if awaited().any(|destination| silent.contains(destination.name())) {
            return Ok(false);
        }
        for destination in awaited().filter(|destination| destination.name() != filled) {
            if self.is_behind(destination.name(), repository)?.is_some() {
                continue;
            }
            // It comes last of all to one that was added later.
            let name = ObjectName::Config;
            if destination
                .head(ObjectKey { repository, name })
                .await
                .is_ok()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until no required destination is still to get anything of a repository.
    pub(super) async fn wait_until_filled(
        &self,
        repository: RepositoryId,
        patience: Duration,
    ) -> Result<(), FanOutError> {
        let deadline = Instant::now() + patience;
        loop {
            // Listening before looking: what is delivered in between is not missed.
            let delivered = self.delivered.notified();
            let mut behind = None;
            for courier in &self.filling {
                behind = behind.or(self.is_behind(courier.destination.name(), repository)?);
            }
            match behind {
                None => return Ok(()),
                Some(error) if Instant::now() >= deadline => return Err(error),
                // Another process's deliveries tell nobody here.
                Some(_) => {
                    let look_again = (Instant::now() + FILLED_LOOK_EVERY).min(deadline);
                    let _waited = tokio::time::timeout_at(look_again, delivered).await;
                }
            }
        }
    }

    /// Says so when a destination still is to get something of a repository, or lacks what nobody brings before it is filled.
    pub(super) fn is_behind(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
    ) -> Result<Option<FanOutError>, FanOutError> {
        let objects = self.queue.behind(name, repository)?;
        let name = name.clone();
        if objects > 0 {
            return Ok(Some(FanOutError::RequiredIsBehind {
                name,
                objects,
                repository,
            }));
        }
        // It was left out before it was waited for.
        let unfilled = self.queue.unfilled(&name, repository)?;
        Ok(unfilled.map(|_| FanOutError::Unfilled { name, repository }))
    }
}

/// All objects of a folder on one destination.
pub(super) async fn every_object(
    destination: &dyn Destination,
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

/// All objects of a folder on any destination that a courier reads from, and that answers; one must. Gives those, too, that
/// did not.
async fn every_object_of_any(
    courier: &Courier,
    repository: RepositoryId,
    kind: ObjectKind,
) -> Result<(BTreeMap<ObjectName, u64>, Vec<DestinationName>), FanOutError> {
    let (mut all, mut silent) = (BTreeMap::new(), Vec::new());
    let name = courier.destination.name().clone();
    let mut result = Err(FanOutError::OnlyDestination { name });
    for source in courier.sources() {
        match every_object(source.as_ref(), repository, kind).await {
            Ok(objects) => {
                for (name, bytes) in objects {
                    all.entry(name).or_insert(bytes);
                }
                result = Ok(());
            }
            Err(error) => {
                tracing::warn!(source = %source.name(), error = &error as &dyn std::error::Error, "not asked what it has");
                result = result.or(Err(error));
                silent.push(source.name().clone());
            }
        }
    }
    result.map(|()| (all, silent))
}
