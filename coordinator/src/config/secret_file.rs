//! Files that hold secrets: refused while anybody but their owner may read them. Never prints contents.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use append_server::credential_file;
use zeroize::Zeroizing;

use crate::config::source_text::Place;

/// The largest secret file: the largest private keys stay far below.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Bytes that are wiped when dropped and that `Debug` does not print.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret without the line end that editors add.
    pub fn expose_line(&self) -> &[u8] {
        let bytes = self.expose();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes.strip_suffix(b"\r").unwrap_or(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SecretBytes(…)")
    }
}

/// The path of a file with a secret, and the key of the configuration that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    named_at: Option<Place>,
}

impl SecretFile {
    /// A file that an operator named on the command line.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            named_at: None,
        }
    }

    /// A file that a configuration key names.
    pub fn named_at(path: &Path, place: Place) -> Self {
        Self {
            path: path.to_owned(),
            named_at: Some(place),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses a file that is missing, that others may read, or that holds nothing.
    pub fn check(&self) -> Result<(), SecretFileError> {
        self.open().map(drop)
    }

    /// The file's bytes, after the same checks on the same open file.
    pub fn read(&self) -> Result<SecretBytes, SecretFileError> {
        let mut file = self.open()?;
        let bytes_max = usize::try_from(SECRET_BYTES_MAX).unwrap_or(usize::MAX);
        // Room for everything from the start: a growing buffer would leave copies behind.
        let mut bytes = Zeroizing::new(vec![0; bytes_max + 1]);
        let mut length = 0;
        while length < bytes.len() {
            match file.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.refuse(SecretFileReason::Read { source })),
            }
        }
        if length > bytes_max {
            return Err(self.refuse(SecretFileReason::TooLarge));
        }
        bytes.truncate(length);
        Ok(SecretBytes(bytes))
    }

    fn open(&self) -> Result<std::fs::File, SecretFileError> {
        // Without O_NONBLOCK a FIFO in the file's place would block for ever.
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(_) if credential_file::is_unavailable(&self.path) => {
                return Err(self.refuse(SecretFileReason::NoCredentials));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.refuse(SecretFileReason::Missing));
            }
            Err(source) => return Err(self.refuse(SecretFileReason::Read { source })),
        };
        let metadata = file
            .metadata()
            .map_err(|source| self.refuse(SecretFileReason::Read { source }))?;
        let mode = metadata.mode() & 0o7777;
        if !metadata.is_file() {
            return Err(self.refuse(SecretFileReason::NotAFile));
        }
        if mode & credential_file::exposing_bits(&self.path) != 0 {
            return Err(self.refuse(SecretFileReason::OpenToOthers { mode }));
        }
        if metadata.len() == 0 {
            return Err(self.refuse(SecretFileReason::Empty));
        }
        if metadata.len() > SECRET_BYTES_MAX {
            return Err(self.refuse(SecretFileReason::TooLarge));
        }
        Ok(file)
    }

    fn refuse(&self, reason: SecretFileReason) -> SecretFileError {
        SecretFileError {
            path: self.path.clone(),
            named_at: self.named_at.clone(),
            reason,
        }
    }
}

/// A secret file that is refused.
#[derive(Debug, thiserror::Error)]
pub struct SecretFileError {
    /// The file.
    pub path: PathBuf,
    /// The key of the configuration that names it.
    pub named_at: Option<Place>,
    /// Why it is refused; part of this error's own text.
    pub reason: SecretFileReason,
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.named_at {
            write!(out, "{place}: ")?;
        }
        let path = self.path.display();
        write!(out, "{path}: {}", self.reason)?;
        match &self.reason {
            SecretFileReason::OpenToOthers { .. } => write!(out, ": run `chmod 600 {path}`"),
            SecretFileReason::NoCredentials => {
                out.write_str(": start this with systemd and LoadCredential, or name a file")
            }
            SecretFileReason::Missing => out.write_str(": create it, or correct the path"),
            SecretFileReason::Empty => out.write_str(": write the secret into it"),
            SecretFileReason::NotAFile | SecretFileReason::TooLarge => {
                out.write_str(": name the right file")
            }
            SecretFileReason::Read { .. } => out.write_str(": run as the user that owns it"),
        }
    }
}

/// Why a secret file is refused.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileReason {
    /// There is none.
    #[error("secret file does not exist")]
    Missing,
    /// It is a credential, and systemd did not start this process.
    #[error("only systemd gives credentials, and it did not start this")]
    NoCredentials,
    /// It cannot be read.
    #[error("secret file cannot be read: {source}")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// It is a directory, socket or FIFO.
    #[error("secret file is not a regular file")]
    NotAFile,
    /// Group or others have rights on it.
    #[error("secret file is open to other users (mode {mode:04o})")]
    OpenToOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// It holds nothing.
    #[error("secret file is empty")]
    Empty,
    /// It holds more than any secret.
    #[error("secret file is larger than {} KiB", SECRET_BYTES_MAX >> 10)]
    TooLarge,
}
