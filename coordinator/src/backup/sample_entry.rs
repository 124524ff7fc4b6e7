//! A file's entry as tests of a run need one: only what they are about is said.

use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp};

/// A regular file of inode 1, as large as its content.
pub(crate) fn file(name: &str, extents: Vec<Extent>) -> Entry {
    let time = Timestamp {
        seconds: 1_790_000_000,
        nanoseconds: 0,
    };
    Entry {
        name: name.as_bytes().to_vec(),
        stat: Stat {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: extents.iter().map(Extent::bytes).sum(),
            mtime: time,
            ctime: time,
            inode: 1,
            links: 1,
            device: (0, 0),
        },
        flags: EntryFlags::default(),
        xattrs: Vec::new(),
        link_target: Vec::new(),
        hard_link_to: None,
        content: Content::Extents(extents),
    }
}
