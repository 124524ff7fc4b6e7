//! Where things are in the state directory. The only place that knows the names.

use std::path::{Path, PathBuf};

use formats::ids::RepositoryId;

use crate::config::name::HostName;

/// The state of all hosts, here and in a copy.
pub const STATE_FILE: &str = "state.db";
/// The directory that has a copy of the state, to be backed up.
const STATE_COPY: &str = "state-copy";

/// Whether a path of a host's is that of a copy of its coordinator's state.
pub fn is_state_copy(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next() == Some(STATE_COPY.as_bytes())
}

/// A state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The state directory at `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state of all hosts.
    pub fn state_file(&self) -> PathBuf {
        self.root.join(STATE_FILE)
    }

    /// The daemon's lock.
    pub fn daemon_lock(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// Where the daemon is asked.
    pub fn daemon_socket(&self) -> PathBuf {
        self.root.join("daemon.sock")
    }

    /// What scans have read.
    pub fn scan_file(&self) -> PathBuf {
        self.root.join("scan.db")
    }

    /// The copy of the state that is backed up with the coordinator's own machine.
    pub fn copy_dir(&self) -> PathBuf {
        self.root.join(STATE_COPY)
    }

    /// The directory of the audit log.
    pub fn audit_dir(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// The directory of the hosts' locks.
    pub fn hosts_dir(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// The directory of the repositories' locks: not among their caches, which may be deleted at any time.
    pub fn locks_dir(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The directory of a repository's caches.
    pub fn repository_dir(&self, repository: RepositoryId) -> PathBuf {
        self.root.join("repositories").join(repository.to_string())
    }

    /// A repository's index.
    pub fn index_file(&self, repository: RepositoryId) -> PathBuf {
        self.repository_dir(repository).join("index.db")
    }

    /// What a coordinator that opens nothing remembers of a host's files.
    pub fn remembered_file(&self, repository: RepositoryId, host: &HostName) -> PathBuf {
        let name = format!("remembered-{host}.db");
        self.repository_dir(repository).join(name)
    }

    /// A repository's catalog.
    pub fn catalog_file(&self, repository: RepositoryId) -> PathBuf {
        self.repository_dir(repository).join("catalog.db")
    }
}
