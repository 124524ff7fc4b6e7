//! A destination in a bucket of an S3 service (`s3://`). Names are created by conditional writes where the service
//! enforces them, which is found out by real puts; the bucket then is append-only by itself. Never follows a
//! redirect, never takes "not allowed" or "no answer" for "absent", and never trusts a put that it cannot see.

mod body;
mod client;
mod conditional;
mod failure;
mod findings;
mod holds;
mod lifecycle;
mod lock;
mod lock_limit;
pub mod options;
mod put;
mod read;
mod repair;
mod role_trial;
mod unfinished;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::destinations;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::destination::s3::client::Clients;
use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::options::S3Options;
use crate::destination::throttle::Throttle;
use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, LockState, ObjectKey, ObjectList,
    ObjectRead, PutOutcome,
};
use crate::examination::Finding;
use crate::fan_out::probes::Probes;
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::spool::SpooledObject;

pub use conditional::ConditionalWrites;
pub use failure::OptionsError;

/// Runs a request within its deadline.
macro_rules! within_deadline {
    ($request:expr) => {
        match tokio::time::timeout(S3_REQUEST_DEADLINE, $request.send()).await {
            Ok(answer) => answer.map_err(S3Failure::of),
            Err(_) => Err(S3Failure::Timeout),
        }
    };
}

use within_deadline;

/// A bucket, or what lies beneath a prefix in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct S3Destination(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: DestinationName,
    options: S3Options,
    clients: Clients,
    clock: Arc<dyn Clock>,
    throttle: Arc<Throttle>,
    /// What the service does with a conditional write; found out before the first put.
    conditional: OnceCell<ConditionalWrites>,
    /// Where that is kept for later processes.
    probes: OnceLock<Probes>,
    /// Whether a lock was asked for and did not show.
    lock_missed: AtomicBool,
}

impl S3Destination {
    /// Over a bucket, which is not asked for anything yet.
    pub fn new(
        name: DestinationName,
        options: S3Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OptionsError> {
        let clients = Clients::new(&options)?;
        Ok(Self(Arc::new(Inner {
            throttle: Throttle::new(options.bandwidth),
            name,
            options,
            clients,
            clock,
            conditional: OnceCell::new(),
            probes: OnceLock::new(),
            lock_missed: AtomicBool::new(false),
        })))
    }

    /// What the service does with conditional writes.
    pub async fn conditional_writes(&self) -> Result<ConditionalWrites, DestinationError> {
        self.0.conditional().await
    }
}

impl Inner {
    /// An object's key in the bucket.
    fn bucket_key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.options.prefix)
    }

    fn error(
        &self,
        action: &'static str,
        subject: impl ToString,
        failure: S3Failure,
    ) -> DestinationError {
        failure.into_error(self.name.clone(), action, subject.to_string())
    }

    fn absent(&self, key: &ObjectKey) -> DestinationError {
        DestinationError::Absent {
            destination: self.name.clone(),
            key: key.clone(),
        }
    }
}

impl Destination for S3Destination {
    fn name(&self) -> &DestinationName {
        &self.0.name
    }

    fn put_if_absent(
        &self,
        key: ObjectKey,
        source: SpooledObject,
    ) -> BoxFuture<'_, Result<PutOutcome, DestinationError>> {
        Box::pin(async move { self.0.put(&key, &source).await })
    }

    fn get_range(
        &self,
        key: ObjectKey,
        range: ByteRange,
    ) -> BoxFuture<'_, Result<ObjectRead, DestinationError>> {
        Box::pin(async move { self.0.get_range(&key, range).await })
    }

    fn head(&self, key: ObjectKey) -> BoxFuture<'_, Result<u64, DestinationError>> {
        Box::pin(async move { self.0.head(&key).await })
    }

    fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ObjectList, DestinationError>> {
        Box::pin(async move { self.0.list(repository, kind, after.as_ref(), limit).await })
    }

    fn delete<'a>(
        &'a self,
        key: ObjectKey,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async move { self.0.delete(&key).await })
    }

    fn extend_lock<'a>(
        &'a self,
        key: ObjectKey,
        until_unix_secs: u64,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async move { self.0.extend_lock(&key, until_unix_secs).await })
    }

    fn renew_lock<'a>(
        &'a self,
        key: ObjectKey,
        now_unix_secs: u64,
        _grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<LockState, DestinationError>> {
        Box::pin(async move { self.0.renew_lock(&key, now_unix_secs).await })
    }

    fn replace_damaged<'a>(
        &'a self,
        key: ObjectKey,
        good: SpooledObject,
        _grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<String, DestinationError>> {
        Box::pin(async move { self.0.replace_damaged(&key, &good).await })
    }

    fn abort_uploads<'a>(
        &'a self,
        older_than_secs: u64,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<u64, DestinationError>> {
        Box::pin(async move { self.0.abort_uploads(older_than_secs).await })
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepositoryId>, DestinationError>> {
        Box::pin(async move { self.0.repositories().await })
    }

    fn findings(&self, key: ObjectKey) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(async move { self.0.findings(&key).await })
    }

    fn keep_probes(&self, probes: &Probes) {
        self.0.probes.get_or_init(|| probes.clone());
    }

    fn known_conditional_writes(&self) -> destinations::ConditionalWrites {
        self.0.known_conditional()
    }

    fn free_bytes(&self) -> BoxFuture<'_, Result<Option<u64>, DestinationError>> {
        // No S3 service says; a quota shows when it refuses.
        Box::pin(async { Ok(None) })
    }
}
