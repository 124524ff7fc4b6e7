//! A window: the files, links and other objects that are restored together. Big enough to read in pack order,
//! small enough to bound memory and open files, however large the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use formats::ids::ChunkId;
use formats::listing::entry::Entry;

use crate::restore::tree::Directory;
use crate::restore::write::FileJob;

/// The most places that chunks are written to.
const DESTINATIONS_MAX: usize = 16_384;
/// The most links, symbolic links, devices and files without chunks.
const OBJECTS_MAX: usize = 8_192;
/// The most bytes of metadata.
const METADATA_BYTES_MAX: usize = 32 << 20;

/// Where a chunk is written.
#[derive(Debug)]
pub(crate) struct Destination {
    /// The file.
    pub(crate) job: Arc<FileJob>,
    /// Where in it.
    pub(crate) offset: u64,
    /// The bytes that the file expects.
    pub(crate) bytes: u32,
}

/// An object that is made after the window's files.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Its directory.
    pub(crate) directory: Arc<Directory>,
    /// The directory's path in the listing.
    pub(crate) directory_path: Arc<[u8]>,
    /// The object.
    pub(crate) entry: Entry,
    /// The path in the listing that further names refer to, if it is not this object's own.
    pub(crate) first_path: Option<Vec<u8>>,
}

/// How much of scarce things a window may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowLimits {
    /// Directories kept open.
    directories: usize,
    /// Files that are open at the same time, because their chunks come apart.
    open_files: usize,
}

impl WindowLimits {
    /// Limits for a process that may open this many files. Two windows are under way at a time.
    pub(crate) fn for_descriptors(descriptors: u64) -> Self {
        let quarter = usize::try_from(descriptors.saturating_sub(256) / 4).unwrap_or(usize::MAX);
        let directories = quarter.clamp(32, 4_096);
        Self {
            directories,
            open_files: (directories * 2 / 3).clamp(16, 256),
        }
    }
}

/// A window being filled.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Chunks and where each goes.
    pub(crate) destinations: HashMap<ChunkId, Vec<Destination>>,
    /// Files all of whose chunks are written already.
    pub(crate) complete: Vec<Arc<FileJob>>,
    /// What comes after the files.
    pub(crate) followers: Vec<Follower>,
    destinations_total: usize,
    directories: usize,
    open_files: usize,
    metadata_bytes: usize,
}

impl Window {
    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.destinations_total == 0 && self.complete.is_empty() && self.followers.is_empty()
    }

    /// Whether it should be worked off before more comes.
    pub(crate) fn is_full(&self, limits: &WindowLimits) -> bool {
        self.destinations_total >= DESTINATIONS_MAX
            || self.complete.len() + self.followers.len() >= OBJECTS_MAX
            || self.metadata_bytes >= METADATA_BYTES_MAX
            || self.directories >= limits.directories
            || self.open_files >= limits.open_files
    }

    /// One more directory is held open by it.
    pub(crate) fn count_directory(&mut self) {
        self.directories += 1;
    }

    /// A file whose chunks may come apart is in it.
    pub(crate) fn count_open_file(&mut self) {
        self.open_files += 1;
    }

    /// Metadata of an entry is held by it.
    pub(crate) fn count_metadata(&mut self, entry: &Entry) {
        let xattrs: usize = entry
            .xattrs
            .iter()
            .map(|xattr| xattr.name.len() + xattr.value.len())
            .sum();
        self.metadata_bytes += xattrs + entry.name.len() + entry.link_target.len() + 256;
    }

    /// A chunk goes to one more place.
    pub(crate) fn add(&mut self, id: ChunkId, destination: Destination) {
        self.destinations_total += 1;
        self.destinations.entry(id).or_default().push(destination);
    }
}
