//! Which chunks of a run's files no snapshot of its host had, so that it is known how much of each file is new. Each counts once, for
//! the file whose content names it first: a chunk that was stored before makes nothing new, however often it is repeated. Never
//! decides what is stored.

use std::collections::{HashMap, HashSet};

use formats::ids::{ChunkId, PackId};
use formats::listing::content::Extent;

/// New chunks that no content has named yet. The agent names them right after it asked about them; those past it count for no file.
const UNNAMED_MAX: usize = 1 << 20;

/// What the host's runs since its last snapshot brought that died or failed: their files are new to this one.
#[derive(Debug, Default)]
pub struct BroughtEarlier {
    /// Their data packs.
    pub packs: HashSet<PackId>,
    /// Plain bytes of those: all of their chunks together count for no more.
    pub bytes: u64,
}

/// The new chunks that no content has named yet.
#[derive(Debug, Default)]
pub struct NewChunks {
    earlier: BroughtEarlier,
    unnamed: HashMap<ChunkId, u32>,
}

impl NewChunks {
    /// None yet.
    pub fn new(earlier: BroughtEarlier) -> Self {
        Self {
            earlier,
            unnamed: HashMap::new(),
        }
    }

    /// Whether chunks that are stored may be new.
    pub fn may_be_stored(&self) -> bool {
        self.earlier.bytes > 0
    }

    /// The agent was asked to store a chunk.
    pub fn wanted(&mut self, id: ChunkId, bytes: u32) {
        if self.unnamed.len() < UNNAMED_MAX {
            self.unnamed.insert(id, bytes);
        }
    }

    /// The agent has a chunk that is in this pack already.
    pub fn stored(&mut self, id: ChunkId, bytes: u32, pack: PackId) {
        if self.earlier.packs.contains(&pack)
            && !self.unnamed.contains_key(&id)
            && let Some(left) = self.earlier.bytes.checked_sub(bytes.into())
        {
            self.earlier.bytes = left;
            self.wanted(id, bytes);
        }
    }

    /// The bytes of those chunks of a file's content that are new, and that no content named before.
    pub fn named(&mut self, extents: &[Extent]) -> u64 {
        let chunks = extents.iter().filter_map(|extent| match extent {
            Extent::Chunk { id, .. } => self.unnamed.remove(id),
            Extent::Hole { .. } => None,
        });
        chunks.map(u64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use formats::ids::{ChunkId, PackId};
    use formats::listing::content::Extent;

    use super::{BroughtEarlier, NewChunks};

    fn chunks(numbers: &[u8]) -> Vec<Extent> {
        let chunk = |number: &u8| Extent::Chunk {
            id: ChunkId([*number; 32]),
            bytes: 10,
        };
        numbers.iter().map(chunk).collect()
    }

    #[test]
    fn a_new_chunk_counts_once_and_one_that_was_stored_never() {
        let mut new = NewChunks::default();
        new.wanted(ChunkId([1; 32]), 10);
        new.wanted(ChunkId([2; 32]), 10);
        new.stored(ChunkId([3; 32]), 10, PackId([3; 32]));
        assert_eq!(new.named(&chunks(&[1, 1, 3, 3, 3])), 10);
        assert_eq!(new.named(&chunks(&[1, 2, 3])), 10);
        assert_eq!(new.named(&chunks(&[1, 2, 3])), 0);
    }

    #[test]
    fn what_runs_that_died_brought_is_new_and_counts_for_no_more_than_it_has() {
        let died = PackId([7; 32]);
        let mut new = NewChunks::new(BroughtEarlier {
            packs: HashSet::from([died]),
            bytes: 25,
        });
        assert!(new.may_be_stored());
        new.stored(ChunkId([1; 32]), 10, died);
        new.stored(ChunkId([2; 32]), 10, PackId([8; 32]));
        assert_eq!(new.named(&chunks(&[1, 2])), 10);
        for _ in 0..5 {
            new.stored(ChunkId([1; 32]), 10, died);
        }
        assert_eq!(new.named(&chunks(&[1])), 10);
        new.stored(ChunkId([1; 32]), 10, died);
        assert_eq!(new.named(&chunks(&[1])), 0);
    }
}
