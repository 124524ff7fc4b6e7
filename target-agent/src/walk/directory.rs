//! Open directories: descriptors with the identity they were opened with, bounded in number.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::limits::Permit;

/// An open directory. Entries that wait for their details share it.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// Filesystem and inode.
    pub identity: (u64, u64),
    _permit: Permit,
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

impl Directory {
    /// Opens the root of the tree.
    pub fn open_root(path: &[u8], permit: Permit) -> Result<Self, Errno> {
        Self::open_at(CWD, path, permit)
    }

    /// Opens a directory by its name in this one; what is no directory any more is an error.
    pub fn open(&self, name: &[u8], permit: Permit) -> Result<Self, Errno> {
        Self::open_at(self.as_fd(), name, permit)
    }

    fn open_at(at: BorrowedFd<'_>, name: &[u8], permit: Permit) -> Result<Self, Errno> {
        let fd = open_quietly(at, name, FLAGS)?;
        let stat = fstat(&fd)?;
        Ok(Self {
            fd,
            identity: (stat.st_dev, stat.st_ino),
            _permit: permit,
        })
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens without touching the access time where that is allowed: to the owner and to root.
pub fn open_quietly(at: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat(at, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(at, name, flags, Mode::empty()),
        other => other,
    }
}
