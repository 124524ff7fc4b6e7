//! Gathers wanted chunks, in order, into frames.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use formats::limits::{FRAME_CHUNKS_MAX, FRAME_PLAIN_TARGET};

use crate::limits::PACK_IDLE;
use crate::pack::packs::Step;
use crate::pack::seal::SealJob;
use crate::window::Piece;

/// The chunks of a frame, in order.
#[derive(Debug, Default)]
pub struct Frame {
    /// The chunks.
    pub pieces: Vec<Piece>,
    /// Their bytes together.
    pub plain_bytes: usize,
}

/// What the gatherer is connected to.
#[derive(Debug)]
pub struct Frames {
    /// Wanted chunks, in order, some at a time.
    pub wanted: Receiver<Vec<Piece>>,
    /// Frames to be sealed.
    pub to_seal: Sender<SealJob>,
    /// The same frames, in order, for the pack.
    pub steps: Sender<Step>,
}

/// Gathers until no chunk can come any more, or nobody takes frames.
pub fn run(frames: &Frames) {
    let mut gathering: Option<Frame> = None;
    let mut pack_is_open = false;
    loop {
        match frames.wanted.recv_timeout(PACK_IDLE) {
            Ok(pieces) => {
                for piece in pieces {
                    let frame = add(gathering.take(), piece);
                    if !is_full(&frame) {
                        gathering = Some(frame);
                        continue;
                    }
                    if !frames.hand(frame) {
                        return;
                    }
                    pack_is_open = true;
                }
            }
            // So little is new that a pack would stay open for long: what there is goes out as it is.
            Err(RecvTimeoutError::Timeout) => {
                if let Some(frame) = gathering.take() {
                    if !frames.hand(frame) {
                        return;
                    }
                    pack_is_open = true;
                }
                if pack_is_open && frames.steps.send(Step::ClosePack).is_err() {
                    return;
                }
                pack_is_open = false;
            }
            Err(RecvTimeoutError::Disconnected) => {
                if let Some(frame) = gathering.take() {
                    frames.hand(frame);
                }
                return;
            }
        }
    }
}

impl Frames {
    fn hand(&self, frame: Frame) -> bool {
        let (sealed, waited) = bounded(1);
        let chunks = frame.pieces.len() as u64;
        self.steps
            .send(Step::Frame {
                sealed: waited,
                chunks,
            })
            .is_ok()
            && self.to_seal.send(SealJob { frame, sealed }).is_ok()
    }
}

fn add(frame: Option<Frame>, piece: Piece) -> Frame {
    let mut frame = frame.unwrap_or_default();
    frame.plain_bytes += piece.plain.bytes.len();
    frame.pieces.push(piece);
    frame
}

fn is_full(frame: &Frame) -> bool {
    frame.plain_bytes >= FRAME_PLAIN_TARGET as usize
        || frame.pieces.len() as u64 >= FRAME_CHUNKS_MAX
}
