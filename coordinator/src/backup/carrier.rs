//! Carries files over that are gone from the host and that its configuration keeps (`keep_deleted`): reads the parent's
//! listing a second time beside the new one as that is written, and gives what the new one has nothing for. In listing order and
//! one at a time, however much is gone. Never gives up in silence: where the host makes it impossible the run fails, where the
//! parent's listing is damaged, whoever commits is told, and what is lost is told path by path.

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

/// Memory of the directories that may hold what is kept and in whose place something else is: some 400,000. Past it, the run
/// fails.
const REPLACED_BYTES_MAX: usize = 64 << 20;
/// What such a directory takes besides the bytes of its path.
const REPLACED_BYTES_EACH: usize = 64;

/// What is carried over, beside one listing.
pub struct Carrier {
    /// In the parent's listing; none once that cannot be read any further.
    cursor: Option<ListingCursor>,
    kept: KeptPaths,
    sources: Sources,
    replaced: Replaced,
    /// Files among it.
    files: u64,
}

/// What becomes of something that the configuration keeps.
#[derive(Debug)]
pub enum Kept {
    /// It goes into the new listing: its directory, and the entry.
    Carried(Arc<[u8]>, Box<Entry>),
    /// Its content is stored nowhere any more; it cannot be in the new snapshot.
    Lost {
        /// Its path.
        path: Vec<u8>,
    },
}

/// Directories of the parent in whose place something else is.
#[derive(Debug, Default)]
struct Replaced {
    /// Those whose entries are still to come.
    places: HashSet<Vec<u8>>,
    /// What they take.
    bytes: usize,
    /// The directory whose entries were asked for last.
    directory: Vec<u8>,
    /// The one of them that this is, or is below.
    above: Option<Vec<u8>>,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").finish_non_exhaustive()
    }
}

impl Carrier {
    /// Carries over what is kept of the parent's listing, within what is backed up at all; without a cursor the listing is
    /// damaged, and nothing is.
    pub fn new(cursor: Option<ListingCursor>, kept: KeptPaths, sources: Sources) -> Self {
        Self {
            cursor,
            kept,
            sources,
            replaced: Replaced::default(),
            files: 0,
        }
    }

    /// Whether the parent's listing cannot be read, or not to its end: what it kept after that is not in the new one. The run
    /// goes on all the same, because the damage is the storage's and the host's new data must not wait for its repair; its
    /// host is to be put on hold, so that the older snapshots, which have what is missing, stay until a person has looked.
    pub fn is_damaged(&self) -> bool {
        self.cursor.is_none()
    }

    /// Files that were carried over.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The next entry that is kept and goes before an entry that the new listing has, or after all of them. To be asked until
    /// there is none, before each entry is written.
    pub async fn next_before(
        &mut self,
        next: Option<(&[u8], &Entry)>,
        reuse: Option<&Reuse>,
    ) -> Result<Option<Kept>, RunError> {
        while let Some((directory, entry)) = self.peek().await? {
            let order = match next {
                Some((at, new)) => compare_places((&directory, &entry.name), (at, &new.name)),
                None => Ordering::Less,
            };
            match order {
                Ordering::Greater => break,
                Ordering::Equal => {
                    self.pass().await?;
                    self.note_replaced(&directory, &entry, next)?;
                    break;
                }
                Ordering::Less => self.pass().await?,
            }
            if !self.is_kept(&directory, &entry) {
                continue;
            }
            if !is_whole(&entry, reuse).await? {
                let path = join(&directory, &entry.name);
                return Ok(Some(Kept::Lost { path }));
            }
            self.files += u64::from(entry.stat.kind == EntryKind::File);
            let flags = entry.flags.with(EntryFlags::CARRIED);
            let entry = Box::new(Entry { flags, ..entry });
            return Ok(Some(Kept::Carried(directory, entry)));
        }
        Ok(None)
    }

    fn is_kept(&mut self, directory: &[u8], entry: &Entry) -> bool {
        if self.replaced.holds(directory) {
            return false;
        }
        let path = join(directory, &entry.name);
        let kept = match entry.stat.kind {
            EntryKind::Directory => self.kept.may_hold(&path),
            // The name that has the content may be another one, or gone without being kept.
            _ => entry.hard_link_to.is_none() && self.kept.keeps(&path),
        };
        kept && self.sources.check(directory, &entry.name).is_ok()
    }

    /// What was in a directory cannot stay where that is no directory any more. Only the host can bring so many of them about
    /// that they are not remembered, so its run fails.
    fn note_replaced(
        &mut self,
        directory: &[u8],
        was: &Entry,
        next: Option<(&[u8], &Entry)>,
    ) -> Result<(), RunError> {
        let Some((_, now)) = next else {
            return Ok(());
        };
        if was.stat.kind != EntryKind::Directory || now.stat.kind == EntryKind::Directory {
            return Ok(());
        }
        let place = join(directory, &was.name);
        match !self.kept.may_hold(&place) || self.replaced.add(place) {
            true => Ok(()),
            false => Err(RunError::TooMuchReplaced {
                directories: self.replaced.places.len(),
            }),
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

impl Replaced {
    /// Notes one; false when there is no room for it.
    fn add(&mut self, place: Vec<u8>) -> bool {
        self.bytes += place.len() + REPLACED_BYTES_EACH;
        self.places.insert(place);
        self.bytes <= REPLACED_BYTES_MAX
    }

    /// Whether a directory is one of them, or below one. To be asked in listing order: the entries of one come first, and
    /// together with those of all directories below it.
    fn holds(&mut self, directory: &[u8]) -> bool {
        if self.directory != directory {
            self.directory.clear();
            self.directory.extend_from_slice(directory);
            let is_below = |above: &Vec<u8>| is_within(directory, above);
            if !self.above.as_ref().is_some_and(is_below) {
                self.above = self.places.take(directory);
                let room = self
                    .above
                    .as_ref()
                    .map(|place| place.len() + REPLACED_BYTES_EACH);
                self.bytes -= room.unwrap_or_default();
            }
        }
        self.above.is_some()
    }
}

/// Whether all of an entry's content is still stored; asked only where some may be lost.
async fn is_whole(entry: &Entry, reuse: Option<&Reuse>) -> Result<bool, RunError> {
    match reuse {
        Some(reuse) => Ok(reuse.is_there(&[entry]).await? == [true]),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::{REPLACED_BYTES_MAX, Replaced};

    #[test]
    fn what_is_below_a_replaced_directory_is_told_from_what_is_beside_it() {
        let mut replaced = Replaced::default();
        for place in ["a", "b/c", "empty", "z"] {
            assert!(replaced.add(place.as_bytes().to_vec()), "{place}");
        }
        for (directory, expected) in [
            ("", false),
            ("a", true),
            ("a/x", true),
            ("a/x/y", true),
            ("a-b", false),
            ("b", false),
            ("b/c", true),
            ("b/c/d", true),
            ("b/cd", false),
            ("y", false),
            ("z", true),
        ] {
            for _ in 0..2 {
                assert_eq!(
                    replaced.holds(directory.as_bytes()),
                    expected,
                    "{directory}"
                );
            }
        }
        assert_eq!(
            replaced.places.len(),
            1,
            "those that were passed are let go"
        );
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let mut replaced = Replaced::default();
        let long = |number: u32| [&number.to_le_bytes()[..], &[b'x'; 60_000]].concat();
        let fitting = (0..)
            .take_while(|number| replaced.add(long(*number)))
            .count();
        assert_eq!(
            fitting,
            REPLACED_BYTES_MAX / (60_004 + super::REPLACED_BYTES_EACH)
        );
    }
}
