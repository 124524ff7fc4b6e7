//! Writes a snapshot's listing as it becomes known: entries in order, cut into pages, pages into the index of
//! pages, all of it into meta packs. Pages that the repository has are not stored again.

use formats::chunk::ChunkKind;
use formats::ids::{PackId, RepositoryId};
use formats::keys::secret::ChunkingKey;
use formats::listing::content::{ContentPage, Extent, encode_content_page, extents_cover};
use formats::listing::entry::{Entry, EntryKind};
use formats::listing::page::{Page, PageBuilder};
use formats::listing::page_index::{PageIndexBuilder, PageRef};
use formats::log::snapshot::{ChunkRef, SnapshotTotals};
use formats::object::ObjectName;

use crate::backup::comparison::{content_bytes, data_bytes};
use crate::backup::error::RunError;
use crate::backup::meta_writer::{MetaPack, MetaWriter};
use crate::backup::shared_index::SharedIndex;
use crate::storage::StorageClient;

/// Writes one run's listing and index pieces.
#[derive(Debug)]
pub struct ListingWriter {
    repository: RepositoryId,
    storage: StorageClient,
    index: SharedIndex,
    meta: MetaWriter,
    pages: PageBuilder,
    page_index: PageIndexBuilder,
    page_index_refs: Vec<ChunkRef>,
    packs: Vec<PackId>,
    bytes_stored: u64,
    totals: SnapshotTotals,
    data_bytes: u64,
}

/// A finished listing.
#[derive(Debug)]
pub struct WrittenListing {
    /// The pieces of the page index.
    pub page_index: Vec<ChunkRef>,
    /// Files, directories, others and bytes; the rest is zero.
    pub totals: SnapshotTotals,
    /// The bytes without holes.
    pub data_bytes: u64,
}

impl ListingWriter {
    /// An empty listing.
    pub fn new(
        repository: RepositoryId,
        storage: StorageClient,
        index: SharedIndex,
        meta: MetaWriter,
        chunking: &ChunkingKey,
    ) -> Self {
        Self {
            repository,
            storage,
            index,
            meta,
            pages: PageBuilder::new(chunking),
            page_index: PageIndexBuilder::new(),
            page_index_refs: Vec::new(),
            packs: Vec::new(),
            bytes_stored: 0,
            totals: SnapshotTotals::default(),
            data_bytes: 0,
        }
    }

    /// Adds the next entry in listing order.
    pub async fn push(&mut self, directory: &[u8], entry: &Entry) -> Result<(), RunError> {
        match entry.stat.kind {
            EntryKind::File => self.totals.files += 1,
            EntryKind::Directory => self.totals.directories += 1,
            _ => self.totals.others += 1,
        }
        self.totals.bytes = self.totals.bytes.saturating_add(content_bytes(entry));
        self.data_bytes = self.data_bytes.saturating_add(data_bytes(entry));
        match self.pages.push(directory, entry) {
            Some(page) => self.store_page(page).await,
            None => Ok(()),
        }
    }

    /// Stores a piece of a big file's chunk list.
    pub async fn store_content_page(
        &mut self,
        extents: &[Extent],
    ) -> Result<ContentPage, RunError> {
        let plain = encode_content_page(extents);
        let piece = self.store(ChunkKind::Content, &plain).await?;
        Ok(ContentPage {
            id: piece.id,
            bytes: piece.bytes,
            covers: extents_cover(extents).unwrap_or(u64::MAX),
        })
    }

    /// Stores a piece of the run's index.
    pub async fn store_index_piece(&mut self, plain: &[u8]) -> Result<ChunkRef, RunError> {
        self.store(ChunkKind::Index, plain).await
    }

    async fn store_page(&mut self, page: Page) -> Result<(), RunError> {
        let piece = self.store(ChunkKind::Page, &page.plain).await?;
        let completed = self.page_index.push(&PageRef {
            id: piece.id,
            bytes: piece.bytes,
            entries: page.entries,
            first_directory: page.first_directory,
            first_name: page.first_name,
        });
        self.store_page_index(completed).await
    }

    async fn store_page_index(&mut self, piece: Option<Vec<u8>>) -> Result<(), RunError> {
        if let Some(plain) = piece {
            let piece = self.store(ChunkKind::PageIndex, &plain).await?;
            self.page_index_refs.push(piece);
        }
        Ok(())
    }

    async fn store(&mut self, kind: ChunkKind, plain: &[u8]) -> Result<ChunkRef, RunError> {
        let id = self.meta.name(kind, plain);
        let bytes = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        let known = self.meta.has(&id) || self.index.contains(id).await?;
        if !known && let Some(pack) = self.meta.add(kind, id, plain)? {
            self.store_pack(pack).await?;
        }
        Ok(ChunkRef { id, bytes })
    }

    async fn store_pack(&mut self, pack: MetaPack) -> Result<(), RunError> {
        let bytes = pack.bytes.len() as u64;
        self.storage
            .put(
                self.repository,
                &ObjectName::Meta(pack.id),
                pack.bytes.into(),
            )
            .await?;
        self.bytes_stored += bytes;
        self.packs.push(pack.id);
        Ok(())
    }

    /// Stores the last page and piece of the page index.
    pub async fn finish_listing(&mut self) -> Result<WrittenListing, RunError> {
        if let Some(page) = self.pages.finish() {
            self.store_page(page).await?;
        }
        let last = self.page_index.finish();
        self.store_page_index(last).await?;
        Ok(WrittenListing {
            page_index: std::mem::take(&mut self.page_index_refs),
            totals: self.totals,
            data_bytes: self.data_bytes,
        })
    }

    /// Stores the last meta pack; nothing can be added after.
    pub async fn finish_packs(&mut self) -> Result<(), RunError> {
        if let Some(pack) = self.meta.finish()? {
            self.store_pack(pack).await?;
        }
        Ok(())
    }

    /// Meta packs stored since the last call, to be verified.
    pub fn new_packs(&mut self, known: usize) -> &[PackId] {
        self.packs.get(known..).unwrap_or_default()
    }

    /// All meta packs of the run.
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// Bytes of all meta packs of the run.
    pub fn bytes_stored(&self) -> u64 {
        self.bytes_stored
    }
}
