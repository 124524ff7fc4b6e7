//! Why the index could not answer.

use std::path::PathBuf;

use formats::ids::{PackId, RepositoryId};

use crate::database::DatabaseError;

/// Why the index could not answer or change.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file is damaged; the text names the remedy.
    #[error(transparent)]
    Damaged(DatabaseError),
    /// The file could not be used.
    #[error(transparent)]
    Database(DatabaseError),
    /// The file is another repository's.
    #[error(
        "the index {} is of repository {found}, not of {expected}: delete it, and it is rebuilt by the next run",
        path.display()
    )]
    OtherRepository {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        found: RepositoryId,
        /// Whose it should be.
        expected: RepositoryId,
    },
    /// The pack was found bad before.
    #[error("pack {pack} is in quarantine ({reason}): it is not taken in again")]
    Quarantined {
        /// The pack.
        pack: PackId,
        /// Why it was put there.
        reason: String,
    },
    /// The pack is there already, and is another one.
    #[error("pack {pack} is in the index with other facts: delete the index, and it is rebuilt")]
    OtherFacts {
        /// The pack.
        pack: PackId,
    },
    /// A finished rebuild could not take the old file's place.
    #[error("could not put the rebuilt index in place of {}: check owner and mode", path.display())]
    Replace {
        /// The index's file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<DatabaseError> for IndexError {
    fn from(error: DatabaseError) -> Self {
        if error.is_damaged() {
            Self::Damaged(error)
        } else {
            Self::Database(error)
        }
    }
}
