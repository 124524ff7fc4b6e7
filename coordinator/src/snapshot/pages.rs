//! The table of a listing's pages, read from its page index, and a page's entries once it is read. What the
//! index says of a page and what the page holds must agree.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::codec::DecodeError;
use formats::ids::ChunkId;
use formats::listing::entry::Entry;
use formats::listing::order::compare_places;
use formats::listing::page::PageReader;
use formats::listing::page_index::{PageRef, decode_page_index};
use formats::log::snapshot::ChunkRef;
use futures_util::future::BoxFuture;

use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::listing::ListingError;

/// The most bytes of a listing's page index: some 1.5 million pages.
const PAGE_INDEX_BYTES_MAX: u64 = 256 << 20;
/// Pieces of the page index that are read at once.
const PIECES_AT_ONCE: usize = 8;

/// An entry and the directory it is in.
pub type PlacedEntry = (Arc<[u8]>, Entry);

/// Has a listing's pages.
pub(crate) trait PageSource: Send + Sync + std::fmt::Debug {
    /// The pages' plaintexts, in the order of the ids.
    fn read_pages(&self, ids: Vec<ChunkId>) -> BoxFuture<'_, Result<Vec<Bytes>, ListingError>>;
}

impl PageSource for ChunkReader {
    fn read_pages(&self, ids: Vec<ChunkId>) -> BoxFuture<'_, Result<Vec<Bytes>, ListingError>> {
        Box::pin(async move { Ok(self.read_many(ChunkKind::Page, &ids).await?) })
    }
}

/// A page's entries, checked against the table.
#[derive(Debug)]
pub(crate) struct DecodedPage {
    /// Its place in the table.
    pub(crate) number: usize,
    /// Its entries, in order.
    pub(crate) entries: std::vec::IntoIter<PlacedEntry>,
}

/// Reads all pieces of a page index.
pub(crate) async fn load_table(
    chunks: &ChunkReader,
    pieces: &[ChunkRef],
) -> Result<Arc<[PageRef]>, ListingError> {
    let bytes: u64 = pieces.iter().map(|piece| u64::from(piece.bytes)).sum();
    if bytes > PAGE_INDEX_BYTES_MAX {
        return Err(ListingError::IndexTooLarge {
            bytes,
            limit: PAGE_INDEX_BYTES_MAX,
        });
    }
    let mut table: Vec<PageRef> = Vec::new();
    for group in pieces.chunks(PIECES_AT_ONCE) {
        let ids: Vec<ChunkId> = group.iter().map(|piece| piece.id).collect();
        let plains = chunks.read_many(ChunkKind::PageIndex, &ids).await?;
        for (piece, plain) in group.iter().zip(plains) {
            let pages = decode_page_index(&plain).map_err(|source| ListingError::Decode {
                id: piece.id,
                source,
            })?;
            for page in pages {
                let follows = table.last().is_none_or(|last| {
                    compare_places(place_of(last), place_of(&page)) == Ordering::Less
                });
                if !follows {
                    return Err(ListingError::PageOrder { id: page.id });
                }
                table.push(page);
            }
        }
    }
    Ok(table.into())
}

/// Where a page begins.
pub(crate) fn place_of(page: &PageRef) -> (&[u8], &[u8]) {
    (&page.first_directory, &page.first_name)
}

/// The page in which an entry of this place would be: the last that does not begin after it.
pub(crate) fn page_of(table: &[PageRef], place: (&[u8], &[u8])) -> usize {
    table
        .partition_point(|page| compare_places(place_of(page), place) != Ordering::Greater)
        .saturating_sub(1)
}

/// Decodes a page and checks it against its line of the table and against where the next page begins.
pub(crate) fn decode_page(
    table: &[PageRef],
    number: usize,
    plain: &[u8],
) -> Result<DecodedPage, ListingError> {
    let Some(page) = table.get(number) else {
        return Ok(DecodedPage {
            number,
            entries: Vec::new().into_iter(),
        });
    };
    let entries = read_entries(plain).map_err(|source| ListingError::Decode {
        id: page.id,
        source,
    })?;
    let mismatch = ListingError::PageOrder { id: page.id };
    let first_fits = entries
        .first()
        .is_some_and(|first| place(first) == place_of(page));
    let ordered = entries
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if compare_places(place(a), place(b)) == Ordering::Less));
    let before_next = match (entries.last(), table.get(number + 1)) {
        (Some(last), Some(next)) => compare_places(place(last), place_of(next)) == Ordering::Less,
        _ => true,
    };
    let counted = entries.len() as u64 == u64::from(page.entries);
    let sized = plain.len() as u64 == u64::from(page.bytes);
    if first_fits && ordered && before_next && counted && sized {
        Ok(DecodedPage {
            number,
            entries: entries.into_iter(),
        })
    } else {
        Err(mismatch)
    }
}

/// An entry's place, to compare by.
pub(crate) fn place(placed: &PlacedEntry) -> (&[u8], &[u8]) {
    (&placed.0, &placed.1.name)
}

fn read_entries(plain: &[u8]) -> Result<Vec<PlacedEntry>, DecodeError> {
    let mut reader = PageReader::new(plain)?;
    let mut directory: Arc<[u8]> = Arc::from(&[][..]);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        if *directory != *reader.directory() {
            directory = Arc::from(reader.directory());
        }
        entries.push((Arc::clone(&directory), entry));
    }
    Ok(entries)
}
