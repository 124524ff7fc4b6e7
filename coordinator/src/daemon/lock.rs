//! The lock that keeps a state directory to one daemon. The kernel's, so it ends with the process, however that dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Why the daemon could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonLockError {
    /// There is one.
    #[error("another daemon runs on {}: end it first", path.display())]
    Runs {
        /// The lock file.
        path: PathBuf,
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

/// Held for as long as this lives.
#[derive(Debug)]
pub struct DaemonLock {
    // Held for its lock alone.
    _file: File,
}

impl DaemonLock {
    /// Takes it, or says that another daemon has it.
    pub fn take(path: &Path) -> Result<Self, DaemonLockError> {
        let failed = |source| DaemonLockError::Access {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(DaemonLockError::Runs {
                path: path.to_owned(),
            }),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}
