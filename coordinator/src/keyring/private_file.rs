//! Files that only their owner may read: refused on reading while others can, created with mode 0600 and
//! never over an existing one. Never prints what is in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use append_server::credential_file;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The most bytes of a private file.
pub const PRIVATE_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a private file was refused or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It is not there.
    #[error("{what} {} is missing: {remedy}", path.display())]
    Missing {
        /// What it should be.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// It is a credential, and systemd did not start this process.
    #[error(
        "{what} {} is a credential, which only systemd gives: start this with systemd and LoadCredential, or name a file",
        path.display()
    )]
    NoCredentials {
        /// What it should be.
        what: &'static str,
        /// Which one.
        path: PathBuf,
    },
    /// Others can read or write it.
    #[error(
        "{what} {} has mode {mode:04o}, so others can read it: run `chmod 600 {}`, and think of who could have \
         read it",
        path.display(), path.display()
    )]
    OpenToOthers {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no regular file, or too large for what it should be.
    #[error("{what} {} is not one: it has {bytes} bytes, or is no regular file; name the right file", path.display())]
    NotOne {
        /// What it should be.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It could not be read.
    #[error("could not read {what} {}: run as the user that owns it", path.display())]
    Read {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something already.
    #[error("{} exists and is not overwritten: move it away, or name another file", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("could not write {what} {}: check the directory's owner, mode and free space", path.display())]
    Write {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a private file is, for errors.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name in a sentence.
    pub what: &'static str,
    /// What to do where it is missing.
    pub remedy: &'static str,
}

/// Reads a private file whole.
pub fn read_private(path: &Path, kind: Kind) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let what = kind.what;
    let failed = |source| PrivateFileError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    // Without O_NONBLOCK a FIFO in the file's place would block for ever.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path);
    let file = match opened {
        Err(_) if credential_file::is_unavailable(path) => {
            return Err(PrivateFileError::NoCredentials {
                what,
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(PrivateFileError::Missing {
                what,
                path: path.to_owned(),
                remedy: kind.remedy,
            });
        }
        other => other.map_err(failed)?,
    };
    // The open file is asked, not the path: nobody can put another one in its place in between.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() || metadata.len() > PRIVATE_FILE_BYTES_MAX {
        return Err(PrivateFileError::NotOne {
            what,
            path: path.to_owned(),
            bytes: metadata.len(),
        });
    }
    if mode & credential_file::exposing_bits(path) != 0 {
        return Err(PrivateFileError::OpenToOthers {
            what,
            path: path.to_owned(),
            mode,
        });
    }
    // Room for everything from the start: a buffer that grows leaves copies behind.
    let room = usize::try_from(PRIVATE_FILE_BYTES_MAX).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(PRIVATE_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Creates a private file, durable when this returns.
pub fn create_private(
    path: &Path,
    what: &'static str,
    bytes: &[u8],
) -> Result<(), PrivateFileError> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match opened.and_then(|file| write_synced(file, path, bytes)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(PrivateFileError::Exists {
                path: path.to_owned(),
            })
        }
        other => other.map_err(|source| PrivateFileError::Write {
            what,
            path: path.to_owned(),
            source,
        }),
    }
}

fn write_synced(mut file: File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_parent(path)
}

/// Makes a new name durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => return Ok(()),
    };
    File::open(parent)?.sync_all()
}
