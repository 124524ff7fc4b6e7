//! Gathers wanted chunks, in order, into frames.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use formats::limits::{FRAME_CHUNKS_MAX, FRAME_PLAIN_TARGET};

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
    /// How long an open pack waits for its next frame.
    pub idle: Duration,
}

/// Gathers until no chunk can come any more, or nobody takes frames.
pub fn run(frames: &Frames) {
    let mut gathering: Option<Frame> = None;
    let mut pack_is_open = false;
    let mut until = Instant::now() + frames.idle;
    loop {
        match frames.wanted.recv_deadline(until) {
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
                    until = Instant::now() + frames.idle;
                }
                // An open pack does not wait longer because a little more has come: the server would take it for stalled.
                if !pack_is_open {
                    until = Instant::now() + frames.idle;
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
                until = Instant::now() + frames.idle;
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

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use crossbeam_channel::bounded;
    use formats::ids::ChunkId;
    use formats::limits::FRAME_PLAIN_TARGET;

    use super::{Frames, run};
    use crate::budget::Budget;
    use crate::pack::packs::Step;
    use crate::window::Piece;

    #[test]
    fn a_pack_that_little_comes_for_is_closed_while_it_comes() {
        let (pieces, wanted) = bounded(0);
        let (to_seal, _sealing) = bounded(4);
        let (steps, steps_in) = bounded(4);
        let frames = Frames {
            wanted,
            to_seal,
            steps,
            idle: Duration::from_millis(40),
        };
        let gatherer = thread::spawn(move || run(&frames));
        let budget = Budget::new();
        let piece = |bytes: &[u8]| Piece {
            id: ChunkId([0; 32]),
            plain: budget.take(0, bytes),
        };
        let frame = vec![1; FRAME_PLAIN_TARGET as usize];
        pieces.send(vec![piece(&frame)]).expect("it gathers");
        assert!(matches!(steps_in.recv(), Ok(Step::Frame { chunks: 1, .. })));
        // Before the pack has waited for as long as it may, each time.
        for sent in 0.. {
            assert!(sent < 10_000, "it stays open");
            pieces.send(vec![piece(b"little")]).expect("it gathers");
            if let Ok(Step::ClosePack) = steps_in.recv_timeout(Duration::from_millis(2)) {
                break;
            }
        }
        drop(pieces);
        gatherer.join().expect("it ends");
    }
}
