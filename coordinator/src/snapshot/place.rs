//! Where a chunk lies, and the two things a reader needs from the rest of the coordinator: somebody who knows
//! the place of a chunk, and somebody who reads bytes of a pack. Never decides which destination is read first.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use formats::ids::{ChunkId, PackId};
use formats::seal::frame::FrameShape;
use formats::seal::run_header::Purpose;
use futures_util::future::BoxFuture;

/// A chunk's place. Comes from the local index, which is a cache: what is found there is checked, not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The pack.
    pub pack: PackId,
    /// All of the pack's bytes.
    pub pack_bytes: u64,
    /// Whether it is a data or a meta pack.
    pub purpose: Purpose,
    /// Where the frame begins in the pack.
    pub frame_offset: u64,
    /// What the frame is sealed as.
    pub shape: FrameShape,
    /// Which of the pack's run headers has the frame's key.
    pub run_header: u16,
    /// Where the chunk begins in the frame's plaintext.
    pub offset_in_frame: u32,
    /// The chunk's plain bytes.
    pub bytes: u32,
}

/// The index could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the local index cannot be read")]
pub struct LocateError {
    /// What the index says.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Knows where chunks lie.
pub trait ChunkLocator: Send + Sync {
    /// The place of each id, in the same order; `None` where there is none. Blocks; asked with at most a few
    /// thousand ids at once.
    fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, LocateError>;
}

/// Bytes of a pack could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PackSourceError {
    /// No destination has it.
    #[error("pack {pack} is missing from the destination")]
    Missing {
        /// The pack.
        pack: PackId,
    },
    /// The destination did not answer; it may do so later.
    #[error("pack {pack} cannot be read from the destination")]
    Storage {
        /// The pack.
        pack: PackId,
        /// What the destination says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Reads packs of one repository.
pub trait PackSource: Send + Sync {
    /// Exactly `bytes` bytes from `offset` on; fewer are an error of the source.
    fn read_range(
        &self,
        pack: PackId,
        purpose: Purpose,
        offset: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Bytes, PackSourceError>>;

    /// How many bytes the pack has.
    fn pack_bytes(
        &self,
        pack: PackId,
        purpose: Purpose,
    ) -> BoxFuture<'_, Result<u64, PackSourceError>>;

    /// Single copies of the same packs, to be read one after another when what came first is damaged.
    fn copies(&self) -> &[Arc<dyn PackSource>] {
        &[]
    }
}
