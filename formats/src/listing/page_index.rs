//! The page index: which pages a listing has, in order, and where each begins, so that a path is found by
//! reading one page. Itself cut into pieces, named by the snapshot.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::ChunkId;
use crate::limits::{PAGE_BYTES_MAX, PAGE_INDEX_PAGES_MAX};
use crate::listing::entry::{read_name, read_path};
use crate::listing::order::compare_places;

const VERSION: u8 = 1;
/// No piece is cut before this many pages.
const CUT_PAGES_MIN: usize = 512;
/// A piece is cut once it has this many bytes.
const CUT_BYTES: usize = 512 << 10;

/// One page as the index names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// The chunk of kind "page".
    pub id: ChunkId,
    /// That chunk's bytes.
    pub bytes: u32,
    /// How many entries it has.
    pub entries: u32,
    /// The directory of its first entry.
    pub first_directory: Vec<u8>,
    /// The name of its first entry.
    pub first_name: Vec<u8>,
}

/// Cuts the list of pages into pieces.
#[derive(Debug, Default)]
pub struct PageIndexBuilder {
    pages: u64,
    body: Vec<u8>,
}

impl PageIndexBuilder {
    /// A builder before the first page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a page; gives the piece (a chunk of kind "page index") that it completes.
    pub fn push(&mut self, page: &PageRef) -> Option<Vec<u8>> {
        self.body.put(page.id.as_bytes());
        self.body.put_varint(page.bytes.into());
        self.body.put_varint(page.entries.into());
        self.body.put_prefixed(&page.first_directory);
        self.body.put_prefixed(&page.first_name);
        self.pages += 1;
        // The page's own id decides, so that pieces of two snapshots are cut alike.
        let [low, ..] = page.id.as_bytes();
        let full = self.pages >= PAGE_INDEX_PAGES_MAX || self.body.len() >= CUT_BYTES;
        if full || (self.pages >= CUT_PAGES_MIN as u64 && *low == 0) {
            self.finish()
        } else {
            None
        }
    }

    /// The last piece, if any page is left.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.pages == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(self.body.len() + 4);
        out.put_u8(VERSION);
        out.put_varint(self.pages);
        out.put(&self.body);
        self.pages = 0;
        self.body.clear();
        Some(out)
    }
}

/// Reads a piece: at least one page, in listing order, none empty.
pub fn decode_page_index(plain: &[u8]) -> Result<Vec<PageRef>, DecodeError> {
    let mut reader = Reader::new(plain);
    let version = reader.u8("page index")?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion {
            what: "page index",
            found: version.into(),
            known: VERSION.into(),
        });
    }
    let count = reader.count("pages", PAGE_INDEX_PAGES_MAX, 37)?;
    if count == 0 {
        return Err(DecodeError::NotCanonical { what: "page index" });
    }
    let mut pages: Vec<PageRef> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ChunkId::read(&mut reader)?;
        let bytes = reader.varint32("page")?;
        if u64::from(bytes) > PAGE_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "page",
                found: bytes.into(),
                limit: PAGE_BYTES_MAX,
            });
        }
        let page = PageRef {
            id,
            bytes,
            entries: reader.varint32("entries")?,
            first_directory: read_path(&mut reader)?,
            first_name: read_name(&mut reader)?,
        };
        if page.bytes == 0 || page.entries == 0 {
            return Err(DecodeError::Invalid {
                what: "page",
                rule: "must not be empty",
            });
        }
        let follows = |last: &PageRef| compare_places(place(last), place(&page)).is_lt();
        if !pages.last().is_none_or(follows) {
            return Err(DecodeError::NotCanonical { what: "page index" });
        }
        pages.push(page);
    }
    reader.finish("page index")?;
    Ok(pages)
}

fn place(page: &PageRef) -> (&[u8], &[u8]) {
    (&page.first_directory, &page.first_name)
}

#[cfg(test)]
mod tests {
    use super::{PageIndexBuilder, PageRef, decode_page_index};
    use crate::ids::ChunkId;

    fn page(directory: &[u8], name: &[u8]) -> PageRef {
        PageRef {
            id: ChunkId([1; 32]),
            bytes: 100,
            entries: 2,
            first_directory: directory.to_vec(),
            first_name: name.to_vec(),
        }
    }

    fn reads(pages: &[PageRef]) -> bool {
        let mut builder = PageIndexBuilder::new();
        for page in pages {
            assert_eq!(builder.push(page), None);
        }
        let piece = builder.finish().expect("there are pages");
        decode_page_index(&piece).is_ok_and(|read| read == pages)
    }

    #[test]
    fn pages_are_in_listing_order_and_never_empty() {
        assert!(reads(&[page(b"", b"a"), page(b"", b"b"), page(b"a", b"a")]));
        assert!(!reads(&[page(b"", b"b"), page(b"", b"a")]), "backwards");
        assert!(!reads(&[page(b"a", b"a"), page(b"a", b"a")]), "twice");
        let empty = PageRef {
            bytes: 0,
            ..page(b"", b"a")
        };
        assert!(!reads(&[empty]), "no bytes");
        let idle = PageRef {
            entries: 0,
            ..page(b"", b"a")
        };
        assert!(!reads(&[idle]), "no entries");
        assert!(decode_page_index(&[1, 0]).is_err(), "no pages");
    }
}
