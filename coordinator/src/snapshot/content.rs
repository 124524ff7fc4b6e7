//! A file's extents, piece by piece: from the entry itself, or from its content pages, read a few at a time.
//! Every page must cover what its entry says.

use std::collections::VecDeque;
use std::sync::Arc;

use formats::chunk::ChunkKind;
use formats::codec::DecodeError;
use formats::ids::ChunkId;
use formats::listing::content::{Content, ContentPage, Extent, decode_content_page};

use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::chunks::ChunkReader;

/// Content pages read by one request: a page names up to 16 GiB of a file.
const PAGES_AT_ONCE: usize = 4;

/// Why a file's extents could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A content page could not be read.
    #[error("a page of the file's content list cannot be read")]
    Chunk(#[from] Arc<ChunkError>),
    /// A content page is not what it should be.
    #[error("page {id} of the file's content list cannot be decoded")]
    Decode {
        /// The page.
        id: ChunkId,
        /// Why.
        source: DecodeError,
    },
}

impl ContentError {
    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Chunk(source) => source.class(),
            Self::Decode { .. } => FailureClass::Integrity,
        }
    }
}

/// The chunks of these extents, in order.
pub fn chunk_ids(extents: &[Extent]) -> impl Iterator<Item = ChunkId> {
    extents.iter().filter_map(|extent| match extent {
        Extent::Chunk { id, .. } => Some(*id),
        Extent::Hole { .. } => None,
    })
}

/// A file's extents in order.
#[derive(Debug)]
pub struct ExtentStream {
    chunks: ChunkReader,
    inline: Option<Vec<Extent>>,
    pages: VecDeque<ContentPage>,
    read: VecDeque<Vec<Extent>>,
}

impl ExtentStream {
    /// The extents of a file's content; none for content that is not there.
    pub fn new(chunks: ChunkReader, content: Content) -> Self {
        let (inline, pages) = match content {
            Content::Extents(extents) => (Some(extents), VecDeque::new()),
            Content::Pages(pages) => (None, pages.into()),
            Content::None | Content::Missing => (None, VecDeque::new()),
        };
        Self {
            chunks,
            inline,
            pages,
            read: VecDeque::new(),
        }
    }

    /// The next extents; `None` after the last. At most a content page at a time.
    pub async fn next_extents(&mut self) -> Result<Option<Vec<Extent>>, ContentError> {
        if let Some(extents) = self.inline.take() {
            return Ok(Some(extents));
        }
        if self.read.is_empty() && !self.pages.is_empty() {
            let count = self.pages.len().min(PAGES_AT_ONCE);
            let pages: Vec<ContentPage> = self.pages.drain(..count).collect();
            let ids: Vec<ChunkId> = pages.iter().map(|page| page.id).collect();
            let plains = self.chunks.read_many(ChunkKind::Content, &ids).await?;
            for (page, plain) in pages.iter().zip(plains) {
                let extents = decode_content_page(&plain, page.covers).map_err(|source| {
                    ContentError::Decode {
                        id: page.id,
                        source,
                    }
                })?;
                self.read.push_back(extents);
            }
        }
        Ok(self.read.pop_front())
    }
}
