//! Places and packs held in memory: for tests, and for reading back what a run has just written before any of
//! it is indexed. Never bounded, so never for a whole repository.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use formats::ids::{ChunkId, PackId};
use formats::pack::table::Table;
use formats::seal::run_header::Purpose;
use futures_util::future::{BoxFuture, ready};

use crate::snapshot::place::{ChunkLocator, ChunkPlace, LocateError, PackSource, PackSourceError};

/// Packs and the places of their chunks.
#[derive(Debug, Default)]
pub struct MemoryRepository {
    packs: Mutex<HashMap<PackId, Bytes>>,
    places: Mutex<HashMap<ChunkId, ChunkPlace>>,
    reads: AtomicU64,
}

impl MemoryRepository {
    /// Takes a pack, and the places that its table tells.
    pub fn insert(&self, pack: PackId, purpose: Purpose, bytes: Bytes, table: &Table) {
        let mut places = lock(&self.places);
        for (id, place) in table_places((pack, bytes.len() as u64), purpose, table) {
            places.insert(id, place);
        }
        lock(&self.packs).insert(pack, bytes);
    }

    /// Replaces a pack's bytes, or takes it away.
    pub fn replace_pack(&self, pack: PackId, bytes: Option<Bytes>) {
        let mut packs = lock(&self.packs);
        match bytes {
            Some(bytes) => packs.insert(pack, bytes),
            None => packs.remove(&pack),
        };
    }

    /// Replaces a chunk's place, or takes it away.
    pub fn replace_place(&self, id: ChunkId, place: Option<ChunkPlace>) {
        let mut places = lock(&self.places);
        match place {
            Some(place) => places.insert(id, place),
            None => places.remove(&id),
        };
    }

    /// The bytes of a pack, if it is there.
    pub fn pack(&self, pack: PackId) -> Option<Bytes> {
        lock(&self.packs).get(&pack).cloned()
    }

    /// How many ranges were read so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

/// The places that a pack's table tells.
pub fn table_places(
    (pack, pack_bytes): (PackId, u64),
    purpose: Purpose,
    table: &Table,
) -> impl Iterator<Item = (ChunkId, ChunkPlace)> + '_ {
    let mut frame_offset = 0u64;
    table.frames.iter().flat_map(move |frame| {
        let begins = frame_offset;
        frame_offset += u64::from(frame.shape.sealed_bytes);
        let mut offset_in_frame = 0u32;
        frame.chunks.iter().map(move |chunk| {
            let place = ChunkPlace {
                pack,
                pack_bytes,
                purpose,
                frame_offset: begins,
                shape: frame.shape,
                run_header: frame.run_header,
                offset_in_frame,
                bytes: chunk.bytes,
            };
            offset_in_frame += chunk.bytes;
            (chunk.id, place)
        })
    })
}

impl ChunkLocator for MemoryRepository {
    fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, LocateError> {
        let places = lock(&self.places);
        Ok(ids.iter().map(|id| places.get(id).copied()).collect())
    }
}

impl PackSource for MemoryRepository {
    fn read_range(
        &self,
        pack: PackId,
        _purpose: Purpose,
        offset: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Bytes, PackSourceError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let range = self.pack(pack).ok_or(PackSourceError::Missing { pack });
        let range = range.and_then(|all| {
            let begin = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = begin.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
            if end > all.len() {
                return Err(PackSourceError::Storage {
                    pack,
                    source: "the pack is shorter than the range asked for".into(),
                });
            }
            Ok(all.slice(begin..end))
        });
        Box::pin(ready(range))
    }

    fn pack_bytes(
        &self,
        pack: PackId,
        _purpose: Purpose,
    ) -> BoxFuture<'_, Result<u64, PackSourceError>> {
        let bytes = self.pack(pack).map(|all| all.len() as u64);
        Box::pin(ready(bytes.ok_or(PackSourceError::Missing { pack })))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The maps are whole at every step, so a panic of another thread leaves nothing half done.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
