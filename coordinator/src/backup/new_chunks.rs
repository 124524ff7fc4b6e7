//! Which chunks of a run's files no snapshot of its host had, so that it is known how much of what is new came in files that were added,
//! or past the end that files had. Each counts once, and only where nothing names it that was there before: whoever rewrites a file
//! cannot have another one explain that. A chunk that was stored before makes nothing new, however often it is repeated. Never decides
//! what is stored.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use formats::ids::{ChunkId, PackId};
use formats::listing::content::Extent;

use crate::backup::before::Before;

/// New chunks that no content has named yet. The agent names them right after it asked about them; those past it count for no file.
const UNNAMED_MAX: usize = 1 << 20;
/// New chunks that are remembered because they explain what is new. Of more, a part is remembered and counts for all.
const EXPLAINING_MAX: usize = 1 << 18;

/// What the host's runs since its last snapshot brought that died or failed: their files are new to this one.
#[derive(Debug, Default)]
pub struct BroughtEarlier {
    /// Their data packs.
    pub packs: HashSet<PackId>,
    /// Plain bytes of those: all of their chunks together count for no more.
    pub bytes: u64,
}

/// The new chunks that no content has named yet, and those that were named in what was added.
#[derive(Debug, Default)]
pub struct NewChunks {
    earlier: BroughtEarlier,
    unnamed: HashMap<ChunkId, u32>,
    explaining: Explaining,
    explains_nothing: u64,
}

