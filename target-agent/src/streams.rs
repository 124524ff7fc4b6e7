//! The streams of the orders, and where they lie in the listing. Runs none: that is `read::command`.

use std::collections::BTreeMap;

use formats::listing::entry::{EntryKind, Stat};
use formats::listing::order::is_within;
use formats::wire::control::entries::EntryStat;
use formats::wire::streams::{STREAMS_DIRECTORY, Stream};
use rustix::process::{getegid, geteuid};

use crate::clock;
use crate::walk::sources::SourceTree;

/// What streams and their directories allow, as nobody but their owner should read a dump.
const FILE_MODE: u16 = 0o600;
const DIRECTORY_MODE: u16 = 0o700;

/// The streams of a run.
#[derive(Debug, Default)]
pub struct Streams {
    by_path: BTreeMap<Vec<u8>, Stream>,
    tree: SourceTree,
}

impl Streams {
    /// These streams.
    pub fn new(streams: Vec<Stream>) -> Self {
        Self {
            tree: SourceTree::new(streams.iter().map(|stream| stream.name.as_slice())),
            by_path: streams
                .into_iter()
                .map(|stream| (stream.path(), stream))
                .collect(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Whether a path is a stream's or leads to one: nothing on the disk is meant by it.
    pub fn have(&self, path: &[u8]) -> bool {
        !self.is_empty() && is_within(path, STREAMS_DIRECTORY)
    }

    /// The stream at a path.
    pub fn at(&self, path: &[u8]) -> Option<&Stream> {
        self.by_path.get(path)
    }

    /// Their names as a tree.
    pub fn tree(&self) -> &SourceTree {
        &self.tree
    }
}

/// A stream's entry, or that of a directory of streams, before anything is known of it.
pub fn entry(name: &[u8], kind: EntryKind) -> EntryStat {
    let now = clock::now();
    EntryStat {
        name: name.to_vec(),
        stat: Stat {
            kind,
            mode: match kind {
                EntryKind::Directory => DIRECTORY_MODE,
                _ => FILE_MODE,
            },
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            size: 0,
            mtime: now,
            ctime: now,
            inode: 0,
            links: 1,
            device: (0, 0),
        },
        filesystem: 0,
    }
}
