//! Carries files over that are gone from the host and that its configuration keeps (`keep_deleted`): reads the parent's
//! listing a second time beside the new one as that is written, and gives what the new one has nothing for. In listing order and
//! one at a time, however much is gone.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use formats::listing::entry::{Entry, EntryFlags, EntryKind, join};
use formats::listing::order::{compare_places, is_within};

use crate::backup::error::RunError;
use crate::backup::parent::tell_damaged;
use crate::backup::reuse::Reuse;
use crate::backup::sources::Sources;
use crate::safety::kept::KeptPaths;
use crate::snapshot::chunk_error::FailureClass;
use crate::snapshot::cursor::ListingCursor;

/// Directories of the parent whose place something else has. Past it, nothing is carried over any more.
const REPLACED_MAX: usize = 1 << 16;

/// What is carried over, beside one listing.
pub struct Carrier {
    cursor: Option<ListingCursor>,
    kept: KeptPaths,
    sources: Sources,
    replaced: HashSet<Vec<u8>>,
    /// Files among it.
    files: u64,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").finish_non_exhaustive()
    }
}

impl Carrier {
    /// Carries over what is kept of the parent's listing, within what is backed up at all.
    pub fn new(cursor: ListingCursor, kept: KeptPaths, sources: Sources) -> Self {
        Self {
            cursor: Some(cursor),
            kept,
            sources,
            replaced: HashSet::new(),
            files: 0,
        }
    }

    /// Files that were carried over.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The next entry to be carried over before an entry that the new listing has, or after all of them. To be asked until there is
    /// none, before each entry is written.
    pub async fn next_before(
        &mut self,
        next: Option<(&[u8], &Entry)>,
        reuse: Option<&Reuse>,
    ) -> Result<Option<(Arc<[u8]>, Entry)>, RunError> {
        while let Some((directory, entry)) = self.peek().await? {
            let order = match next {
                Some((at, new)) => compare_places((&directory, &entry.name), (at, &new.name)),
                None => Ordering::Less,
            };
            match order {
                Ordering::Greater => break,
                Ordering::Equal => {
                    self.pass().await?;
                    self.note_replaced(&directory, &entry, next);
                    break;
                }
                Ordering::Less => self.pass().await?,
            }
            if self.is_kept(&directory, &entry) && is_whole(&entry, reuse).await? {
                self.files += u64::from(entry.stat.kind == EntryKind::File);
                let flags = entry.flags.with(EntryFlags::CARRIED);
                return Ok(Some((directory, Entry { flags, ..entry })));
            }
        }
        Ok(None)
    }

    fn is_kept(&self, directory: &[u8], entry: &Entry) -> bool {
        let path = join(directory, &entry.name);
        let kept = match entry.stat.kind {
            EntryKind::Directory => self.kept.may_hold(&path),
            // The name that has the content may be another one, or gone without being kept.
            _ => entry.hard_link_to.is_none() && self.kept.keeps(&path),
        };
        kept && self.sources.check(directory, &entry.name).is_ok()
            && !self.replaced.iter().any(|place| is_within(&path, place))
    }

    /// What was in a directory cannot stay where that is no directory any more.
    fn note_replaced(&mut self, directory: &[u8], was: &Entry, next: Option<(&[u8], &Entry)>) {
        let Some((_, now)) = next else { return };
        if was.stat.kind == EntryKind::Directory && now.stat.kind != EntryKind::Directory {
            self.replaced.insert(join(directory, &was.name));
            if self.replaced.len() > REPLACED_MAX {
                tracing::warn!("too many directories were replaced: nothing more is carried over");
                self.cursor = None;
            }
        }
    }

    async fn peek(&mut self) -> Result<Option<(Arc<[u8]>, Entry)>, RunError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(None);
        };
        match cursor.peek().await {
            Ok(found) => Ok(found.cloned()),
            Err(error) if error.class() == FailureClass::Integrity => {
                tell_damaged(&error);
                self.cursor = None;
                Ok(None)
            }
            Err(error) => Err(RunError::Parent(error)),
        }
    }

    async fn pass(&mut self) -> Result<(), RunError> {
        if let Some(cursor) = &mut self.cursor {
            cursor.next_entry().await.map_err(RunError::Parent)?;
        }
        Ok(())
    }
}

/// Whether all of an entry's content is still stored; asked only where some may be lost.
async fn is_whole(entry: &Entry, reuse: Option<&Reuse>) -> Result<bool, RunError> {
    match reuse {
        Some(reuse) => Ok(reuse.is_there(&[entry]).await? == [true]),
        None => Ok(true),
    }
}
