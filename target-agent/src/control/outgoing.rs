//! Writes messages to the coordinator: a bounded queue and the one thread that writes it to stdout. When
//! stdout is gone the coordinator is, and the process ends.

use std::io;
use std::os::fd::AsFd as _;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

use crossbeam_channel::{Receiver, Sender, bounded};
use formats::limits::TEXT_BYTES_MAX;
use formats::wire::control::{FromAgent, Problem};
use formats::wire::framing;

use crate::limits::{ABORT_WAIT, OUTGOING_MESSAGES_MAX};
use crate::threads::wait_for_the_end;
use crate::totals::Counters;

/// The way to the coordinator.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: Sender<Queued>,
    counters: Counters,
    aborting: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Queued {
    Message(Arc<Vec<u8>>),
    /// Answered once everything before it is written.
    Flush(Sender<()>),
}

impl Outgoing {
    /// Starts the writing thread.
    pub fn start(counters: Counters) -> io::Result<Self> {
        let (queue, queued) = bounded(OUTGOING_MESSAGES_MAX);
        Builder::new()
            .name("control-out".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                if write_all(&queued).is_err() {
                    exit(1);
                }
            })?;
        Ok(Self {
            queue,
            counters,
            aborting: Arc::default(),
        })
    }

    /// Sends a message; waits while the coordinator does not read.
    pub fn send(&self, message: &FromAgent) {
        self.send_encoded(Arc::new(message.encode()));
    }

    /// Sends a message that is encoded already.
    pub fn send_encoded(&self, message: Arc<Vec<u8>>) {
        // The writing thread lives as long as the process.
        self.queue.send(Queued::Message(message)).ok();
    }

    /// Sends a message unless others wait: for progress, which can be left out.
    pub fn send_if_idle(&self, message: &FromAgent) {
        if self.queue.is_empty() {
            self.queue
                .try_send(Queued::Message(Arc::new(message.encode())))
                .ok();
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
        let (done, written) = bounded(1);
        if self.queue.send(Queued::Flush(done)).is_ok() {
            written.recv().ok();
        }
    }

    /// Tells the coordinator why, and ends the process.
    pub fn abort(&self, text: &str) -> ! {
        if self.aborting.swap(true, Ordering::SeqCst) {
            // The first reason is the one that counts.
            wait_for_the_end();
        }
        eprintln!("target-agent: {}", text.escape_default());
        let message = Arc::new(FromAgent::Abort(text.to_owned()).encode());
        let (done, written) = bounded(1);
        let queued = self
            .queue
            .send_timeout(Queued::Message(message), ABORT_WAIT)
            .is_ok()
            && self
                .queue
                .send_timeout(Queued::Flush(done), ABORT_WAIT)
                .is_ok();
        if queued {
            written.recv_timeout(ABORT_WAIT).ok();
        }
        exit(1)
    }
}

fn write_all(queued: &Receiver<Queued>) -> io::Result<()> {
    let stdout = io::stdout();
    for next in queued {
        match next {
            Queued::Message(message) => {
                let length = frame_length(&message)?;
                write_fd(&stdout, &length)?;
                write_fd(&stdout, &message)?;
            }
            Queued::Flush(done) => {
                done.send(()).ok();
            }
        }
    }
    Ok(())
}

fn write_fd(stdout: &io::Stdout, mut bytes: &[u8]) -> io::Result<()> {
    // Past std's buffer, which would flush at every newline byte.
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(stdout.as_fd(), bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// A frame's length field. The message itself follows it in a write of its own: no copy is made for it.
fn frame_length(message: &[u8]) -> io::Result<[u8; framing::LENGTH_BYTES]> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let bytes = length.to_le_bytes();
    framing::frame_length(bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
