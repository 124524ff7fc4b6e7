//! A directory of one process, held by a lock that the kernel drops when the process dies: whoever comes next
//! removes what a crash left. Never touches a directory whose owner lives.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use formats::ids::to_hex;
use rustix::fs::{FlockOperation, Mode, OFlags};

/// The directory, removed when this is dropped.
#[derive(Debug)]
pub struct ClaimedDir {
    path: PathBuf,
    lock: OwnedFd,
}

/// A directory could not be claimed.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {}", path.display())]
pub struct ClaimError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl ClaimError {
    /// What the system said.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl ClaimedDir {
    /// A fresh `<parent>/<prefix><random>` (0700), after removing those whose owners are gone. `parent` is
    /// made when only its last component is missing.
    pub fn claim(parent: &Path, prefix: &str) -> Result<Self, ClaimError> {
        make_private_dir(parent).map_err(at("make directory", parent))?;
        let parent_lock = open_dir(parent).map_err(at("open", parent))?;
        // Under this lock nobody can be between making a directory and locking it.
        rustix::fs::flock(&parent_lock, FlockOperation::LockExclusive)
            .map_err(|errno| at("lock", parent)(errno.into()))?;
        remove_orphans(parent, prefix).map_err(at("clear what a crash left in", parent))?;

        let random: [u8; 8] = formats::keys::secret::random()
            .map_err(|error| at("choose a name in", parent)(io::Error::other(error)))?;
        let path = parent.join(format!("{prefix}{}", to_hex(&random)));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(at("make directory", &path))?;
        let lock = open_dir(&path).map_err(at("open", &path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| at("lock", &path)(errno.into()))?;
        Ok(Self { path, lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for ClaimedDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Drop for ClaimedDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            // The next start removes it.
            tracing::debug!(path = %self.path.display(), %error, "left behind");
        }
    }
}

/// Makes a directory 0700 unless something is there already.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn remove_orphans(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if !ours || !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        let lock = match open_dir(&path) {
            Ok(lock) => lock,
            // Its owner ended in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue; // Its owner lives.
        }
        tracing::info!(path = %path.display(), "removing what an earlier process left");
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClaimError {
    move |source| ClaimError {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::ClaimedDir;

    #[test]
    fn a_living_owner_keeps_its_directory_and_an_orphan_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let orphan = parent.path().join("spool-0123");
        std::fs::create_dir(&orphan).unwrap();
        std::fs::write(orphan.join("half"), b"x").unwrap();
        let other = parent.path().join("unrelated");
        std::fs::create_dir(&other).unwrap();

        let first = ClaimedDir::claim(parent.path(), "spool-").unwrap();
        assert!(!orphan.exists() && other.exists());
        let second = ClaimedDir::claim(parent.path(), "spool-").unwrap();
        assert!(first.path().exists() && second.path().exists());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }
}
