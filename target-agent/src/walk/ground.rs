//! What the walk stands on: the machine's tree, or a view of it in which snapshots take the place of filesystems.

/// The inode that Btrfs gives to the empty directory which stands in a snapshot for a subvolume.
const EMPTY_SUBVOLUME_INODE: u64 = 2;

/// The tree that is walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// Where its root is.
    pub root: Vec<u8>,
    /// Filesystem and inode of directories that are the run's own: they are never listed.
    pub own_directories: Vec<(u64, u64)>,
    /// Filesystems in whose snapshots nested subvolumes are empty directories.
    pub snapshots_of: Vec<u64>,
}

impl Default for Ground {
    fn default() -> Self {
        Self {
            root: b"/".to_vec(),
            own_directories: Vec::new(),
            snapshots_of: Vec::new(),
        }
    }
}

impl Ground {
    /// Whether a directory only stands for a subvolume that no snapshot was taken of.
    pub fn is_missing_subvolume(&self, filesystem: u64, inode: u64) -> bool {
        inode == EMPTY_SUBVOLUME_INODE && self.snapshots_of.contains(&filesystem)
    }
}
