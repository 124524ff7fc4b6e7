//! Marks what snapshots need: every piece, page and content page of their listings, every chunk of every file. A page that
//! several snapshots share is read once. What cannot be read of a listing is an error, never "nothing needed".

use std::collections::HashSet;
use std::sync::Arc;

use formats::chunk::ChunkKind;
use formats::codec::DecodeError;
use formats::ids::{ChunkId, PackId, RecordId};
use formats::listing::content::{Content, Extent, decode_content_page};
use formats::listing::page::PageReader;
use formats::listing::page_index::decode_page_index;
use formats::log::snapshot::Snapshot;

use crate::backup::error::RunError;
use crate::backup::shared_index::SharedIndex;
use crate::index::LiveFrames;
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::content::chunk_ids;

/// Pages read by one request.
const PAGES_AT_ONCE: usize = 64;
/// Content pages read by one request.
const CONTENT_PAGES_AT_ONCE: usize = 4;
/// Chunks that are looked up at a time.
const CHUNKS_AT_ONCE: usize = 8_192;
/// Missing chunks that are named.
const MISSING_NAMED_MAX: usize = 20;

/// Why marking failed.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// A piece of a listing cannot be read.
    #[error("the listing of snapshot {snapshot} cannot be read")]
    Read {
        /// Which snapshot.
        snapshot: String,
        /// Why.
        source: Arc<ChunkError>,
    },
    /// A piece of a listing is not what it should be.
    #[error("the listing of snapshot {snapshot} cannot be decoded")]
    Decode {
        /// Which snapshot.
        snapshot: String,
        /// Why.
        source: DecodeError,
    },
    /// The index.
    #[error(transparent)]
    Index(#[from] RunError),
}

/// What was marked.
#[derive(Debug, Default)]
pub struct Marked {
    /// The frames that something needs.
    pub live: LiveFrames,
    /// Snapshots that were looked through.
    pub snapshots: u64,
    /// Chunks of files that no pack holds.
    pub missing: u64,
    /// The first of them, with a snapshot that names each.
    pub missing_named: Vec<(ChunkId, RecordId)>,
}

/// Marks snapshots, one after another.
pub struct Marker<'a> {
    reader: &'a ChunkReader,
    index: &'a SharedIndex,
    marked: Marked,
    seen: HashSet<ChunkId>,
    pending: Vec<ChunkId>,
    except: Arc<HashSet<PackId>>,
}

impl std::fmt::Debug for Marker<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Marker").finish_non_exhaustive()
    }
}

impl<'a> Marker<'a> {
    /// Nothing is marked yet.
    pub fn new(reader: &'a ChunkReader, index: &'a SharedIndex) -> Self {
        Self {
            reader,
            index,
            marked: Marked::default(),
            seen: HashSet::new(),
            pending: Vec::new(),
            except: Arc::default(),
        }
    }

    /// Marks what is needed where these packs are not kept: a chunk that only they hold is missing there.
    pub fn where_not(self, packs: HashSet<PackId>) -> Self {
        Self {
            except: Arc::new(packs),
            ..self
        }
    }

    /// What was marked.
    pub fn finish(self) -> Marked {
        self.marked
    }

    /// Marks everything that a snapshot needs.
    pub async fn snapshot(&mut self, id: RecordId, snapshot: &Snapshot) -> Result<(), MarkError> {
        let pieces: Vec<ChunkId> = snapshot.page_index.iter().map(|piece| piece.id).collect();
        let pieces = self.unseen(pieces);
        self.mark_listing(id, &pieces).await?;
        for piece in pieces {
            let plain = self.read(id, ChunkKind::PageIndex, &[piece]).await?;
            let mut pages = Vec::new();
            for plain in &plain {
                let found = decode_page_index(plain).map_err(|source| decode(id, source))?;
                pages.extend(found.into_iter().map(|page| page.id));
            }
            let pages = self.unseen(pages);
            self.mark_listing(id, &pages).await?;
            for group in pages.chunks(PAGES_AT_ONCE) {
                for plain in self.read(id, ChunkKind::Page, group).await? {
                    self.page(id, &plain).await?;
                }
            }
        }
        self.flush(id).await?;
        self.marked.snapshots += 1;
        Ok(())
    }

