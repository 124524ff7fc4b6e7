//! Paths as the files write them: on a host, and on this machine. Never touches the filesystem.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use append_server::credential_file;

/// The longest path, in bytes: PATH_MAX without its NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// Why a text is not a usable path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing was written.
    #[error("path is empty: write an absolute path, such as \"/srv\"")]
    Empty,
    /// Does not start at the root.
    #[error("path {text:?} is not absolute: start it with \"/\"")]
    NotAbsolute {
        /// The refused path.
        text: String,
    },
    /// Holds "..".
    #[error("path {text:?} holds \"..\": write the path it leads to")]
    HoldsParent {
        /// The refused path.
        text: String,
    },
    /// Holds a NUL.
    #[error("path {text:?} holds a NUL character: take it out")]
    HoldsNul {
        /// The refused path.
        text: String,
    },
    /// Longer than [`PATH_BYTES_MAX`].
    #[error(
        "path has {bytes} bytes: a path has at most {PATH_BYTES_MAX}; name a directory above it"
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Holds a pattern, where a source is a plain path.
    #[error(
        "path {text:?} holds {character:?}: a source is a plain path; name the directory and shape it with `exclude`"
    )]
    LooksLikeGlob {
        /// The refused path.
        text: String,
        /// The pattern character.
        character: char,
    },
}

/// An absolute path on a host, without "..", "." and doubled slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePath(String);

impl SourcePath {
    /// The path's bytes, exactly as written in UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourcePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        check(text)?;
        if !text.starts_with('/') {
            return Err(PathError::NotAbsolute {
                text: text.to_owned(),
            });
        }
        // A file called "*" can be excluded or included by its directory; a forgotten glob would
        // silently back nothing up.
        if let Some(character) = text.chars().find(|character| "*?".contains(*character)) {
            return Err(PathError::LooksLikeGlob {
                text: text.to_owned(),
                character,
            });
        }
        let parts: Vec<&str> = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        Ok(Self(format!("/{}", parts.join("/"))))
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The path on this machine that `text` names in a file that lies in `directory`.
pub fn resolve_local(directory: &Path, text: &str) -> Result<PathBuf, PathError> {
    check(text)?;
    Ok(directory
        .join(text)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect())
}

/// The file with a secret that `text` names in a file that lies in `directory`: like any other, or a credential of systemd.
pub fn resolve_secret(directory: &Path, text: &str) -> Result<PathBuf, PathError> {
    check(text)?;
    let path = credential_file::locate(directory, text);
    Ok(path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect())
}

fn check(text: &str) -> Result<(), PathError> {
    if text.is_empty() {
        return Err(PathError::Empty);
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong { bytes: text.len() });
    }
    if text.contains('\0') {
        return Err(PathError::HoldsNul {
            text: text.to_owned(),
        });
    }
    if text.split('/').any(|part| part == "..") {
        return Err(PathError::HoldsParent {
            text: text.to_owned(),
        });
    }
    Ok(())
}
