//! Batches on their way: sent, and waiting for the coordinator's verdicts. What is kept of one is its encoded
//! bytes and its open directories; a batch is resolved when every wanted entry's details are sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use formats::wire::control::FromAgent;
use formats::wire::control::problem::Problem;

use crate::control::outgoing::Outgoing;
use crate::limits::{Limit, Permit};
use crate::totals::Counters;
use crate::walk::batch::Batch;
use crate::walk::directory::Directory;
use crate::walk::walker::Sink;

/// A batch that waits for its verdicts.
#[derive(Debug)]
pub struct OpenBatch {
    /// Its message; decoding it again is cheaper than keeping every entry apart.
    pub encoded: Arc<Vec<u8>>,
    /// How many entries it has.
    pub entries: u32,
    /// The directories of its blocks.
    pub directories: Vec<Arc<Directory>>,
    /// Its place among the batches in flight.
    pub permit: Permit,
}

/// The batches that wait for verdicts.
#[derive(Debug, Clone, Default)]
pub struct OpenBatches(Arc<Mutex<HashMap<u64, OpenBatch>>>);

impl OpenBatches {
    /// Takes a batch out, to work on its verdicts.
    pub fn take(&self, batch: u64) -> Option<OpenBatch> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&batch)
    }

    fn put(&self, number: u64, batch: OpenBatch) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, batch);
    }
}

/// Sends what the walk finds to the coordinator.
#[derive(Debug)]
pub struct BatchSender {
    /// Where to.
    pub outgoing: Outgoing,
    /// Who keeps them until their verdicts come.
    pub open: OpenBatches,
    /// How many may wait.
    pub in_flight: Limit,
    /// The run's counts.
    pub counters: Counters,
}

impl Sink for BatchSender {
    fn batch(&mut self, batch: Batch) {
        let entries: usize = batch
            .entries
            .blocks
            .iter()
            .map(|block| block.entries.len())
            .sum();
        let number = batch.entries.batch;
        let encoded = Arc::new(FromAgent::Entries(batch.entries).encode());
        let open = OpenBatch {
            encoded: encoded.clone(),
            entries: u32::try_from(entries).unwrap_or(u32::MAX),
            directories: batch.directories,
            permit: self.in_flight.acquire(),
        };
        // Kept before it is sent: the answer may come at once.
        self.open.put(number, open);
        self.counters.entries(entries as u64);
        self.outgoing.send_encoded(&encoded);
    }

    fn problem(&mut self, problem: Problem) {
        self.outgoing.problem(problem);
    }
}