    /// What was not met before.
    fn unseen(&mut self, ids: Vec<ChunkId>) -> Vec<ChunkId> {
        let seen = &mut self.seen;
        ids.into_iter().filter(|id| seen.insert(*id)).collect()
    }

    async fn read(
        &self,
        id: RecordId,
        kind: ChunkKind,
        chunks: &[ChunkId],
    ) -> Result<Vec<bytes::Bytes>, MarkError> {
        let read = self.reader.read_many(kind, chunks).await;
        read.map_err(|source| MarkError::Read {
            snapshot: id.short(),
            source,
        })
    }

    async fn page(&mut self, id: RecordId, plain: &[u8]) -> Result<(), MarkError> {
        let mut content_pages = Vec::new();
        let mut reader = PageReader::new(plain).map_err(|source| decode(id, source))?;
        while let Some(entry) = reader.next_entry().map_err(|source| decode(id, source))? {
            match &entry.content {
                Content::Extents(extents) => self.extents(extents),
                Content::Pages(pages) => content_pages.extend(pages.iter().copied()),
                Content::None | Content::Missing => {}
            }
        }
        let seen = &mut self.seen;
        content_pages.retain(|page| seen.insert(page.id));
        for group in content_pages.chunks(CONTENT_PAGES_AT_ONCE) {
            let ids: Vec<ChunkId> = group.iter().map(|page| page.id).collect();
            self.mark_listing(id, &ids).await?;
            let plains = self.read(id, ChunkKind::Content, &ids).await?;
            for (page, plain) in group.iter().zip(plains) {
                let extents = decode_content_page(&plain, page.covers)
                    .map_err(|source| decode(id, source))?;
                self.extents(&extents);
            }
            self.flush_when_full(id).await?;
        }
        self.flush_when_full(id).await
    }

    fn extents(&mut self, extents: &[Extent]) {
        self.pending.extend(chunk_ids(extents));
    }

    /// Marks pieces of the listing itself. One that no pack holds is found when it is read, which is an error.
    async fn mark_listing(&mut self, id: RecordId, chunks: &[ChunkId]) -> Result<(), MarkError> {
        let missing = self.mark(chunks.to_vec()).await?;
        match missing.first() {
            None => Ok(()),
            Some(chunk) => Err(MarkError::Read {
                snapshot: id.short(),
                source: Arc::new(ChunkError::Unknown { id: *chunk }),
            }),
        }
    }

    async fn flush_when_full(&mut self, id: RecordId) -> Result<(), MarkError> {
        match self.pending.len() >= CHUNKS_AT_ONCE {
            true => self.flush(id).await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self, id: RecordId) -> Result<(), MarkError> {
        let chunks = std::mem::take(&mut self.pending);
        for chunk in self.mark(chunks).await? {
            self.marked.missing += 1;
            if self.marked.missing_named.len() < MISSING_NAMED_MAX {
                self.marked.missing_named.push((chunk, id));
            }
        }
        Ok(())
    }

    /// Marks chunks; gives those that no pack holds.
    async fn mark(&mut self, chunks: Vec<ChunkId>) -> Result<Vec<ChunkId>, MarkError> {
        if chunks.is_empty() {
            return Ok(Vec::new());
        }
        let mut live = std::mem::take(&mut self.marked.live);
        let except = Arc::clone(&self.except);
        let marking = self.index.with(move |index| {
            let missing = index.mark(&chunks, &mut live, &except)?;
            Ok((live, missing))
        });
        let (live, missing) = marking.await?;
        self.marked.live = live;
        Ok(missing)
    }
}

fn decode(id: RecordId, source: DecodeError) -> MarkError {
    MarkError::Decode {
        snapshot: id.short(),
        source,
    }
}
