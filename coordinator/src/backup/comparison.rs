//! Counts how a host's files differ from the parent snapshot's, as they are written into the new listing: what is gone, what
//! changed, what is new. By what became of them, never by what the host said when it listed them. Only counts; what it means is
//! in `safety`. Bounded whatever the host lists.

use std::collections::{HashMap, HashSet};

use formats::limits::CHUNK_BYTES_MAX;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryFlags, EntryKind};

use crate::backup::before::Before;
use crate::backup::changes::{ChangeKind, Changes, Gathering};
use crate::safety::anomaly::Compared;

/// Inodes that are remembered, to tell a moved file from one that is gone. Past it, moved ones count as gone only.
const INODES_MAX: usize = 1 << 16;
/// Endings that are told apart. More on one side mean that no ending says anything.
const ENDINGS_MAX: usize = 4_096;
/// The longest ending of a name.
const ENDING_BYTES_MAX: usize = 16;
/// The least that a page of content takes to name a chunk: its length and its id.
const CHUNK_EXTENT_BYTES_MIN: u64 = 1 + 32;

/// The counts so far.
#[derive(Debug, Default)]
pub struct Comparison {
    counts: Compared,
    grown_bytes: u64,
    changes: Gathering,
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
    /// All changes, for people.
    pub changes: Changes,
}

impl Comparison {
    /// The parent has an entry in a directory at a place where the host has nothing.
    pub fn gone(&mut self, directory: &[u8], entry: &Entry) {
        // What was carried over was gone before, and is gone again each time.
        if entry.flags.contains(EntryFlags::CARRIED) {
            return;
        }
        self.changes
            .note(ChangeKind::Removed, directory, &entry.name);
        if entry.stat.kind != EntryKind::File {
            return;
        }
        self.before(&entry.name);
        self.counts.gone += 1;
        if self.gone_inodes.len() < INODES_MAX {
            self.gone_inodes.insert(entry.stat.inode);
        }
    }

    /// What the host has listed in a directory, and what became of it: an entry of the new listing, or nothing where it vanished.
    /// The parent has something at the same place or nothing. So many bytes of what is there now are in new chunks and explain
    /// themselves.
    pub fn settled(
        &mut self,
        directory: &[u8],
        name: &[u8],
        now: Option<&Entry>,
        was: Option<Before>,
        new_bytes: u64,
    ) {
        let change = match (now, &was) {
            (Some(now), Some(was)) => was.difference(now),
            (Some(_), None) => Some(ChangeKind::Added),
            (None, Some(_)) => Some(ChangeKind::Removed),
            (None, None) => None,
        };
        if let Some(change) = change {
            self.changes.note(change, directory, name);
        }
        let was = was.filter(Before::is_file);
        if was.is_some() {
            self.before(name);
        }
        let Some(now) = now.filter(|entry| entry.stat.kind == EntryKind::File) else {
            self.counts.gone += u64::from(was.is_some());
            return;
        };
        let Some(was) = was else {
            self.added(now, new_bytes);
            return;
        };
        let is = &now.stat;
        self.counts.same_inode += u64::from(was.inode == is.inode);
        self.counts.changed += u64::from(was.size != is.size || was.mtime != is.mtime);
        let grown = data_bytes(now).saturating_sub(was.data_bytes);
        self.grown_bytes = self.grown_bytes.saturating_add(grown.min(new_bytes));
    }

    fn before(&mut self, name: &[u8]) {
        self.counts.before += 1;
        if let Some(ending) = ending_of(name)
            && self.endings_before.len() < ENDINGS_MAX
            && !self.endings_before.contains(ending)
        {
            self.endings_before.insert(ending.to_vec());
        }
    }

