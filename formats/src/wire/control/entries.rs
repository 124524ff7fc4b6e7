//! What the walk found: batches of entries, each with its name and its `lstat`, and how later messages name one of them.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::BATCH_ENTRIES_MAX;
use crate::listing::entry::{Stat, read_name, read_path};

/// A batch of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Its number.
    pub batch: u64,
    /// Its blocks, in listing order.
    pub blocks: Vec<Block>,
}

/// Entries of one directory, or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The directory's path, without a slash in front; empty is the root.
    pub directory: Vec<u8>,
    /// Its entries, in name order.
    pub entries: Vec<EntryStat>,
}

/// An entry as the walk sees it: name and `lstat`, nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryStat {
    /// Its name.
    pub name: Vec<u8>,
    /// Its metadata.
    pub stat: Stat,
    /// The filesystem it is on; with the inode it tells hard links.
    pub filesystem: u64,
}

impl Entries {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.batch);
        out.put_varint(self.blocks.len() as u64);
        for block in &self.blocks {
            out.put_prefixed(&block.directory);
            out.put_varint(block.entries.len() as u64);
            for entry in &block.entries {
                out.put_prefixed(&entry.name);
                entry.stat.put(out);
                out.put_varint(entry.filesystem);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let batch = reader.varint("batch")?;
        let block_count = reader.count("blocks", BATCH_ENTRIES_MAX, 2)?;
        let mut blocks = Vec::with_capacity(block_count);
        let mut left = BATCH_ENTRIES_MAX;
        for _ in 0..block_count {
            let directory = read_path(reader)?;
            let count = reader.count("entries", left, 12)?;
            left -= count as u64;
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                entries.push(EntryStat {
                    name: read_name(reader)?,
                    stat: Stat::read(reader)?,
                    filesystem: reader.varint("filesystem")?,
                });
            }
            blocks.push(Block { directory, entries });
        }
        Ok(Self { batch, blocks })
    }
}

/// Names an entry: its batch, and its place counted through the batch's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryRef {
    /// The batch.
    pub batch: u64,
    /// The entry's place in it, from 0.
    pub entry: u32,
}

impl EntryRef {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.put_varint(self.batch);
        out.put_varint(self.entry.into());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            batch: reader.varint("batch")?,
            entry: reader.varint32("entry")?,
        })
    }
}
