//! Pages: a listing cut at entries that the entries' own places decide, so that a change touches one page
//! and unchanged regions cost nothing in the next snapshot.

use crate::codec::{DecodeError, Put, Reader};
use crate::keys::derive::context;
use crate::keys::secret::ChunkingKey;
use crate::limits::{PAGE_BYTES_MAX, PAGE_BYTES_MIN, PAGE_BYTES_TARGET_MAX};
use crate::listing::entry::{Entry, read_path};

const VERSION: u8 = 1;
const TAG_BLOCK: u8 = 1;
const TAG_ENTRY: u8 = 2;

/// The key of page and list cuts.
pub(crate) fn cut_key(key: &ChunkingKey) -> [u8; 32] {
    blake3::derive_key(context::PAGE_CUT, key.expose())
}

/// A finished page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its plaintext, a chunk of kind "page".
    pub plain: Vec<u8>,
    /// How many entries it has.
    pub entries: u32,
    /// The directory of its first entry.
    pub first_directory: Vec<u8>,
    /// The name of its first entry.
    pub first_name: Vec<u8>,
}

/// Cuts a listing into pages.
#[derive(Debug)]
pub struct PageBuilder {
    cut_key: [u8; 32],
    page: Option<Page>,
    directory: Vec<u8>,
}

impl PageBuilder {
    /// A builder before the first entry.
    pub fn new(key: &ChunkingKey) -> Self {
        Self {
            cut_key: cut_key(key),
            page: None,
            directory: Vec::new(),
        }
    }

    /// Adds an entry of `directory`; gives the page that it completes.
    pub fn push(&mut self, directory: &[u8], entry: &Entry) -> Option<Page> {
        let fresh = self.page.is_none();
        let page = self.page.get_or_insert_with(|| Page {
            plain: vec![VERSION],
            entries: 0,
            first_directory: directory.to_vec(),
            first_name: entry.name.clone(),
        });
        if fresh || self.directory != directory {
            page.plain.put_u8(TAG_BLOCK);
            page.plain.put_prefixed(directory);
            self.directory.clear();
            self.directory.extend_from_slice(directory);
        }
        page.plain.put_u8(TAG_ENTRY);
        entry.put(&mut page.plain);
        page.entries += 1;
        let bytes = page.plain.len();
        let full = bytes >= PAGE_BYTES_TARGET_MAX;
        if full || (bytes >= PAGE_BYTES_MIN && cuts_after(&self.cut_key, directory, &entry.name)) {
            self.page.take()
        } else {
            None
        }
    }

    /// The last page, if any entry is left.
    pub fn finish(&mut self) -> Option<Page> {
        self.page.take()
    }
}

fn cuts_after(key: &[u8; 32], directory: &[u8], name: &[u8]) -> bool {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(directory);
    hasher.update(b"/");
    hasher.update(name);
    let hash = hasher.finalize();
    // About every 32nd entry.
    let [low, ..] = hash.as_bytes();
    low & 0x1f == 0
}

/// Reads a page's entries one by one, each with its directory.
#[derive(Debug)]
pub struct PageReader<'a> {
    reader: Reader<'a>,
    directory: Option<Vec<u8>>,
}

impl<'a> PageReader<'a> {
    /// A reader at the page's first entry.
    pub fn new(plain: &'a [u8]) -> Result<Self, DecodeError> {
        if plain.len() as u64 > PAGE_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "page",
                found: plain.len() as u64,
                limit: PAGE_BYTES_MAX,
            });
        }
        let mut reader = Reader::new(plain);
        let version = reader.u8("page")?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion {
                what: "page",
                found: version.into(),
                known: VERSION.into(),
            });
        }
        Ok(Self {
            reader,
            directory: None,
        })
    }

    /// The next entry, and whether it begins another directory; the directory is [`Self::directory`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, DecodeError> {
        if self.reader.remaining() == 0 {
            return Ok(None);
        }
        let mut tag = self.reader.u8("page record")?;
        if tag == TAG_BLOCK {
            let directory = read_path(&mut self.reader)?;
            if self.directory.as_ref() == Some(&directory) {
                return Err(DecodeError::NotCanonical { what: "page" });
            }
            self.directory = Some(directory);
            tag = self.reader.u8("page record")?;
        }
        if tag != TAG_ENTRY || self.directory.is_none() {
            return Err(DecodeError::UnknownTag {
                what: "page record",
                tag: tag.into(),
            });
        }
        Entry::read(&mut self.reader).map(Some)
    }

    /// The directory of the entry last read.
    pub fn directory(&self) -> &[u8] {
        self.directory.as_deref().unwrap_or_default()
    }
}
