//! The parent snapshot's listing, read once beside the walk: both are in listing order, so one pass tells
//! for every entry found what the parent knew at the same place.

use std::cmp::Ordering;
use std::sync::Arc;

use formats::listing::entry::Entry;
use formats::listing::order::compare_places;

use crate::snapshot::cursor::ListingCursor;
use crate::snapshot::listing::ListingError;

/// The parent's entries, in order; none without a parent.
pub struct Parent {
    cursor: Option<ListingCursor>,
    ahead: Option<(Arc<[u8]>, Entry)>,
    left_behind: u64,
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
            left_behind: 0,
        }
    }

    /// The parent's entry at a place; places must be asked for in listing order.
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
                match cursor.next_entry().await? {
                    Some(next) => self.ahead = Some(next),
                    None => {
                        self.cursor = None;
                        return Ok(None);
                    }
                }
            }
            let Some((at, entry)) = &self.ahead else {
                return Ok(None);
            };
            match compare_places((at, &entry.name), (directory, name)) {
                Ordering::Less => {
                    self.left_behind += 1;
                    self.ahead = None;
                }
                Ordering::Equal => return Ok(self.ahead.take().map(|(_, entry)| entry)),
                Ordering::Greater => return Ok(None),
            }
        }
    }

    /// How many of the parent's entries were passed because the host no longer has them.
    pub fn left_behind(&self) -> u64 {
        self.left_behind
    }
}
