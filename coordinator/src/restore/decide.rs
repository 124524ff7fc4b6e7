//! Decides what happens to a name that may already be taken. Looks, never changes anything, follows nothing.

use std::io;

use formats::listing::entry::{Entry, EntryKind, Timestamp};
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::restore::options::Overwrite;
use crate::restore::staging::Existing;
use crate::restore::tree::Directory;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Make it, under a name that is free or may be replaced.
    Make(Existing),
    /// Leave what is there: this inode on this device.
    Skip {
        /// The device.
        device: u64,
        /// The inode.
        inode: u64,
    },
}

/// What to do with an entry that is no directory.
pub(crate) fn decide(
    overwrite: Option<Overwrite>,
    directory: &Directory,
    entry: &Entry,
) -> io::Result<Decision> {
    // Without a policy the target was empty: whatever turns up now is not ours to replace.
    let Some(overwrite) = overwrite else {
        return Ok(Decision::Make(Existing::Keep));
    };
    let name = entry.name.as_slice();
    let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Decision::Make(Existing::Keep)),
        found => found?,
    };
    let replace = match overwrite {
        Overwrite::Always => true,
        Overwrite::Never => false,
        Overwrite::IfNewer => entry.stat.mtime > mtime(&found),
        Overwrite::IfChanged => !is_unchanged(directory, entry, &found)?,
    };
    Ok(match replace {
        true => Decision::Make(Existing::Replace),
        false => Decision::Skip {
            device: found.st_dev,
            inode: found.st_ino,
        },
    })
}

fn is_unchanged(directory: &Directory, entry: &Entry, found: &Stat) -> io::Result<bool> {
    if kind(found) != Some(entry.stat.kind) {
        return Ok(false);
    }
    Ok(match entry.stat.kind {
        EntryKind::File => {
            u64::try_from(found.st_size) == Ok(entry.stat.size) && mtime(found) == entry.stat.mtime
        }
        EntryKind::Symlink => {
            let target = rustix::fs::readlinkat(directory, entry.name.as_slice(), Vec::new())?;
            target.to_bytes() == entry.link_target.as_slice()
        }
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            let (major, minor) = entry.stat.device;
            found.st_rdev == rustix::fs::makedev(major, minor)
        }
        EntryKind::Fifo | EntryKind::Socket | EntryKind::Directory => true,
    })
}

/// The kind of what was found, if a listing knows it.
pub(crate) fn kind(found: &Stat) -> Option<EntryKind> {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Some(EntryKind::File),
        FileType::Directory => Some(EntryKind::Directory),
        FileType::Symlink => Some(EntryKind::Symlink),
        FileType::Fifo => Some(EntryKind::Fifo),
        FileType::Socket => Some(EntryKind::Socket),
        FileType::CharacterDevice => Some(EntryKind::CharDevice),
        FileType::BlockDevice => Some(EntryKind::BlockDevice),
        FileType::Unknown => None,
    }
}

/// The modification time of what was found.
pub(crate) fn mtime(found: &Stat) -> Timestamp {
    Timestamp {
        seconds: found.st_mtime,
        nanoseconds: u32::try_from(found.st_mtime_nsec).unwrap_or(0),
    }
}
