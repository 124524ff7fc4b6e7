//! A file's content as references: chunks and holes, in the entry itself or in content pages. Lengths must
//! add up to the file's size; a short file can never pass for a whole one.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::ChunkId;
use crate::keys::secret::ChunkingKey;
use crate::limits::{
    CHUNK_BYTES_MAX, CONTENT_PAGE_EXTENTS_MAX, CONTENT_PAGES_MAX, FRAME_PLAIN_MAX,
    INLINE_EXTENTS_MAX,
};
use crate::listing::entry::{EntryFlags, EntryKind, Stat};

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Data.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Its bytes, 1 to [`CHUNK_BYTES_MAX`].
        bytes: u32,
    },
    /// Nothing allocated: reads as zeros.
    Hole {
        /// Its bytes, at least 1.
        bytes: u64,
    },
}

impl Extent {
    /// How much of the file it covers.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Chunk { bytes, .. } => (*bytes).into(),
            Self::Hole { bytes } => *bytes,
        }
    }

    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            // A chunk's length is at least 1, so 0 marks a hole.
            Self::Chunk { id, bytes } => {
                out.put_varint((*bytes).into());
                out.put(id.as_bytes());
            }
            Self::Hole { bytes } => {
                out.put_varint(0);
                out.put_varint(*bytes);
            }
        }
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.varint32("extent")? {
            0 => match reader.varint("hole")? {
                0 => Err(DecodeError::NotCanonical { what: "hole" }),
                bytes => Ok(Self::Hole { bytes }),
            },
            bytes if bytes <= CHUNK_BYTES_MAX => Ok(Self::Chunk {
                id: ChunkId::read(reader)?,
                bytes,
            }),
            bytes => Err(DecodeError::AboveLimit {
                what: "chunk",
                found: bytes.into(),
                limit: CHUNK_BYTES_MAX.into(),
            }),
        }
    }
}

/// A content page as its entry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentPage {
    /// The chunk of kind "content" with the extents.
    pub id: ChunkId,
    /// That chunk's bytes.
    pub bytes: u32,
    /// How much of the file its extents cover.
    pub covers: u64,
}

/// What stands for a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// No content: not a file, or a further name of one.
    None,
    /// The file's extents.
    Extents(Vec<Extent>),
    /// Pages of extents.
    Pages(Vec<ContentPage>),
    /// A file whose content could not be read: nothing is kept.
    Missing,
}

impl Content {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.put_u8(0),
            Self::Extents(extents) => {
                out.put_u8(1);
                put_extents(extents, out);
            }
            Self::Pages(pages) => {
                out.put_u8(2);
                out.put_varint(pages.len() as u64);
                for page in pages {
                    out.put(page.id.as_bytes());
                    out.put_varint(page.bytes.into());
                    out.put_varint(page.covers);
                }
            }
            Self::Missing => out.put_u8(4),
        }
    }

    /// Reads it for an entry of this stat: a file has content, nothing else has.
    pub fn read(
        reader: &mut Reader<'_>,
        stat: &Stat,
        flags: EntryFlags,
    ) -> Result<Self, DecodeError> {
        let is_file = stat.kind == EntryKind::File;
        let content = match reader.u8("content")? {
            0 if !is_file => return Ok(Self::None),
            1 if is_file => Self::Extents(read_extents(reader, INLINE_EXTENTS_MAX)?),
            2 if is_file => Self::Pages(read_pages(reader)?),
            4 if is_file && flags.contains(EntryFlags::UNREADABLE) => return Ok(Self::Missing),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "content",
                    tag: tag.into(),
                });
            }
        };
        if content.covers() == Some(stat.size) {
            Ok(content)
        } else {
            Err(DecodeError::Invalid {
                what: "content",
                rule: "must add up to the file's size",
            })
        }
    }

    /// How many bytes of a file it covers; `None` past 2⁶⁴.
    pub fn covers(&self) -> Option<u64> {
        match self {
            Self::None | Self::Missing => Some(0),
            Self::Extents(extents) => extents_cover(extents),
            Self::Pages(pages) => pages
                .iter()
                .try_fold(0u64, |sum, page| sum.checked_add(page.covers)),
        }
    }
}

/// How many bytes of a file extents cover; `None` past 2⁶⁴.
pub fn extents_cover(extents: &[Extent]) -> Option<u64> {
    extents
        .iter()
        .try_fold(0u64, |sum, extent| sum.checked_add(extent.bytes()))
}

fn put_extents(extents: &[Extent], out: &mut Vec<u8>) {
    out.put_varint(extents.len() as u64);
    for extent in extents {
        extent.put(out);
    }
}

fn read_extents(reader: &mut Reader<'_>, limit: u64) -> Result<Vec<Extent>, DecodeError> {
    let count = reader.count("extents", limit, 2)?;
    let mut extents = Vec::with_capacity(count);
    for _ in 0..count {
        extents.push(Extent::read(reader)?);
    }
    Ok(extents)
}

