//! Puts sealed frames, in order, into packs, and each pack's bytes onto an upload connection that is free. An open pack moves, or is
//! closed as it is: the server gives up one that stands.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use formats::keys::secret::{RandomError, TableKey};
use formats::pack::assemble::PackAssembler;
use formats::seal::run_header::RunHeader;

use crate::pack::effort::Gauge;
use crate::pack::seal::SealedFrame;
use crate::threads::ThreadError;
use crate::upload::sender::Part;

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// A frame, once it is sealed.
    Frame {
        /// Where it comes.
        sealed: Receiver<SealedFrame>,
        /// How many chunks it has.
        chunks: u64,
    },
    /// The pack is finished as it is.
    ClosePack,
}

/// Why packing ended early.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The table could not be sealed.
    #[error("a pack's table cannot be sealed")]
    Seal(#[from] RandomError),
    /// The other threads are gone; they have said why.
    #[error("the run is ending")]
    Ending,
}

impl ThreadError for PackError {
    fn is_echo(&self) -> bool {
        matches!(self, Self::Ending)
    }
}

/// What the packer has.
pub struct Packs {
    /// Frames in order.
    pub steps: Receiver<Step>,
    /// Upload connections with nothing to do.
    pub idle: Receiver<usize>,
    /// The ways to the connections.
    pub connections: Vec<Sender<Part>>,
    /// The run header for every pack.
    pub header: RunHeader,
    /// The run's key for tables.
    pub key: TableKey,
    /// Told how frames leave.
    pub gauge: Gauge,
    /// How an open pack moves.
    pub pace: Pace,
}

/// How an open pack moves: in every interval of this length so many bytes are added, or it is closed.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The interval.
    pub interval: Duration,
    /// What is added in it at least.
    pub bytes_min: usize,
}

struct Open {
    assembler: PackAssembler,
    connection: Sender<Part>,
    /// Bytes that were added since the interval began.
    moved: usize,
    /// When it ends.
    until: Instant,
}

/// Packs until no frame can come any more and every pack is acknowledged.
pub fn run(mut packs: Packs) -> Result<(), PackError> {
    let mut open: Option<Open> = None;
    let steps = packs.steps.clone();
    while let Some(step) = next(&steps, &mut open)? {
        match step {
            Step::Frame { sealed, chunks } => {
                if open
                    .as_ref()
                    .is_some_and(|pack| pack.assembler.is_full(chunks))
                {
                    finish(open.take())?;
                }
                let frame = next(&sealed, &mut open)?.ok_or(PackError::Ending)?;
                let held_up = match &open {
                    Some(pack) => pack.connection.is_full(),
                    None => packs.idle.is_empty(),
                };
                packs.gauge.frame(held_up);
                let pack = match &mut open {
                    Some(pack) => pack,
                    none => none.insert(packs.open()?),
                };
                pack.add(frame, packs.pace)?;
                if pack.assembler.is_full(0) {
                    finish(open.take())?;
                }
            }
            Step::ClosePack => finish(open.take())?,
        }
    }
    finish(open)?;
    // A connection is idle again once its last pack is acknowledged.
    for _ in &packs.connections {
        packs.idle.recv().map_err(|_| PackError::Ending)?;
    }
    Ok(())
}

