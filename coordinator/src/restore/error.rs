//! Why a restore ended early. What is wrong with one object is no error but a problem of the summary.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::restore::patterns::PatternError;
use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::listing::ListingError;
use crate::snapshot::shown::shown_path;

/// Why a restore ended early.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target holds something, and nothing was said about it.
    #[error(
        "{} is not empty: choose an empty or new directory, or say with --overwrite which files are replaced",
        path.display()
    )]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// Another restore works there.
    #[error("another restore into {} is under way: wait for it, or choose another directory", path.display())]
    Busy {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be used.
    #[error("cannot restore into {}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The target took no more while files were written.
    #[error("restoring into {} stopped: nothing more can be written there", path.display())]
    TargetFull {
        /// The target.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path that the snapshot does not have.
    #[error(
        "the snapshot has no {}: list what it has with the ls command",
        shown_path(path)
    )]
    NoSuchPath {
        /// The path, without its first slash.
        path: Vec<u8>,
    },
    /// A path that cannot name anything.
    #[error(
        "{} is not a path on the host: write it from \"/\", without \".\" or \"..\"",
        shown_path(path)
    )]
    BadPath {
        /// The path as given.
        path: Vec<u8>,
    },
    /// A directory of a selected path is no directory in the listing.
    #[error("{} is listed below something that is no directory", shown_path(path))]
    BrokenPath {
        /// The path.
        path: Vec<u8>,
    },
    /// A pattern does not compile.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The listing could not be read.
    #[error("the snapshot's listing cannot be read")]
    Listing(#[from] ListingError),
    /// Chunks could not be read at all.
    #[error("the snapshot's content cannot be read")]
    Chunks(#[from] Arc<ChunkError>),
    /// Cancelled.
    #[error("the restore was interrupted; run it again with --overwrite if-changed to go on")]
    Cancelled,
    /// A task ended early.
    #[error("the restore stopped: a task failed")]
    Stopped,
}

impl RestoreError {
    /// What kind of failure of the repository it is, if it is one.
    pub fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Listing(source) => Some(source.class()),
            Self::Chunks(source) => Some(source.class()),
            Self::BrokenPath { .. } => Some(FailureClass::Integrity),
            _ => None,
        }
    }
}
