//! Verifies every pack of a run while it goes on: reads it back from storage, opens every frame, recomputes
//! every chunk's keyed hash, and only then lets the index know. A bad pack is quarantined and fails the run.

use std::sync::Arc;

use formats::ids::{ChunkId, PackId, RepositoryId, RunId};
use formats::keys::secret::IdKey;
use formats::limits::PACK_BYTES_MAX;
use formats::pack::open::verify_pack;
use formats::pack::table::Table;
use formats::seal::run_header::{Purpose, RunHeader, RunKeys};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::backup::error::RunError;
use crate::backup::shared_index::SharedIndex;
use crate::index::PackFacts;
use crate::repository::packs::pack_name;
use crate::storage::{ReadRange, StorageClient};

/// Packs that are read and checked at the same time.
const PACKS_AT_ONCE_MAX: usize = 2;

/// What every check needs.
#[derive(Debug)]
pub struct VerifierKeys {
    /// The run header that was issued for the agent's packs, and its keys.
    pub data: (RunHeader, RunKeys),
    /// The run header of the coordinator's own packs, and its keys.
    pub meta: (RunHeader, RunKeys),
    /// Key of chunk ids.
    pub id_key: IdKey,
}

/// What became known of a pack.
#[derive(Debug)]
pub struct Verified {
    /// The pack.
    pub pack: PackId,
    /// Data or meta.
    pub purpose: Purpose,
    /// Its bytes.
    pub bytes: u64,
    /// Its chunks' names, now in the index.
    pub chunks: Vec<ChunkId>,
}

/// Takes packs, gives what was verified.
#[derive(Debug)]
pub struct Verifier {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    tasks: JoinSet<Result<Verified, RunError>>,
}

#[derive(Debug)]
struct Shared {
    repository: RepositoryId,
    run: RunId,
    storage: StorageClient,
    index: SharedIndex,
    keys: VerifierKeys,
}

impl Verifier {
    /// A verifier for one run.
    pub fn new(
        repository: RepositoryId,
        run: RunId,
        storage: StorageClient,
        index: SharedIndex,
        keys: VerifierKeys,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                repository,
                run,
                storage,
                index,
                keys,
            }),
            slots: Arc::new(Semaphore::new(PACKS_AT_ONCE_MAX)),
            tasks: JoinSet::new(),
        }
    }

    /// Begins to check a stored pack; waits while enough others are being checked.
    pub async fn begin(&mut self, pack: PackId, purpose: Purpose) -> Result<(), RunError> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| RunError::Cancelled)?;
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let verified = shared.verify(pack, purpose).await;
            drop(slot);
            verified
        });
        Ok(())
    }

    /// The next pack whose check ends; none when nothing is being checked.
    pub async fn next(&mut self) -> Option<Result<Verified, RunError>> {
        self.tasks.join_next().await.map(flatten)
    }

    /// Lets the checks under way come to their end; what they find goes to the index and the log.
    pub async fn finish(&mut self) {
        while let Some(verified) = self.next().await {
            if let Err(error) = verified {
                tracing::debug!(%error, "a pack of a run that failed");
            }
        }
    }
}

fn flatten(
    joined: Result<Result<Verified, RunError>, tokio::task::JoinError>,
) -> Result<Verified, RunError> {
    joined.unwrap_or(Err(RunError::Cancelled))
}

impl Shared {
    async fn verify(self: Arc<Self>, pack: PackId, purpose: Purpose) -> Result<Verified, RunError> {
        let name = pack_name(pack, purpose);
        let bytes = self
            .storage
            .get(self.repository, &name, ReadRange::All, PACK_BYTES_MAX)
            .await?;
        let shared = Arc::clone(&self);
        let checked = tokio::task::spawn_blocking(move || {
            let table = shared.check(pack, purpose, &bytes);
            (table, bytes.len() as u64)
        })
        .await
        .map_err(|_| RunError::Cancelled)?;
        let (table, bytes) = match checked {
            (Ok(table), bytes) => (table, bytes),
            (Err(error), _) => {
                tracing::error!(%pack, "pack quarantined");
                self.index
                    .quarantine(pack, self.run, error.to_string())
                    .await?;
                return Err(error);
            }
        };
        let chunks = table
            .frames
            .iter()
            .flat_map(|frame| frame.chunks.iter().map(|chunk| chunk.id))
            .collect();
        let facts = PackFacts {
            pack,
            bytes,
            purpose,
            run: self.run,
        };
        self.index.insert_pack(facts, table).await?;
        Ok(Verified {
            pack,
            purpose,
            bytes,
            chunks,
        })
    }

    fn check(&self, pack: PackId, purpose: Purpose, bytes: &[u8]) -> Result<Table, RunError> {
        if *blake3::hash(bytes).as_bytes() != *pack.as_bytes() {
            return Err(RunError::PackDigest { pack });
        }
        let (header, keys) = match purpose {
            Purpose::Data => &self.keys.data,
            Purpose::Meta => &self.keys.meta,
        };
        verify_pack(bytes, header, &keys.table, &keys.data, &self.keys.id_key)
            .map_err(|source| RunError::BadPack { pack, source })
    }
}
