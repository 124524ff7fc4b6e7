//! What the coordinator's own parts need of storage: get, create-only put, list. There is no delete and no
//! overwrite in it, so nothing built on it can harm what is stored.

use std::error::Error;
use std::future::Future;

use append_server::fan_out::queue::placing::Keeping;
use bytes::Bytes;
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};

/// What a create-only put found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new, and durable.
    Created,
    /// It was there with the same bytes.
    Existed,
    /// It was there with other bytes, and was left as it is.
    Conflict,
}

/// Why storage did not do what was asked. An unknown failure is never "missing".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object is certainly not there.
    #[error("object {key} is not in the destination")]
    Missing {
        /// Its key.
        key: String,
    },
    /// It is larger than it may be.
    #[error("object {key} has more than the {bytes_max} bytes it may have: it is not one of ours")]
    TooLarge {
        /// Its key.
        key: String,
        /// The limit.
        bytes_max: u64,
    },
    /// Storage failed; it may be there or not.
    #[error("storage could not {action} {key}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// The object or folder.
        key: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Storage, as the catalog and the repository use it.
pub trait ObjectStore: Send + Sync + Sized {
    /// Single copies of what is stored, to be read one after another when what came first is damaged.
    fn copies(&self) -> Vec<Self> {
        Vec::new()
    }

    /// An object's bytes, all of them.
    fn get(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes_max: u64,
    ) -> impl Future<Output = Result<Bytes, StoreError>> + Send;

    /// Says how a repository is kept, for storage that is several places.
    fn place(
        &self,
        _repository: RepositoryId,
        _kept_at: &Keeping,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }

    /// Stores an object that is not there yet.
    fn put_new(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes: Bytes,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// The objects of one kind, in any order.
    fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
    ) -> impl Future<Output = Result<Vec<ObjectName>, StoreError>> + Send;
}

/// Says that a copy is bad and that another made up for it.
pub fn tell_bad_copy(error: &(dyn Error + 'static)) {
    tracing::warn!(
        error,
        "a bad copy: another was read instead; `coordinator scan --repair` heals it"
    );
}
