//! Who may do what with a repository at the same time. Runs and restores share it; a prune has it for itself while it decides
//! and condemns, so that nothing is built upon what it finds dead; and one act of retention follows another. The kernel's
//! locks: they end with their holders, however those die, and depend on no clock. The files lie apart from the caches, which
//! may be deleted at any time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::time::Instant;

/// How long a run or a restore waits for a prune.
const PRUNE_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why a repository could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryLockError {
    /// Runs or restores.
    #[error("repository {name} is in use by a run or a restore: prune it when that has ended")]
    InUse {
        /// The host's or the group's name.
        name: String,
    },
    /// A prune.
    #[error("repository {name} is being pruned, for longer than is waited for: try again later")]
    Pruned {
        /// The host's or the group's name.
        name: String,
    },
    /// Another act of retention.
    #[error(
        "another prune, forget, undelete or pin of repository {name} is under way: wait for it"
    )]
    Acting {
        /// The host's or the group's name.
        name: String,
    },
    /// The name would leave the locks' directory.
    #[error("repository name {name:?} cannot name a lock file")]
    BadName {
        /// The name.
        name: String,
    },
    /// The file could not be used.
    #[error("could not lock {}: the state directory must be writable and on a local filesystem", path.display())]
    Access {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RepositoryLockError {
    /// Whether somebody has it, and it will pass.
    pub fn is_held(&self) -> bool {
        matches!(
            self,
            Self::InUse { .. } | Self::Pruned { .. } | Self::Acting { .. }
        )
    }
}

/// A repository that is locked for as long as this lives.
#[derive(Debug)]
pub struct RepositoryLock {
    // Held for its lock alone.
    _file: File,
}

impl RepositoryLock {
    /// To use a repository: waits for a prune that is at it.
    pub async fn share(locks_dir: &Path, name: &str) -> Result<Self, RepositoryLockError> {
        let deadline = Instant::now() + PRUNE_WAIT_MAX;
        let file = open(locks_dir, name, "use")?;
        let mut told = false;
        loop {
            if try_lock(&file, locks_dir, FlockOperation::NonBlockingLockShared)? {
                return Ok(Self { _file: file });
            }
            if Instant::now() >= deadline {
                return Err(RepositoryLockError::Pruned {
                    name: name.to_owned(),
                });
            }
            if !told {
                tracing::info!(repository = name, "waiting for a prune to end");
                told = true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// To have it for oneself; never waits.
    pub fn alone(locks_dir: &Path, name: &str) -> Result<Self, RepositoryLockError> {
        let file = open(locks_dir, name, "use")?;
        match try_lock(&file, locks_dir, FlockOperation::NonBlockingLockExclusive)? {
            true => Ok(Self { _file: file }),
            false => Err(RepositoryLockError::InUse {
                name: name.to_owned(),
            }),
        }
    }

    /// To do one act of retention after another; never waits.
    pub fn act(locks_dir: &Path, name: &str) -> Result<Self, RepositoryLockError> {
        let file = open(locks_dir, name, "retention")?;
        match try_lock(&file, locks_dir, FlockOperation::NonBlockingLockExclusive)? {
            true => Ok(Self { _file: file }),
            false => Err(RepositoryLockError::Acting {
                name: name.to_owned(),
            }),
        }
    }
}

fn open(locks_dir: &Path, name: &str, what: &str) -> Result<File, RepositoryLockError> {
    // Names are checked when the configuration is read; a lock beside the directory would lock nothing.
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(RepositoryLockError::BadName {
            name: name.to_owned(),
        });
    }
    let path = locks_dir.join(format!("{name}.{what}"));
    let opened = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(locks_dir)
        .and_then(|()| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
        });
    opened.map_err(|source| RepositoryLockError::Access { path, source })
}

fn try_lock(
    file: &File,
    locks_dir: &Path,
    operation: FlockOperation,
) -> Result<bool, RepositoryLockError> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(RepositoryLockError::Access {
            path: locks_dir.to_owned(),
            source: errno.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::{RepositoryLock, RepositoryLockError};

    #[tokio::test]
    async fn runs_share_and_a_prune_has_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let one = RepositoryLock::share(dir.path(), "web").await.unwrap();
        let two = RepositoryLock::share(dir.path(), "web").await.unwrap();
        drop(one);
        assert!(matches!(
            RepositoryLock::alone(dir.path(), "web"),
            Err(RepositoryLockError::InUse { .. })
        ));
        drop(two);
        let alone = RepositoryLock::alone(dir.path(), "web").unwrap();
        assert!(RepositoryLock::alone(dir.path(), "web").is_err());
        // Another repository is another matter, and so are acts.
        drop(RepositoryLock::alone(dir.path(), "db").unwrap());
        let act = RepositoryLock::act(dir.path(), "web").unwrap();
        assert!(
            RepositoryLock::act(dir.path(), "web")
                .unwrap_err()
                .is_held()
        );
        drop((alone, act));
        drop(RepositoryLock::share(dir.path(), "web").await.unwrap());
        for bad in ["", ".x", "a/b"] {
            assert!(RepositoryLock::alone(dir.path(), bad).is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_waits_for_a_prune_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let alone = RepositoryLock::alone(dir.path(), "web").unwrap();
        let shared = RepositoryLock::share(dir.path(), "web").await;
        assert!(matches!(shared, Err(RepositoryLockError::Pruned { .. })));
        let waiting = tokio::spawn({
            let dir = dir.path().to_owned();
            async move { RepositoryLock::share(&dir, "web").await.is_ok() }
        });
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        drop(alone);
        assert!(waiting.await.unwrap());
    }
}
