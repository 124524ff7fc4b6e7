//! The entries whose details are still to come, in listing order. Never lets an entry past one before it, and
//! never holds more batches than the agent was allowed.

use std::collections::VecDeque;

use formats::keys::secret::ChunkingKey;
use formats::limits::INLINE_EXTENTS_MAX;
use formats::listing::content::{Content, ContentPage, ContentPageCutter, Extent};
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat};
use formats::wire::control::content::{ContentPart, Details, ReadOutcome};
use formats::wire::control::entries::EntryRef;

use crate::backup::before::Before;

/// How an agent's message does not fit what went before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PendingError {
    /// Batches must be numbered one after another.
    #[error("the agent sent batch {found} where {expected} was next")]
    BatchNumber {
        /// The number found.
        found: u64,
        /// The number expected.
        expected: u64,
    },
    /// More batches wait than were allowed.
    #[error("the agent has more than {limit} batches waiting")]
    TooManyBatches {
        /// The limit.
        limit: u32,
    },
    /// Details or content of an entry that waits for none.
    #[error("the agent sent details of entry {entry} of batch {batch}, which waits for none")]
    NotWaiting {
        /// The batch.
        batch: u64,
        /// The entry.
        entry: u32,
    },
    /// The details are not of the entry that was listed.
    #[error("the agent sent details that do not fit entry {entry} of batch {batch}: {rule}")]
    DoesNotFit {
        /// The batch.
        batch: u64,
        /// The entry.
        entry: u32,
        /// What does not fit.
        rule: &'static str,
    },
}

/// One entry of a batch.
#[derive(Debug)]
pub enum PendingEntry {
    /// Complete.
    Done(Box<Entry>),
    /// Vanished: no part of the snapshot.
    Gone {
        /// Its name.
        name: Vec<u8>,
    },
    /// Waits for its details.
    Waiting(Box<Waiting>),
}

/// An entry, and what the parent has of it.
#[derive(Debug)]
pub struct Judged {
    /// What is known of it.
    pub entry: PendingEntry,
    /// The parent's entry at its place.
    pub before: Option<Before>,
    /// Bytes of its content that are in new chunks and explain themselves.
    pub new_bytes: u64,
}

/// What is known of an entry that waits.
#[derive(Debug)]
pub struct Waiting {
    name: Vec<u8>,
    kind: EntryKind,
    extents: Vec<Extent>,
    covered: u64,
    pages: Option<(ContentPageCutter, Vec<ContentPage>)>,
}

impl Waiting {
    /// An entry as it was listed.
    pub fn new(name: Vec<u8>, kind: EntryKind) -> Self {
        Self {
            name,
            kind,
            extents: Vec::new(),
            covered: 0,
            pages: None,
        }
    }
}

/// A directory's entries in a batch.
#[derive(Debug)]
pub struct PendingBlock {
    /// The directory.
    pub directory: Vec<u8>,
    /// Its entries.
    pub entries: Vec<Judged>,
}

#[derive(Debug)]
struct PendingBatch {
    blocks: Vec<PendingBlock>,
    waiting: u64,
}

/// A content page that is to be stored, and the entry that it belongs to.
#[derive(Debug)]
pub struct CutPage {
    /// The entry.
    pub of: EntryRef,
    /// The page's extents.
    pub extents: Vec<Extent>,
}

/// The batches that wait.
#[derive(Debug)]
pub struct Pending {
    first: u64,
    batches: VecDeque<PendingBatch>,
    limit: u32,
}

