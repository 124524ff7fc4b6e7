//! Verifies every pack of a run while it goes on: reads it back from storage, opens every frame, recomputes
//! every chunk's keyed hash, and only then lets the index know. A bad pack is quarantined and fails the run.

use std::sync::Arc;

use bytes::Bytes;
use formats::ids::{ChunkId, PackId, RepositoryId, RunId};
use formats::keys::secret::IdKey;
use formats::limits::PACK_BYTES_MAX;
use formats::object::ObjectName;
use formats::pack::open::{CheckKeys, PackCheck, PackError, Trailer};
use formats::pack::table::Table;
use formats::pack::trailer::FOOTER_BYTES;
use formats::seal::run_header::{Purpose, RunHeader, RunKeys};
use futures_util::StreamExt as _;
use tokio::join;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::backup::error::RunError;
use crate::backup::shared_index::SharedIndex;
use crate::index::PackFacts;
use crate::repository::packs::pack_name;
use crate::storage::error::{StorageError, Subject};
use crate::storage::{ReadRange, StorageClient};

/// Packs that are read and checked at the same time: as many as are uploaded at the same time by default. With fewer, a
/// destination that is far away brings packs back more slowly than it takes them, and the run waits.
const PACKS_AT_ONCE_MAX: usize = 4;
/// Pieces of a pack between storage and the thread that checks them.
const PIECES_AHEAD: usize = 4;
/// As much of a pack's end as is read at first; a pack of files of the usual sizes has all of its trailer there.
const TAIL_BYTES_GUESSED: u64 = 64 << 10;

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
    /// Its chunks, now in the index, and their plain bytes.
    pub chunks: Vec<(ChunkId, u32)>,
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
        let (table, bytes) = match self.read_and_check(pack, purpose).await? {
            Ok(checked) => checked,
            Err(error) => {
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
            .flat_map(|frame| frame.chunks.iter().map(|chunk| (chunk.id, chunk.bytes)))
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

    /// Reads the pack back and checks it as it comes. The outer error is storage's or ours and says nothing of the
    /// pack; the inner one is the pack's.
    async fn read_and_check(
        self: &Arc<Self>,
        pack: PackId,
        purpose: Purpose,
    ) -> Result<Result<(Table, u64), RunError>, RunError> {
        let name = pack_name(pack, purpose);
        // Of a length that no pack has, this tells: that is storage's doing.
        let (bytes, mut body) = self
            .storage
            .get_stream(self.repository, &name, ReadRange::All, PACK_BYTES_MAX)
            .await?;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let bringing = async move {
            while let Some(piece) = body.next().await {
                if sender.send(piece?).await.is_err() {
                    break;
                }
            }
            Ok::<(), RunError>(())
        };
        // The end is what tells how to check the rest: it is read while that is on its way.
        let checking = async {
            let tail = self.read_tail(&name, bytes).await?;
            let shared = Arc::clone(self);
            let checking = move || shared.check(pack, purpose, &tail, bytes, pieces);
            let checked = tokio::task::spawn_blocking(checking).await;
            checked.map_err(|_| RunError::Cancelled)?
        };
        let (brought, checked) = join!(bringing, checking);
        brought?;
        Ok(checked?.map(|table| (table, bytes)))
    }

    /// The pack's end, with all of its trailer if it has one.
    async fn read_tail(&self, name: &ObjectName, pack_bytes: u64) -> Result<Bytes, RunError> {
        let read = async |wanted: u64| {
            let bytes = wanted.min(pack_bytes);
            let start = pack_bytes - bytes;
            let range = ReadRange::Part { start, bytes };
            let storage = &self.storage;
            storage
                .get(self.repository, name, range, PACK_BYTES_MAX)
                .await
        };
        let tail = read(TAIL_BYTES_GUESSED).await?;
        let needed = tail
            .last_chunk::<FOOTER_BYTES>()
            .and_then(|footer| Trailer::bytes_to_read(footer, pack_bytes).ok());
        match needed {
            Some(needed) if needed > tail.len() as u64 => Ok(read(needed).await?),
            // What is no trailer is found out when it is opened.
            _ => Ok(tail),
        }
    }

    /// Checks the pieces as they come, on a thread that may block. Errors as in [`Self::read_and_check`].
    fn check(
        &self,
        pack: PackId,
        purpose: Purpose,
        tail: &[u8],
        pack_bytes: u64,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Result<Table, RunError>, RunError> {
        let (header, keys) = match purpose {
            Purpose::Data => &self.keys.data,
            Purpose::Meta => &self.keys.meta,
        };
        let keys = CheckKeys {
            issued: header,
            table: &keys.table,
            data: &keys.data,
            id: &self.keys.id_key,
        };
        let mut hasher = blake3::Hasher::new();
        let mut check = PackCheck::begin(tail, pack_bytes, keys);
        let mut frame = Vec::new();
        let (mut at, mut same_tail) = (0u64, true);
        while let Some(piece) = pieces.blocking_recv() {
            hasher.update(&piece);
            same_tail &= is_part_of_tail(&piece, at, tail, pack_bytes);
            at += piece.len() as u64;
            if let Ok(going) = &mut check
                && let Err(error) = check_piece(going, &piece, &mut frame)
            {
                check = Err(error);
            }
        }
        // Bytes that are not those the pack is named by are storage's doing, whatever else is wrong with them.
        if *hasher.finalize().as_bytes() != *pack.as_bytes() {
            return Ok(Err(RunError::PackDigest { pack }));
        }
        // What was opened must be what was hashed; a storage that answers twice is not the pack's fault.
        if !same_tail || at != pack_bytes {
            return Err(RunError::Storage(StorageError::WrongAnswer {
                subject: Subject::Object(self.repository, pack_name(pack, purpose)),
                what: "two reads of its end differ",
            }));
        }
        Ok(check
            .and_then(PackCheck::finish)
            .map_err(|source| RunError::BadPack { pack, source }))
    }
}

/// Whether a piece that begins at `at` has the bytes of the pack's end where it reaches there.
fn is_part_of_tail(piece: &[u8], at: u64, tail: &[u8], pack_bytes: u64) -> bool {
    let tail_at = pack_bytes.saturating_sub(tail.len() as u64);
    // Where the piece and the tail begin to overlap, in each.
    let in_piece = usize::try_from(tail_at.saturating_sub(at)).unwrap_or(usize::MAX);
    let in_tail = usize::try_from(at.saturating_sub(tail_at)).unwrap_or(usize::MAX);
    let overlapping = piece.get(in_piece..).unwrap_or_default();
    let expected = tail.get(in_tail..).unwrap_or_default();
    expected.starts_with(overlapping)
}

/// Gathers a piece into frames, and checks those that are complete. What follows the last frame is the trailer.
fn check_piece(
    check: &mut PackCheck<'_>,
    piece: &[u8],
    frame: &mut Vec<u8>,
) -> Result<(), PackError> {
    let mut rest = piece;
    while let Some(frame_bytes) = check.next_frame_bytes() {
        let missing = frame_bytes.saturating_sub(frame.len());
        let (taken, after) = rest.split_at(missing.min(rest.len()));
        frame.extend_from_slice(taken);
        rest = after;
        if frame.len() < frame_bytes {
            break;
        }
        check.check_next(frame)?;
        frame.clear();
    }
    Ok(())
}
