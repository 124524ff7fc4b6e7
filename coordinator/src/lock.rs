//! The lock that keeps a host to one run at a time, even when a second coordinator is started on the same
//! state. The kernel's (`flock`), so it ends with its holder, however that dies. The file stays: removing
//! it would let two runs hold two files of one name.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use formats::ids::RunId;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::clock;

/// The most that is read of a lock file.
const NOTE_BYTES_MAX: u64 = 1 << 10;

/// Why a host could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error("host {host} is being backed up already{holder}: wait for that run, or stop it")]
    Locked {
        /// The host.
        host: String,
        /// Who holds it, as far as the file says.
        holder: Holder,
    },
    /// The name would leave the locks' directory.
    #[error("host name {host:?} cannot name a lock file")]
    BadName {
        /// The name.
        host: String,
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

/// Who holds a lock. Information only: the lock itself is the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holder {
    /// The process.
    pub pid: Option<u32>,
    /// The run.
    pub run: Option<RunId>,
    /// When it was locked.
    pub since: Option<Timestamp>,
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.run.map(|run| format!(" by run {}", run.short()));
        let pid = self.pid.map(|pid| format!(" (process {pid})"));
        let since = self.since.map(|at| format!(" since {}", clock::utc(at)));
        [run, pid, since]
            .into_iter()
            .flatten()
            .try_for_each(|part| out.write_str(&part))
    }
}

/// A host that is locked for as long as this lives.
#[derive(Debug)]
pub struct HostLock {
    // Held for its lock alone.
    _file: File,
}

impl HostLock {
    /// Locks a host for a run, or says who holds it; never waits.
    pub fn take(
        hosts_dir: &Path,
        host: &str,
        run: RunId,
        now: Timestamp,
    ) -> Result<Self, LockError> {
        // Names are checked when the configuration is read; a lock beside the directory would lock nothing.
        if host.is_empty() || host.starts_with('.') || host.contains(['/', '\0']) {
            return Err(LockError::BadName {
                host: host.to_owned(),
            });
        }
        let path = hosts_dir.join(format!("{host}.lock"));
        let failed = |source| LockError::Access {
            path: path.clone(),
            source,
        };
        let mut file = open(hosts_dir, &path).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::Locked {
                    host: host.to_owned(),
                    holder: read_note(&mut file),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        write_note(&mut file, run, now).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Who held a host's lock last, as far as its file says; whether it is held still, that does not say.
pub fn holder(hosts_dir: &Path, host: &str) -> Holder {
    let file = File::open(hosts_dir.join(format!("{host}.lock")));
    file.map_or_else(|_| Holder::default(), |mut file| read_note(&mut file))
}

fn open(hosts_dir: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(hosts_dir)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn write_note(file: &mut File, run: RunId, now: Timestamp) -> io::Result<()> {
    let pid = std::process::id();
    let note = format!("pid {pid}\nrun {run}\nsince {}\n", clock::utc(now));
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(note.as_bytes())
}

/// The holder may be writing it just now; what cannot be read is left out.
fn read_note(file: &mut File) -> Holder {
    let mut text = String::new();
    if file.take(NOTE_BYTES_MAX).read_to_string(&mut text).is_err() {
        return Holder::default();
    }
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    Holder {
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        run: value("run").and_then(|run| run.parse().ok()),
        since: value("since").and_then(|since| since.parse().ok()),
    }
}

#[cfg(test)]
mod tests;
