//! Sealing threads: compress and seal frames with the run's key.

use crossbeam_channel::{Receiver, Sender};
use formats::chunk::ChunkKind;
use formats::keys::secret::DataKey;
use formats::limits::FRAME_PLAIN_MAX;
use formats::pack::table::TableChunk;
use formats::seal::frame::{FrameError, FrameSealer, FrameShape};
use formats::seal::run_header::RunContext;

use crate::budget::{Budget, Plain};
use crate::cpu_limit::CpuLimit;
use crate::pack::effort::Effort;
use crate::pack::frames::Frame;
use crate::threads::ThreadError;

/// A frame to be sealed, and where it is waited for.
#[derive(Debug)]
pub struct SealJob {
    /// The frame.
    pub frame: Frame,
    /// Takes it sealed; has room for exactly this one.
    pub sealed: Sender<SealedFrame>,
}

/// A sealed frame.
#[derive(Debug)]
pub struct SealedFrame {
    /// What it is sealed as.
    pub shape: FrameShape,
    /// Its chunks.
    pub chunks: Vec<TableChunk>,
    /// Its bytes, and their room.
    pub sealed: Plain,
}

impl ThreadError for FrameError {
    fn is_echo(&self) -> bool {
        false
    }
}

/// What the sealing threads share.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// Frames to be sealed.
    pub jobs: Receiver<SealJob>,
    /// What the frames are bound to.
    pub context: RunContext,
    /// The run's key for frames.
    pub key: DataKey,
    /// How hard they are compressed.
    pub effort: Effort,
    /// Their buffers.
    pub budget: Budget,
    /// What the threads keep to.
    pub cpu: CpuLimit,
}

/// Seals frames until there are no more to come.
pub fn run(sealing: &Sealing) -> Result<(), FrameError> {
    let Sealing { effort, budget, .. } = sealing;
    let mut sealer = FrameSealer::new(sealing.context, sealing.key.clone(), effort.level())?;
    // As large as they can be needed: pages that no frame reaches are never touched.
    let mut plain = Vec::with_capacity(FRAME_PLAIN_MAX as usize);
    let mut out = budget.frame_buffer();
    for SealJob { frame, sealed } in &sealing.jobs {
        sealing.cpu.pace_briefly();
        plain.clear();
        let mut chunks = Vec::with_capacity(frame.pieces.len());
        for piece in &frame.pieces {
            plain.extend_from_slice(&piece.plain.bytes);
            chunks.push(TableChunk {
                id: piece.id,
                bytes: u32::try_from(piece.plain.bytes.len()).unwrap_or(u32::MAX),
            });
        }
        sealer.set_level(effort.level())?;
        let shape = sealer.seal(ChunkKind::Data, &plain, &mut out)?;
        let rooms = frame.pieces.into_iter().map(|piece| piece.plain);
        let done = SealedFrame {
            shape,
            chunks,
            sealed: budget.replace(rooms, &mut out),
        };
        // Nobody waits any more only when the run is ending.
        sealed.send(done).ok();
    }
    Ok(())
}
