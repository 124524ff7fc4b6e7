//! A tree that is never anywhere: so many entries in listing order, computed one after the other, the same each time.
//! Below the source come folders of 100 folders of 1,000 empty files each. Nothing of it is ever held.

use std::path::PathBuf;

use formats::listing::entry::{EntryKind, Stat, Timestamp};
use formats::wire::control::entries::EntryStat;

/// Files in a folder.
pub const FILES_OF_FOLDER: u64 = 1_000;
/// Folders in a folder.
pub const FOLDERS_OF_FOLDER: u64 = 100;
/// A listing's first name, before its number of entries.
const SOURCE: &str = "synthetic-";

/// The path of the tree with so many entries.
pub fn source(entries: u64) -> PathBuf {
    PathBuf::from(format!("/{SOURCE}{entries}"))
}

/// How many entries the tree at a source path has; the path is as the orders give it, without the slash.
pub fn entries_of(source: &[u8]) -> Option<u64> {
    std::str::from_utf8(source)
        .ok()?
        .strip_prefix(SOURCE)?
        .parse()
        .ok()
}

/// The tree, walked in listing order.
#[derive(Debug)]
pub struct SyntheticTree {
    entries: u64,
    /// Files below the folder whose entries come now, and before.
    files_done: u64,
    files: u64,
    at: At,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Source,
    Outer(u64),
    Inner(u64, u64),
    File(u64, u64, u64),
    End,
}

impl SyntheticTree {
    /// The tree with so many entries, its folders included: at least the source, two folders and a file.
    pub fn new(entries: u64) -> Self {
        let files = (1..=entries)
            .rev()
            .find(|files| 1 + outer_of(*files) + inner_of(*files) + files <= entries)
            .unwrap_or(1);
        Self {
            entries,
            files_done: 0,
            files,
            at: At::Source,
        }
    }

    /// Puts the next entry's folder into `folder` and gives the entry.
    pub fn next_entry(&mut self, folder: &mut Vec<u8>) -> Option<EntryStat> {
        folder.clear();
        let source = format!("{SOURCE}{}", self.entries);
        let (path, name, kind) = match self.at {
            At::Source => (String::new(), source, EntryKind::Directory),
            At::Outer(outer) => (source, outer_name(outer), EntryKind::Directory),
            At::Inner(outer, inner) => (
                format!("{source}/{}", outer_name(outer)),
                inner_name(inner),
                EntryKind::Directory,
            ),
            At::File(outer, inner, file) => (
                format!("{source}/{}/{}", outer_name(outer), inner_name(inner)),
                file_name(file),
                EntryKind::File,
            ),
            At::End => return None,
        };
        let inode = self.inode();
        folder.extend_from_slice(path.as_bytes());
        self.advance();
        Some(EntryStat {
            name: name.into_bytes(),
            stat: stat(kind, inode),
            filesystem: 65_025,
        })
    }

    fn advance(&mut self) {
        let outers = outer_of(self.files);
        self.at = match self.at {
            At::Source => At::Outer(0),
            At::Outer(outer) if outer + 1 < outers => At::Outer(outer + 1),
            At::Outer(_) => At::Inner(0, 0),
            At::Inner(outer, inner) if inner + 1 < self.inners(outer) => {
                At::Inner(outer, inner + 1)
            }
            At::Inner(outer, _) => At::File(outer, 0, 0),
            At::File(outer, inner, file) => {
                self.files_done += 1;
                if self.files_done == self.files {
                    At::End
                } else if file + 1 < FILES_OF_FOLDER {
                    At::File(outer, inner, file + 1)
                } else if inner + 1 < self.inners(outer) {
                    At::File(outer, inner + 1, 0)
                } else {
                    At::Inner(outer + 1, 0)
                }
            }
            At::End => At::End,
        };
    }

    /// Folders in an outer folder: the last may have fewer.
    fn inners(&self, outer: u64) -> u64 {
        (inner_of(self.files) - outer * FOLDERS_OF_FOLDER).min(FOLDERS_OF_FOLDER)
    }

    /// Each entry has a number of its own, scattered as those of a used filesystem are.
    fn inode(&self) -> u64 {
        let place = match self.at {
            At::Source | At::End => 0,
            At::Outer(outer) => 1 << 40 | outer,
            At::Inner(outer, inner) => 2 << 40 | outer << 20 | inner,
            At::File(..) => 3 << 40 | self.files_done,
        };
        place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
    }
}

/// How many inner folders so many files need.
pub fn inner_of(files: u64) -> u64 {
    files.div_ceil(FILES_OF_FOLDER)
}

/// How many outer folders so many files need.
pub fn outer_of(files: u64) -> u64 {
    inner_of(files).div_ceil(FOLDERS_OF_FOLDER)
}

/// Name of an outer folder.
pub fn outer_name(outer: u64) -> String {
    format!("part-{outer:05}")
}

/// Name of an inner folder.
pub fn inner_name(inner: u64) -> String {
    format!("folder-{inner:03}")
}

/// Name of a file.
pub fn file_name(file: u64) -> String {
    format!("document-{file:04}.txt")
}

fn stat(kind: EntryKind, inode: u64) -> Stat {
    // Times differ from entry to entry, as those of real files do.
    let time = |offset: u64| Timestamp {
        seconds: 1_600_000_000 + (inode.wrapping_add(offset) % 100_000_000).cast_signed(),
        nanoseconds: (inode % 999_999_937) as u32,
    };
    let directory = kind == EntryKind::Directory;
    Stat {
        kind,
        mode: if directory { 0o755 } else { 0o644 },
        uid: 1000,
        gid: 1000,
        size: 0,
        mtime: time(0),
        ctime: time(1),
        inode,
        links: if directory { 2 } else { 1 },
        device: (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use formats::listing::order::OrderChecker;

    use super::{SyntheticTree, entries_of};

    #[test]
    fn the_tree_is_in_listing_order_and_has_as_many_entries_as_its_name_says() {
        for entries in [4_u64, 1_000, 10_000, 123_456, 250_000] {
            let mut tree = SyntheticTree::new(entries);
            let mut order = OrderChecker::new();
            let mut inodes = BTreeSet::new();
            let (mut folder, mut last, mut count) = (Vec::new(), None, 0);
            while let Some(entry) = tree.next_entry(&mut folder) {
                if last.as_ref() != Some(&folder) {
                    assert_eq!(order.block(&folder), Ok(()));
                    last = Some(folder.clone());
                }
                assert_eq!(order.entry(&entry.name, entry.stat.kind), Ok(()));
                assert!(inodes.insert(entry.stat.inode), "an inode comes twice");
                count += 1;
            }
            // One file more would need another folder.
            assert!(
                (entries - 2..=entries).contains(&count),
                "{count} of {entries}"
            );
        }
    }

    #[test]
    fn a_source_tells_its_number_of_entries() {
        assert_eq!(entries_of(b"synthetic-10000000"), Some(10_000_000));
        assert_eq!(entries_of(b"etc"), None);
    }
}
