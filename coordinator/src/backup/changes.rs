//! What changed on a host since the parent snapshot: counts, and the first paths of each kind. Counted while the walk passes the
//! parent's listing, so that it costs no pass of its own; never decides anything.

use formats::listing::entry::join;

/// Paths of each kind of change that are kept; all are counted.
pub const PATHS_MAX: usize = 20;
/// A longer path is counted, and another one is kept in its place.
const PATH_BYTES_MAX: usize = 512;

/// How an entry differs from the parent's at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// The parent has none.
    Added,
    /// Another type, content or link target.
    Changed,
    /// Other permissions, owner, time or extended attributes alone.
    Metadata,
    /// The host has none any more.
    Removed,
}

impl ChangeKind {
    /// Every kind, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Added, Self::Changed, Self::Metadata, Self::Removed];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Metadata => "metadata",
            Self::Removed => "removed",
        }
    }
}

/// The changes of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Entries that the parent has not.
    pub added: u64,
    /// Entries with another type, content or link target.
    pub changed: u64,
    /// Entries with other permissions, owner, time or extended attributes alone.
    pub metadata: u64,
    /// Entries that are gone from the host, whether `keep_deleted` keeps them or not.
    pub removed: u64,
    /// Files that seem to have got another name only, by their inodes: counted as removed and added, too.
    pub moved: u64,
    /// The first paths of each kind, in the order of [`ChangeKind::ALL`] and of the listing.
    pub paths: Vec<(ChangeKind, Vec<u8>)>,
}

impl Changes {
    /// How many there are of a kind.
    pub fn count(&self, kind: ChangeKind) -> u64 {
        match kind {
            ChangeKind::Added => self.added,
            ChangeKind::Changed => self.changed,
            ChangeKind::Metadata => self.metadata,
            ChangeKind::Removed => self.removed,
        }
    }
}

/// Gathers changes as they are found.
#[derive(Debug, Default)]
pub struct Gathering {
    counts: Changes,
    kept: [Vec<Vec<u8>>; ChangeKind::ALL.len()],
}

impl Gathering {
    /// An entry of a directory differs.
    pub fn note(&mut self, kind: ChangeKind, directory: &[u8], name: &[u8]) {
        let counts = &mut self.counts;
        let (count, place) = match kind {
            ChangeKind::Added => (&mut counts.added, 0),
            ChangeKind::Changed => (&mut counts.changed, 1),
            ChangeKind::Metadata => (&mut counts.metadata, 2),
            ChangeKind::Removed => (&mut counts.removed, 3),
        };
        *count += 1;
        let kept = &mut self.kept[place];
        if kept.len() < PATHS_MAX && directory.len() + 1 + name.len() <= PATH_BYTES_MAX {
            kept.push(join(directory, name));
        }
    }

    /// What was gathered, with so many files that seem to have moved.
    pub fn finish(&self, moved: u64) -> Changes {
        let each = ChangeKind::ALL.into_iter().zip(&self.kept);
        let paths = each.flat_map(|(kind, kept)| kept.iter().map(move |path| (kind, path.clone())));
        Changes {
            moved,
            paths: paths.collect(),
            ..self.counts.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ChangeKind, Gathering, PATHS_MAX};

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let mut gathering = Gathering::default();
        gathering.note(ChangeKind::Removed, b"", &[b'x'; 512]);
        for index in 0..100 {
            gathering.note(
                ChangeKind::Removed,
                b"etc",
                format!("{index:03}").as_bytes(),
            );
        }
        gathering.note(ChangeKind::Added, b"", b"new");
        let changes = gathering.finish(1);
        assert_eq!((changes.added, changes.removed, changes.moved), (1, 101, 1));
        assert_eq!((changes.changed, changes.metadata), (0, 0));
        assert_eq!(changes.paths.len(), 1 + PATHS_MAX);
        assert_eq!(changes.paths[0], (ChangeKind::Added, b"new".to_vec()));
        assert_eq!(changes.paths[1], (ChangeKind::Removed, b"etc/000".to_vec()));
        assert_eq!(changes.count(ChangeKind::Removed), 101);
    }
}
