//! Why a rescue ended early. A pack, page or file that cannot be had is no error: it is counted and named.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use append_server::destination::DestinationError;
use formats::ids::RepositoryId;
use formats::keys::derive::Epoch;
use formats::keys::repository::MissingKeyError;

use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::index::IndexError;
use crate::restore::error::RestoreError;
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::listing::ListingError;

/// Why a rescue ended early.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// No pack at all.
    #[error("there is no pack at {place}: is this the right place, with its prefix?")]
    NothingThere {
        /// Where.
        place: String,
    },
    /// Not the repository that was asked for.
    #[error("there is no repository {wanted} at {place}, but {}", shown(found))]
    NoSuchRepository {
        /// Where.
        place: String,
        /// The one asked for.
        wanted: RepositoryId,
        /// What is there.
        found: Vec<RepositoryId>,
    },
    /// Several, and none was chosen.
    #[error(
        "there are several repositories at {place}, choose one with --repository: {}",
        shown(found)
    )]
    Several {
        /// Where.
        place: String,
        /// What is there.
        found: Vec<RepositoryId>,
    },
    /// Packs of other keys.
    #[error(
        "{packs} packs of repository {repository} are at {place}, and none opens with this kit: use the kit of the coordinator that made them"
    )]
    OtherKit {
        /// Where.
        place: String,
        /// The repository.
        repository: RepositoryId,
        /// How many.
        packs: u64,
    },
    /// Packs of another generation of keys.
    #[error("the packs of repository {repository} are of epoch {found}: say --epoch {found}")]
    OtherEpoch {
        /// The repository.
        repository: RepositoryId,
        /// The generation that was found.
        found: Epoch,
    },
    /// Packs of which none is whole enough.
    #[error(
        "{packs} packs of repository {repository} are at {place}, and every one of them is damaged"
    )]
    AllDamaged {
        /// Where.
        place: String,
        /// The repository.
        repository: RepositoryId,
        /// How many.
        packs: u64,
    },
    /// Packs, but no page of a listing.
    #[error(
        "{packs} packs of repository {repository} at {place} open, and no page of a listing is in them: without the packs in `meta/` no file has a name"
    )]
    NoListing {
        /// Where.
        place: String,
        /// The repository.
        repository: RepositoryId,
        /// How many.
        packs: u64,
    },
    /// The place does not answer any more.
    #[error("{place} gives no pack any more; nothing was restored, try again")]
    Silent {
        /// Where.
        place: String,
        /// What it said last.
        source: ChunkError,
    },
    /// The place cannot be listed.
    #[error("could not look for packs")]
    Destination(#[from] DestinationError),
    /// A directory of packs.
    #[error("could not {action} {}", path.display())]
    Folder {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The working directory.
    #[error("could not {action} the working directory {}: choose another with --work", path.display())]
    Workspace {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A working file.
    #[error(transparent)]
    Store(#[from] DatabaseError),
    /// A working index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] formats::keys::secret::RandomError),
    /// The keys.
    #[error(transparent)]
    Key(#[from] MissingKeyError),
    /// Pages or places could not be read at all.
    #[error("could not read on")]
    Chunks(#[from] Arc<ChunkError>),
    /// The listing that was made.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// The restore.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A task ended early.
    #[error("the rescue stopped: a task failed")]
    Stopped,
    /// What was found could not be told.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl RescueError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NothingThere { .. } | Self::NoSuchRepository { .. } => ExitCode::NotFound,
            Self::Several { .. } => ExitCode::Usage,
            Self::OtherKit { .. } | Self::OtherEpoch { .. } | Self::Key(_) => ExitCode::WrongKey,
            Self::AllDamaged { .. } | Self::NoListing { .. } => ExitCode::Integrity,
            Self::Restore(RestoreError::BadPath { .. } | RestoreError::Pattern(_)) => {
                ExitCode::Usage
            }
            _ => ExitCode::Error,
        }
    }
}

/// The most repositories that are named.
const NAMED_MAX: usize = 20;

fn shown(repositories: &[RepositoryId]) -> String {
    let mut names: Vec<String> = repositories
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    if repositories.len() > NAMED_MAX {
        names.push(format!("and {} more", repositories.len() - NAMED_MAX));
    }
    match names.is_empty() {
        true => "no other either".to_owned(),
        false => names.join(", "),
    }
}
