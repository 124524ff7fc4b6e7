//! A destination in memory: the contract in its simplest form, for tests and for trying things out. Never
//! durable, whatever it answers.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};

use crate::destination::{
    BackendError, ByteRange, DAMAGED_FOLDER, Destination, DestinationError, DestinationName,
    ObjectKey, ObjectList, ObjectRead, PutOutcome, damaged_name,
};
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::spool::SpooledObject;

/// Objects in memory.
#[derive(Debug)]
pub struct MemoryDestination {
    name: DestinationName,
    objects: Mutex<BTreeMap<String, (ObjectKey, Bytes)>>,
    /// What was damaged and is kept.
    kept: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryDestination {
    /// An empty one.
    pub fn new(name: DestinationName) -> Self {
        Self {
            name,
            objects: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, (ObjectKey, Bytes)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &ObjectKey) -> Result<Bytes, DestinationError> {
        match self.objects().get(&key.to_string()) {
            Some((_, bytes)) => Ok(bytes.clone()),
            None => Err(DestinationError::Absent {
                destination: self.name.clone(),
                key: key.clone(),
            }),
        }
    }

    fn put(&self, key: ObjectKey, source: &SpooledObject) -> io::Result<PutOutcome> {
        let length = usize::try_from(source.bytes()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        source.file().read_exact_at(&mut bytes, 0)?;
        let mut objects = self.objects();
        match objects.get(&key.to_string()) {
            Some((_, there)) if *there == bytes => Ok(PutOutcome::ExistsSame),
            Some(_) => Ok(PutOutcome::ExistsDifferent),
            None => {
                objects.insert(key.to_string(), (key, bytes.into()));
                Ok(PutOutcome::Created)
            }
        }
    }
}

impl Destination for MemoryDestination {
    fn name(&self) -> &DestinationName {
        &self.name
    }

    fn put_if_absent(
        &self,
        key: ObjectKey,
        source: SpooledObject,
    ) -> BoxFuture<'_, Result<PutOutcome, DestinationError>> {
        Box::pin(async move {
            let subject = key.to_string();
            self.put(key, &source)
                .map_err(|error| DestinationError::Permanent {
                    destination: self.name.clone(),
                    action: "store",
                    subject,
                    source: Box::new(error),
                })
        })
    }

    fn get_range(
        &self,
        key: ObjectKey,
        range: ByteRange,
    ) -> BoxFuture<'_, Result<ObjectRead, DestinationError>> {
        Box::pin(async move {
            let object = self.find(&key)?;
            let total = object.len() as u64;
            let past_end = || DestinationError::PastEnd {
                destination: self.name.clone(),
                key: key.clone(),
                total,
            };
            let bytes = range.bytes_in(total).ok_or_else(past_end)?;
            let start = usize::try_from(range.start).map_err(|_| past_end())?;
            let end = usize::try_from(range.start + bytes).map_err(|_| past_end())?;
            let part = object.slice(start..end);
            let pieces = (!part.is_empty()).then_some(Ok(part));
            Ok(ObjectRead {
                total,
                bytes,
                body: stream::iter(pieces).boxed(),
            })
        })
    }

    fn head(&self, key: ObjectKey) -> BoxFuture<'_, Result<u64, DestinationError>> {
        Box::pin(async move { self.find(&key).map(|bytes| bytes.len() as u64) })
    }

    fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ObjectList, DestinationError>> {
        Box::pin(async move {
            let after = after.map(|name| name.to_string());
            let mut list = ObjectList::default();
            for (key, bytes) in self.objects().values() {
                let in_folder = key.repository == repository && key.name.kind() == kind;
                if !in_folder
                    || after
                        .as_ref()
                        .is_some_and(|after| key.name.to_string() <= *after)
                {
                    continue;
                }
                if list.objects.len() == limit {
                    list.more = true;
                    break;
                }
                list.objects.push((key.name.clone(), bytes.len() as u64));
            }
            Ok(list)
        })
    }

    fn delete<'a>(
        &'a self,
        key: ObjectKey,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async move {
            self.find(&key)?;
            self.objects().remove(&key.to_string());
            Ok(())
        })
    }

    fn extend_lock<'a>(
        &'a self,
        _key: ObjectKey,
        _until_unix_secs: u64,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async {
            Err(DestinationError::Unsupported {
                destination: self.name.clone(),
                action: "extend an object's lock",
            })
        })
    }

    fn replace_damaged<'a>(
        &'a self,
        key: ObjectKey,
        good: SpooledObject,
        _grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<String, DestinationError>> {
        Box::pin(async move {
            let damaged = self.find(&key)?;
            let fail = |source: BackendError| DestinationError::Permanent {
                destination: self.name.clone(),
                action: "repair",
                subject: key.to_string(),
                source,
            };
            let kept = damaged_name(&key).map_err(|error| fail(Box::new(error)))?;
            let kept = format!("{}/{DAMAGED_FOLDER}/{kept}", key.repository);
            self.kept().insert(kept.clone(), damaged);
            self.objects().remove(&key.to_string());
            self.put(key.clone(), &good)
                .map_err(|error| fail(Box::new(error)))?;
            Ok(kept)
        })
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepositoryId>, DestinationError>> {
        Box::pin(async move {
            let objects = self.objects();
            let mut all: Vec<_> = objects.values().map(|(key, _)| key.repository).collect();
            all.dedup();
            Ok(all)
        })
    }

    fn free_bytes(&self) -> BoxFuture<'_, Result<Option<u64>, DestinationError>> {
        Box::pin(async { Ok(None) })
    }
}
