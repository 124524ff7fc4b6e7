//! A destination that could not be opened when the server started, such as a disk that is not mounted: every use tries
//! again, so that it takes part from the moment it is back. Never an empty destination meanwhile.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::destinations::ConditionalWrites;
use futures_util::future::BoxFuture;

use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, LockState, ObjectKey, ObjectList,
    ObjectRead, PutOutcome,
};
use crate::fan_out::probes::Probes;
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::places::{Place, PlaceKind};
use crate::spool::SpooledObject;

/// A configured place that is opened once it can be.
#[derive(Debug)]
pub struct LateDestination {
    place: Place,
    opened: Mutex<Option<Arc<dyn Destination>>>,
    probes: OnceLock<Probes>,
}

impl LateDestination {
    /// Over a place that could not be opened.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            opened: Mutex::new(None),
            probes: OnceLock::new(),
        }
    }

    fn open(&self) -> Result<Arc<dyn Destination>, DestinationError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(destination) = &*opened {
            return Ok(Arc::clone(destination));
        }
        let destination = self
            .place
            .open()
            .map_err(|source| DestinationError::Permanent {
                destination: self.place.name.clone(),
                action: "open",
                subject: self.place.url.clone(),
                source: Box::new(source),
            })?;
        if let Some(probes) = self.probes.get() {
            destination.keep_probes(probes);
        }
        *opened = Some(Arc::clone(&destination));
        Ok(destination)
    }
}

impl Destination for LateDestination {
    fn name(&self) -> &DestinationName {
        &self.place.name
    }

    fn put_if_absent(
        &self,
        key: ObjectKey,
        source: SpooledObject,
    ) -> BoxFuture<'_, Result<PutOutcome, DestinationError>> {
        Box::pin(async move { self.open()?.put_if_absent(key, source).await })
    }

    fn get_range(
        &self,
        key: ObjectKey,
        range: ByteRange,
    ) -> BoxFuture<'_, Result<ObjectRead, DestinationError>> {
        Box::pin(async move { self.open()?.get_range(key, range).await })
    }

    fn head(&self, key: ObjectKey) -> BoxFuture<'_, Result<u64, DestinationError>> {
        Box::pin(async move { self.open()?.head(key).await })
    }

    fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ObjectList, DestinationError>> {
        Box::pin(async move { self.open()?.list(repository, kind, after, limit).await })
    }

    fn delete<'a>(
        &'a self,
        key: ObjectKey,
        grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async move { self.open()?.delete(key, grant).await })
    }

    fn extend_lock<'a>(
        &'a self,
        key: ObjectKey,
        until_unix_secs: u64,
        grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async move { self.open()?.extend_lock(key, until_unix_secs, grant).await })
    }

    fn renew_lock<'a>(
        &'a self,
        key: ObjectKey,
        now_unix_secs: u64,
        grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<LockState, DestinationError>> {
        Box::pin(async move { self.open()?.renew_lock(key, now_unix_secs, grant).await })
    }

    fn replace_damaged<'a>(
        &'a self,
        key: ObjectKey,
        good: SpooledObject,
        grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<String, DestinationError>> {
        Box::pin(async move { self.open()?.replace_damaged(key, good, grant).await })
    }

    fn abort_uploads<'a>(
        &'a self,
        older_than_secs: u64,
        grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<u64, DestinationError>> {
        Box::pin(async move { self.open()?.abort_uploads(older_than_secs, grant).await })
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepositoryId>, DestinationError>> {
        Box::pin(async move { self.open()?.repositories().await })
    }

    fn keep_probes(&self, probes: &Probes) {
        self.probes.get_or_init(|| probes.clone());
    }

    fn known_conditional_writes(&self) -> ConditionalWrites {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*opened, &self.place.kind) {
            (Some(destination), _) => destination.known_conditional_writes(),
            (None, PlaceKind::S3(_)) => ConditionalWrites::NotTried,
            (None, PlaceKind::Local(_) | PlaceKind::Sftp(_)) => ConditionalWrites::NoneNeeded,
        }
    }

    fn free_bytes(&self) -> BoxFuture<'_, Result<Option<u64>, DestinationError>> {
        Box::pin(async move { self.open()?.free_bytes().await })
    }
}
