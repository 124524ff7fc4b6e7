//! Gives directories their metadata, in a second pass over the listing when everything is written: making a
//! name in a directory changes its times, and a read-only one takes no names. Nothing is kept in between, so
//! memory stays bounded however many directories there are.

use std::io;
use std::sync::Arc;

use formats::listing::entry::{Entry, join};

use crate::restore::metadata::Object;
use crate::restore::patterns::Patterns;
use crate::restore::place::Batch;
use crate::restore::site::Site;
use crate::restore::summary::Tally;
use crate::restore::tree::{DirectoryTree, Walk, open_child};

/// The most directories that are put off because a user could not walk through them once they have their mode.
const PUT_OFF_MAX: usize = 100_000;

/// Sets directories' metadata.
#[derive(Debug)]
pub(crate) struct DirectoryFinisher {
    tree: DirectoryTree,
    patterns: Patterns,
    site: Arc<Site>,
    is_root: bool,
    put_off: Vec<(Arc<[u8]>, Entry)>,
}

const WALK: Walk = Walk {
    create: false,
    make_accessible: false,
};

impl DirectoryFinisher {
    /// A finisher at the target.
    pub(crate) fn new(
        root: Arc<crate::restore::tree::Directory>,
        patterns: Patterns,
        site: Arc<Site>,
    ) -> Self {
        Self {
            tree: DirectoryTree::new(root, WALK),
            patterns,
            site,
            is_root: rustix::process::geteuid().is_root(),
            put_off: Vec::new(),
        }
    }

    /// Finishes the directories of a batch, which holds nothing else.
    pub(crate) fn finish(&mut self, batch: Batch) {
        let Batch { directory, entries } = batch;
        for entry in entries {
            let verdict = self.patterns.verdict(&directory, &entry.name, true);
            if verdict.excluded {
                continue;
            }
            let walkable = self.is_root || entry.stat.mode & 0o500 == 0o500;
            if !walkable && self.put_off.len() < PUT_OFF_MAX {
                self.put_off.push((Arc::clone(&directory), entry));
                continue;
            }
            self.finish_one(&directory, &entry);
        }
    }

    /// Finishes the directories that were put off, the deepest first.
    pub(crate) fn finish_rest(&mut self) {
        while let Some((directory, entry)) = self.put_off.pop() {
            self.finish_one(&directory, &entry);
        }
    }

    fn finish_one(&mut self, directory: &[u8], entry: &Entry) {
        let path = join(directory, &entry.name);
        match self.try_finish(directory, entry) {
            Ok(problems) => {
                Tally::add(&self.site.tally.directories, 1);
                self.site.metadata_problems(&path, &problems);
            }
            // With include patterns only directories that something is in were made.
            Err(error) if self.patterns.selects() && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self
                .site
                .not_made(&path, "the directory cannot be opened", &error),
        }
    }

    fn try_finish(&mut self, directory: &[u8], entry: &Entry) -> io::Result<Vec<String>> {
        let parent = self.tree.open(directory)?;
        let child = open_child(&parent, &entry.name, WALK)?;
        Ok(self
            .site
            .setter
            .apply(&Object::Open(child.fd()), entry, true))
    }
}
