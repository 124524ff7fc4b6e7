//! The directory at the top of a Btrfs filesystem that holds the snapshots of one run, and nothing else. Its name says whose
//! run it is, a lock that dies with the run says that it goes on, and a guard removes it whatever becomes of the agent. What a
//! guard could not remove, because the host went down, the next run does; never what another repository's run has made, what
//! is in use, or what is not as a run makes it.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use formats::ids::{RepositoryId, RunId};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::fs_snapshot::btrfs::subvolume;
use crate::fs_snapshot::guard::{Guard, GuardError};
use crate::fs_snapshot::program::ProgramError;

/// How the directories' names begin; then come the repository, `-` and the run, each as 32 hexadecimal digits.
const PREFIX: &str = ".capstan-snapshot-";
/// Bytes of such a name.
const NAME_BYTES: usize = PREFIX.len() + 65;
/// Removes every snapshot in the directory, and the directory.
const SCRIPT: &str = "for s in \"$1\"/[0-9]*; do [ -e \"$s\" ] || continue; btrfs subvolume delete -- \"$s\" >/dev/null || failed=1; done; \
     rmdir -- \"$1\" || failed=1; exit $failed";

/// What went wrong with such a directory.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// It cannot be made.
    #[error("make the directory for snapshots {} at the top of the Btrfs filesystem", name.display())]
    Make {
        /// Its name.
        name: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its guard does not start.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// What is there cannot be looked at.
    #[error("look for snapshots of earlier runs")]
    Look(#[source] io::Error),
    /// A leftover is not as a run leaves it.
    #[error("{} is named like a snapshot of this host's earlier runs and is none: look at it, and remove it", name.display())]
    Strange {
        /// Its name.
        name: PathBuf,
    },
    /// The host's program does not do it.
    #[error("remove a snapshot of an earlier run")]
    Tool(#[from] ProgramError),
    /// The guard could not remove everything.
    #[error("remove the snapshots in {}", name.display())]
    Remains {
        /// The directory.
        name: PathBuf,
        /// What the guard said.
        source: GuardError,
    },
}

/// One run's directory on one filesystem. Dropping it closes its guard's input, upon which that removes everything.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    guard: Guard,
    /// Shared with the guard: it holds until both are gone.
    _lock: File,
    taken: u32,
}

impl Container {
    /// Makes it at the top of a filesystem, locks it and starts its guard.
    pub fn make(top: &Path, repository: RepositoryId, run: RunId) -> Result<Self, ContainerError> {
        let mut name = String::from(PREFIX);
        // Writing to a String cannot fail.
        write!(name, "{repository}-{run}").ok();
        let path = top.join(&name);
        let failed = |source: io::Error| ContainerError::Make {
            name: name.clone().into(),
            source,
        };
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed)?;
        let lock = lock(&path).map_err(|error| failed(error.into()))?;
        let shared = lock.try_clone().map_err(failed)?;
        let guard = Guard::start(SCRIPT, &[&path], Some(shared))?;
        Ok(Self {
            path,
            guard,
            _lock: lock,
            taken: 0,
        })
    }

    /// Takes a snapshot of a subvolume; gives where it is.
    pub fn take(&mut self, of: &Path) -> Result<PathBuf, ProgramError> {
        let snapshot = self.path.join(self.taken.to_string());
        subvolume::take(of, &snapshot)?;
        self.taken += 1;
        Ok(snapshot)
    }

    /// Has everything removed, and waits for it.
    pub fn remove(self) -> Result<(), ContainerError> {
        let name = name_of(&self.path);
        let removed = self.guard.remove();
        removed.map_err(|source| ContainerError::Remains { name, source })
    }
}

/// Removes what earlier runs of this repository have left at the top of a filesystem; gives what it could not remove.
pub fn remove_leftovers(top: &Path, repository: RepositoryId) -> Vec<ContainerError> {
    let own = format!("{PREFIX}{repository}-");
    let names = match all(top) {
        Ok(names) => names,
        Err(error) => return vec![ContainerError::Look(error)],
    };
    let own = names.into_iter().filter(|path| {
        name_of(path)
            .as_os_str()
            .as_bytes()
            .starts_with(own.as_bytes())
    });
    own.filter_map(|path| remove_leftover(&path).err())
        .collect()
}

