//! Gathers entries into batches of the wire's size. Each block keeps its directory open for the details that
//! may be asked for.

use std::sync::Arc;

use formats::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX};
use formats::wire::control::entries::{Block, Entries, EntryStat};

use crate::walk::directory::Directory;

/// A batch and the directories of its blocks, in the same order.
#[derive(Debug)]
pub struct Batch {
    /// What goes on the wire.
    pub entries: Entries,
    /// One directory for each block.
    pub directories: Vec<Arc<Directory>>,
}

/// The batch under way.
#[derive(Debug)]
pub struct BatchBuilder {
    next: u64,
    blocks: Vec<Block>,
    directories: Vec<Arc<Directory>>,
    entries: u64,
    bytes: usize,
    directories_max: usize,
}

/// About what an entry's metadata takes on the wire.
const ENTRY_BYTES: usize = 56;

impl BatchBuilder {
    /// An empty batch, number 0, of at most so many directories.
    pub fn new(directories_max: usize) -> Self {
        Self {
            next: 0,
            blocks: Vec::new(),
            directories: Vec::new(),
            entries: 0,
            bytes: 0,
            directories_max,
        }
    }

    /// Adds an entry; gives the batch when it is complete.
    pub fn push(
        &mut self,
        path: &[u8],
        directory: &Arc<Directory>,
        entry: EntryStat,
    ) -> Option<Batch> {
        let bytes = ENTRY_BYTES + entry.name.len();
        match self.blocks.last_mut() {
            Some(block) if block.directory == path => block.entries.push(entry),
            _ => {
                self.bytes += path.len() + 8;
                self.blocks.push(Block {
                    directory: path.to_vec(),
                    entries: vec![entry],
                });
                self.directories.push(directory.clone());
            }
        }
        self.entries += 1;
        self.bytes += bytes;
        let full = self.bytes >= BATCH_BYTES_TARGET
            || self.entries >= BATCH_ENTRIES_MAX
            || self.directories.len() >= self.directories_max;
        if full { self.take() } else { None }
    }

    /// What there is, if anything.
    pub fn take(&mut self) -> Option<Batch> {
        if self.blocks.is_empty() {
            return None;
        }
        let batch = self.next;
        self.next += 1;
        self.entries = 0;
        self.bytes = 0;
        Some(Batch {
            entries: Entries {
                batch,
                blocks: std::mem::take(&mut self.blocks),
            },
            directories: std::mem::take(&mut self.directories),
        })
    }

    /// How many batches were taken.
    pub fn taken(&self) -> u64 {
        self.next
    }
}
