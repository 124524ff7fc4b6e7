//! How the walk goes down and up again: the path, the levels above, and their descriptors, of which a deep
//! tree keeps only some. Never trusts that a directory is where it was: its identity is checked.

use std::sync::Arc;

use crate::limits::Permit;
use crate::walk::directory::Directory;
use crate::walk::walker::{Sink, Walker};

impl<S: Sink> Walker<'_, S> {
    /// The last level's subdirectories are done.
    pub(super) fn leave(&mut self) {
        let Some(done) = self.levels.pop() else {
            return;
        };
        self.waiting_bytes -= done.waiting.held_bytes();
        self.pop_name();
        if self.levels.last().is_some_and(|up| up.directory.is_none()) {
            let reopened = self.reopen_last(done.directory);
            if let Some(up) = self.levels.last_mut() {
                up.directory = reopened.map(Arc::new);
            }
        }
    }

    /// The last level's directory again: through `..` of the one below it, or else from the root down; only
    /// if it is still the same one.
    fn reopen_last(&mut self, below: Option<Arc<Directory>>) -> Option<Directory> {
        let identity = self.levels.last()?.identity;
        let permit = self.permit();
        let up = below.and_then(|below| below.open(b"..", permit).ok());
        if let Some(up) = up.filter(|up| up.identity == identity) {
            return Some(up);
        }
        let mut at = self.levels.first()?.directory.clone()?;
        let names = self.path.clone();
        for name in names.split(|byte| *byte == b'/') {
            let permit = self.permit();
            at = Arc::new(at.open(name, permit).ok()?);
        }
        Arc::into_inner(at).filter(|found| found.identity == identity)
    }

    /// Gives up the descriptors of levels far above, so that a deep tree does not use them all.
    pub(super) fn close_far_levels(&mut self) {
        let keep = (self.options.open_directories / 4).max(2);
        // The root stays open: everything can be reached from it.
        let far = self.levels.len().saturating_sub(keep + 1);
        if far > 0
            && let Some(level) = self.levels.get_mut(far)
        {
            level.directory = None;
        }
    }

    /// The right to open one more directory. Entries under way may hold all of them: they go out first.
    pub(super) fn permit(&mut self) -> Permit {
        match self.handles.try_acquire() {
            Some(permit) => permit,
            None => {
                self.flush();
                self.handles.acquire()
            }
        }
    }

    /// Adds a name to the path.
    pub(super) fn push_name(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    /// Back to the path of the last level.
    pub(super) fn pop_name(&mut self) {
        let path_bytes = self.levels.last().map_or(0, |level| level.path_bytes);
        self.path.truncate(path_bytes);
    }
}
