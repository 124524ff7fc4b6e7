//! Why a chunk could not be read, and what kind of failure that is: damage, storage or keys.

use formats::codec::DecodeError;
use formats::ids::{ChunkId, PackId};
use formats::keys::repository::MissingKeyError;
use formats::seal::frame::FrameError;
use formats::seal::run_header::RunHeaderError;

use crate::exit_code::ExitCode;
use crate::snapshot::place::{LocateError, PackSourceError};

/// Why a chunk could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The index was not readable.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The index knows no place.
    #[error("chunk {id} is in no known pack")]
    Unknown {
        /// The chunk.
        id: ChunkId,
    },
    /// The place does not fit what is wanted of it.
    #[error("chunk {id} of pack {pack} does not fit its frame at {frame_offset}")]
    Misplaced {
        /// The pack.
        pack: PackId,
        /// The frame.
        frame_offset: u64,
        /// The chunk.
        id: ChunkId,
    },
    /// The pack's bytes could not be had.
    #[error(transparent)]
    Pack(#[from] PackSourceError),
    /// The source gave another number of bytes than asked for.
    #[error("pack {pack} gave {found} bytes at {offset} where {expected} were asked for")]
    ShortRead {
        /// The pack.
        pack: PackId,
        /// Where.
        offset: u64,
        /// Bytes asked for.
        expected: u64,
        /// Bytes had.
        found: u64,
    },
    /// The pack's trailer is damaged.
    #[error("the trailer of pack {pack} cannot be read")]
    Trailer {
        /// The pack.
        pack: PackId,
        /// Why.
        source: DecodeError,
    },
    /// The pack does not have the run header that a frame needs.
    #[error("pack {pack} has no run header {run_header}")]
    NoRunHeader {
        /// The pack.
        pack: PackId,
        /// Which one.
        run_header: u16,
    },
    /// The run header is of another repository or purpose.
    #[error("run header {run_header} of pack {pack} is of another repository or purpose")]
    ForeignRun {
        /// The pack.
        pack: PackId,
        /// Which one.
        run_header: u16,
    },
    /// The run's key could not be had.
    #[error("run header {run_header} of pack {pack} does not open")]
    RunHeader {
        /// The pack.
        pack: PackId,
        /// Which one.
        run_header: u16,
        /// Why.
        source: RunHeaderError,
    },
    /// The frame does not open.
    #[error("the frame at {frame_offset} of pack {pack} cannot be opened")]
    Frame {
        /// The pack.
        pack: PackId,
        /// Where the frame begins.
        frame_offset: u64,
        /// Why.
        source: FrameError,
    },
    /// The frame opens, and holds other bytes than the chunk's name says.
    #[error(
        "chunk {id} in the frame at {frame_offset} of pack {pack} has other bytes than its id says"
    )]
    WrongBytes {
        /// The pack.
        pack: PackId,
        /// Where the frame begins.
        frame_offset: u64,
        /// The chunk.
        id: ChunkId,
    },
    /// The role in hand does not hold the key.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// A reader task ended early.
    #[error("reading stopped: the program is shutting down, or a task failed")]
    Stopped,
}

/// What kind of failure it is: the exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// Stored data is missing or is not what was stored: exit code 15.
    Integrity,
    /// The destination or the index could not be read: exit code 1, perhaps not next time.
    Storage,
    /// The keys in hand do not open it: exit code 12.
    Key,
}

impl FailureClass {
    /// The program's exit code for it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Integrity => ExitCode::Integrity,
            Self::Storage => ExitCode::Error,
            Self::Key => ExitCode::WrongKey,
        }
    }
}

impl ChunkError {
    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Locate(_)
            | Self::Pack(PackSourceError::Storage { .. })
            | Self::ShortRead { .. }
            | Self::Stopped => FailureClass::Storage,
            Self::MissingKey(_) => FailureClass::Key,
            _ => FailureClass::Integrity,
        }
    }
}
