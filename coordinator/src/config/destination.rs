//! One configured place that objects are stored at. Never opens it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::config::name::DestinationName;

/// Why a text is not the URL of a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Has no scheme.
    #[error("url {text:?} has no scheme: write \"file:///srv/backup\"")]
    NoScheme {
        /// The refused URL.
        text: String,
    },
    /// A kind of destination that a later build will have.
    #[error("{scheme}:// is not supported by this build yet: use \"file:///srv/backup\"")]
    NotYet {
        /// The scheme that was asked for.
        scheme: &'static str,
    },
    /// A kind of destination that nobody planned.
    #[error("{scheme:?} is not a kind of destination: use \"file:///srv/backup\"")]
    UnknownScheme {
        /// The scheme that was asked for.
        scheme: String,
    },
    /// A `file` URL without an absolute path.
    #[error(
        "url {text:?} does not name an absolute path: write three slashes, as in \"file:///srv/backup\""
    )]
    NotAbsolute {
        /// The refused URL.
        text: String,
    },
    /// A path with "..", NUL, or nothing but the root.
    #[error("url {text:?} is not a plain directory: write the path it leads to, below \"/\"")]
    BadPath {
        /// The refused URL.
        text: String,
    },
}

/// Where a destination stores its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationUrl {
    /// A directory of this machine.
    File(PathBuf),
}

impl DestinationUrl {
    /// The URL of a directory.
    pub fn of_directory(directory: &Path) -> Self {
        Self::File(directory.to_owned())
    }
}

impl FromStr for DestinationUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let owned = || text.to_owned();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UrlError::NoScheme { text: owned() });
        };
        match scheme {
            "file" => {}
            "s3" => return Err(UrlError::NotYet { scheme: "s3" }),
            "sftp" => return Err(UrlError::NotYet { scheme: "sftp" }),
            other => {
                return Err(UrlError::UnknownScheme {
                    scheme: other.to_owned(),
                });
            }
        }
        if !rest.starts_with('/') {
            return Err(UrlError::NotAbsolute { text: owned() });
        }
        let climbs = rest.split('/').any(|part| part == "..");
        // Everything after the slashes is the path as it is: no percent decoding, so that every
        // directory has one spelling.
        let path: PathBuf = Path::new(rest).components().collect();
        if climbs || rest.contains('\0') || path.parent().is_none() {
            return Err(UrlError::BadPath { text: owned() });
        }
        Ok(Self::File(path))
    }
}

impl fmt::Display for DestinationUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "file://{}", path.display()),
        }
    }
}

/// One `[[destination]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// What reports and commands call it.
    pub name: DestinationName,
    /// Where it is.
    pub url: DestinationUrl,
    /// Whether a pack is acknowledged only once it is durable here.
    pub required: bool,
}
