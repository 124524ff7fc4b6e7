//! Reads an open file's content: holes are skipped, data is cut into chunks; the chunker begins anew after
//! each hole. Reads by position, so the descriptor's own offset does not matter.

use std::os::fd::{AsFd, BorrowedFd};

use formats::chunk::Chunker;
use formats::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::read::cache::CacheWatch;

/// Most bytes asked of the kernel at once.
const READ_BYTES: usize = 512 << 10;
/// The window of a file that is cut: a largest chunk and a read.
const WINDOW_BYTES: usize = CHUNK_BYTES_MAX as usize + READ_BYTES;
const SMALL: u64 = CHUNK_BYTES_MIN as u64;

/// Takes a file's pieces in order.
pub trait Pieces {
    /// Waits until there is room for so many bytes more, then takes them.
    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Ending>;
    /// So many bytes are a hole.
    fn hole(&mut self, bytes: u64) -> Result<(), Ending>;
    /// Bytes were read, up to this offset. What a test does here happens while the file is being read.
    fn read_up_to(&mut self, offset: u64);
}

/// The run is ending: nobody takes pieces any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending;

/// Why a file's content ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentError {
    /// The kernel refused.
    Errno(Errno),
    /// The run is ending.
    Ending,
}

impl From<Errno> for ContentError {
    fn from(error: Errno) -> Self {
        Self::Errno(error)
    }
}

impl From<Ending> for ContentError {
    fn from(_: Ending) -> Self {
        Self::Ending
    }
}

/// A file's extent in memory that is being cut; kept from file to file.
#[derive(Debug, Default)]
pub struct Window {
    bytes: Vec<u8>,
}

/// Reads `size` bytes, or to where the file ends by then; gives how many bytes the pieces cover. With
/// `has_holes` the kernel is asked where data is.
pub fn read_content(
    file: impl AsFd,
    size: u64,
    has_holes: bool,
    chunker: &Chunker,
    window: &mut Window,
    pieces: &mut impl Pieces,
) -> Result<u64, ContentError> {
    let file = file.as_fd();
    let mut watch = CacheWatch::new(&file, size);
    let mut at = 0;
    while at < size {
        let (start, end) = if has_holes {
            next_data(file, at, size)
        } else {
            (at, size)
        };
        if start > at {
            pieces.hole(start - at)?;
        }
        let reached = read_data(file, start, end, chunker, window, pieces, &mut watch)?;
        at = reached;
        if reached < end {
            break;
        }
    }
    watch.after_read(size);
    window.bytes.truncate(WINDOW_BYTES);
    Ok(at)
}

/// The next data at or after `at`. A filesystem that does not know holes has data everywhere.
fn next_data(file: BorrowedFd<'_>, at: u64, size: u64) -> (u64, u64) {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.clamp(at, size),
        // No data up to the end.
        Err(Errno::NXIO) => return (size, size),
        Err(_) => return (at, size),
    };
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size);
    // A change in between may give an empty extent; one byte at least goes on.
    (start, end.clamp((start + 1).min(size), size))
}

/// Reads and cuts one extent of data; gives how far it got.
fn read_data(
    file: BorrowedFd<'_>,
    start: u64,
    end: u64,
    chunker: &Chunker,
    window: &mut Window,
    pieces: &mut impl Pieces,
    watch: &mut CacheWatch<'_>,
) -> Result<u64, ContentError> {
    let length = end - start;
    let is_one_chunk = length <= SMALL;
    let wanted = usize::try_from(length).map_or(WINDOW_BYTES, |bytes| bytes.min(WINDOW_BYTES));
    if window.bytes.len() < wanted {
        window.bytes.resize(wanted, 0);
    }
    let buffer = window.bytes.as_mut_slice();
    let (mut from, mut filled) = (0, 0);
    let mut offset = start;
    let mut ended = false;
    loop {
        while !ended && offset < end && filled - from < CHUNK_BYTES_MAX as usize {
            if filled == buffer.len() {
                buffer.copy_within(from..filled, 0);
                filled -= from;
                from = 0;
            }
            let room = (buffer.len() - filled).min(READ_BYTES);
            let room = usize::try_from(end - offset).map_or(room, |left| left.min(room));
            let into = &mut buffer[filled..filled + room];
            let read = match watch.read_if_cached(into, offset) {
                Some(read) => read,
                None => {
                    watch.before_read(offset);
                    retry_on_intr(|| pread(file, &mut *into, offset))?
                }
            };
            match read {
                0 => ended = true,
                read => {
                    filled += read;
                    offset += read as u64;
                    pieces.read_up_to(offset);
                    watch.after_read(offset);
                }
            }
        }
        let ready = &buffer[from..filled];
        if ready.is_empty() {
            return Ok(offset);
        }
        let cut = if is_one_chunk {
            ready.len()
        } else {
            chunker.cut(ready)
        };
        pieces.chunk(&ready[..cut])?;
        from += cut;
    }
}
