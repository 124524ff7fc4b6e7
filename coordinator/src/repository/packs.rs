//! One repository's objects through the append-server: what the catalog, the index's rebuilding and every
//! reader of packs ask of storage.

use std::sync::Arc;

use append_server::fan_out::queue::placing::Keeping;
use bytes::Bytes;
use formats::ids::{PackId, RepositoryId};
use formats::limits::PACK_BYTES_MAX;
use formats::object::{ObjectKind, ObjectName};
use formats::seal::run_header::Purpose;
use formats::wire::upload::Stored;
use futures_util::future::BoxFuture;

use crate::repository::store::{ObjectStore, Put, StoreError};
use crate::snapshot::place::{PackSource, PackSourceError};
use crate::storage::{ReadRange, StorageClient, StorageError};

impl ObjectStore for StorageClient {
    fn copies(&self) -> Vec<Self> {
        self.each().collect()
    }

    async fn get(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        Self::get(self, repository, name, ReadRange::All, bytes_max)
            .await
            .map_err(|error| store_error("read", repository, name, bytes_max, error))
    }

    async fn place(&self, repository: RepositoryId, keeping: &Keeping) -> Result<(), StoreError> {
        let placed = Self::place(self, &[repository], Some(keeping)).await;
        placed.map_err(|source| StoreError::Failed {
            action: "place",
            key: repository.to_string(),
            source: Box::new(source),
        })
    }

    async fn put_new(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes: Bytes,
    ) -> Result<Put, StoreError> {
        match self.put(repository, name, bytes).await {
            Ok(Stored { existed: true, .. }) => Ok(Put::Existed),
            Ok(Stored { existed: false, .. }) => Ok(Put::Created),
            Err(StorageError::Conflict { .. }) => Ok(Put::Conflict),
            Err(error) => Err(store_error("store", repository, name, 0, error)),
        }
    }

    async fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
    ) -> Result<Vec<ObjectName>, StoreError> {
        let objects =
            Self::list(self, repository, kind)
                .await
                .map_err(|source| StoreError::Failed {
                    action: "list",
                    key: format!("{repository}/{}", kind.folder()),
                    source: Box::new(source),
                })?;
        Ok(objects.into_iter().map(|(name, _)| name).collect())
    }
}

fn store_error(
    action: &'static str,
    repository: RepositoryId,
    name: &ObjectName,
    bytes_max: u64,
    error: StorageError,
) -> StoreError {
    let key = name.key(repository);
    match error {
        StorageError::Absent { .. } => StoreError::Missing { key },
        StorageError::TooLong { .. } => StoreError::TooLarge { key, bytes_max },
        source => StoreError::Failed {
            action,
            key,
            source: Box::new(source),
        },
    }
}

/// The object of a pack.
pub fn pack_name(pack: PackId, purpose: Purpose) -> ObjectName {
    match purpose {
        Purpose::Data => ObjectName::Pack(pack),
        Purpose::Meta => ObjectName::Meta(pack),
    }
}

/// Reads parts of one repository's packs.
#[derive(Clone)]
pub struct RepositoryPacks {
    repository: RepositoryId,
    storage: StorageClient,
    copies: Vec<Arc<dyn PackSource>>,
}

impl RepositoryPacks {
    /// The packs of `repository`, and each single copy for what is damaged.
    pub fn new(repository: RepositoryId, storage: StorageClient) -> Self {
        let copy = |storage| -> Arc<dyn PackSource> {
            Arc::new(Self {
                repository,
                storage,
                copies: Vec::new(),
            })
        };
        Self {
            copies: storage.each().map(copy).collect(),
            repository,
            storage,
        }
    }
}

impl PackSource for RepositoryPacks {
    fn copies(&self) -> &[Arc<dyn PackSource>] {
        &self.copies
    }

    fn read_range(
        &self,
        pack: PackId,
        purpose: Purpose,
        offset: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Bytes, PackSourceError>> {
        Box::pin(async move {
            let name = pack_name(pack, purpose);
            let range = ReadRange::Part {
                start: offset,
                bytes,
            };
            self.storage
                .get(self.repository, &name, range, bytes.min(PACK_BYTES_MAX))
                .await
                .map_err(|error| pack_error(pack, error))
        })
    }

    fn pack_bytes(
        &self,
        pack: PackId,
        purpose: Purpose,
    ) -> BoxFuture<'_, Result<u64, PackSourceError>> {
        Box::pin(async move {
            self.storage
                .head(self.repository, &pack_name(pack, purpose))
                .await
                .map_err(|error| pack_error(pack, error))
        })
    }
}

fn pack_error(pack: PackId, error: StorageError) -> PackSourceError {
    match error {
        StorageError::Absent { .. } => PackSourceError::Missing { pack },
        source => PackSourceError::Storage {
            pack,
            source: Box::new(source),
        },
    }
}
