//! A snapshot's listing: its entries in order, a directory's children by one seek, a subtree as one range.
//! Everything is checked again as it is read; a listing that breaks the order is refused, never guessed at.

use std::error::Error;
use std::sync::Arc;

use formats::codec::DecodeError;
use formats::ids::ChunkId;
use formats::listing::entry::{Entry, EntryKind};
use formats::listing::order::{OrderChecker, OrderError, is_within};
use formats::listing::page_index::PageRef;
use formats::log::snapshot::ChunkRef;

use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::cursor::ListingCursor;
use crate::snapshot::pages::{PageSource, PlacedEntry, load_table};

/// Why a listing could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// A piece of it could not be read.
    #[error("a page of the listing cannot be read")]
    Chunk(#[from] Arc<ChunkError>),
    /// A piece of it is not what it should be.
    #[error("page {id} of the listing cannot be decoded")]
    Decode {
        /// The page, or piece of the page index.
        id: ChunkId,
        /// Why.
        source: DecodeError,
    },
    /// A page that does not stand where the index puts it, or whose entries are out of order.
    #[error("page {id} of the listing is not what the page index says, or out of order")]
    PageOrder {
        /// The page.
        id: ChunkId,
    },
    /// The listing breaks its order.
    #[error("the listing is out of order")]
    Order(#[from] OrderError),
    /// More pages than any host has.
    #[error("the page index has {bytes} bytes; {limit} is the limit")]
    IndexTooLarge {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A page that was put together on this machine cannot be read back.
    #[error("a page that was put together here cannot be read back")]
    Kept(#[source] Box<dyn Error + Send + Sync>),
    /// A reader task ended early.
    #[error("reading the listing stopped: the program is shutting down, or a task failed")]
    Stopped,
}

impl ListingError {
    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Chunk(source) => source.class(),
            Self::Kept(_) | Self::Stopped => FailureClass::Storage,
            _ => FailureClass::Integrity,
        }
    }
}

/// A snapshot's listing. Holds the table of its pages, about 100 bytes for every 500 entries; cheap to clone.
#[derive(Debug, Clone)]
pub struct Listing {
    chunks: ChunkReader,
    table: Arc<[PageRef]>,
    pages: Arc<dyn PageSource>,
}

impl Listing {
    /// Reads the page index that a snapshot names.
    pub async fn open(chunks: ChunkReader, page_index: &[ChunkRef]) -> Result<Self, ListingError> {
        let table = load_table(&chunks, page_index).await?;
        let pages = Arc::new(chunks.clone());
        Ok(Self {
            chunks,
            table,
            pages,
        })
    }

    /// A listing whose pages are kept elsewhere; what its entries name is read with `chunks`.
    pub(crate) fn of_pages(
        chunks: ChunkReader,
        table: Arc<[PageRef]>,
        pages: Arc<dyn PageSource>,
    ) -> Self {
        Self {
            chunks,
            table,
            pages,
        }
    }

    /// Its pages, in order.
    pub fn pages(&self) -> &[PageRef] {
        &self.table
    }

    /// How many entries it has.
    pub fn entries_total(&self) -> u64 {
        self.table.iter().map(|page| u64::from(page.entries)).sum()
    }

    /// The reader of its chunks.
    pub fn chunks(&self) -> &ChunkReader {
        &self.chunks
    }

    pub(crate) fn table(&self) -> Arc<[PageRef]> {
        Arc::clone(&self.table)
    }

    pub(crate) fn page_source(&self) -> Arc<dyn PageSource> {
        Arc::clone(&self.pages)
    }

    /// A cursor before the first entry, for comparing with another stream.
    pub fn cursor(&self) -> ListingCursor {
        ListingCursor::new(self.clone())
    }

    /// All entries, with the whole order checked.
    pub fn entries(&self) -> EntryStream {
        EntryStream {
            cursor: self.cursor(),
            started: true,
            checker: OrderChecker::new(),
            reach: Reach::All,
        }
    }

    /// The entries below a directory, however deep; empty for what is no directory of the listing.
    pub fn subtree(&self, directory: &[u8]) -> Result<EntryStream, ListingError> {
        self.bounded(directory, Reach::Subtree(directory.into()))
    }

    /// The entries of one directory.
    pub fn block(&self, directory: &[u8]) -> Result<EntryStream, ListingError> {
        self.bounded(directory, Reach::Block(directory.into()))
    }

    fn bounded(&self, directory: &[u8], reach: Reach) -> Result<EntryStream, ListingError> {
        // The checker walks down to the directory as if nothing else were listed above it.
        let mut checker = OrderChecker::new();
        checker.block(&[])?;
        let mut walked: Vec<u8> = Vec::new();
        for name in directory.split(|byte| *byte == b'/') {
            if name.is_empty() {
                continue;
            }
            checker.entry(name, EntryKind::Directory)?;
            walked = formats::listing::entry::join(&walked, name);
            checker.block(&walked)?;
        }
        Ok(EntryStream {
            cursor: self.cursor(),
            started: false,
            checker,
            reach,
        })
    }

    /// The entry of a path, by one seek; `None` where there is none, and for the root.
    pub async fn entry(&self, path: &[u8]) -> Result<Option<Entry>, ListingError> {
        let (directory, name) = split_path(path);
        let mut cursor = self.cursor();
        if !cursor.seek_block(directory).await? {
            return Ok(None);
        }
        cursor.find_in_block(name).await
    }
}

/// A path's directory and name.
pub fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

#[derive(Debug)]
enum Reach {
    All,
    Subtree(Box<[u8]>),
    Block(Box<[u8]>),
}

/// Entries of a listing in order, each checked to be where it may be: nothing twice, nothing in a directory
/// that was not listed before as one.
#[derive(Debug)]
pub struct EntryStream {
    cursor: ListingCursor,
    started: bool,
    checker: OrderChecker,
    reach: Reach,
}

impl EntryStream {
    /// The next entry, with its directory; `None` after the last.
    pub async fn next_entry(&mut self) -> Result<Option<PlacedEntry>, ListingError> {
        if !self.started {
            self.started = true;
            if let Reach::Subtree(directory) | Reach::Block(directory) = &self.reach {
                self.cursor.seek_block(directory).await?;
            }
        }
        let Some((directory, _)) = self.cursor.peek().await? else {
            return Ok(None);
        };
        let inside = match &self.reach {
            Reach::All => true,
            Reach::Subtree(root) => is_within(directory, root),
            Reach::Block(block) => **directory == **block,
        };
        if !inside {
            return Ok(None);
        }
        let Some((directory, entry)) = self.cursor.next_entry().await? else {
            return Ok(None);
        };
        self.checker.block(&directory)?;
        self.checker.entry(&entry.name, entry.stat.kind)?;
        Ok(Some((directory, entry)))
    }
}