    fn added(&mut self, entry: &Entry, new_bytes: u64) {
        self.counts.added += 1;
        let added = data_bytes(entry).min(new_bytes);
        self.counts.added_bytes = self.counts.added_bytes.saturating_add(added);
        if self.added_inodes.len() < INODES_MAX {
            self.added_inodes.insert(entry.stat.inode);
        }
        let Some(ending) = ending_of(&entry.name) else {
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
                grown_bytes: Some(self.grown_bytes),
                ..self.counts
            },
            new_ending: new
                .map(|(ending, count)| (String::from_utf8_lossy(ending).into_owned(), *count)),
            changes: self.changes.finish(moved),
        }
    }
}

/// The bytes that an entry adds to its snapshot: those of a file whose content is there, once for all of its names.
pub fn content_bytes(entry: &Entry) -> u64 {
    match &entry.content {
        Content::None | Content::Missing => 0,
        Content::Extents(_) | Content::Pages(_) => entry.stat.size,
    }
}

/// The same without holes. Those of a file whose content is on pages of its own are not known without reading them: it counts as much
/// as all of its chunks can hold, and never more than it has.
pub fn data_bytes(entry: &Entry) -> u64 {
    match &entry.content {
        Content::None | Content::Missing => 0,
        Content::Extents(extents) => {
            let chunks = extents.iter().map(|extent| match extent {
                Extent::Chunk { bytes, .. } => u64::from(*bytes),
                Extent::Hole { .. } => 0,
            });
            chunks.sum()
        }
        Content::Pages(pages) => {
            let each = pages.iter().map(|page| {
                let chunks_max = u64::from(page.bytes) / CHUNK_EXTENT_BYTES_MIN;
                page.covers.min(chunks_max * u64::from(CHUNK_BYTES_MAX))
            });
            each.fold(0, u64::saturating_add)
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
    use formats::ids::ChunkId;
    use formats::limits::CHUNK_BYTES_MAX;
    use formats::listing::content::{Content, ContentPage, Extent};
    use formats::listing::entry::{Entry, EntryFlags, EntryKind};

    use super::{Comparison, content_bytes, data_bytes, ending_of};
    use crate::backup::before::Before;
    use crate::backup::changes::ChangeKind;
    use crate::backup::sample_entry::file;

    fn entry(name: &str, inode: u64, size: u64) -> Entry {
        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
        let mut entry = file(name, vec![chunk(bytes)]);
        (entry.stat.inode, entry.stat.size) = (inode, size);
        entry
    }

    fn chunk(bytes: u32) -> Extent {
        let id = ChunkId([1; 32]);
        Extent::Chunk { id, bytes }
    }

    /// An entry of the new listing, and what the parent has in its place.
    fn settle(comparison: &mut Comparison, now: &Entry, was: Option<&Entry>) {
        let was = was.map(|was| Before::of(was, was == now));
        comparison.settled(b"d", &now.name, Some(now), was, data_bytes(now));
    }

    #[test]
    fn files_are_gone_changed_moved_added_or_as_they_were() {
        let mut comparison = Comparison::default();
        let same = entry("same.txt", 1, 10);
        settle(&mut comparison, &same, Some(&same));
        let mut changed = entry("changed.txt", 9, 20);
        changed.content = Content::Extents(vec![Extent::Hole { bytes: 20 }]);
        let was = entry("changed.txt", 2, 10);
        settle(&mut comparison, &changed, Some(&was));
        comparison.gone(b"d", &entry("a.txt", 3, 10));
        comparison.gone(b"d", &entry("b.txt", 4, 10));
        for (name, inode) in [("a.txt.locked", 3), ("c.txt.locked", 5), ("d.txt", 6)] {
            settle(&mut comparison, &entry(name, inode, 12), None);
        }
        let done = comparison.finish();
        let counts = done.counts;
        assert_eq!((counts.before, counts.gone, counts.moved), (4, 2, 1));
        assert_eq!((counts.changed, counts.same_inode), (1, 1));
        assert_eq!((counts.added, counts.added_bytes), (3, 36));
        assert_eq!(done.new_ending, Some(("locked".to_owned(), 2)));
        let changes = done.changes;
        assert_eq!((changes.added, changes.removed, changes.moved), (3, 2, 1));
        assert_eq!((changes.changed, changes.metadata), (1, 0));
        assert!(
            changes
                .paths
                .contains(&(ChangeKind::Removed, b"d/b.txt".to_vec()))
        );
    }

    #[test]
    fn what_keep_deleted_keeps_is_told_once() {
        let mut comparison = Comparison::default();
        let mut kept = entry("x", 1, 5);
        comparison.gone(b"", &kept);
        kept.flags = kept.flags.with(EntryFlags::CARRIED);
        comparison.gone(b"", &kept);
        assert_eq!(comparison.finish().changes.removed, 1);
    }

    #[test]
    fn holes_are_no_data() {
        let mut sparse = entry("sparse", 1, 1 << 40);
        let hole = Extent::Hole {
            bytes: (1 << 40) - 5,
        };
        sparse.content = Content::Extents(vec![chunk(2), hole, chunk(3)]);
        assert_eq!((data_bytes(&sparse), content_bytes(&sparse)), (5, 1 << 40));
        let mut comparison = Comparison::default();
        settle(&mut comparison, &sparse, None);
        assert_eq!(comparison.finish().counts.added_bytes, 5);
        // Of two pages one can be full of chunks, and one has a few.
        let page = |bytes, covers| ContentPage {
            id: ChunkId([2; 32]),
            bytes,
            covers,
        };
        sparse.content =
            Content::Pages(vec![page(36_000, 1 << 29), page(66, (1 << 40) - (1 << 29))]);
        assert_eq!(
            data_bytes(&sparse),
            (1 << 29) + 2 * u64::from(CHUNK_BYTES_MAX)
        );
    }

    #[test]
    fn what_files_add_and_grow_by_counts_as_far_as_it_is_in_new_chunks() {
        let mut comparison = Comparison::default();
        let mut repeated = entry("added", 1, 1_000);
        repeated.content = Content::Extents(vec![chunk(10); 100]);
        comparison.settled(b"d", b"added", Some(&repeated), None, 10);
        let was = Before::of(&entry("grown", 2, 400), false);
        for (bytes, new_bytes) in [(1_000, 500), (1_000, 700), (450, 450), (300, 300)] {
            let grown = entry("grown", 2, bytes);
            comparison.settled(b"d", b"grown", Some(&grown), Some(was), new_bytes);
        }
        let counts = comparison.finish().counts;
        assert_eq!(counts.added_bytes, 10);
        assert_eq!(counts.grown_bytes, Some(500 + 600 + 50));
    }

    #[test]
    fn what_is_no_file_any_more_is_gone() {
        let mut comparison = Comparison::default();
        let mut directory = entry("x", 1, 0);
        directory.stat.kind = EntryKind::Directory;
        settle(&mut comparison, &directory, Some(&entry("x", 1, 5)));
        let counts = comparison.finish().counts;
        assert_eq!((counts.before, counts.gone, counts.added), (1, 1, 0));
    }

    #[test]
    fn what_is_listed_and_vanishes_is_gone_and_what_has_no_content_adds_no_bytes() {
        let mut comparison = Comparison::default();
        let was = Before::of(&entry("x", 1, 5), false);
        comparison.settled(b"d", b"x", None, Some(was), 0);
        comparison.settled(b"d", b"y", None, None, 0);
        let mut missing = entry("claimed", 2, u64::MAX);
        missing.content = Content::Missing;
        settle(&mut comparison, &missing, None);
        let mut further = entry("further", 3, u64::MAX);
        further.hard_link_to = Some(b"claimed".to_vec());
        further.content = Content::None;
        settle(&mut comparison, &further, None);
        let counts = comparison.finish().counts;
        assert_eq!((counts.before, counts.gone), (1, 1));
        assert_eq!((counts.added, counts.added_bytes), (2, 0));
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