fn read_pages(reader: &mut Reader<'_>) -> Result<Vec<ContentPage>, DecodeError> {
    let count = reader.count("content pages", CONTENT_PAGES_MAX, 34)?;
    if count == 0 {
        // An empty file is a list of no extents; it has no second form.
        return Err(DecodeError::NotCanonical {
            what: "content pages",
        });
    }
    let mut pages = Vec::with_capacity(count);
    for _ in 0..count {
        let page = ContentPage {
            id: ChunkId::read(reader)?,
            bytes: reader.varint32("content page")?,
            covers: reader.varint("content page cover")?,
        };
        if page.bytes > FRAME_PLAIN_MAX {
            return Err(DecodeError::AboveLimit {
                what: "content page",
                found: page.bytes.into(),
                limit: FRAME_PLAIN_MAX.into(),
            });
        }
        if page.bytes == 0 || page.covers == 0 {
            return Err(DecodeError::Invalid {
                what: "content page",
                rule: "must not be empty",
            });
        }
        pages.push(page);
    }
    Ok(pages)
}

const CONTENT_PAGE_VERSION: u8 = 1;

/// A content page's plaintext.
pub fn encode_content_page(extents: &[Extent]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + extents.len() * 36);
    out.put_u8(CONTENT_PAGE_VERSION);
    put_extents(extents, &mut out);
    out
}

/// Reads a content page that must cover exactly `covers` bytes.
pub fn decode_content_page(plain: &[u8], covers: u64) -> Result<Vec<Extent>, DecodeError> {
    let mut reader = Reader::new(plain);
    let version = reader.u8("content page")?;
    if version != CONTENT_PAGE_VERSION {
        return Err(DecodeError::UnknownVersion {
            what: "content page",
            found: version.into(),
            known: CONTENT_PAGE_VERSION.into(),
        });
    }
    let extents = read_extents(&mut reader, CONTENT_PAGE_EXTENTS_MAX)?;
    reader.finish("content page")?;
    if extents_cover(&extents) != Some(covers) {
        return Err(DecodeError::Invalid {
            what: "content page",
            rule: "must cover what its entry says",
        });
    }
    Ok(extents)
}

/// Cuts a long extent list into content pages at boundaries that the extents themselves decide, so that a
/// change in a big file changes one page.
#[derive(Debug)]
pub struct ContentPageCutter {
    key: [u8; 32],
    extents: Vec<Extent>,
}

const CUT_EXTENTS_MIN: usize = 1_024;

impl ContentPageCutter {
    /// An empty cutter; the key hides the boundaries' rule.
    pub fn new(key: &ChunkingKey) -> Self {
        Self {
            key: crate::listing::page::cut_key(key),
            extents: Vec::new(),
        }
    }

    /// Adds an extent; gives the page's extents when it is complete.
    pub fn push(&mut self, extent: Extent) -> Option<Vec<Extent>> {
        self.extents.push(extent);
        let full = self.extents.len() as u64 >= CONTENT_PAGE_EXTENTS_MAX;
        if full || (self.extents.len() >= CUT_EXTENTS_MIN && self.cuts_after(&extent)) {
            Some(std::mem::take(&mut self.extents))
        } else {
            None
        }
    }

    /// What is left.
    pub fn finish(&mut self) -> Vec<Extent> {
        std::mem::take(&mut self.extents)
    }

    fn cuts_after(&self, extent: &Extent) -> bool {
        let mut bytes = Vec::with_capacity(40);
        extent.put(&mut bytes);
        let hash = blake3::keyed_hash(&self.key, &bytes);
        // About every 2,048th extent.
        let [low, high, ..] = hash.as_bytes();
        u16::from_le_bytes([*low, *high]) & 0x07ff == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, ContentPage};
    use crate::codec::Reader;
    use crate::ids::ChunkId;
    use crate::limits::FRAME_PLAIN_MAX;
    use crate::listing::entry::{EntryFlags, EntryKind, Stat, Timestamp};

    fn reads(pages: &[ContentPage], size: u64) -> bool {
        let stat = Stat {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            inode: 1,
            links: 1,
            device: (0, 0),
        };
        let mut bytes = Vec::new();
        Content::Pages(pages.to_vec()).put(&mut bytes);
        Content::read(&mut Reader::new(&bytes), &stat, EntryFlags::default()).is_ok()
    }

    #[test]
    fn content_pages_have_possible_lengths_and_there_is_one() {
        let page = |bytes, covers| ContentPage {
            id: ChunkId([1; 32]),
            bytes,
            covers,
        };
        assert!(reads(&[page(40, 7)], 7));
        assert!(reads(&[page(FRAME_PLAIN_MAX, 7)], 7));
        assert!(!reads(&[], 0), "an empty file has no extents, in one form");
        assert!(!reads(&[page(0, 7)], 7), "a page of no bytes");
        assert!(
            !reads(&[page(FRAME_PLAIN_MAX + 1, 7)], 7),
            "a page too long"
        );
        assert!(!reads(&[page(40, 7), page(40, 0)], 7), "a page of nothing");
    }
}
