//! The agent's own file: its digest, and its removal with its directory as soon as the run no longer needs
//! them. Removes nothing but its own file, the tunnel's socket and a directory of the coordinator's naming.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How the coordinator names the directories it makes for agents.
const DIRECTORY_PREFIX: &[u8] = b".capstan-";
/// The tunnel's socket in such a directory.
const SOCKET_NAME: &str = "s";

/// BLAKE3 of the agent's own file.
pub fn digest() -> io::Result<[u8; 32]> {
    let mut file = File::open("/proc/self/exe")?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Where the agent was put, when the coordinator put it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDirectory {
    file: PathBuf,
    directory: PathBuf,
    identity: (u64, u64),
}

impl OwnDirectory {
    /// The directory of the running program, if it is one of the coordinator's making.
    pub fn find() -> Option<Self> {
        Self::of(&std::fs::read_link("/proc/self/exe").ok()?)
    }

    fn of(file: &Path) -> Option<Self> {
        let directory = file.parent()?;
        let name = directory.file_name()?.as_bytes();
        if !name.starts_with(DIRECTORY_PREFIX) {
            return None;
        }
        let metadata = std::fs::symlink_metadata(directory).ok()?;
        Some(Self {
            file: file.to_owned(),
            directory: directory.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// Filesystem and inode of the directory: never backed up.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Removes file, socket and directory; what is gone already is fine.
    pub fn remove(&self) -> io::Result<()> {
        gone(std::fs::remove_file(&self.file))?;
        gone(std::fs::remove_file(self.directory.join(SOCKET_NAME)))?;
        gone(std::fs::remove_dir(&self.directory))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnDirectory, digest};

    #[test]
    fn only_a_directory_of_the_coordinators_naming_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let other = dir.path().join("other");
        let own = dir.path().join(".capstan-1234");
        for path in [&other, &own] {
            std::fs::create_dir(path).expect("makes it");
            std::fs::write(path.join("agent"), b"").expect("writes");
            std::fs::write(path.join("s"), b"").expect("writes");
        }
        assert_eq!(OwnDirectory::of(&other.join("agent")), None);
        let found = OwnDirectory::of(&own.join("agent")).expect("its name is right");
        found.remove().expect("it is removed");
        found.remove().expect("a second time changes nothing");
        assert!(!own.exists() && other.exists());
        assert!(digest().is_ok());
    }
}
