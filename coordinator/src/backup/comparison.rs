//! Counts how a host's files differ from the parent snapshot's, as the walk passes them: what is gone, what changed, what is
//! new. Only counts; what it means is in `safety`. Bounded whatever the host lists.

use std::collections::{HashMap, HashSet};

use formats::listing::entry::{Entry, EntryFlags, EntryKind};
use formats::wire::control::EntryStat;

use crate::safety::anomaly::Compared;

/// Inodes that are remembered, to tell a moved file from one that is gone. Past it, moved ones count as gone only.
const INODES_MAX: usize = 1 << 16;
/// Endings that are told apart. More on one side mean that no ending says anything.
const ENDINGS_MAX: usize = 4_096;
/// The longest ending of a name.
const ENDING_BYTES_MAX: usize = 16;

/// The counts so far.
#[derive(Debug, Default)]
pub struct Comparison {
    counts: Compared,
    gone_inodes: HashSet<u64>,
    added_inodes: HashSet<u64>,
    endings_before: HashSet<Vec<u8>>,
    endings_added: HashMap<Vec<u8>, u64>,
}

/// A finished comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparing {
    /// The counts.
    pub counts: Compared,
    /// The ending that most of the added files have of those that no file had before, and how many.
    pub new_ending: Option<(String, u64)>,
}

impl Comparison {
    /// The parent has an entry at a place where the host has nothing.
    pub fn gone(&mut self, entry: &Entry) {
        // What was carried over was gone before, and is gone again each time.
        if entry.stat.kind != EntryKind::File || entry.flags.contains(EntryFlags::CARRIED) {
            return;
        }
        self.before(entry);
        self.counts.gone += 1;
        if self.gone_inodes.len() < INODES_MAX {
            self.gone_inodes.insert(entry.stat.inode);
        }
    }

    /// The host has an entry, and the parent one at the same place or none.
    pub fn found(&mut self, found: &EntryStat, known: Option<&Entry>) {
        let known = known.filter(|entry| entry.stat.kind == EntryKind::File);
        if let Some(entry) = known {
            self.before(entry);
        }
        if found.stat.kind != EntryKind::File {
            self.counts.gone += u64::from(known.is_some());
            return;
        }
        let Some(entry) = known else {
            self.added(found);
            return;
        };
        let (was, is) = (&entry.stat, &found.stat);
        self.counts.same_inode += u64::from(was.inode == is.inode);
        self.counts.changed += u64::from(was.size != is.size || was.mtime != is.mtime);
    }

    fn before(&mut self, entry: &Entry) {
        self.counts.before += 1;
        if let Some(ending) = ending_of(&entry.name)
            && self.endings_before.len() < ENDINGS_MAX
            && !self.endings_before.contains(ending)
        {
            self.endings_before.insert(ending.to_vec());
        }
    }

    fn added(&mut self, found: &EntryStat) {
        self.counts.added += 1;
        self.counts.added_bytes = self.counts.added_bytes.saturating_add(found.stat.size);
        if self.added_inodes.len() < INODES_MAX {
            self.added_inodes.insert(found.stat.inode);
        }
        let Some(ending) = ending_of(&found.name) else {
            return;
        };
        if let Some(count) = self.endings_added.get_mut(ending) {
            *count += 1;
        } else if self.endings_added.len() < ENDINGS_MAX {
            self.endings_added.insert(ending.to_vec(), 1);
        }
    }

    /// What it came to.
    pub fn finish(&self) -> Comparing {
        let moved = self.gone_inodes.intersection(&self.added_inodes).count() as u64;
        let told_apart = self.endings_before.len() < ENDINGS_MAX;
        let new = self
            .endings_added
            .iter()
            .filter(|(ending, _)| told_apart && !self.endings_before.contains(*ending))
            .max_by_key(|(ending, count)| (**count, *ending));
        Comparing {
            counts: Compared {
                moved,
                ..self.counts
            },
            new_ending: new
                .map(|(ending, count)| (String::from_utf8_lossy(ending).into_owned(), *count)),
        }
    }
}

/// What follows the last dot of a name, where something stands before it.
fn ending_of(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let ending = name.get(dot + 1..)?;
    (dot > 0 && (1..=ENDING_BYTES_MAX).contains(&ending.len())).then_some(ending)
}

#[cfg(test)]
mod tests {
    use formats::listing::content::Content;
    use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp};
    use formats::wire::control::EntryStat;

    use super::{Comparison, ending_of};

    fn stat(inode: u64, size: u64) -> Stat {
        let time = Timestamp {
            seconds: 1_790_000_000,
            nanoseconds: 0,
        };
        Stat {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: time,
            ctime: time,
            inode,
            links: 1,
            device: (0, 0),
        }
    }

    fn entry(name: &str, inode: u64, size: u64) -> Entry {
        Entry {
            name: name.as_bytes().to_vec(),
            stat: stat(inode, size),
            flags: EntryFlags::default(),
            xattrs: Vec::new(),
            link_target: Vec::new(),
            hard_link_to: None,
            content: Content::Missing,
        }
    }

    fn found(name: &str, inode: u64, size: u64) -> EntryStat {
        EntryStat {
            name: name.as_bytes().to_vec(),
            stat: stat(inode, size),
            filesystem: 1,
        }
    }

    #[test]
    fn files_are_gone_changed_moved_added_or_as_they_were() {
        let mut comparison = Comparison::default();
        comparison.found(&found("same.txt", 1, 10), Some(&entry("same.txt", 1, 10)));
        comparison.found(
            &found("changed.txt", 9, 20),
            Some(&entry("changed.txt", 2, 10)),
        );
        comparison.gone(&entry("a.txt", 3, 10));
        comparison.gone(&entry("b.txt", 4, 10));
        comparison.found(&found("a.txt.locked", 3, 12), None);
        comparison.found(&found("c.txt.locked", 5, 12), None);
        comparison.found(&found("d.txt", 6, 12), None);
        let done = comparison.finish();
        let counts = done.counts;
        assert_eq!((counts.before, counts.gone, counts.moved), (4, 2, 1));
        assert_eq!((counts.changed, counts.same_inode), (1, 1));
        assert_eq!((counts.added, counts.added_bytes), (3, 36));
        assert_eq!(done.new_ending, Some(("locked".to_owned(), 2)));
    }

    #[test]
    fn what_is_no_file_any_more_is_gone() {
        let mut comparison = Comparison::default();
        let mut directory = found("x", 1, 0);
        directory.stat.kind = EntryKind::Directory;
        comparison.found(&directory, Some(&entry("x", 1, 5)));
        let counts = comparison.finish().counts;
        assert_eq!((counts.before, counts.gone, counts.added), (1, 1, 0));
    }

    #[test]
    fn an_ending_follows_the_last_dot_of_a_longer_name() {
        assert_eq!(ending_of(b"a.tar.gz"), Some(&b"gz"[..]));
        for name in [
            &b"Makefile"[..],
            b".profile",
            b"a.",
            b"a.far-too-long-to-be-one",
        ] {
            assert_eq!(ending_of(name), None);
        }
    }
}
