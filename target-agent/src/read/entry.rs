//! Everything of an entry that is not a file's content: attributes and link targets, and what is noted.

use std::os::fd::AsFd as _;

use formats::limits::LINK_TARGET_BYTES_MAX;
use formats::listing::entry::{EntryFlags, EntryKind, Stat, Xattr};
use formats::wire::control::content::ReadOutcome;
use formats::wire::control::problem::ProblemKind;
use rustix::fs::readlinkat;
use rustix::io::Errno;

use crate::clock;
use crate::read::file::is_recent;
use crate::read::xattrs::{self, XattrTrouble, XattrsOf};
use crate::stat;
use crate::walk::directory::Directory;

/// What was found of an entry.
#[derive(Debug)]
pub struct Found {
    /// What became of it.
    pub outcome: ReadOutcome,
    /// What to note in it.
    pub flags: EntryFlags,
    /// Its metadata, with the size that was read.
    pub stat: Stat,
    /// Its attributes.
    pub xattrs: Vec<Xattr>,
    /// A link's target.
    pub link_target: Vec<u8>,
    /// What a person should know: kind, errno, what was attempted.
    pub problems: Vec<(ProblemKind, u32, String)>,
}

impl Found {
    /// An entry that was read.
    pub fn read(stat: Stat) -> Self {
        Self {
            outcome: ReadOutcome::Read,
            flags: EntryFlags::default(),
            stat,
            xattrs: Vec::new(),
            link_target: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Adds a problem.
    pub fn note(&mut self, kind: ProblemKind, error: Option<Errno>, text: &str) {
        self.problems
            .push((kind, error.map_or(0, stat::errno), text.to_owned()));
    }
}

/// Reads an entry that is not a regular file, without opening it.
pub fn read_other(directory: &Directory, name: &[u8], walked: &Stat) -> Found {
    let began = clock::now();
    let mut found = Found::read(*walked);
    if walked.kind == EntryKind::Symlink {
        match readlinkat(directory, name, Vec::with_capacity(256)) {
            Ok(target) if target.as_bytes().len() as u64 <= LINK_TARGET_BYTES_MAX => {
                found.link_target = target.into_bytes();
            }
            Ok(_) => {
                found.flags = found.flags.with(EntryFlags::UNREADABLE);
                found.note(ProblemKind::BeyondLimit, None, "read link: target too long");
            }
            // Something else has the name now.
            Err(Errno::INVAL) => return Found::failed(*walked, Errno::NOENT, "read link"),
            Err(error) => return Found::failed(*walked, error, "read link"),
        }
    }
    read_xattrs(XattrsOf::Named(directory.as_fd(), name), &mut found);
    if is_recent(walked, began) {
        found.flags = found.flags.with(EntryFlags::UNSETTLED);
    }
    found
}

/// Adds attributes to what was found. Attributes that cannot be read take nothing away from the rest.
pub fn read_xattrs(of: XattrsOf<'_>, found: &mut Found) {
    let (xattrs, trouble) = xattrs::read(of);
    found.xattrs = xattrs;
    let Some(trouble) = trouble else {
        return;
    };
    match trouble {
        XattrTrouble::Errno(Errno::NOENT) if matches!(of, XattrsOf::Named(..)) => {
            let text = "read attributes (is /proc mounted?)";
            found.note(ProblemKind::Vanished, Some(Errno::NOENT), text);
        }
        XattrTrouble::Errno(error) => {
            found.note(ProblemKind::Unreadable, Some(error), "read attributes");
        }
        XattrTrouble::BeyondLimit => {
            let text = "keep attributes: more than an entry can have";
            found.note(ProblemKind::BeyondLimit, None, text);
        }
    }
    found.flags = found.flags.with(EntryFlags::UNREADABLE);
}
