//! Storage in memory, with the same rules as real storage, for tests: objects can also be changed behind
//! the coordinator's back, as a hostile provider would.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};

use crate::repository::store::{ObjectStore, Put, StoreError};

type Objects = BTreeMap<(RepositoryId, ObjectName), Bytes>;

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
}

impl MemoryStore {
    /// Puts any bytes at any name.
    pub fn tamper(&self, repository: RepositoryId, name: ObjectName, bytes: impl Into<Bytes>) {
        self.objects().insert((repository, name), bytes.into());
    }

    /// Loses an object.
    pub fn lose(&self, repository: RepositoryId, name: ObjectName) {
        self.objects().remove(&(repository, name));
    }

    /// Everything there is, as a copy of the destination would have it.
    pub fn keys(&self) -> Vec<String> {
        let objects = self.objects();
        objects
            .keys()
            .map(|(repository, name)| name.key(*repository))
            .collect()
    }

    /// A panicking test leaves whole objects behind, never half of one.
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectStore for MemoryStore {
    async fn get(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        let key = name.key(repository);
        match self.objects().get(&(repository, name.clone())) {
            None => Err(StoreError::Missing { key }),
            Some(bytes) if bytes.len() as u64 > bytes_max => {
                Err(StoreError::TooLarge { key, bytes_max })
            }
            Some(bytes) => Ok(bytes.clone()),
        }
    }

    async fn put_new(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes: Bytes,
    ) -> Result<Put, StoreError> {
        let mut objects = self.objects();
        let key = (repository, name.clone());
        match objects.get(&key) {
            None => {
                objects.insert(key, bytes);
                Ok(Put::Created)
            }
            Some(found) if *found == bytes => Ok(Put::Existed),
            Some(_) => Ok(Put::Conflict),
        }
    }

    async fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
    ) -> Result<Vec<ObjectName>, StoreError> {
        let objects = self.objects();
        let names = objects.keys().filter(|(of, _)| *of == repository);
        Ok(names
            .map(|(_, name)| name.clone())
            .filter(|name| name.kind() == kind)
            .collect())
    }
}
