//! The parent snapshot's listing, read once beside the walk: both are in listing order, so one pass tells
//! for every entry found what the parent knew at the same place.

use std::cmp::Ordering;
use std::sync::Arc;

use formats::listing::entry::Entry;
use formats::listing::order::compare_places;

use crate::snapshot::chunk_error::FailureClass;
use crate::snapshot::cursor::ListingCursor;
use crate::snapshot::listing::{Listing, ListingError};

/// The parent's entries, in order; none without a parent.
pub struct Parent {
    cursor: Option<ListingCursor>,
    ahead: Option<(Arc<[u8]>, Entry)>,
}

impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parent").finish_non_exhaustive()
    }
}

impl Parent {
    /// The parent's listing from its start; `None` for a first run.
    pub fn new(cursor: Option<ListingCursor>) -> Self {
        Self {
            cursor,
            ahead: None,
        }
    }

    /// The parent's entry at a place; places must be asked for in listing order. Where its listing is damaged it ends: what
    /// it knew after that is read again.
    pub async fn entry_at(
        &mut self,
        directory: &[u8],
        name: &[u8],
    ) -> Result<Option<Entry>, ListingError> {
        loop {
            if self.ahead.is_none() {
                let Some(cursor) = &mut self.cursor else {
                    return Ok(None);
                };
                match cursor.next_entry().await {
                    Ok(Some(next)) => self.ahead = Some(next),
                    Ok(None) => {
                        self.cursor = None;
                        return Ok(None);
                    }
                    Err(error) if error.class() == FailureClass::Integrity => {
                        tell_damaged(&error);
                        self.cursor = None;
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some((at, entry)) = &self.ahead else {
                return Ok(None);
            };
            match compare_places((at, &entry.name), (directory, name)) {
                Ordering::Less => self.ahead = None,
                Ordering::Equal => return Ok(self.ahead.take().map(|(_, entry)| entry)),
                Ordering::Greater => return Ok(None),
            }
        }
    }

    /// The parent's listing from its start, where it is not damaged there.
    pub fn read(listing: Result<Listing, ListingError>) -> Result<Self, ListingError> {
        match listing {
            Ok(listing) => Ok(Self::new(Some(listing.cursor()))),
            Err(error) if error.class() == FailureClass::Integrity => {
                tell_damaged(&error);
                Ok(Self::new(None))
            }
            Err(error) => Err(error),
        }
    }
}

fn tell_damaged(error: &ListingError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "the last snapshot's listing is damaged: what it knew is read again; `coordinator scan` tells more"
    );
}
