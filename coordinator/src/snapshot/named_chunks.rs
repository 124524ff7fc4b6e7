//! Walks all chunks that a snapshot names: its page index, its pages, its files' content lists and chunks, its
//! index. Each comes with whose it is, for telling, and with its place. Memory is bounded by a group.

use std::sync::Arc;

use formats::ids::ChunkId;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::join;

use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::content::{ContentError, ExtentStream};
use crate::snapshot::listing::{EntryStream, Listing, ListingError};
use crate::snapshot::place::ChunkPlace;
use crate::snapshot::shown::shown_path;
use crate::snapshot::verification::{Verification, VerifiedSnapshot};
use crate::terminal::error_line;

/// Chunks located at once.
const LOCATE_AT_ONCE: usize = 4_096;

/// A chunk as it is told of: whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// The file, listing or index, with its snapshot.
    pub(crate) owner: String,
    /// The chunk.
    pub(crate) id: ChunkId,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: chunk {}", self.owner, self.id)
    }
}

/// A named chunk and its place, if it has one that fits.
pub(crate) type Located = (Named, Option<(ChunkId, ChunkPlace)>);

/// Walks all chunks that a snapshot names, and locates them.
pub(crate) struct NamedChunks<'a> {
    reader: &'a ChunkReader,
    verified: &'a VerifiedSnapshot,
    step: Step,
    pending: Vec<(Named, Option<u32>)>,
}

enum Step {
    Pieces,
    Entries(Box<EntryStream>),
    Extents {
        owner: String,
        extents: Box<ExtentStream>,
        rest: Box<EntryStream>,
    },
    Done,
}

impl<'a> NamedChunks<'a> {
    /// Before the first.
    pub(crate) fn new(reader: &'a ChunkReader, verified: &'a VerifiedSnapshot) -> Self {
        Self {
            reader,
            verified,
            step: Step::Pieces,
            pending: Vec::new(),
        }
    }

    fn label(&self) -> String {
        format!(
            "{} {}",
            self.verified.snapshot.host,
            self.verified.id.short()
        )
    }

    fn name(&mut self, owner: &str, id: ChunkId, bytes: Option<u32>) {
        let owner = owner.to_owned();
        self.pending.push((Named { owner, id }, bytes));
    }

    /// The next chunks with their places; `None` at the end. What cannot be walked is counted in `found`.
    pub(crate) async fn next(
        &mut self,
        found: &mut Verification,
    ) -> Result<Option<Vec<Located>>, Arc<ChunkError>> {
        while self.pending.len() < LOCATE_AT_ONCE {
            if !self.advance(found).await? {
                break;
            }
        }
        if self.pending.is_empty() {
            return Ok(None);
        }
        let pending = std::mem::take(&mut self.pending);
        let ids = pending.iter().map(|(named, _)| named.id).collect();
        let places = self.reader.locate(ids).await?;
        let located = pending
            .into_iter()
            .zip(places)
            .map(|((named, bytes), place)| {
                // A place of another length is as good as none: the file could not be put together.
                let fits = place.filter(|place| bytes.is_none_or(|bytes| bytes == place.bytes));
                let id = named.id;
                (named, fits.map(|place| (id, place)))
            });
        Ok(Some(located.collect()))
    }

    /// Adds some chunks; false when there are no more.
    async fn advance(&mut self, found: &mut Verification) -> Result<bool, Arc<ChunkError>> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Done => return Ok(false),
            Step::Pieces => self.pieces(found).await?,
            Step::Entries(mut stream) => match stream.next_entry().await {
                Ok(Some((directory, entry))) => {
                    let owner = format!(
                        "{}: {}",
                        self.label(),
                        shown_path(&join(&directory, &entry.name))
                    );
                    if let Content::Pages(pages) = &entry.content {
                        for page in pages {
                            self.name(&owner, page.id, Some(page.bytes));
                        }
                    }
                    let extents = ExtentStream::new(self.reader.clone(), entry.content);
                    self.step = Step::Extents {
                        owner,
                        extents: Box::new(extents),
                        rest: stream,
                    };
                }
                Ok(None) => {}
                Err(error) => self.broken_listing(&error, found)?,
            },
            Step::Extents {
                owner,
                mut extents,
                rest,
            } => match extents.next_extents().await {
                Ok(Some(group)) => {
                    for extent in group {
                        if let Extent::Chunk { id, bytes } = extent {
                            self.name(&owner, id, Some(bytes));
                        }
                    }
                    self.step = Step::Extents {
                        owner,
                        extents,
                        rest,
                    };
                }
                Ok(None) => self.step = Step::Entries(rest),
                Err(error) if error.class() == FailureClass::Integrity => {
                    found.error(format!("{owner}: {}", error_line(&error)));
                    self.step = Step::Entries(rest);
                }
                Err(error) => return Err(cannot_go_on(&error)),
            },
        }
        Ok(true)
    }

    async fn pieces(&mut self, found: &mut Verification) -> Result<(), Arc<ChunkError>> {
        let owner = format!("{}: the listing", self.label());
        for piece in &self.verified.snapshot.page_index {
            self.name(&owner, piece.id, Some(piece.bytes));
        }
        let index = format!("{}: the index", self.label());
        for piece in &self.verified.snapshot.index {
            self.name(&index, piece.id, Some(piece.bytes));
        }
        let pieces = &self.verified.snapshot.page_index;
        match Listing::open(self.reader.clone(), pieces).await {
            Ok(listing) => {
                for page in listing.pages() {
                    self.name(&owner, page.id, Some(page.bytes));
                }
                self.step = Step::Entries(Box::new(listing.entries()));
                Ok(())
            }
            Err(error) => self.broken_listing(&error, found),
        }
    }

    fn broken_listing(
        &self,
        error: &ListingError,
        found: &mut Verification,
    ) -> Result<(), Arc<ChunkError>> {
        if error.class() != FailureClass::Integrity {
            return Err(match error {
                ListingError::Chunk(source) => Arc::clone(source),
                _ => Arc::new(ChunkError::Stopped),
            });
        }
        found.error(format!(
            "{}: the listing cannot be read on: {}",
            self.label(),
            error_line(error)
        ));
        Ok(())
    }
}

fn cannot_go_on(error: &ContentError) -> Arc<ChunkError> {
    match error {
        ContentError::Chunk(source) => Arc::clone(source),
        ContentError::Decode { .. } => Arc::new(ChunkError::Stopped),
    }
}
