//! One repository's index, shared by the tasks of a run. Its calls are SQLite's and block, so each goes to a
//! blocking thread; one at a time, so that a pack being taken in and a question never meet in a lock's time-out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use formats::ids::{ChunkId, PackId, RunId};
use formats::pack::index::encode_pieces;
use formats::pack::table::Table;
use formats::seal::run_header::Purpose;

use crate::backup::error::RunError;
use crate::backup::new_chunks::BroughtEarlier;
use crate::clock::Clock;
use crate::index::{Index, IndexError, PackFacts};
use crate::snapshot::place::{ChunkLocator, ChunkPlace, LocateError};

/// A frame that is sealed in so many percent of its plain bytes, or in more, did not compress.
const INCOMPRESSIBLE_FROM: u64 = 95;

/// The index, and the clock that its rows are dated by.
#[derive(Clone)]
pub struct SharedIndex {
    index: Arc<Mutex<Index>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for SharedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedIndex").finish_non_exhaustive()
    }
}

/// The packs that no committed record names yet: this run's, and those of runs that died.
#[derive(Debug, Default)]
pub struct Unrecorded {
    /// Data packs; their tables go into the record's index object.
    pub data: Vec<PackId>,
    /// Meta packs; the record names them.
    pub meta: Vec<PackId>,
}

/// Data that a host's snapshots do not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewData {
    /// Plain bytes.
    pub plain: u64,
    /// Of those, bytes in frames that hardly became smaller.
    pub incompressible: u64,
}

impl NewData {
    fn add(&mut self, table: &Table) {
        for frame in &table.frames {
            let plain = u64::from(frame.shape.plain_bytes);
            let sealed = u64::from(frame.shape.sealed_bytes);
            self.plain += plain;
            if sealed * 100 >= plain * INCOMPRESSIBLE_FROM {
                self.incompressible += plain;
            }
        }
    }
}

impl SharedIndex {
    /// Shares an index.
    pub fn new(index: Index, clock: Arc<dyn Clock>) -> Self {
        Self {
            index: Arc::new(Mutex::new(index)),
            clock,
        }
    }

    /// The index for who reads where these packs are not kept.
    pub fn without(&self, packs: HashSet<PackId>) -> IndexWithout {
        IndexWithout {
            index: self.clone(),
            packs,
        }
    }

    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, RunError> {
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || {
            work(&mut index.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .map_err(|_| RunError::Cancelled)?
        .map_err(RunError::from)
    }

    /// For each chunk, whether a verified pack holds it.
    pub async fn contains_many(&self, chunks: Vec<ChunkId>) -> Result<Vec<bool>, RunError> {
        self.with(move |index| index.contains_many(&chunks)).await
    }

    /// For each chunk that a verified pack holds, its plain bytes.
    pub async fn lengths_of(&self, chunks: Vec<ChunkId>) -> Result<Vec<Option<u32>>, RunError> {
        self.with(move |index| index.lengths_of(&chunks)).await
    }

    /// Whether a verified pack holds the chunk.
    pub async fn contains(&self, chunk: ChunkId) -> Result<bool, RunError> {
        Ok(self.contains_many(vec![chunk]).await?.contains(&true))
    }

    /// Takes in a verified pack.
    pub async fn insert_pack(&self, facts: PackFacts, table: Table) -> Result<(), RunError> {
        let now = self.clock.now();
        self.with(move |index| index.insert_pack(&facts, &table, now))
            .await
    }

    /// Puts a bad pack of this run in quarantine. One that an earlier run verified stays: a host that names it
    /// as its own must not take it away from the snapshots that use it.
    pub async fn quarantine(
        &self,
        pack: PackId,
        run: RunId,
        reason: String,
    ) -> Result<(), RunError> {
        let now = self.clock.now();
        self.with(move |index| match index.holds_pack(pack)? {
            true => Ok(()),
            false => index.quarantine(pack, run, &reason, now),
        })
        .await
    }

    /// How many packs are lost.
    pub async fn lost_count(&self) -> Result<u64, RunError> {
        self.with(|index| index.lost_count()).await
    }

    /// Whether a chunk that the parent names may be unknown.
    pub async fn may_lack(&self) -> Result<bool, RunError> {
        self.with(|index| index.may_lack()).await
    }

    /// The packs that no committed record names yet.
    pub async fn unrecorded(&self) -> Result<Unrecorded, RunError> {
        self.with(|index| {
            let mut unrecorded = Unrecorded::default();
            for facts in index.facts_without_snapshot()? {
                match facts.purpose {
                    Purpose::Data => unrecorded.data.push(facts.pack),
                    Purpose::Meta => unrecorded.meta.push(facts.pack),
                }
            }
            Ok(unrecorded)
        })
        .await
    }

    /// What these runs brought, whichever record names their packs by now: in a repository that several hosts write to, one
    /// host's record takes in what another's run has stored so far.
    pub async fn new_data(&self, runs: Vec<RunId>) -> Result<NewData, RunError> {
        self.with(move |index| {
            let mut new = NewData::default();
            each_data_pack(index, &runs, |_, table| new.add(table))?;
            Ok(new)
        })
        .await
    }

    /// The data packs of these runs, and how much is in them.
    pub async fn brought_earlier(&self, runs: Vec<RunId>) -> Result<BroughtEarlier, RunError> {
        self.with(move |index| {
            let mut new = NewData::default();
            let mut packs = HashSet::new();
            each_data_pack(index, &runs, |pack, table| {
                new.add(table);
                packs.insert(pack);
            })?;
            let bytes = new.plain;
            Ok(BroughtEarlier { packs, bytes })
        })
        .await
    }

    /// The pieces of the index object for these packs.
    pub async fn index_pieces(&self, packs: Vec<PackId>) -> Result<Vec<Vec<u8>>, RunError> {
        self.with(move |index| {
            let packs = index
                .packs_named(&packs)?
                .collect::<Result<Vec<_>, IndexError>>()?;
            Ok(encode_pieces(packs.iter().map(|pack| {
                (pack.facts.pack, pack.facts.bytes, &pack.table)
            })))
        })
        .await
    }

    /// Notes that the record at `sequence` names these packs.
    pub async fn mark_committed(
        &self,
        sequence: u64,
        unrecorded: Unrecorded,
    ) -> Result<(), RunError> {
        self.with(move |index| {
            let packs: Vec<PackId> = unrecorded.data.into_iter().chain(unrecorded.meta).collect();
            index.mark_committed(sequence, &packs)
        })
        .await
    }
}

fn each_data_pack(
    index: &Index,
    runs: &[RunId],
    mut work: impl FnMut(PackId, &Table),
) -> Result<(), IndexError> {
    for run in runs {
        for pack in index.packs_of_run(*run)? {
            let pack = pack?;
            if pack.facts.purpose == Purpose::Data {
                work(pack.facts.pack, &pack.table);
            }
        }
    }
    Ok(())
}

/// The index for who reads where some packs are not kept.
#[derive(Debug)]
pub struct IndexWithout {
    index: SharedIndex,
    packs: HashSet<PackId>,
}

impl ChunkLocator for IndexWithout {
    fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, LocateError> {
        let index = self.index.index.lock();
        let index = index.unwrap_or_else(PoisonError::into_inner);
        let located = index.locate_many_but(ids, &self.packs);
        located.map_err(|source| LocateError {
            source: Box::new(source),
        })
    }
}

impl ChunkLocator for SharedIndex {
    fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, LocateError> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.locate_many(ids).map_err(|source| LocateError {
            source: Box::new(source),
        })
    }
}