/// The directories of any run at the top of a filesystem, or of a snapshot of it.
pub fn all(top: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        if is_name(entry.file_name().as_bytes()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a path in a filesystem, without a slash in front, is in such a directory.
pub fn is_inside(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').next().is_some_and(is_name)
}

fn is_name(name: &[u8]) -> bool {
    let digits = |bytes: &[u8]| {
        bytes
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let rest = name.strip_prefix(PREFIX.as_bytes());
    let parts = rest
        .filter(|_| name.len() == NAME_BYTES)
        .map(|rest| rest.split_at(32));
    parts.is_some_and(|(repository, run)| {
        digits(repository) && run.strip_prefix(b"-").is_some_and(digits)
    })
}

fn name_of(path: &Path) -> PathBuf {
    path.file_name().unwrap_or_default().into()
}

fn lock(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty())?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(directory.into())
}

fn remove_leftover(path: &Path) -> Result<(), ContainerError> {
    let strange = || ContainerError::Strange {
        name: name_of(path),
    };
    let lock = match lock(path) {
        Ok(lock) => lock,
        // Its run goes on, or its guard is at it.
        Err(Errno::WOULDBLOCK) => return Ok(()),
        Err(_) => return Err(strange()),
    };
    let found = lock.metadata().map_err(ContainerError::Look)?;
    if found.uid() != 0 || found.mode() & 0o077 != 0 {
        return Err(strange());
    }
    for entry in fs::read_dir(path).map_err(ContainerError::Look)? {
        let entry = entry.map_err(ContainerError::Look)?;
        let numbered = entry.file_name().as_bytes().iter().all(u8::is_ascii_digit);
        if !numbered || !subvolume::is_subvolume(&entry.path()) {
            return Err(strange());
        }
        subvolume::remove(&entry.path())?;
    }
    fs::remove_dir(path).map_err(ContainerError::Look)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use formats::ids::{RepositoryId, RunId};

    use super::{ContainerError, PREFIX, all, is_inside, is_name, lock, remove_leftovers};

    #[test]
    fn only_whole_names_are_ours() {
        let name = format!("{PREFIX}{}-{}", RepositoryId([0xab; 16]), RunId([1; 16]));
        assert!(is_name(name.as_bytes()));
        assert!(
            is_inside(format!("{name}/0").as_bytes()) && !is_inside(format!("a/{name}").as_bytes())
        );
        for other in [
            format!("{name}0"),
            name.to_uppercase(),
            name.replace(".capstan", "capstan"),
            name.replace('a', "g"),
            format!("{PREFIX}mine"),
            name[..name.len() - 1].to_owned(),
        ] {
            assert!(!is_name(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn leftovers_go_unless_they_are_in_use_or_strange_or_of_others() {
        let top = tempfile::tempdir().expect("a directory");
        let repository = RepositoryId([0xab; 16]);
        let make = |repository: RepositoryId, run: u8, mode: u32| {
            let path = top
                .path()
                .join(format!("{PREFIX}{repository}-{}", RunId([run; 16])));
            std::fs::create_dir(&path).expect("makes it");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("sets it");
            path
        };
        let empty = make(repository, 1, 0o700);
        let in_use = make(repository, 2, 0o700);
        let other = make(RepositoryId([0xac; 16]), 3, 0o700);
        let open_to_all = make(repository, 4, 0o755);
        let with_file = make(repository, 5, 0o700);
        std::fs::write(with_file.join("0"), "x").expect("writes");
        let held = lock(&in_use).expect("locks");
        let left = remove_leftovers(top.path(), repository);
        // As root alone a leftover is recognised; the others see five directories that are not theirs.
        if rustix::process::geteuid().is_root() {
            assert!(!empty.exists());
            assert_eq!(left.len(), 2, "{left:?}");
        }
        assert!(
            left.iter()
                .all(|error| matches!(error, ContainerError::Strange { .. }))
        );
        for kept in [&in_use, &other, &open_to_all, &with_file] {
            assert!(kept.exists(), "{}", kept.display());
        }
        assert_eq!(
            all(top.path()).expect("lists").len(),
            4 + usize::from(empty.exists())
        );
        drop(held);
    }
}
