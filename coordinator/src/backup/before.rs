//! What the parent snapshot has at a place, kept in little memory until it is known what became of it on the host; and how the two
//! differ.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher as _};

use formats::listing::entry::{Entry, EntryKind, Timestamp};

use crate::backup::changes::ChangeKind;
use crate::backup::comparison::data_bytes;

/// What the parent has at a place, until it is known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    kind: EntryKind,
    /// A file's bytes.
    pub size: u64,
    /// The same without holes.
    pub data_bytes: u64,
    /// When it was changed.
    pub mtime: Timestamp,
    /// Its inode.
    pub inode: u64,
    /// Nothing where the parent's entry is taken over.
    digest: Option<Digest>,
}

impl Before {
    /// Of the parent's entry; `is_unchanged` says that the new listing has the same.
    pub fn of(entry: &Entry, is_unchanged: bool) -> Self {
        let stat = &entry.stat;
        Self {
            kind: stat.kind,
            size: stat.size,
            data_bytes: data_bytes(entry),
            mtime: stat.mtime,
            inode: stat.inode,
            digest: (!is_unchanged).then(|| Digest::of(entry)),
        }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.kind == EntryKind::File
    }

    /// How an entry differs from it, by what `diff` tells two snapshots apart by.
    pub fn difference(&self, now: &Entry) -> Option<ChangeKind> {
        let stat = &now.stat;
        if self.kind != stat.kind {
            return Some(ChangeKind::Changed);
        }
        let (was, is) = (self.digest?, Digest::of(now));
        // A further name of a file says nothing of content and attributes: those of the first are its own.
        let is_further = was.is_further || is.is_further;
        let has_changed = match is_further {
            true => (self.size, self.mtime) != (stat.size, stat.mtime),
            false => was.content != is.content,
        };
        let is_kept_otherwise =
            was.access != is.access || (!is_further && was.attributes != is.attributes);
        match (has_changed, is_kept_otherwise) {
            (true, _) => Some(ChangeKind::Changed),
            (false, true) => Some(ChangeKind::Metadata),
            (false, false) => None,
        }
    }
}

/// What else of an entry can differ. Hosts can make two the same that are not: they would hide a change in a list for people, and
/// nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest {
    is_further: bool,
    content: u64,
    access: u64,
    attributes: u64,
}

impl Digest {
    fn of(entry: &Entry) -> Self {
        let stat = &entry.stat;
        // The time of a directory says that names in it came or went, and those are told themselves.
        let mtime = (stat.kind != EntryKind::Directory).then_some(stat.mtime);
        Self {
            is_further: entry.hard_link_to.is_some(),
            content: digest(&(&entry.content, &entry.link_target, stat.device)),
            access: digest(&(stat.mode, stat.uid, stat.gid, mtime)),
            attributes: digest(&entry.xattrs),
        }
    }
}

fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use formats::ids::ChunkId;
    use formats::listing::content::{Content, Extent};
    use formats::listing::entry::{Entry, EntryKind, Xattr};

    use super::Before;
    use crate::backup::changes::ChangeKind;
    use crate::backup::sample_entry;

    fn file() -> Entry {
        sample_entry::file("x", vec![Extent::Hole { bytes: 10 }])
    }

    fn with(change: impl FnOnce(&mut Entry)) -> Entry {
        let mut changed = file();
        change(&mut changed);
        changed
    }

    #[test]
    fn changes_are_told_apart_as_two_snapshots_are() {
        let chunk = Extent::Chunk {
            id: ChunkId([1; 32]),
            bytes: 10,
        };
        let name = |name: &[u8]| Some(name.to_vec());
        for (now, expected) in [
            (with(|_| {}), None),
            (with(|now| now.stat.ctime.seconds += 1), None),
            (
                with(|now| now.stat.mode = 0o600),
                Some(ChangeKind::Metadata),
            ),
            (
                with(|now| now.stat.mtime.seconds += 1),
                Some(ChangeKind::Metadata),
            ),
            (
                with(|now| {
                    now.xattrs = vec![Xattr {
                        name: b"user.a".to_vec(),
                        value: Vec::new(),
                    }]
                }),
                Some(ChangeKind::Metadata),
            ),
            (
                with(|now| now.content = Content::Extents(vec![chunk])),
                Some(ChangeKind::Changed),
            ),
            (
                with(|now| now.content = Content::Missing),
                Some(ChangeKind::Changed),
            ),
            (
                with(|now| now.stat.kind = EntryKind::Fifo),
                Some(ChangeKind::Changed),
            ),
            // A further name now, with the same time and size: nobody can tell, and nothing says that it is another file.
            (
                with(|now| {
                    now.content = Content::None;
                    now.hard_link_to = name(b"y");
                }),
                None,
            ),
            (
                with(|now| {
                    now.stat.size = 11;
                    now.hard_link_to = name(b"y");
                }),
                Some(ChangeKind::Changed),
            ),
        ] {
            let was = Before::of(&file(), false);
            assert_eq!(was.difference(&now), expected, "{now:?}");
        }
        let directory = with(|now| now.stat.kind = EntryKind::Directory);
        let mut touched = directory.clone();
        touched.stat.mtime.seconds += 1;
        assert_eq!(Before::of(&directory, false).difference(&touched), None);
        touched.stat.uid = 7;
        let found = Before::of(&directory, false).difference(&touched);
        assert_eq!(found, Some(ChangeKind::Metadata));
    }

    #[test]
    fn what_is_taken_over_is_no_change() {
        let now = with(|now| now.stat.mode = 0o600);
        assert_eq!(Before::of(&file(), true).difference(&now), None);
    }
}
