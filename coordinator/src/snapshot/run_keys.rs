//! The keys of the runs whose frames are read: taken from a pack's run headers, opened once, and kept with
//! decompressors for reuse. Never keeps more than a bounded number of packs in mind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use formats::ids::PackId;
use formats::keys::repository::{MissingKeyError, RepositoryKeys};
use formats::keys::secret::{DataKey, KemSeed};
use formats::pack::trailer::{FOOTER_BYTES, Footer};
use formats::seal::frame::{FrameError, FrameOpener, FrameShape};
use formats::seal::run_header::{Purpose, RUN_HEADER_BYTES, RunContext, RunHeader};

use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::place::{ChunkPlace, PackSource, PackSourceError};

/// The most packs whose run headers are kept.
const PACKS_KEPT_MAX: usize = 16_384;
/// The most runs whose keys are kept.
const RUNS_KEPT_MAX: usize = 4_096;
/// The most idle decompressors of a run.
const OPENERS_IDLE_MAX: usize = 16;

/// Opens frames of one run, from several threads.
#[derive(Debug)]
pub(crate) struct RunOpener {
    context: RunContext,
    key: DataKey,
    idle: Mutex<Vec<FrameOpener>>,
}

impl RunOpener {
    /// Replaces `plain` by the frame's plaintext. Its chunks are still to be checked.
    pub(crate) fn open(
        &self,
        shape: &FrameShape,
        sealed: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let idle = lock(&self.idle).pop();
        let mut opener = match idle {
            Some(opener) => opener,
            None => FrameOpener::new(self.context, self.key.clone())?,
        };
        let opened = opener.open(shape, sealed, plain);
        let mut idle = lock(&self.idle);
        if idle.len() < OPENERS_IDLE_MAX {
            idle.push(opener);
        }
        opened
    }
}

/// The runs met so far.
#[derive(Debug)]
pub(crate) struct RunOpeners {
    keys: RepositoryKeys,
    by_place: Mutex<HashMap<(PackId, u16), Arc<RunOpener>>>,
    by_header: Mutex<HashMap<[u8; 32], Arc<RunOpener>>>,
}

impl RunOpeners {
    /// None yet; `keys` open the run headers.
    pub(crate) fn new(keys: RepositoryKeys) -> Self {
        Self {
            keys,
            by_place: Mutex::new(HashMap::new()),
            by_header: Mutex::new(HashMap::new()),
        }
    }

    /// The opener of a pack's run header, read from the pack's trailer unless it is known.
    pub(crate) async fn get(
        &self,
        packs: &dyn PackSource,
        place: &ChunkPlace,
    ) -> Result<Arc<RunOpener>, ChunkError> {
        let ChunkPlace {
            pack,
            purpose,
            run_header,
            ..
        } = *place;
        if let Some(opener) = lock(&self.by_place).get(&(pack, run_header)) {
            return Ok(Arc::clone(opener));
        }
        let bytes = read_header(packs, place).await?;
        let opener = self.opener(pack, purpose, run_header, &bytes)?;
        let mut by_place = lock(&self.by_place);
        if by_place.len() >= PACKS_KEPT_MAX {
            by_place.clear();
        }
        by_place.insert((pack, run_header), Arc::clone(&opener));
        Ok(opener)
    }

    /// The key that opens tables.
    pub(crate) fn table_seed(&self) -> Result<&KemSeed, MissingKeyError> {
        self.keys.meta()
    }

    /// The opener of a run header's bytes.
    pub(crate) fn opener(
        &self,
        pack: PackId,
        purpose: Purpose,
        run_header: u16,
        bytes: &[u8],
    ) -> Result<Arc<RunOpener>, ChunkError> {
        // The whole header names the run: two headers that only claim the same run stay apart.
        let digest: [u8; 32] = *blake3::hash(bytes).as_bytes();
        if let Some(opener) = lock(&self.by_header).get(&digest) {
            return Ok(Arc::clone(opener));
        }
        let header =
            RunHeader::decode(bytes).map_err(|source| ChunkError::Trailer { pack, source })?;
        let fits =
            header.context.repository == self.keys.repository && header.context.purpose == purpose;
        if !fits {
            return Err(ChunkError::ForeignRun { pack, run_header });
        }
        let seed = match purpose {
            Purpose::Data => self.keys.data()?,
            Purpose::Meta => self.keys.meta()?,
        };
        let key = header
            .open_data_key(seed)
            .map_err(|source| ChunkError::RunHeader {
                pack,
                run_header,
                source,
            })?;
        let opener = Arc::new(RunOpener {
            context: header.context,
            key,
            idle: Mutex::new(Vec::new()),
        });
        let mut by_header = lock(&self.by_header);
        if by_header.len() >= RUNS_KEPT_MAX {
            by_header.clear();
        }
        by_header.insert(digest, Arc::clone(&opener));
        Ok(opener)
    }
}

/// Reads one run header from a pack's end; in the usual pack of one run by one read.
async fn read_header(packs: &dyn PackSource, place: &ChunkPlace) -> Result<Vec<u8>, ChunkError> {
    let ChunkPlace {
        pack,
        pack_bytes,
        purpose,
        run_header,
        ..
    } = *place;
    let trailer = |source| ChunkError::Trailer { pack, source };
    let truncated = || {
        trailer(formats::codec::DecodeError::Truncated {
            what: "pack trailer",
        })
    };
    let tail_bytes = (RUN_HEADER_BYTES + FOOTER_BYTES) as u64;
    let tail_offset = pack_bytes.checked_sub(tail_bytes).ok_or_else(truncated)?;
    let read = packs.read_range(pack, purpose, tail_offset, tail_bytes);
    let tail = match read.await {
        Ok(tail) => tail,
        // What ends before that is damaged; anything else that fails may work later.
        Err(error @ PackSourceError::Storage { .. }) => {
            let found = packs.pack_bytes(pack, purpose).await;
            return Err(match found {
                Ok(found) if found < pack_bytes => truncated(),
                _ => error.into(),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let (last_header, footer) = tail
        .split_last_chunk::<FOOTER_BYTES>()
        .ok_or_else(truncated)?;
    let footer = Footer::decode(footer, pack_bytes).map_err(trailer)?;
    let after = footer
        .run_headers
        .checked_sub(run_header)
        .filter(|after| *after > 0)
        .ok_or(ChunkError::NoRunHeader { pack, run_header })?;
    if after == 1 && last_header.len() == RUN_HEADER_BYTES {
        return Ok(last_header.to_vec());
    }
    let from_end = u64::from(after) * RUN_HEADER_BYTES as u64 + FOOTER_BYTES as u64;
    let offset = pack_bytes.checked_sub(from_end).ok_or_else(truncated)?;
    let header = packs
        .read_range(pack, purpose, offset, RUN_HEADER_BYTES as u64)
        .await?;
    Ok(header.to_vec())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value in here is whole at every step; a panic elsewhere does not make it wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