/// Waits for what comes next, and closes an open pack that has not moved by its time. Nothing once nothing can come any more.
fn next<T>(from: &Receiver<T>, open: &mut Option<Open>) -> Result<Option<T>, PackError> {
    if let Some(pack) = open {
        match from.recv_deadline(pack.until) {
            Ok(came) => return Ok(Some(came)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => finish(open.take())?,
        }
    }
    Ok(from.recv().ok())
}

impl Packs {
    fn open(&self) -> Result<Open, PackError> {
        let idle = self.idle.recv().map_err(|_| PackError::Ending)?;
        Ok(Open {
            assembler: PackAssembler::new(self.header.clone(), self.key.clone()),
            connection: self
                .connections
                .get(idle)
                .cloned()
                .ok_or(PackError::Ending)?,
            moved: 0,
            until: Instant::now() + self.pace.interval,
        })
    }
}

impl Open {
    fn add(&mut self, frame: SealedFrame, pace: Pace) -> Result<(), PackError> {
        self.assembler.add_frame(frame.shape, frame.chunks);
        self.moved += frame.sealed.bytes.len();
        self.connection
            .send(Part::Bytes(frame.sealed))
            .map_err(|_| PackError::Ending)?;
        if self.moved >= pace.bytes_min {
            self.moved = 0;
            self.until = Instant::now() + pace.interval;
        }
        Ok(())
    }
}

fn finish(open: Option<Open>) -> Result<(), PackError> {
    let Some(pack) = open else {
        return Ok(());
    };
    let trailer = pack.assembler.finish()?;
    pack.connection
        .send(Part::End(trailer))
        .map_err(|_| PackError::Ending)
}

#[cfg(test)]
mod tests {
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use crossbeam_channel::{Receiver, Sender, bounded};
    use formats::chunk::ChunkKind;
    use formats::ids::{ChunkId, RepositoryId, RunId};
    use formats::keys::bundle::{KeyBundle, Role};
    use formats::keys::repository::RepositoryKeys;
    use formats::keys::secret::MasterKey;
    use formats::pack::table::TableChunk;
    use formats::seal::frame::{Compression, FrameShape};
    use formats::seal::run_header::{Purpose, RunContext, RunHeader};

    use super::{Pace, PackError, Packs, Step, run};
    use crate::budget::Budget;
    use crate::pack::effort::{Effort, Gauge};
    use crate::pack::seal::SealedFrame;
    use crate::upload::sender::Part;

    /// Puts frames into packs of which each moves by 32 KiB every 40 ms. Gives where frames go in, and where packs come out.
    fn packing() -> (
        Sender<Step>,
        Receiver<Part>,
        JoinHandle<Result<(), PackError>>,
    ) {
        let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
        let keys = RepositoryKeys::derive(&bundle, RepositoryId([2; 16]), 1);
        let context = RunContext {
            repository: keys.repository,
            epoch: keys.epoch,
            run: RunId([3; 16]),
            purpose: Purpose::Data,
        };
        let (header, run_keys) = RunHeader::create(context, &keys.public().unwrap()).unwrap();
        let (steps, steps_in) = bounded(0);
        let (connection, parts) = bounded(1_000);
        // As if each pack were acknowledged at once.
        let (idle, idle_out) = bounded(8);
        while idle.try_send(0).is_ok() {}
        let packs = Packs {
            steps: steps_in,
            idle: idle_out,
            connections: vec![connection],
            header,
            key: run_keys.table.clone(),
            gauge: Gauge::new(Effort::new(3)),
            pace: Pace {
                interval: Duration::from_millis(40),
                bytes_min: 32 << 10,
            },
        };
        (steps, parts, thread::spawn(move || run(packs)))
    }

    /// A frame that has compressed to next to nothing.
    fn frame() -> SealedFrame {
        SealedFrame {
            shape: FrameShape {
                kind: ChunkKind::Data,
                compression: Compression::Zstd,
                plain_bytes: 1 << 20,
                sealed_bytes: 100,
            },
            chunks: vec![TableChunk {
                id: ChunkId([4; 32]),
                bytes: 1 << 20,
            }],
            sealed: Budget::new().take(0, &[5; 100]),
        }
    }

    /// Hands on a frame, which is sealed when it is sent to what this gives.
    fn hand(steps: &Sender<Step>) -> Sender<SealedFrame> {
        let (sealed, waited) = bounded(1);
        let step = Step::Frame {
            sealed: waited,
            chunks: 1,
        };
        steps.send(step).unwrap();
        sealed
    }

    #[test]
    fn a_pack_that_frames_come_for_and_few_bytes_is_closed_while_they_come() {
        let (steps, parts, packing) = packing();
        // Before the pack has waited for as long as it may, each time.
        for sent in 0.. {
            assert!(sent < 500, "it stays open");
            hand(&steps).send(frame()).unwrap();
            assert!(matches!(parts.recv(), Ok(Part::Bytes(_))));
            if let Ok(part) = parts.recv_timeout(Duration::from_millis(2)) {
                assert!(matches!(part, Part::End(_)));
                break;
            }
        }
        drop(steps);
        packing.join().unwrap().unwrap();
    }

    #[test]
    fn a_pack_whose_next_frame_takes_long_to_be_sealed_is_closed_and_the_frame_begins_another() {
        let (steps, parts, packing) = packing();
        hand(&steps).send(frame()).unwrap();
        assert!(matches!(parts.recv(), Ok(Part::Bytes(_))));
        let late = hand(&steps);
        assert!(matches!(parts.recv(), Ok(Part::End(_))));
        late.send(frame()).unwrap();
        assert!(matches!(parts.recv(), Ok(Part::Bytes(_))));
        drop(steps);
        assert!(matches!(parts.recv(), Ok(Part::End(_))));
        packing.join().unwrap().unwrap();
    }
}
