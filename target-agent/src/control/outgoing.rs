//! Writes messages to the coordinator: a bounded buffer and the one thread that writes it to stdout. When
//! stdout is gone the coordinator is, and the process ends.
//!
//! Messages that nobody waits for (a file's content and details, two for each file) are written together: each
//! write of its own would become a packet of the SSH connection of its own.

use std::io;
use std::os::fd::AsFd as _;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Instant;

use formats::limits::TEXT_BYTES_MAX;
use formats::wire::control::FromAgent;
use formats::wire::control::problem::Problem;
use formats::wire::framing;

use crate::limits::{
    ABORT_WAIT, OUTGOING_BYTES_MAX, OUTGOING_GATHERED_BYTES, OUTGOING_GATHERED_WAIT,
};
use crate::threads::wait_for_the_end;
use crate::totals::Counters;

/// The way to the coordinator.
#[derive(Debug, Clone)]
pub struct Outgoing {
    buffer: Arc<Buffer>,
    counters: Counters,
    aborting: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Buffer {
    state: Mutex<State>,
    /// There is something to be written.
    filled: Condvar,
    /// Something was written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Framed messages.
    waiting: Vec<u8>,
    /// Somebody waits for an answer to one of them.
    is_urgent: bool,
    /// Bytes that ever waited, and those of them that are written.
    queued: u64,
    written: u64,
}

impl State {
    /// What is there to be written at once.
    fn is_due(&self) -> bool {
        self.is_urgent || self.waiting.len() >= OUTGOING_GATHERED_BYTES
    }
}

impl Outgoing {
    /// Starts the writing thread.
    pub fn start(counters: Counters) -> io::Result<Self> {
        let buffer = Arc::<Buffer>::default();
        let outgoing = Self {
            buffer: buffer.clone(),
            counters,
            aborting: Arc::default(),
        };
        Builder::new()
            .name("control-out".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                if buffer.write_all().is_err() {
                    exit(1);
                }
            })?;
        Ok(outgoing)
    }

    /// Sends a message; waits while the coordinator does not read.
    pub fn send(&self, message: &FromAgent) {
        let is_urgent = !matches!(message, FromAgent::Content(_) | FromAgent::Details(_));
        // Without a deadline it always has its turn.
        self.buffer.queue(&message.encode(), is_urgent, None);
    }

    /// Sends a message that is encoded already.
    pub fn send_encoded(&self, message: &[u8]) {
        self.buffer.queue(message, true, None);
    }

    /// Sends a message unless others wait: for progress, which can be left out.
    pub fn send_if_idle(&self, message: &FromAgent) {
        let state = self.buffer.lock();
        let is_idle = state.queued == state.written;
        drop(state);
        if is_idle {
            self.send(message);
        }
    }

    /// Sends a problem, and counts it.
    pub fn problem(&self, mut problem: Problem) {
        let mut end = problem.text.len().min(TEXT_BYTES_MAX as usize);
        while !problem.text.is_char_boundary(end) {
            end -= 1;
        }
        problem.text.truncate(end);
        self.counters.problem();
        self.send(&FromAgent::Problem(problem));
    }

    /// Waits until everything sent is written.
    pub fn flush(&self) {
        self.buffer.flush(None);
    }

    /// Tells the coordinator why, and ends the process.
    pub fn abort(&self, text: &str) -> ! {
        if self.aborting.swap(true, Ordering::SeqCst) {
            // The first reason is the one that counts.
            wait_for_the_end();
        }
        eprintln!("target-agent: {}", text.escape_default());
        let message = FromAgent::Abort(text.to_owned()).encode();
        let deadline = Some(Instant::now() + ABORT_WAIT);
        if self.buffer.queue(&message, true, deadline) {
            self.buffer.flush(deadline);
        }
        exit(1)
    }
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and takes a message; false when there was none by the deadline.
    fn queue(&self, message: &[u8], is_urgent: bool, deadline: Option<Instant>) -> bool {
        let Ok(length) = frame_length(message) else {
            // No message is longer than a frame: batches, queries and contents are cut before.
            eprintln!("target-agent: a message of {} bytes", message.len());
            exit(1);
        };
        // A message larger than the buffer has it for itself.
        let state = self.wait(deadline, |state| {
            !state.waiting.is_empty() && state.waiting.len() + message.len() > OUTGOING_BYTES_MAX
        });
        let Some(mut state) = state else {
            return false;
        };
        let (was_empty, was_due) = (state.waiting.is_empty(), state.is_due());
        state.waiting.extend_from_slice(&length);
        state.waiting.extend_from_slice(message);
        state.queued += (length.len() + message.len()) as u64;
        state.is_urgent |= is_urgent;
        if was_empty || (!was_due && state.is_due()) {
            self.filled.notify_one();
        }
        true
    }

    /// Waits until everything queued by now is written, or the deadline.
    fn flush(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        let until = state.queued;
        state.is_urgent = true;
        drop(state);
        self.filled.notify_one();
        drop(self.wait(deadline, |state| state.written < until));
    }

    /// Waits while `condition` holds; none when it still does at the deadline.
    fn wait(
        &self,
        deadline: Option<Instant>,
        condition: impl Fn(&State) -> bool,
    ) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while condition(&state) {
            let Some(deadline) = deadline else {
                let waited = self.emptied.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.emptied.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(state)
    }

    /// The writing thread.
    fn write_all(&self) -> io::Result<()> {
        let stdout = io::stdout();
        let mut writing = Vec::new();
        loop {
            self.take(&mut writing);
            write_fd(&stdout, &writing)?;
            self.lock().written += writing.len() as u64;
            self.emptied.notify_all();
            writing.clear();
            // A batch that was larger than all others does not keep its room.
            writing.shrink_to(OUTGOING_BYTES_MAX);
        }
    }

    /// Waits for something to write and takes it; what is not urgent is given a moment for company.
    fn take(&self, writing: &mut Vec<u8>) {
        let state = self
            .filled
            .wait_while(self.lock(), |state| {
                state.waiting.is_empty() && !state.is_urgent
            })
            .unwrap_or_else(PoisonError::into_inner);
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, OUTGOING_GATHERED_WAIT, |state| !state.is_due())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, writing);
        state.is_urgent = false;
        drop(state);
        self.emptied.notify_all();
    }
}

fn write_fd(stdout: &io::Stdout, mut bytes: &[u8]) -> io::Result<()> {
    // Past std's buffer, which would flush at every newline byte.
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(stdout.as_fd(), bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// A frame's length field.
fn frame_length(message: &[u8]) -> io::Result<[u8; framing::LENGTH_BYTES]> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let bytes = length.to_le_bytes();
    framing::frame_length(bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
