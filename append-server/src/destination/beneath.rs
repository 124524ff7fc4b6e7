//! Opens files beneath one directory and nowhere else: no symbolic link is followed and nothing leads out,
//! whatever someone planted inside. Uses `openat2` where the kernel has it, else walks by descriptors.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory that opens only what is beneath it.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    walks: AtomicBool,
}

/// How names are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolveBy {
    /// By `openat2`, and by walking once the kernel says that it has none.
    Kernel,
    /// By walking, one descriptor at a time.
    Walk,
}

impl Beneath {
    /// Opens the directory. Links on the way to it are the administrator's own and are followed.
    pub fn open(root: &Path, resolve: ResolveBy) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::open(root, flags, Mode::empty())?,
            walks: AtomicBool::new(resolve == ResolveBy::Walk),
        })
    }

    /// The directory itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory; the empty path is the root.
    pub fn open_folder(&self, path: &str) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens an existing file to read it. Never waits for a FIFO's writer.
    pub fn open_file(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)
    }

    fn open_at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if !self.walks.load(Ordering::Relaxed) {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let opened = rustix::io::retry_on_intr(|| {
                rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
            });
            match opened {
                // No such call in this kernel, or a sandbox that answers for it.
                Err(Errno::NOSYS | Errno::PERM) => self.walks.store(true, Ordering::Relaxed),
                // A rename beneath the root during the call; the walk does not mind.
                Err(Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
        self.walk(path, flags)
    }

    fn walk(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let (folders, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut at = rustix::fs::openat(&self.root, ".", step, Mode::empty())?;
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            if folder == ".." {
                return Err(Errno::XDEV.into());
            }
            at = rustix::fs::openat(&at, folder, step, Mode::empty())?;
        }
        if leaf == ".." {
            return Err(Errno::XDEV.into());
        }
        Ok(rustix::fs::openat(&at, leaf, flags, Mode::empty())?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Beneath, ResolveBy};
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_is_followed_and_nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("out/secret"), b"x").unwrap();
        std::fs::write(root.join("a/b/good"), b"x").unwrap();
        symlink("../../out", root.join("a/link")).unwrap();
        symlink("b", root.join("a/inside")).unwrap();
        symlink("good", root.join("a/b/leaf")).unwrap();
        for resolve in [ResolveBy::Kernel, ResolveBy::Walk] {
            let beneath = Beneath::open(&root, resolve).unwrap();
            beneath.open_file("a/b/good").unwrap();
            beneath.open_folder("a/b").unwrap();
            beneath.open_folder("").unwrap();
            for bad in [
                "a/link/secret",
                "a/inside/good",
                "a/b/leaf",
                "../out/secret",
                "a/../../out/secret",
            ] {
                assert!(beneath.open_file(bad).is_err(), "{resolve:?} {bad}");
            }
            assert!(beneath.open_folder("a/link").is_err());
        }
    }
}
