//! First names of files with several: which inode each is, so that a further name is linked to the very file
//! that this restore put there and to nothing else. Bounded: past the bound a further name becomes a copy, and
//! that is told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most first names that wait for their further ones; about 60 bytes each.
const FIRSTS_MAX: usize = 1_000_000;

/// A file that further names can be linked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct First {
    /// The filesystem it is on.
    pub(crate) device: u64,
    /// The inode.
    pub(crate) inode: u64,
    /// How many names it has on the host.
    pub(crate) links: u64,
    /// Where it was put, if not under its own path.
    pub(crate) at: Option<Box<[u8]>>,
}

/// First names met so far.
#[derive(Debug, Default)]
pub(crate) struct FirstNames {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    firsts: HashMap<[u8; 16], First>,
    overflowed: bool,
}

impl FirstNames {
    /// Remembers the file of a path.
    pub(crate) fn remember(&self, path: &[u8], first: First) {
        let mut known = self.lock();
        if known.firsts.len() >= FIRSTS_MAX {
            known.overflowed = true;
            return;
        }
        known.firsts.insert(key(path), first);
    }

    /// The file of a path.
    pub(crate) fn get(&self, path: &[u8]) -> Option<First> {
        self.lock().firsts.get(&key(path)).cloned()
    }

    /// Notes that one more name was linked; after the last one the file is forgotten.
    pub(crate) fn linked(&self, path: &[u8]) {
        let mut known = self.lock();
        let key = key(path);
        if let Some(first) = known.firsts.get_mut(&key) {
            first.links = first.links.saturating_sub(1);
            if first.links <= 1 {
                known.firsts.remove(&key);
            }
        }
    }

    /// Forgets the file of a path: nothing more can be linked to it.
    pub(crate) fn forget(&self, path: &[u8]) {
        self.lock().firsts.remove(&key(path));
    }

    /// Whether a file was not remembered for lack of room.
    pub(crate) fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // The map is whole at every step; a panic elsewhere does not make it wrong.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Half a hash is enough to tell paths apart, and takes less room than they do.
fn key(path: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(path);
    let mut key = [0u8; 16];
    key.copy_from_slice(&hash.as_bytes()[..16]);
    key
}
