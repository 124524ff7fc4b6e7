//! Counts what the parent snapshot has, the host no longer lists, and the exclude rules leave out: a rule was added that leaves
//! out more than what nobody backs up anyway. Told by the one run that brings it; the next one's parent has it no more.

use formats::listing::entry::{Entry, EntryFlags, EntryKind, join};
use formats::listing::order::is_within;
use formats::wire::streams::STREAMS_DIRECTORY;

use crate::safety::path_rules::PathRules;

/// Paths that are remembered of all.
const FIRST_MAX: usize = 20;

/// The count so far.
#[derive(Debug)]
pub struct NewlyExcluded {
    excludes: PathRules,
    /// Entries that a rule matches; what is in an excluded directory is not counted beside it.
    pub count: u64,
    /// The first of them.
    pub first: Vec<Vec<u8>>,
}

impl NewlyExcluded {
    /// Nothing yet, by these rules.
    pub fn new(excludes: PathRules) -> Self {
        Self {
            excludes,
            count: 0,
            first: Vec::new(),
        }
    }

    /// The parent has an entry at a place where the host has nothing.
    pub fn gone(&mut self, directory: &[u8], entry: &Entry) {
        let path = join(directory, &entry.name);
        // What was carried over has been gone for longer, and streams are no files of the host.
        if entry.flags.contains(EntryFlags::CARRIED)
            || is_within(&path, STREAMS_DIRECTORY)
            || !self
                .excludes
                .takes(&path, entry.stat.kind == EntryKind::Directory)
        {
            return;
        }
        self.count += 1;
        if self.first.len() < FIRST_MAX {
            self.first.push(path);
        }
    }
}
