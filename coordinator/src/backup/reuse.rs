//! Whether the content of an unchanged entry is still all there. A pack that no destination has any more was put aside by a
//! scan, and may have been the parent's: then its files are read again while the host has them, and older snapshots that
//! name the same chunks are whole again, too. A pack that some destination does not keep any more is not there either: what is new
//! goes everywhere. Costs a question for each chunk, so it is asked only where the index may lack something, where some
//! destination does not keep the parent, or where what is taken over is only remembered.

use std::collections::HashSet;

use formats::ids::ChunkId;
use formats::listing::content::Content;
use formats::listing::entry::Entry;

use crate::backup::error::RunError;
use crate::backup::remembered::Memory;
use crate::backup::shared_index::SharedIndex;
use crate::snapshot::chunk_error::FailureClass;
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::content::{ContentError, ExtentStream, chunk_ids};
use crate::snapshot::listing::ListingError;

/// Looks for the chunks of unchanged entries.
#[derive(Debug)]
pub struct Reuse {
    index: SharedIndex,
    lists: Lists,
}

/// Where long content lists are.
#[derive(Debug)]
pub enum Lists {
    /// In the repository.
    Stored(ChunkReader),
    /// In what is remembered, for keys that do not open them.
    Remembered(Memory),
}

impl Reuse {
    /// Looks in this index; long content lists are read from `lists`.
    pub fn new(index: SharedIndex, lists: Lists) -> Self {
        Self { index, lists }
    }

    /// For each entry, whether all of its content is there.
    pub async fn is_there(&self, entries: &[&Entry]) -> Result<Vec<bool>, RunError> {
        let mut named: Vec<ChunkId> = Vec::new();
        for entry in entries {
            match &entry.content {
                Content::Extents(extents) => named.extend(chunk_ids(extents)),
                Content::Pages(pages) => named.extend(pages.iter().map(|page| page.id)),
                Content::None | Content::Missing => {}
            }
        }
        let missing = self.missing_of(named).await?;
        let mut there = Vec::with_capacity(entries.len());
        for entry in entries {
            there.push(match &entry.content {
                Content::Extents(extents) => !chunk_ids(extents).any(|id| missing.contains(&id)),
                Content::Pages(pages) => {
                    !pages.iter().any(|page| missing.contains(&page.id))
                        && self.has_listed(&entry.content).await?
                }
                Content::None | Content::Missing => true,
            });
        }
        Ok(there)
    }

    async fn missing_of(&self, chunks: Vec<ChunkId>) -> Result<HashSet<ChunkId>, RunError> {
        if chunks.is_empty() {
            return Ok(HashSet::new());
        }
        let found = self.index.contains_many(chunks.clone()).await?;
        let missing = chunks.into_iter().zip(found).filter(|(_, found)| !found);
        Ok(missing.map(|(id, _)| id).collect())
    }

    /// Whether every chunk that a long content list names is there.
    async fn has_listed(&self, content: &Content) -> Result<bool, RunError> {
        match &self.lists {
            Lists::Stored(chunks) => self.has_stored(chunks, content).await,
            Lists::Remembered(memory) => self.has_remembered(memory, content).await,
        }
    }

    async fn has_remembered(&self, memory: &Memory, content: &Content) -> Result<bool, RunError> {
        let Content::Pages(pages) = content else {
            return Ok(true);
        };
        for page in pages {
            let Some(chunks) = memory.chunks_of_page(&page.id).await else {
                return Ok(false);
            };
            if !self.missing_of(chunks).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn has_stored(&self, chunks: &ChunkReader, content: &Content) -> Result<bool, RunError> {
        let mut extents = ExtentStream::new(chunks.clone(), content.clone());
        loop {
            let group = match extents.next_extents().await {
                Ok(Some(group)) => group,
                Ok(None) => return Ok(true),
                Err(error) if error.class() == FailureClass::Integrity => return Ok(false),
                Err(ContentError::Chunk(source)) => {
                    return Err(RunError::Parent(ListingError::Chunk(source)));
                }
                Err(ContentError::Decode { .. }) => return Ok(false),
            };
            if !self
                .missing_of(chunk_ids(&group).collect())
                .await?
                .is_empty()
            {
                return Ok(false);
            }
        }
    }
}
