//! Counts of the run, told as progress and at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use formats::wire::control::totals::Totals;

use crate::cpu_limit::cpu_time;
use crate::facts;

/// The counters; cheap to clone, all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: AtomicU64,
    files_read: AtomicU64,
    bytes_read: AtomicU64,
    bytes_new: AtomicU64,
    bytes_stored: AtomicU64,
    packs: AtomicU64,
    problems: AtomicU64,
}

impl Counters {
    /// Entries were sent.
    pub fn entries(&self, count: u64) {
        add(&self.0.entries, count);
    }

    /// A file was read.
    pub fn file_read(&self) {
        add(&self.0.files_read, 1);
    }

    /// Bytes of files were read.
    pub fn bytes_read(&self, bytes: u64) {
        add(&self.0.bytes_read, bytes);
    }

    /// A chunk was wanted.
    pub fn bytes_new(&self, bytes: u64) {
        add(&self.0.bytes_new, bytes);
    }

    /// A pack was acknowledged.
    pub fn pack_stored(&self, bytes: u64) {
        add(&self.0.bytes_stored, bytes);
        add(&self.0.packs, 1);
    }

    /// A problem was sent.
    pub fn problem(&self) {
        add(&self.0.problems, 1);
    }

    /// The counts now.
    pub fn totals(&self) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            entries: get(&self.0.entries),
            files_read: get(&self.0.files_read),
            bytes_read: get(&self.0.bytes_read),
            bytes_new: get(&self.0.bytes_new),
            bytes_stored: get(&self.0.bytes_stored),
            packs: get(&self.0.packs),
            problems: get(&self.0.problems),
            memory_peak: facts::memory_peak(),
            cpu_millis: u64::try_from(cpu_time().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
