//! A destination on an SFTP server (`sftp://`). An object is written under a temporary name, made durable and then
//! linked or renamed to its own, which replaces nothing; where the server cannot make it durable on request, it is
//! read back. Several connections, many requests in flight on each. Never follows a link out of its root, and
//! never takes a server that has lost its root for an empty one.

mod failure;
mod list;
pub mod options;
mod put;
mod read;
mod role_trial;
mod root;
mod session;
mod watched;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::destination::sftp::failure::SftpFailure;
use crate::destination::sftp::options::SftpOptions;
use crate::destination::sftp::session::Slot;
use crate::destination::throttle::Throttle;
use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, ObjectKey, ObjectList, ObjectRead,
    PutOutcome,
};
use crate::examination::Finding;
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::limits::{SFTP_CONNECTIONS, SFTP_OPERATIONS_MAX};
use crate::spool::SpooledObject;

/// A directory of objects on an SFTP server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SftpDestination(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: DestinationName,
    options: SftpOptions,
    throttle: Arc<Throttle>,
    /// Connections, made when they are first needed and again when they are lost.
    slots: Vec<Slot>,
    /// How often a connection failed under an operation; connections from before that are not used again.
    failures: AtomicU64,
    /// Bounds what is under way, and by that the server's open handles and our buffers.
    operations: Arc<Semaphore>,
    /// The same for what reads a little.
    small_reads: Arc<Semaphore>,
    /// Folders that are known to be there, and durable as far as the server can say.
    folders: Mutex<HashSet<String>>,
}

impl SftpDestination {
    /// Over a server, which is not connected to yet.
    pub fn new(name: DestinationName, options: SftpOptions) -> Self {
        let slots = (0..SFTP_CONNECTIONS).map(|_| Slot::default()).collect();
        Self(Arc::new(Inner {
            throttle: Throttle::new(options.bandwidth),
            name,
            options,
            slots,
            failures: AtomicU64::new(0),
            operations: Arc::new(Semaphore::new(SFTP_OPERATIONS_MAX)),
            small_reads: Arc::new(Semaphore::new(SFTP_OPERATIONS_MAX)),
            folders: Mutex::new(HashSet::new()),
        }))
    }

    /// Makes an empty or missing directory a destination's root. Only `init` does this.
    /// Says whether it was one already.
    pub async fn create_root(&self) -> Result<bool, DestinationError> {
        self.0.create_root().await
    }
}

impl Inner {
    /// A path beneath the root.
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.options.path)
    }

    fn error(
        &self,
        action: &'static str,
        subject: impl ToString,
        failure: SftpFailure,
    ) -> DestinationError {
        if failure.is_of_connection() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        failure.into_error(self.name.clone(), action, subject.to_string())
    }

    fn absent(&self, key: &ObjectKey) -> DestinationError {
        DestinationError::Absent {
            destination: self.name.clone(),
            key: key.clone(),
        }
    }
}

impl Destination for SftpDestination {
    fn name(&self) -> &DestinationName {
        &self.0.name
    }

    fn put_if_absent(
        &self,
        key: ObjectKey,
        source: SpooledObject,
    ) -> BoxFuture<'_, Result<PutOutcome, DestinationError>> {
        // A task of its own: one that nobody waits for any more still removes what it began.
        let storing = Arc::clone(&self.0);
        let (name, object) = (self.0.name.clone(), key.to_string());
        Box::pin(async move {
            let storing = tokio::spawn(async move { storing.put(&key, &source).await });
            storing.await.unwrap_or_else(|error| {
                Err(DestinationError::Retryable {
                    destination: name,
                    action: "store",
                    subject: object,
                    source: Box::new(error),
                })
            })
        })
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
        _key: ObjectKey,
        _until_unix_secs: u64,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async {
            Err(DestinationError::Unsupported {
                destination: self.0.name.clone(),
                action: "lock objects: SFTP has no such thing",
            })
        })
    }

    fn replace_damaged<'a>(
        &'a self,
        key: ObjectKey,
        good: SpooledObject,
        _grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<String, DestinationError>> {
        Box::pin(async move { self.0.replace_damaged(&key, &good).await })
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepositoryId>, DestinationError>> {
        Box::pin(async move { self.0.repositories().await })
    }

    fn findings(&self, _key: ObjectKey) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(async move { self.0.findings().await })
    }

    fn free_bytes(&self) -> BoxFuture<'_, Result<Option<u64>, DestinationError>> {
        Box::pin(async move { self.0.free_bytes().await })
    }
}
