//! Leaves the page cache as it was found: parts of a file that were not cached before the agent read them are
//! given up again, parts that were stay. Which is which is asked of the kernel a part at a time, well ahead of
//! the reading, because the kernel reads ahead: after the first read everything nearby looks cached.
//!
//! `preadv2` with `RWF_NOWAIT` (Linux 4.14) tells; `mincore` would need a mapping and unsafe code. Where the
//! kernel cannot tell, nothing is given up: a database's hot pages are worth more than ours, and pages read
//! once are the first that the kernel drops.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// A part that is kept or given up as a whole.
const PART_BYTES: u64 = 8 << 20;
/// How many parts ahead of the reading the kernel is asked: past any read-ahead window.
const PARTS_AHEAD: u64 = 4;

/// What is known of one open file's place in the page cache.
#[derive(Debug)]
pub struct CacheWatch<'a> {
    file: BorrowedFd<'a>,
    size: u64,
    /// The first part not asked about yet.
    asked: u64,
    /// The first part not finished.
    done: u64,
    /// For each part between them, whether it was cached.
    cached: VecDeque<bool>,
    /// Whether this kernel tells at all.
    tells: bool,
}

impl<'a> CacheWatch<'a> {
    /// Begins before the file's first byte is read.
    pub fn new(file: &'a impl AsFd, size: u64) -> Self {
        Self {
            file: file.as_fd(),
            size,
            asked: 0,
            done: 0,
            cached: VecDeque::new(),
            tells: true,
        }
    }

    /// Reads a file that fits into one read, if all of it is cached: the question and the read are one system
    /// call. Without an answer it is to be read as any other.
    pub fn read_if_cached(&mut self, into: &mut [u8], offset: u64) -> Option<usize> {
        let is_whole = offset == 0 && into.len() as u64 == self.size && self.size <= PART_BYTES;
        if !self.tells || self.asked > 0 || !is_whole {
            return None;
        }
        let wanted = into.len();
        let parts = &mut [IoSliceMut::new(into)];
        match preadv2(self.file, parts, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) if read == wanted => {
                self.asked = 1;
                self.cached.push_back(true);
                Some(read)
            }
            // Some of it is not cached, or the file became shorter.
            Ok(_) | Err(Errno::AGAIN) => {
                self.asked = 1;
                self.cached.push_back(false);
                None
            }
            Err(_) => {
                self.tells = false;
                None
            }
        }
    }

    /// Before reading at `offset`.
    pub fn before_read(&mut self, offset: u64) {
        let wanted = (offset / PART_BYTES + PARTS_AHEAD).min(self.size.div_ceil(PART_BYTES));
        while self.tells && self.asked < wanted {
            let was_cached = self.is_cached(self.asked * PART_BYTES);
            self.cached.push_back(was_cached);
            self.asked += 1;
        }
    }

    /// Everything before `offset` has been read.
    pub fn after_read(&mut self, offset: u64) {
        let finished = if offset >= self.size {
            self.size.div_ceil(PART_BYTES)
        } else {
            offset / PART_BYTES
        };
        while self.done < finished {
            if self.cached.pop_front() == Some(false) {
                self.give_up(self.done * PART_BYTES, PART_BYTES);
            }
            self.done += 1;
        }
    }

    fn is_cached(&mut self, offset: u64) -> bool {
        let mut byte = [0];
        let asked = preadv2(
            self.file,
            &mut [IoSliceMut::new(&mut byte)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        match asked {
            Ok(_) => true,
            Err(Errno::AGAIN) => false,
            Err(_) => {
                self.tells = false;
                true
            }
        }
    }

    fn give_up(&self, offset: u64, bytes: u64) {
        // Only a hint: a kernel that refuses it changes nothing for the backup.
        fadvise(self.file, offset, NonZeroU64::new(bytes), Advice::DontNeed).ok();
    }
}
