//! Streams in the listing: a directory in the root that no disk has.

use std::sync::Arc;

use formats::listing::entry::{EntryKind, join};
use formats::wire::control::problem::ProblemKind;
use formats::wire::streams::STREAMS_DIRECTORY;

use crate::streams;
use crate::walk::directory::Directory;
use crate::walk::names::{NamePage, NameQueue};
use crate::walk::sources::SourceTree;
use crate::walk::walker::{Plan, Sink, Walker};

impl<'a, S: Sink> Walker<'a, S> {
    /// Whether the directory being listed is to have the streams' one, too.
    pub(super) fn streams_are_due(&self) -> bool {
        self.levels.is_empty() && !self.options.streams.is_empty()
    }

    /// Looks at every name of a page, and at the streams' directory where its place in the order is.
    pub(super) fn consider_page(
        &mut self,
        directory: &Arc<Directory>,
        plan: Plan<'a>,
        page: &NamePage,
        waiting: &mut NameQueue,
        streams_are_due: &mut bool,
    ) {
        for named in page.iter() {
            if *streams_are_due && named.name >= STREAMS_DIRECTORY {
                self.add_streams_directory(directory, waiting);
                *streams_are_due = false;
            }
            if self.levels.is_empty() && self.options.streams.have(named.name) {
                self.push_name(named.name);
                let text = "has the name of the directory of streams: it is left out";
                self.problem_here(ProblemKind::Other, None, text);
                self.pop_name();
            } else {
                self.consider(directory, plan, named, waiting);
            }
        }
    }

    /// Lists the streams' directory, and remembers to enter it.
    pub(super) fn add_streams_directory(&mut self, root: &Arc<Directory>, waiting: &mut NameQueue) {
        let entry = streams::entry(STREAMS_DIRECTORY, EntryKind::Directory);
        waiting.push(STREAMS_DIRECTORY);
        self.add(b"", root, entry);
    }

    /// Whether a directory about to be entered is that of the streams.
    pub(super) fn is_streams_directory(&self, name: &[u8]) -> bool {
        self.levels.len() == 1 && self.options.streams.have(name)
    }

    /// Lists all streams.
    pub(super) fn list_streams(&mut self) {
        let root = self.levels.first().and_then(|root| root.directory.clone());
        // The root stays open for as long as the walk goes on.
        if let Some(root) = root {
            let streams = self.options.streams;
            self.list_streams_in(&root, STREAMS_DIRECTORY, streams.tree());
        }
    }

    fn list_streams_in(&mut self, root: &Arc<Directory>, path: &[u8], tree: &SourceTree) {
        for (name, below) in &tree.children {
            let kind = match below.is_source {
                true => EntryKind::File,
                false => EntryKind::Directory,
            };
            self.add(path, root, streams::entry(name, kind));
        }
        for (name, below) in &tree.children {
            if !below.is_source {
                self.list_streams_in(root, &join(path, name), below);
            }
        }
    }
}