impl NewChunks {
    /// None yet.
    pub fn new(earlier: BroughtEarlier) -> Self {
        Self {
            earlier,
            ..Self::default()
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

    /// The bytes of those chunks of a file's content that are new, that no content named before, and that explain themselves: in
    /// a file that was added, or past the end that it had. `at` is where the extents begin in it, and `was` what the parent has in
    /// its place. Where that had holes it may have grown everywhere.
    pub fn named(&mut self, extents: &[Extent], at: u64, was: Option<Before>) -> u64 {
        let was = was.filter(Before::is_file);
        let end = was.map_or(0, |was| was.size);
        let had_holes = was.is_some_and(|was| was.data_bytes < was.size);
        let mut explained = 0u64;
        let mut at = at;
        for extent in extents {
            let was_there = at < end;
            at = at.saturating_add(extent.bytes());
            let Extent::Chunk { id, .. } = extent else {
                continue;
            };
            match (self.unnamed.remove(id), was_there) {
                (Some(bytes), false) => {
                    self.explaining.insert(*id, bytes);
                    explained += u64::from(bytes);
                }
                (Some(bytes), true) if had_holes => explained += u64::from(bytes),
                (None, true) => self.explains_nothing += self.explaining.remove(id),
                // What of it is past the end.
                (Some(bytes), true) => {
                    let past = u32::try_from(at - end.min(at)).unwrap_or(bytes).min(bytes);
                    if past > 0 {
                        self.explaining.insert(*id, past);
                        explained += u64::from(past);
                    }
                }
                (None, false) => {}
            }
        }
        explained
    }

    /// Of all the bytes that [`Self::named`] gave, those that explain nothing after all: what was there before has them, too.
    pub fn explains_nothing(&self) -> u64 {
        self.explains_nothing
    }
}

/// Chunks, or a part of them when they are many: which part, no host can know.
#[derive(Debug, Default)]
struct Explaining {
    chunks: HashMap<ChunkId, u32>,
    choice: RandomState,
    /// One of so many halvings is remembered.
    halvings: u32,
}

impl Explaining {
    fn is_chosen(choice: &RandomState, halvings: u32, id: &ChunkId) -> bool {
        choice.hash_one(id).trailing_zeros() >= halvings
    }

    fn insert(&mut self, id: ChunkId, bytes: u32) {
        if !Self::is_chosen(&self.choice, self.halvings, &id) {
            return;
        }
        self.chunks.insert(id, bytes);
        if self.chunks.len() > EXPLAINING_MAX {
            self.halvings += 1;
            let Self {
                chunks,
                choice,
                halvings,
            } = self;
            chunks.retain(|id, _| Self::is_chosen(choice, *halvings, id));
        }
    }

    /// Forgets a chunk. The bytes that it counts for: its own, and those of others that are not remembered.
    fn remove(&mut self, id: &ChunkId) -> u64 {
        let bytes = self.chunks.remove(id).map_or(0, u64::from);
        bytes << self.halvings
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use formats::ids::{ChunkId, PackId};
    use formats::listing::content::Extent;

    use super::{BroughtEarlier, EXPLAINING_MAX, NewChunks};
    use crate::backup::before::Before;
    use crate::backup::sample_entry::file;

    fn chunks(numbers: &[u8]) -> Vec<Extent> {
        let chunk = |number: &u8| Extent::Chunk {
            id: ChunkId([*number; 32]),
            bytes: 10,
        };
        numbers.iter().map(chunk).collect()
    }

    /// What the parent has: a file with this content.
    fn was(extents: Vec<Extent>) -> Option<Before> {
        let entry = file("x", extents);
        Some(Before::of(&entry, false))
    }

    fn wanted(numbers: std::ops::RangeInclusive<u8>) -> NewChunks {
        let mut new = NewChunks::default();
        numbers.for_each(|number| new.wanted(ChunkId([number; 32]), 10));
        new
    }

    #[test]
    fn a_chunk_that_rewrites_a_file_is_explained_by_no_other_one_in_whatever_order() {
        let old = was(chunks(&[8, 9]));
        for added_first in [true, false] {
            let mut new = wanted(1..=3);
            let (mut explained, mut rewritten) = (0, 0);
            for is_added in [added_first, !added_first] {
                match is_added {
                    true => explained = new.named(&chunks(&[1, 2, 3, 3]), 0, None),
                    false => rewritten = new.named(&chunks(&[1, 2]), 0, old),
                }
            }
            assert_eq!(rewritten, 0);
            assert_eq!(explained - new.explains_nothing(), 10);
            // However often it is named.
            assert_eq!(new.named(&chunks(&[1, 2]), 0, old), 0);
            assert_eq!(explained - new.explains_nothing(), 10);
        }
    }

    #[test]
    fn what_a_file_grows_by_is_past_its_end_unless_it_had_holes() {
        let mut new = wanted(1..=5);
        assert_eq!(new.named(&chunks(&[1]), 0, was(chunks(&[8, 9]))), 0);
        assert_eq!(new.named(&chunks(&[2, 3, 4]), 10, was(chunks(&[8, 9]))), 20);
        let sparse = was(vec![Extent::Hole { bytes: 20 }]);
        assert_eq!(new.named(&chunks(&[5]), 0, sparse), 10);
        // Two files that grow by the same.
        assert_eq!(new.named(&chunks(&[3]), 20, was(chunks(&[6, 7]))), 0);
        assert_eq!(new.explains_nothing(), 0);
    }

    #[test]
    fn of_very_many_chunks_a_part_counts_for_all() {
        let count = 3 * EXPLAINING_MAX;
        let all = (0..count).map(|number| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_le_bytes());
            Extent::Chunk {
                id: ChunkId(id),
                bytes: 10,
            }
        });
        let all: Vec<Extent> = all.collect();
        let mut new = NewChunks::default();
        for extent in &all {
            if let Extent::Chunk { id, bytes } = extent {
                new.wanted(*id, *bytes);
                new.named(std::slice::from_ref(extent), 0, None);
            }
        }
        assert!(new.explaining.chunks.len() <= EXPLAINING_MAX);
        let old = vec![Extent::Hole {
            bytes: u64::MAX >> 1,
        }];
        new.named(&all, 0, was(old));
        let expected = 10 * count as u64;
        // Off by a hundredth is far more than chance makes it.
        assert!(new.explains_nothing().abs_diff(expected) < expected / 100);
    }

    #[test]
    fn a_new_chunk_counts_once_and_one_that_was_stored_never() {
        let mut new = NewChunks::default();
        new.wanted(ChunkId([1; 32]), 10);
        new.wanted(ChunkId([2; 32]), 10);
        new.stored(ChunkId([3; 32]), 10, PackId([3; 32]));
        assert_eq!(new.named(&chunks(&[1, 1, 3, 3, 3]), 0, None), 10);
        assert_eq!(new.named(&chunks(&[1, 2, 3]), 0, None), 10);
        assert_eq!(new.named(&chunks(&[1, 2, 3]), 0, None), 0);
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
        assert_eq!(new.named(&chunks(&[1, 2]), 0, None), 10);
        for _ in 0..5 {
            new.stored(ChunkId([1; 32]), 10, died);
        }
        assert_eq!(new.named(&chunks(&[1]), 0, None), 10);
        new.stored(ChunkId([1; 32]), 10, died);
        assert_eq!(new.named(&chunks(&[1]), 0, None), 0);
    }
}
