//! Turns the kernel's `stat` into the wire's. Never trusts a number beyond what the formats allow.

use formats::listing::entry::{EntryKind, Stat, Timestamp};
use rustix::fs::FileType;

/// The wire's stat; `None` for a type that Linux does not have.
pub fn from_kernel(stat: &rustix::fs::Stat) -> Option<Stat> {
    let kind = kind(FileType::from_raw_mode(stat.st_mode))?;
    let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    Some(Stat {
        kind,
        mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: match kind {
            EntryKind::File => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        },
        mtime: timestamp(stat.st_mtime, stat.st_mtime_nsec),
        ctime: timestamp(stat.st_ctime, stat.st_ctime_nsec),
        inode: stat.st_ino,
        #[allow(
            clippy::useless_conversion,
            reason = "the field's width depends on the architecture"
        )]
        links: u64::from(stat.st_nlink),
        device: if is_device {
            (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            )
        } else {
            (0, 0)
        },
    })
}

fn timestamp(seconds: i64, nanoseconds: u64) -> Timestamp {
    Timestamp {
        seconds,
        // A damaged filesystem can give more than a second; the wire refuses that.
        nanoseconds: u32::try_from(nanoseconds.min(999_999_999)).unwrap_or(0),
    }
}

/// The wire's kind of a file type; `None` for unknown ones.
pub fn kind(file_type: FileType) -> Option<EntryKind> {
    Some(match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        _ => return None,
    })
}

/// An error number as the wire has it.
pub fn errno(error: rustix::io::Errno) -> u32 {
    error.raw_os_error().unsigned_abs()
}
