//! Chunks that are in several packs: reads their places one after another until one has the right bytes. A run
//! that failed may have left packs whose tables tell what is not so, and a damaged pack may have a whole twin;
//! without a log nothing else says which of them is good.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::ids::ChunkId;
use formats::keys::repository::RepositoryKeys;
use rusqlite::params;

use crate::rescue::error::RescueError;
use crate::rescue::places::{Places, encode_place, place_at};
use crate::rescue::store::Store;
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::chunks::{ChunkReader, ChunkSink, ReadLimits};
use crate::snapshot::place::{ChunkLocator, ChunkPlace, LocateError, PackSource};

/// Chunks looked at together.
const CHUNKS_AT_ONCE: i64 = 512;
/// The most further places of a chunk that are tried.
const PLACES_MAX: i64 = 16;

/// Finds a good place for every chunk that has several.
pub(crate) async fn settle(
    places: &Arc<Places>,
    store: &Store,
    packs: Arc<dyn PackSource>,
    keys: &RepositoryKeys,
) -> Result<(), RescueError> {
    let trial = Arc::new(Trial::default());
    let locator = Arc::clone(&trial) as Arc<dyn ChunkLocator>;
    let reader = ChunkReader::new(locator, packs, keys.clone(), ReadLimits::default())?;
    let mut after: Option<ChunkId> = None;
    loop {
        let mut candidates = candidates(places, store, after).await?;
        after = candidates.keys().next_back().copied();
        if after.is_none() {
            return Ok(());
        }
        let mut round = 0usize;
        while !candidates.is_empty() {
            let good = try_places(&reader, &trial, &candidates, round).await?;
            if round > 0 && !good.is_empty() {
                choose(store, &candidates, &good, round)?;
                places.note_chosen();
            }
            round += 1;
            candidates.retain(|id, places| !good.contains(id) && places.len() > round);
        }
    }
}

type Candidates = BTreeMap<ChunkId, Vec<ChunkPlace>>;

/// The next chunks with all their places, the index's own first.
async fn candidates(
    places: &Arc<Places>,
    store: &Store,
    after: Option<ChunkId>,
) -> Result<Candidates, RescueError> {
    let (places, store) = (Arc::clone(places), store.clone());
    let looking = tokio::task::spawn_blocking(move || -> Result<Candidates, RescueError> {
        let ids = store.with(|transaction| {
            let mut next = transaction.prepare_cached(
                "SELECT DISTINCT id FROM others WHERE id > ?1 ORDER BY id LIMIT ?2",
            )?;
            let after = after.as_ref().map_or(&[][..], |after| after.as_bytes());
            let ids = next.query_map(params![after, CHUNKS_AT_ONCE], |row| {
                row.get(0).map(ChunkId)
            })?;
            ids.collect::<rusqlite::Result<Vec<ChunkId>>>()
        })?;
        let own = places
            .locate_many(&ids)
            .map_err(|error| Arc::new(ChunkError::from(error)))?;
        let mut candidates = Candidates::new();
        for (id, own) in ids.into_iter().zip(own) {
            let others = store.with(|transaction| {
                let mut others = transaction
                    .prepare_cached("SELECT place FROM others WHERE id = ?1 LIMIT ?2")?;
                let others =
                    others.query_map(params![id.as_bytes(), PLACES_MAX], |row| place_at(row, 0))?;
                others.collect::<rusqlite::Result<Vec<ChunkPlace>>>()
            })?;
            candidates.insert(id, own.into_iter().chain(others).collect());
        }
        Ok(candidates)
    });
    looking.await.map_err(|_| RescueError::Stopped)?
}

/// The chunks whose place of this round has their bytes.
async fn try_places(
    reader: &ChunkReader,
    trial: &Arc<Trial>,
    candidates: &Candidates,
    round: usize,
) -> Result<Vec<ChunkId>, RescueError> {
    let mut by_kind: BTreeMap<u8, (ChunkKind, Vec<ChunkId>)> = BTreeMap::new();
    let mut tried = HashMap::new();
    for (id, places) in candidates {
        if let Some(place) = places.get(round) {
            tried.insert(*id, *place);
            let kind = place.shape.kind;
            let (_, ids) = by_kind
                .entry(kind.tag())
                .or_insert_with(|| (kind, Vec::new()));
            ids.push(*id);
        }
    }
    *trial.lock() = tried;
    let good = Arc::new(Good::default());
    for (kind, ids) in by_kind.into_values() {
        let sink = Arc::clone(&good) as Arc<dyn ChunkSink>;
        reader.deliver(kind, &ids, sink).await?;
    }
    let mut found = good.ids.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *found))
}

fn choose(
    store: &Store,
    candidates: &Candidates,
    good: &[ChunkId],
    round: usize,
) -> Result<(), RescueError> {
    Ok(store.with(|transaction| {
        let mut choose = transaction
            .prepare_cached("INSERT OR REPLACE INTO chosen (id, place) VALUES (?1, ?2)")?;
        for id in good {
            if let Some(place) = candidates.get(id).and_then(|places| places.get(round)) {
                choose.execute(params![id.as_bytes(), encode_place(place)])?;
            }
        }
        Ok(())
    })?)
}

/// The places of the round at hand.
#[derive(Debug, Default)]
struct Trial {
    places: Mutex<HashMap<ChunkId, ChunkPlace>>,
}

impl Trial {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChunkId, ChunkPlace>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChunkLocator for Trial {
    fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, LocateError> {
        let places = self.lock();
        Ok(ids.iter().map(|id| places.get(id).copied()).collect())
    }
}

#[derive(Debug, Default)]
struct Good {
    ids: Mutex<Vec<ChunkId>>,
}

impl ChunkSink for Good {
    fn chunk(&self, id: ChunkId, found: Result<Bytes, Arc<ChunkError>>) {
        if found.is_ok() {
            let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.push(id);
        }
    }
}
