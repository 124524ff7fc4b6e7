//! One regular file: opened without following anything, read, and looked at again. A file that changed while
//! it was read is read once more, then kept as it came, with a problem noted.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use formats::chunk::Chunker;
use formats::listing::entry::{EntryFlags, EntryKind, Stat, Timestamp};
use formats::wire::control::content::ReadOutcome;
use formats::wire::control::problem::ProblemKind;
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use crate::clock;
use crate::limits::UNSETTLED_SECONDS;
use crate::read::content::{ContentError, Ending, Pieces, Window, read_content};
use crate::read::entry::{Found, read_xattrs};
use crate::read::xattrs::XattrsOf;
use crate::stat;
use crate::walk::directory::{Directory, open_quietly};

/// What reading a file needs besides the file.
#[derive(Debug)]
pub struct FileReader {
    /// Where to cut.
    pub chunker: Arc<Chunker>,
    /// Kept from file to file.
    pub window: Window,
}

/// Takes a file's pieces, and can take them back.
pub trait FilePieces: Pieces {
    /// Forgets the pieces of this file so far; false when they are sent already.
    fn restart(&mut self) -> Result<bool, Ending>;
}

/// How often and how long to wait for a lease holder (a file server) to give a file up.
const LEASE_TRIES: u32 = 20;
const LEASE_WAIT: Duration = Duration::from_millis(50);

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

impl FileReader {
    /// Reads a file that the walk found as `walked`.
    pub fn read(
        &mut self,
        directory: &Directory,
        name: &[u8],
        walked: &Stat,
        pieces: &mut impl FilePieces,
    ) -> Result<Found, Ending> {
        let file = match open(directory, name) {
            Ok(file) => file,
            Err(error) => return Ok(Found::failed(*walked, error, "open file")),
        };
        match self.read_open(&file, walked, pieces) {
            Ok(Some(mut found)) => {
                read_xattrs(XattrsOf::Open(file.as_fd()), &mut found);
                Ok(found)
            }
            // The name stands for something else now.
            Ok(None) => Ok(Found::failed(*walked, Errno::NOENT, "find the same file")),
            Err(ContentError::Errno(error)) => {
                Ok(Found::failed(*walked, unreadable(error), "read file"))
            }
            Err(ContentError::Ending) => Err(Ending),
        }
    }

    fn read_open(
        &mut self,
        file: &OwnedFd,
        walked: &Stat,
        pieces: &mut impl FilePieces,
    ) -> Result<Option<Found>, ContentError> {
        for is_last in [false, true] {
            let began = clock::now();
            let opened = fstat(file)?;
            let Some(before) = stat::from_kernel(&opened).filter(|now| is_same_name(walked, now))
            else {
                return Ok(None);
            };
            let has_holes = u64::try_from(opened.st_blocks).unwrap_or(0) * 512 < before.size;
            let read = read_content(
                file,
                before.size,
                has_holes,
                &self.chunker,
                &mut self.window,
                pieces,
            )?;
            let after = fstat(file)?;
            let is_settled = stat::from_kernel(&after)
                .is_some_and(|after| is_unchanged(&before, &after) && read == before.size);
            if is_settled || is_last || !pieces.restart()? {
                let mut found = Found::read(Stat {
                    size: read,
                    ..before
                });
                if is_recent(&before, began) {
                    found.flags = found.flags.with(EntryFlags::UNSETTLED);
                }
                if !is_settled {
                    found.flags = found.flags.with(EntryFlags::CHANGED_WHILE_READ);
                    found.note(ProblemKind::Changed, None, "read an unchanging file");
                }
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn open(directory: &Directory, name: &[u8]) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        match open_quietly(directory.as_fd(), name, FLAGS) {
            Err(Errno::AGAIN) if tries < LEASE_TRIES => {
                tries += 1;
                std::thread::sleep(LEASE_WAIT);
            }
            // A link, a socket or a device without driver is there now.
            Err(Errno::LOOP | Errno::NXIO) => return Err(Errno::NOENT),
            other => return other,
        }
    }
}

/// Whether the file opened is what the walk saw under the name. A regular file put in place of another one is
/// what an editor's save does: it is this name's content now, and is kept with its own metadata; but not where
/// other names may be taken for links to the one that went.
fn is_same_name(walked: &Stat, now: &Stat) -> bool {
    now.kind == EntryKind::File
        && (now.inode == walked.inode || (walked.links <= 1 && now.links <= 1))
}

fn is_unchanged(before: &Stat, after: &Stat) -> bool {
    (before.size, before.mtime, before.ctime) == (after.size, after.mtime, after.ctime)
}

/// Whether a change could still happen without a new time.
pub fn is_recent(stat: &Stat, now: Timestamp) -> bool {
    let settled_before = Timestamp {
        seconds: now.seconds.saturating_sub(UNSETTLED_SECONDS),
        ..now
    };
    stat.mtime > settled_before || stat.ctime > settled_before
}

/// A read that says "gone" is an error of the medium, not of the name.
fn unreadable(error: Errno) -> Errno {
    match error {
        Errno::NOENT => Errno::IO,
        other => other,
    }
}

impl Found {
    /// What became of an entry that could not be opened or read.
    pub fn failed(walked: Stat, error: Errno, text: &str) -> Self {
        let mut found = Self::read(walked);
        match error {
            Errno::NOENT | Errno::NOTDIR => {
                found.outcome = ReadOutcome::Vanished;
                found.note(ProblemKind::Vanished, Some(error), text);
            }
            error => {
                found.outcome = ReadOutcome::Unreadable {
                    errno: stat::errno(error),
                };
                found.flags = found.flags.with(EntryFlags::UNREADABLE);
                found.note(ProblemKind::Unreadable, Some(error), text);
            }
        }
        found
    }
}
