//! Further names of one file. Their entries in the listing say where the first name is, and when they were met; everything else
//! about the file, from its size to its attributes, is at the first name alone.

use formats::listing::content::Content;
use formats::listing::entry::Entry;

use crate::snapshot::listing::{Listing, ListingError};

/// Whether a first name can give a further one what it is: the same kind, and itself no further name.
pub fn may_stand_for(first: &Entry, further: &Entry) -> bool {
    first.hard_link_to.is_none() && first.stat.kind == further.stat.kind
}

/// The file that an entry names, under the entry's own name. Where the snapshot does not have the first name, its content is
/// missing.
pub async fn whole(listing: &Listing, entry: Entry) -> Result<Entry, ListingError> {
    let Some(first) = &entry.hard_link_to else {
        return Ok(entry);
    };
    let first = listing.entry(first).await?;
    Ok(match first.filter(|first| may_stand_for(first, &entry)) {
        Some(first) => Entry {
            name: entry.name,
            ..first
        },
        None => Entry {
            hard_link_to: None,
            content: Content::Missing,
            ..entry
        },
    })
}
