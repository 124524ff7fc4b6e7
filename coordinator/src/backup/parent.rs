//! The parent snapshot's listing, read once beside the walk: both are in listing order, so one pass tells
//! for every entry found what the parent knew at the same place. Where the keys do not open the listing, what is remembered of it
//! stands in its place; what is gone is not known then, and nothing is compared.

use std::cmp::Ordering;
use std::sync::Arc;

use formats::ids::ChunkId;
use formats::listing::content::Extent;
use formats::listing::entry::{Entry, join};
use formats::listing::order::compare_places;
use formats::wire::control::entries::Block;

use crate::backup::before::Before;
use crate::backup::comparison::{Comparing, Comparison};
use crate::backup::newly_excluded::NewlyExcluded;
use crate::backup::remembered::Remembered;
use crate::snapshot::chunk_error::FailureClass;
use crate::snapshot::cursor::ListingCursor;
use crate::snapshot::listing::{Listing, ListingError};

/// What the parent's listing is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFor {
    /// What did not change is taken over from it: without it there is no run.
    TakingOver,
    /// Everything is read anew, and compared with it where it can be read.
    Comparing,
}

/// The parent's entries, in order; none without a parent.
pub struct Parent {
    read_for: ReadFor,
    cursor: Option<ListingCursor>,
    /// In the listing's place.
    remembered: Option<Remembered>,
    ahead: Option<(Arc<[u8]>, Entry)>,
    comparison: Option<Comparison>,
    newly_excluded: Option<NewlyExcluded>,
}

impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parent").finish_non_exhaustive()
    }
}

impl Parent {
    /// The parent's listing from its start; `None` for a first run.
    pub fn new(cursor: Option<ListingCursor>, read_for: ReadFor) -> Self {
        let comparison = cursor.as_ref().map(|_| Comparison::default());
        Self {
            read_for,
            cursor,
            remembered: None,
            ahead: None,
            comparison,
            newly_excluded: None,
        }
    }

    /// What is remembered of the parent, and of what comes in its place.
    pub fn remembered(remembered: Remembered) -> Self {
        Self {
            remembered: Some(remembered),
            ..Self::new(None, ReadFor::TakingOver)
        }
    }

    /// Looks for a batch's entries, where they are remembered: they must then be asked for in the batch's order.
    pub async fn recall(&mut self, blocks: &[Block]) {
        let Some(remembered) = &mut self.remembered else {
            return;
        };
        let paths: Vec<Vec<u8>> = blocks
            .iter()
            .flat_map(|block| {
                let entries = block.entries.iter();
                entries.map(|found| join(&block.directory, &found.name))
            })
            .collect();
        remembered.recall(&paths).await;
    }

    /// Takes note of an entry of the new listing.
    pub async fn note(&mut self, directory: &[u8], entry: &Entry) {
        if let Some(remembered) = &mut self.remembered {
            remembered.note(directory, entry).await;
        }
    }

    /// Takes note of a content page of the new listing.
    pub async fn note_page(&mut self, page: &ChunkId, extents: &[Extent]) {
        if let Some(remembered) = &mut self.remembered {
            remembered.note_page(page, extents).await;
        }
    }

    /// The new listing is a snapshot's.
    pub async fn committed(&mut self) {
        if let Some(remembered) = &mut self.remembered {
            remembered.finish().await;
        }
    }

    /// The same, which counts what the exclude rules leave out now.
    pub fn watching(self, newly_excluded: Option<NewlyExcluded>) -> Self {
        Self {
            newly_excluded,
            ..self
        }
    }

    /// What the exclude rules leave out now, if that is counted.
    pub fn newly_excluded(&self) -> Option<&NewlyExcluded> {
        self.newly_excluded.as_ref()
    }

    /// The parent's entry at the place of a found one; places must be asked for in listing order. Where its listing is damaged
    /// it ends: what it knew after that is read again.
    pub async fn entry_at(
        &mut self,
        directory: &[u8],
        name: &[u8],
    ) -> Result<Option<Entry>, ListingError> {
        if let Some(remembered) = &mut self.remembered {
            return Ok(remembered.next(name));
        }
        while self.fill().await? {
            let Some((at, entry)) = &self.ahead else {
                break;
            };
            match compare_places((at, &entry.name), (directory, name)) {
                Ordering::Less => self.pass_over(),
                Ordering::Equal => return Ok(self.ahead.take().map(|(_, entry)| entry)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Notes what became of an entry that was found in a directory, beside what the parent had in its place: nothing where it
    /// vanished. So many bytes of it are in new chunks and explain themselves.
    pub fn settled(
        &mut self,
        directory: &[u8],
        name: &[u8],
        now: Option<&Entry>,
        was: Option<Before>,
        new_bytes: u64,
    ) {
        if let Some(comparison) = &mut self.comparison {
            comparison.settled(directory, name, now, was, new_bytes);
        }
    }

    /// Passes over what is left of the parent's listing, none of which was found. How the host differs from it; nothing
    /// where it was not read, or not to its end.
    pub async fn finish(&mut self) -> Result<Option<Comparing>, ListingError> {
        while self.fill().await? {
            self.pass_over();
        }
        Ok(self.comparison.as_ref().map(Comparison::finish))
    }

    /// Reads the next entry, unless one is at hand; whether there is one.
    async fn fill(&mut self) -> Result<bool, ListingError> {
        if self.ahead.is_some() {
            return Ok(true);
        }
        let Some(cursor) = &mut self.cursor else {
            return Ok(false);
        };
        match cursor.next_entry().await {
            Ok(Some(next)) => {
                self.ahead = Some(next);
                return Ok(true);
            }
            Ok(None) => {}
            Err(error) => {
                do_without(error, self.read_for)?;
                self.comparison = None;
            }
        }
        self.cursor = None;
        Ok(false)
    }

    /// The host has nothing at the place of the entry at hand.
    fn pass_over(&mut self) {
        let Some((directory, entry)) = self.ahead.take() else {
            return;
        };
        if let Some(comparison) = &mut self.comparison {
            comparison.gone(&directory, &entry);
        }
        if let Some(newly_excluded) = &mut self.newly_excluded {
            newly_excluded.gone(&directory, &entry);
        }
    }

    /// The parent's listing from its start, where it is not damaged there.
    pub fn read(
        listing: Result<Listing, ListingError>,
        read_for: ReadFor,
    ) -> Result<Self, ListingError> {
        match listing {
            Ok(listing) => Ok(Self::new(Some(listing.cursor()), read_for)),
            Err(error) => do_without(error, read_for).map(|()| Self::new(None, read_for)),
        }
    }
}

/// Tells that what cannot be read of the parent's listing is done without, unless it is needed.
fn do_without(error: ListingError, read_for: ReadFor) -> Result<(), ListingError> {
    match (error.class(), read_for) {
        (FailureClass::Integrity, _) => tell_damaged(&error),
        (_, ReadFor::TakingOver) => return Err(error),
        (_, ReadFor::Comparing) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the last snapshot's listing cannot be read: this run is not compared with it"
        ),
    }
    Ok(())
}

pub(super) fn tell_damaged(error: &ListingError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "the last snapshot's listing is damaged: what it knew is read again; `coordinator scan` tells more"
    );
}
