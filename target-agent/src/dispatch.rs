//! From verdicts to work: takes each answered batch apart into groups of wanted entries, in order, for the
//! reading threads. Small files go in groups, a big one alone.

use std::sync::Arc;

use crossbeam_channel::{Receiver, SendError, Sender, bounded, select};
use formats::codec::DecodeError;
use formats::listing::entry::EntryKind;
use formats::wire::control::FromAgent;
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::entries::{EntryRef, EntryStat};

use crate::batches::{OpenBatch, OpenBatches};
use crate::limits::{Permit, SEGMENT_BYTES_TARGET, SEGMENT_HANDFULS_MAX, SEGMENT_JOBS_MAX};
use crate::threads::ThreadError;
use crate::walk::directory::Directory;
use crate::window::Item;

/// What jobs of one block share.
#[derive(Debug)]
pub struct BlockPlace {
    /// The directory's path.
    pub path: Vec<u8>,
    /// The directory.
    pub directory: Arc<Directory>,
    /// The batch's place among those in flight, given back with its last job.
    _batch: Arc<Permit>,
}

/// A wanted entry.
#[derive(Debug)]
pub struct Job {
    /// How messages name it.
    pub of: EntryRef,
    /// What the walk saw.
    pub entry: EntryStat,
    /// Where it is.
    pub place: Arc<BlockPlace>,
}

/// A group of jobs, done by one thread, whose results take their turn.
#[derive(Debug)]
pub struct Segment {
    /// Its turn, from 0.
    pub turn: u64,
    /// Its jobs, in order.
    pub jobs: Vec<Job>,
    /// Where its results go.
    pub results: Sender<Vec<Item>>,
}

/// Why dispatching ended early.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The coordinator answered a batch that does not wait.
    #[error("the coordinator's verdicts name batch {batch}, which does not wait for any")]
    UnknownBatch {
        /// The batch named.
        batch: u64,
    },
    /// The answer has another number of entries.
    #[error("the coordinator's verdicts on batch {batch} are {found}, its entries {expected}")]
    Count {
        /// The batch.
        batch: u64,
        /// Verdicts given.
        found: u32,
        /// Entries there are.
        expected: u32,
    },
    /// The agent's own message does not read back.
    #[error("a batch of entries does not read back")]
    Decode(#[from] DecodeError),
    /// The other threads are gone; they have said why.
    #[error("the run is ending")]
    Ending,
}

impl ThreadError for DispatchError {
    fn is_echo(&self) -> bool {
        matches!(self, Self::Ending)
    }
}

impl<T> From<SendError<T>> for DispatchError {
    fn from(_: SendError<T>) -> Self {
        Self::Ending
    }
}

/// What the dispatcher is connected to.
#[derive(Debug)]
pub struct Dispatcher {
    /// Answers of the coordinator.
    pub verdicts: Receiver<Bitmap>,
    /// Batches that wait for them.
    pub open: OpenBatches,
    /// Tells, once, how many batches the walk had.
    pub walked: Receiver<u64>,
    /// Groups' results, in turn.
    pub turns: Sender<Receiver<Vec<Item>>>,
    /// Groups for the reading threads.
    pub work: Sender<Segment>,
}

/// Dispatches until every batch of the walk has its verdicts.
pub fn run(dispatcher: &Dispatcher) -> Result<(), DispatchError> {
    let mut turn = 0;
    let mut answered = 0;
    let walked = loop {
        select! {
            recv(dispatcher.verdicts) -> verdicts => {
                dispatcher.answer(verdicts.ok(), &mut turn)?;
                answered += 1;
            }
            recv(dispatcher.walked) -> walked => {
                break walked.map_err(|_| DispatchError::Ending)?;
            }
        }
    };
    while answered < walked {
        dispatcher.answer(dispatcher.verdicts.recv().ok(), &mut turn)?;
        answered += 1;
    }
    Ok(())
}

impl Dispatcher {
    fn answer(&self, verdicts: Option<Bitmap>, turn: &mut u64) -> Result<(), DispatchError> {
        let verdicts = verdicts.ok_or(DispatchError::Ending)?;
        let jobs = jobs_of(&verdicts, &self.open)?;
        let mut group = Vec::new();
        let mut bytes = 0;
        for job in jobs {
            let is_file = job.entry.stat.kind == EntryKind::File;
            let size = if is_file { job.entry.stat.size } else { 0 };
            if bytes > 0 && bytes + size > SEGMENT_BYTES_TARGET {
                self.hand(std::mem::take(&mut group), turn)?;
                bytes = 0;
            }
            bytes += size;
            group.push(job);
            if bytes >= SEGMENT_BYTES_TARGET || group.len() >= SEGMENT_JOBS_MAX {
                self.hand(std::mem::take(&mut group), turn)?;
                bytes = 0;
            }
        }
        self.hand(group, turn)
    }

    fn hand(&self, jobs: Vec<Job>, turn: &mut u64) -> Result<(), DispatchError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let (results, in_turn) = bounded(SEGMENT_HANDFULS_MAX);
        self.turns.send(in_turn)?;
        self.work.send(Segment {
            turn: *turn,
            jobs,
            results,
        })?;
        *turn += 1;
        Ok(())
    }
}

/// The wanted entries of an answered batch. The batch is resolved when the last of them is dropped.
fn jobs_of(verdicts: &Bitmap, open: &OpenBatches) -> Result<Vec<Job>, DispatchError> {
    let batch = verdicts.of;
    let OpenBatch {
        encoded,
        entries: expected,
        directories,
        permit,
    } = open
        .take(batch)
        .ok_or(DispatchError::UnknownBatch { batch })?;
    if verdicts.bits != expected {
        return Err(DispatchError::Count {
            batch,
            found: verdicts.bits,
            expected,
        });
    }
    if verdicts.bytes.iter().all(|byte| *byte == 0) {
        return Ok(Vec::new());
    }
    let FromAgent::Entries(entries) = FromAgent::decode(&encoded)? else {
        return Ok(Vec::new());
    };
    drop(encoded);
    let shared = Arc::new(permit);
    let mut jobs = Vec::new();
    let mut index = 0;
    for (block, directory) in entries.blocks.into_iter().zip(directories) {
        let place = Arc::new(BlockPlace {
            path: block.directory,
            directory,
            _batch: shared.clone(),
        });
        for entry in block.entries {
            if verdicts.get(index as usize) {
                jobs.push(Job {
                    of: EntryRef {
                        batch,
                        entry: index,
                    },
                    entry,
                    place: place.clone(),
                });
            }
            index += 1;
        }
    }
    Ok(jobs)
}
