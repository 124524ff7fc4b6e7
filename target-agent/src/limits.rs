//! The agent's own limits: what bounds its memory, its queues and its waits. Limits that the coordinator must
//! know too are in `formats::limits`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Plaintext and sealed bytes on their way, from being read to being written to the tunnel.
pub const BYTES_IN_FLIGHT_MAX: usize = 12 << 20;
/// What the file whose turn it is may take on top: more than a whole frame that waits for company, its
/// chunks' overhead, a group of results, a query's chunks, and a chunk.
pub const BYTES_HEAD_RESERVE: usize = 8 << 20;
/// Buffers for chunks that are kept for use again.
pub const SPARE_BUFFERS_BYTES_MAX: usize = 6 << 20;
/// Buffers for frames that are kept for use again.
pub const SPARE_FRAMES_MAX: usize = 4;
/// What a chunk in flight counts besides its bytes.
pub const CHUNK_OVERHEAD_BYTES: usize = 192;
/// The most threads of each kind that hash and seal; each sealer has a compressor of some MiB.
pub const WORKERS_MAX: usize = 4;
/// The most threads that read files.
pub const READERS_MAX: usize = 4;
/// Names of one directory held at once; a larger directory is listed in several passes.
pub const NAMES_BYTES_MAX: usize = 8 << 20;
/// Names of listed directories that wait to be entered.
pub const PENDING_NAMES_BYTES_MAX: usize = 12 << 20;
/// The most directories held open.
pub const OPEN_DIRECTORIES_MAX: u64 = 8_192;
/// File descriptors left for everything that is not a directory of the walk.
pub const OPEN_FILES_RESERVE: u64 = 96;
/// Extents of one file held back until it is known not to have changed while it was read.
pub const EXTENTS_HELD_MAX: usize = 128 << 10;
/// Bytes of control messages that wait to be written; as many again are being written.
pub const OUTGOING_BYTES_MAX: usize = 512 << 10;
/// Messages that nobody waits for are written once they have this many bytes: a packet of the SSH connection.
pub const OUTGOING_GATHERED_BYTES: usize = 32 << 10;
/// How long such messages wait for company.
pub const OUTGOING_GATHERED_WAIT: Duration = Duration::from_millis(2);
/// Groups of files whose results wait for their turn.
pub const SEGMENTS_WAITING_MAX: usize = 32;
/// Handfuls of results of one group that wait for their turn.
pub const SEGMENT_HANDFULS_MAX: usize = 8;
/// The most results that are handed on together: each handing wakes a thread.
pub const HANDFUL_ITEMS_MAX: usize = 64;
/// Results are handed on once they have this many bytes.
pub const HANDFUL_BYTES_TARGET: usize = 256 << 10;
/// Answered queries' chunks that wait to become frames.
pub const WANTED_WAITING_MAX: usize = 2;
/// The most entries in a group of files read by one thread.
pub const SEGMENT_JOBS_MAX: usize = 64;
/// A group is closed once its files have this many bytes.
pub const SEGMENT_BYTES_TARGET: u64 = 1 << 20;
/// Sealed frames that wait for one connection, besides the one being written.
pub const UPLOAD_FRAMES_MAX: usize = 2;
/// Bytes from a tunnel connection over stdio that wait to be read.
pub const TUNNEL_INBOX_BYTES_MAX: usize = 256 << 10;
/// Messages that wait for the query before them.
pub const HELD_MESSAGES_MAX: usize = 1_024;
/// Chunks are asked about at once when they have this many bytes.
pub const SEEN_BYTES_TARGET: usize = 1 << 20;
/// How long chunks wait for company before the coordinator is asked about them.
pub const SEEN_WAIT: Duration = Duration::from_millis(3);
/// How long an unfinished pack waits for its next frame, or for [`PACK_MOVES_BYTES`] more, before it is closed as it is: half of what
/// the server waits.
pub const PACK_IDLE: Duration = Duration::from_secs(30);
/// What an unfinished pack gets in that time at least: twice what the server asks for in all of its own.
pub const PACK_MOVES_BYTES: usize = 32 << 10;
/// How long the tunnel's other end has for each step of the handshake.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(60);
/// How long the append-server has to acknowledge a pack.
pub const STORED_WAIT: Duration = Duration::from_secs(3_600);
/// How long the last message may take to leave.
pub const ABORT_WAIT: Duration = Duration::from_secs(3);
/// How often it is looked at how hard frames should be compressed.
pub const EFFORT_REVIEW_EVERY: Duration = Duration::from_secs(1);
/// How often progress is told.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// A file that changed this recently may change again without a new time.
pub const UNSETTLED_SECONDS: i64 = 2;

/// A count of things that may exist at once.
#[derive(Debug, Clone)]
pub struct Limit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<LimitState>,
    changed: Condvar,
}

#[derive(Debug)]
struct LimitState {
    free: usize,
    /// Threads that wait; without any, nobody is woken: that is a system call.
    waiting: usize,
}

/// The right to be one of them, given back when dropped.
#[derive(Debug)]
pub struct Permit(Limit);

impl Limit {
    /// A limit of `count`.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(LimitState {
                free: count,
                waiting: 0,
            }),
            changed: Condvar::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, LimitState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more is allowed.
    pub fn acquire(&self) -> Permit {
        let mut state = self.state();
        while state.free == 0 {
            state.waiting += 1;
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.free -= 1;
        Permit(self.clone())
    }

    /// One more, if it is allowed now.
    pub fn try_acquire(&self) -> Option<Permit> {
        let mut state = self.state();
        state.free = state.free.checked_sub(1)?;
        Some(Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.free += 1;
        if state.waiting > 0 {
            self.0.0.changed.notify_one();
        }
    }
}
