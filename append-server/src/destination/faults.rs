//! A destination that fails the call it is told to: before the work, or after it, when the outcome is unknown
//! to the caller. Wraps any kind.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::future::BoxFuture;
use rustix::io::Errno;

use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, LockState, ObjectKey, ObjectList,
    ObjectRead, PutOutcome,
};
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::spool::SpooledObject;

/// When a planned call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailWhen {
    /// Nothing was done.
    Before,
    /// It was done, and the answer was lost.
    After,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct FaultPlan {
    /// The first call that fails, counted from zero.
    pub first: u64,
    /// How many fail from there.
    pub count: u64,
    /// Before the work or after it.
    pub when: FailWhen,
    /// With what.
    pub errno: Errno,
}

/// A destination with planned faults.
#[derive(Debug)]
pub struct FaultyDestination<D> {
    inner: D,
    plan: FaultPlan,
    calls: AtomicU64,
}

impl<D: Destination> FaultyDestination<D> {
    /// Wraps a destination.
    pub fn new(inner: D, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan,
            calls: AtomicU64::new(0),
        }
    }

    /// What is wrapped.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    async fn call<T>(
        &self,
        action: &'static str,
        work: BoxFuture<'_, Result<T, DestinationError>>,
    ) -> Result<T, DestinationError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let planned = call >= self.plan.first && call - self.plan.first < self.plan.count;
        if !planned {
            return work.await;
        }
        if self.plan.when == FailWhen::After {
            work.await?;
        }
        let destination = self.inner.name().clone();
        let subject = format!("an object in call {call}");
        let source = Box::new(io::Error::from(self.plan.errno));
        Err(match self.plan.errno {
            Errno::NOSPC | Errno::DQUOT => DestinationError::NoSpace {
                destination,
                action,
                subject,
                source,
            },
            Errno::TIMEDOUT | Errno::AGAIN => DestinationError::Retryable {
                destination,
                action,
                subject,
                source,
            },
            _ => DestinationError::Permanent {
                destination,
                action,
                subject,
                source,
            },
        })
    }
}

impl<D: Destination> Destination for FaultyDestination<D> {
    fn name(&self) -> &DestinationName {
        self.inner.name()
    }

    fn put_if_absent(
        &self,
        key: ObjectKey,
        source: SpooledObject,
    ) -> BoxFuture<'_, Result<PutOutcome, DestinationError>> {
        Box::pin(async move {
            // Made inside, so that a call that fails before the work never begins it.
            let work = Box::pin(async { self.inner.put_if_absent(key, source).await });
            self.call("store", work).await
        })
    }

    fn get_range(
        &self,
        key: ObjectKey,
        range: ByteRange,
    ) -> BoxFuture<'_, Result<ObjectRead, DestinationError>> {
        let work = Box::pin(async move { self.inner.get_range(key, range).await });
        Box::pin(self.call("read", work))
    }

    fn head(&self, key: ObjectKey) -> BoxFuture<'_, Result<u64, DestinationError>> {
        let work = Box::pin(async move { self.inner.head(key).await });
        Box::pin(self.call("look at", work))
    }

    fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ObjectList, DestinationError>> {
        let work = Box::pin(async move { self.inner.list(repository, kind, after, limit).await });
        Box::pin(self.call("list", work))
    }

    fn delete<'a>(
        &'a self,
        key: ObjectKey,
        grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        let work = Box::pin(async move { self.inner.delete(key, grant).await });
        Box::pin(self.call("delete", work))
    }

    fn extend_lock<'a>(
        &'a self,
        key: ObjectKey,
        until_unix_secs: u64,
        grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        let work =
            Box::pin(async move { self.inner.extend_lock(key, until_unix_secs, grant).await });
        Box::pin(self.call("extend the lock of", work))
    }

    fn renew_lock<'a>(
        &'a self,
        key: ObjectKey,
        now_unix_secs: u64,
        grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<LockState, DestinationError>> {
        let work = Box::pin(async move { self.inner.renew_lock(key, now_unix_secs, grant).await });
        Box::pin(self.call("prolong the lock of", work))
    }

    fn replace_damaged<'a>(
        &'a self,
        key: ObjectKey,
        good: SpooledObject,
        grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<String, DestinationError>> {
        let work = Box::pin(async move { self.inner.replace_damaged(key, good, grant).await });
        Box::pin(self.call("repair", work))
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepositoryId>, DestinationError>> {
        let work = Box::pin(async move { self.inner.repositories().await });
        Box::pin(self.call("list", work))
    }

    fn free_bytes(&self) -> BoxFuture<'_, Result<Option<u64>, DestinationError>> {
        self.inner.free_bytes()
    }
}
