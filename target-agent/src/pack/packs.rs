//! Puts sealed frames, in order, into packs, and each pack's bytes onto an upload connection that is free.

use crossbeam_channel::{Receiver, Sender};
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
}

struct Open {
    assembler: PackAssembler,
    connection: Sender<Part>,
}

/// Packs until no frame can come any more and every pack is acknowledged.
pub fn run(mut packs: Packs) -> Result<(), PackError> {
    let mut open: Option<Open> = None;
    let steps = packs.steps.clone();
    for step in steps {
        match step {
            Step::Frame { sealed, chunks } => {
                if open
                    .as_ref()
                    .is_some_and(|pack| pack.assembler.is_full(chunks))
                {
                    finish(open.take())?;
                }
                let frame = sealed.recv().map_err(|_| PackError::Ending)?;
                let held_up = match &open {
                    Some(pack) => pack.connection.is_full(),
                    None => packs.idle.is_empty(),
                };
                packs.gauge.frame(held_up);
                let pack = match &mut open {
                    Some(pack) => pack,
                    none => none.insert(packs.open()?),
                };
                pack.add(frame)?;
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
        })
    }
}

impl Open {
    fn add(&mut self, frame: SealedFrame) -> Result<(), PackError> {
        self.assembler.add_frame(frame.shape, frame.chunks);
        self.connection
            .send(Part::Bytes(frame.sealed))
            .map_err(|_| PackError::Ending)
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