impl Pending {
    /// Nothing waits; at most `limit` batches may.
    pub fn new(limit: u32) -> Self {
        Self {
            first: 0,
            batches: VecDeque::new(),
            limit,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How many batches are open.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Checks a new batch's number and the limit.
    pub fn check_next(&self, batch: u64) -> Result<(), PendingError> {
        let expected = self.first + self.batches.len() as u64;
        if batch != expected {
            return Err(PendingError::BatchNumber {
                found: batch,
                expected,
            });
        }
        if self.batches.len() >= self.limit as usize {
            return Err(PendingError::TooManyBatches { limit: self.limit });
        }
        Ok(())
    }

    /// Adds the next batch.
    pub fn push(&mut self, blocks: Vec<PendingBlock>) {
        let waiting = blocks
            .iter()
            .flat_map(|block| &block.entries)
            .filter(|judged| matches!(judged.entry, PendingEntry::Waiting(_)))
            .count() as u64;
        self.batches.push_back(PendingBatch { blocks, waiting });
    }

    /// The first batch, once nothing of it waits.
    pub fn pop_complete(&mut self) -> Option<Vec<PendingBlock>> {
        if self.batches.front()?.waiting > 0 {
            return None;
        }
        self.first += 1;
        self.batches.pop_front().map(|batch| batch.blocks)
    }

    fn slot(&mut self, of: EntryRef) -> Result<(&mut Judged, &mut u64), PendingError> {
        let missing = PendingError::NotWaiting {
            batch: of.batch,
            entry: of.entry,
        };
        let place = of
            .batch
            .checked_sub(self.first)
            .and_then(|place| usize::try_from(place).ok());
        let batch = place
            .and_then(|place| self.batches.get_mut(place))
            .ok_or(missing.clone())?;
        match entry_at(&mut batch.blocks, of.entry as usize) {
            Some(judged) if matches!(judged.entry, PendingEntry::Waiting(_)) => {
                Ok((judged, &mut batch.waiting))
            }
            _ => Err(missing),
        }
    }

    /// Adds extents to a waiting file; gives the content pages that they complete.
    pub fn add_content(
        &mut self,
        part: ContentPart,
        key: &ChunkingKey,
    ) -> Result<Vec<CutPage>, PendingError> {
        let of = part.of;
        let misfit = |rule| PendingError::DoesNotFit {
            batch: of.batch,
            entry: of.entry,
            rule,
        };
        let PendingEntry::Waiting(waiting) = &mut self.slot(of)?.0.entry else {
            return Ok(Vec::new());
        };
        if waiting.kind != EntryKind::File {
            return Err(misfit("only files have content"));
        }
        let mut cut = Vec::new();
        for extent in part.extents {
            waiting.covered = waiting
                .covered
                .checked_add(extent.bytes())
                .ok_or(misfit("its content passes 2^64 bytes"))?;
            match &mut waiting.pages {
                Some((cutter, _)) => cut.extend(cutter.push(extent)),
                None => waiting.extents.push(extent),
            }
            if waiting.extents.len() as u64 > INLINE_EXTENTS_MAX {
                let mut cutter = ContentPageCutter::new(key);
                for extent in std::mem::take(&mut waiting.extents) {
                    cut.extend(cutter.push(extent));
                }
                waiting.pages = Some((cutter, Vec::new()));
            }
        }
        Ok(cut
            .into_iter()
            .map(|extents| CutPage { of, extents })
            .collect())
    }

    /// Where the next part of a waiting file's content begins in it, and what the parent has at its place.
    pub fn next_part(&mut self, of: EntryRef) -> Result<(u64, Option<Before>), PendingError> {
        let (judged, _) = self.slot(of)?;
        let at = match &judged.entry {
            PendingEntry::Waiting(waiting) => waiting.covered,
            PendingEntry::Done(_) | PendingEntry::Gone { .. } => 0,
        };
        Ok((at, judged.before))
    }

    /// Notes that so many bytes of a waiting file's content are in new chunks and explain themselves.
    pub fn note_new(&mut self, of: EntryRef, bytes: u64) -> Result<(), PendingError> {
        let (judged, _) = self.slot(of)?;
        judged.new_bytes = judged.new_bytes.saturating_add(bytes);
        Ok(())
    }

    /// The last content page of a waiting file, if it has pages; to be stored before [`Self::close`].
    pub fn last_page(&mut self, of: EntryRef) -> Result<Option<CutPage>, PendingError> {
        let PendingEntry::Waiting(waiting) = &mut self.slot(of)?.0.entry else {
            return Ok(None);
        };
        let extents = match &mut waiting.pages {
            Some((cutter, _)) => cutter.finish(),
            None => return Ok(None),
        };
        Ok((!extents.is_empty()).then_some(CutPage { of, extents }))
    }

    /// Notes a stored content page of a waiting file.
    pub fn add_page(&mut self, of: EntryRef, page: ContentPage) -> Result<(), PendingError> {
        if let PendingEntry::Waiting(waiting) = &mut self.slot(of)?.0.entry
            && let Some((_, pages)) = &mut waiting.pages
        {
            pages.push(page);
        }
        Ok(())
    }

    /// Closes a waiting entry with its details.
    pub fn close(&mut self, details: Details) -> Result<(), PendingError> {
        let of = details.of;
        let misfit = |rule| PendingError::DoesNotFit {
            batch: of.batch,
            entry: of.entry,
            rule,
        };
        let (slot, waiting_count) = self.slot(of)?;
        let PendingEntry::Waiting(waiting) = &mut slot.entry else {
            return Ok(());
        };
        let name = std::mem::take(&mut waiting.name);
        let closed = match details.outcome {
            ReadOutcome::Vanished => PendingEntry::Gone { name },
            outcome => {
                if details.stat.kind != waiting.kind {
                    return Err(misfit("its type is not the one listed"));
                }
                let unreadable = matches!(outcome, ReadOutcome::Unreadable { .. });
                let content = content_of(waiting, &details.stat, unreadable)
                    .ok_or(misfit("its content does not add up to its size"))?;
                let flags = if unreadable {
                    details.flags.with(EntryFlags::UNREADABLE)
                } else {
                    details.flags
                };
                if waiting.kind == EntryKind::Symlink
                    && details.link_target.is_empty()
                    && !unreadable
                {
                    return Err(misfit("a symbolic link needs a target"));
                }
                PendingEntry::Done(Box::new(Entry {
                    name,
                    stat: details.stat,
                    flags,
                    xattrs: details.xattrs,
                    link_target: details.link_target,
                    hard_link_to: None,
                    content,
                }))
            }
        };
        slot.entry = closed;
        *waiting_count -= 1;
        Ok(())
    }
}

/// An entry by its number among those of all blocks.
fn entry_at(blocks: &mut [PendingBlock], number: usize) -> Option<&mut Judged> {
    let mut left = number;
    for block in blocks {
        let entries = block.entries.len();
        if left < entries {
            return block.entries.get_mut(left);
        }
        left -= entries;
    }
    None
}

/// A closed entry's content, if it adds up.
fn content_of(waiting: &mut Waiting, stat: &Stat, unreadable: bool) -> Option<Content> {
    if waiting.kind != EntryKind::File {
        return Some(Content::None);
    }
    if waiting.covered != stat.size {
        return unreadable.then_some(Content::Missing);
    }
    if unreadable {
        return Some(Content::Missing);
    }
    Some(match waiting.pages.take() {
        Some((_, pages)) => Content::Pages(pages),
        None => Content::Extents(std::mem::take(&mut waiting.extents)),
    })
}
