//! The audit log of this coordinator: every event that is told, in files of the state directory that only grow. Several
//! programs of one coordinator append to it, one at a time. Never removes a record that was acknowledged.
//!
//! The format, and what its rules are for: `formats/docs/audit.md`.

pub mod alone;
pub mod end;
pub mod log;
pub mod reader;
pub mod record;
pub mod recorder;
pub mod verify;

use std::io;
use std::path::{Path, PathBuf};

use formats::audit::{AUDIT_HEAD_BYTES, AuditHead, AuditRecordError};

/// A file that has grown to this is followed by another.
pub const AUDIT_FILE_BYTES_MAX: u64 = 8 << 20;
/// No file is larger: the last batch of records, on top of a file that was not yet full.
const AUDIT_FILE_BYTES_READ_MAX: u64 = 1 << 30;
/// The file of the head, and the lock of those who append.
const HEAD_FILE: &str = "head";
const LOCK_FILE: &str = "lock";

/// Why the audit log could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogError {
    /// A file of it.
    #[error("could not use {}: check free space, owner and mode", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else appends for too long.
    #[error("{} is locked by another program of this coordinator: see what keeps it", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A file is larger than any that was written.
    #[error("{} has {bytes} bytes, more than a file of the audit log ever has", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// A record.
    #[error("the audit log is damaged at byte {offset} of {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        source: AuditRecordError,
    },
}

impl AuditLogError {
    /// Whether what was written is not what is there.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Record { .. } | Self::TooLarge { .. })
    }

    fn access(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Access { path, source }
    }
}

/// One file of the log: where it is, and the place of its first record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditFile {
    /// By its name.
    pub first: u64,
    /// Where.
    pub path: PathBuf,
}

impl AuditFile {
    /// The file that begins with a record of this place.
    pub fn beginning_at(dir: &Path, first: u64) -> Self {
        let path = dir.join(format!("{first:020}.log"));
        Self { first, path }
    }

    /// All of its bytes from `offset` on.
    pub fn read_from(&self, offset: u64) -> Result<Vec<u8>, AuditLogError> {
        use std::io::{Read as _, Seek as _};

        let failed = || AuditLogError::access(&self.path);
        let mut file = std::fs::File::open(&self.path).map_err(failed())?;
        let bytes = file.metadata().map_err(failed())?.len();
        if bytes > AUDIT_FILE_BYTES_READ_MAX {
            let path = self.path.clone();
            return Err(AuditLogError::TooLarge { path, bytes });
        }
        file.seek(io::SeekFrom::Start(offset)).map_err(failed())?;
        let mut content = Vec::new();
        file.take(AUDIT_FILE_BYTES_READ_MAX)
            .read_to_end(&mut content)
            .map_err(failed())?;
        Ok(content)
    }
}

/// The files of a log, the oldest first; none where there is no log.
pub fn audit_files(dir: &Path) -> Result<Vec<AuditFile>, AuditLogError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(AuditLogError::access(dir)(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(AuditLogError::access(dir))?.file_name();
        let first = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|digits| digits.parse().ok());
        let file = first.map(|first| AuditFile::beginning_at(dir, first));
        // One spelling each: another file is none of the log's.
        files.extend(file.filter(|file| file.path.file_name() == Some(&name)));
    }
    files.sort();
    Ok(files)
}

/// What the head says; nothing where there is none, or none that can be read.
pub fn read_head(dir: &Path) -> Option<AuditHead> {
    let bytes = std::fs::read(dir.join(HEAD_FILE)).ok()?;
    // More than a head's bytes are none.
    let bytes = bytes.get(..=AUDIT_HEAD_BYTES).unwrap_or(&bytes);
    AuditHead::decode(bytes).ok()
}

#[cfg(test)]
mod tests;
