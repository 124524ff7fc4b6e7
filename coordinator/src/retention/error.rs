//! Why prunes fail, in whichever of their steps.

use std::sync::Arc;

use formats::codec::DecodeError;
use formats::ids::PackId;
use formats::keys::repository::MissingKeyError;
use formats::keys::secret::RandomError;
use formats::seal::run_header::RunHeaderError;

use crate::backup::error::RunError;
use crate::catalog::CatalogError;
use crate::coordinator::OpenError;
use crate::coordinator::log::LogError;
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::index::IndexError;
use crate::retention::brakes::StorageOrCatalog;
use crate::retention::holds::HoldsError;
use crate::retention::lock::RepositoryLockError;
use crate::snapshot::chunk_error::ChunkError;
use crate::storage::error::StorageError;

/// Why a prune could not be carried out. What stops it on purpose is in its report.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// Somebody is at it.
    #[error(transparent)]
    Lock(#[from] RepositoryLockError),
    /// The repository.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The append-server.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index, shared.
    #[error(transparent)]
    Shared(#[from] RunError),
    /// A key that the role lacks.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A fresh run header.
    #[error(transparent)]
    RunHeader(#[from] RunHeaderError),
    /// A pack could not be checked.
    #[error("a pack that was written anew cannot be checked")]
    Check(#[from] Arc<ChunkError>),
    /// No copy of a pack is what was stored.
    #[error(
        "no copy of pack {pack} has the bytes its name says: `coordinator scan --full --repair` first"
    )]
    OtherBytes {
        /// The pack.
        pack: PackId,
    },
    /// A pack's end.
    #[error("pack {pack} cannot be read")]
    Table {
        /// The pack.
        pack: PackId,
        /// Why.
        source: DecodeError,
    },
    /// A frame without its key.
    #[error("pack {pack} lacks the run header of one of its frames")]
    NoRunHeader {
        /// The pack.
        pack: PackId,
    },
    /// What was written is not good.
    #[error("pack {pack}, which was written anew, is not what was written: {problem}")]
    NotVerified {
        /// The pack.
        pack: PackId,
        /// What is wrong.
        problem: String,
    },
    /// A condemned pack is in the index again.
    #[error(
        "pack {pack} is condemned and in the index all the same: nothing is removed; delete index.db, which is built anew"
    )]
    StillAnswered {
        /// The pack.
        pack: PackId,
    },
}

impl From<StorageOrCatalog> for PruneError {
    fn from(error: StorageOrCatalog) -> Self {
        match error {
            StorageOrCatalog::Storage(error) => Self::Storage(error),
            StorageOrCatalog::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl From<HoldsError> for PruneError {
    fn from(error: HoldsError) -> Self {
        match error {
            HoldsError::State(error) => Self::State(error),
            HoldsError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl PruneError {
    /// Whether a disk is full, or has no more than what is kept for the log.
    pub(super) fn is_no_space(&self) -> bool {
        matches!(self, Self::Storage(StorageError::NoSpace { .. }))
    }

    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lock(error) if error.is_held() => ExitCode::Locked,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            Self::OtherBytes { .. } | Self::Table { .. } | Self::NotVerified { .. } => {
                ExitCode::Integrity
            }
            _ => ExitCode::Error,
        }
    }
}
