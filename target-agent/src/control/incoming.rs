//! Reads the coordinator's messages and hands each to who waits for it. Its thread blocks on stdin alone: a
//! queue that overflows means answers nobody asked for, and ends the run. So does the end of stdin, at once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::process::exit;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use formats::codec::DecodeError;
use formats::limits::{BATCHES_IN_FLIGHT_MAX, QUERIES_IN_FLIGHT_MAX, TUNNEL_CONNECTIONS_MAX};
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::{FromCoordinator, TunnelBytes};
use formats::wire::framing::{self, FrameLengthError};
use formats::wire::start::Start;
use zeroize::Zeroize as _;

use crate::control::outgoing::Outgoing;
use crate::limits::{ABORT_WAIT, TUNNEL_INBOX_BYTES_MAX};
use crate::threads::chain;

/// Where the coordinator's messages arrive.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The orders, once.
    pub start: Receiver<Box<Start>>,
    /// Answers to batches of entries.
    pub verdicts: Receiver<Bitmap>,
    /// Answers to `Seen` queries.
    pub answers: Receiver<Bitmap>,
    /// The agent may go, once.
    pub bye: Receiver<()>,
    /// Bytes of each upload connection over stdio.
    pub tunnels: Arc<Vec<Inbox>>,
}

struct Routes {
    start: Sender<Box<Start>>,
    verdicts: Sender<Bitmap>,
    answers: Sender<Bitmap>,
    bye: Sender<()>,
    tunnels: Arc<Vec<Inbox>>,
}

#[derive(Debug, thiserror::Error)]
enum IncomingError {
    #[error("the coordinator's message has an impossible length")]
    Length(#[from] FrameLengthError),
    #[error("the coordinator's message cannot be read")]
    Decode(#[from] DecodeError),
    #[error("the coordinator sent {what} that nobody asked for")]
    Unasked { what: &'static str },
}

/// Starts the reading thread.
pub fn start(outgoing: &Outgoing) -> io::Result<Incoming> {
    let tunnels: Arc<Vec<Inbox>> = Arc::new(
        (0..TUNNEL_CONNECTIONS_MAX)
            .map(|_| Inbox::default())
            .collect(),
    );
    let (start, started) = bounded(1);
    let (verdicts, verdicts_out) = bounded(BATCHES_IN_FLIGHT_MAX as usize);
    let (answers, answers_out) = bounded(QUERIES_IN_FLIGHT_MAX as usize);
    let (bye, bye_out) = bounded(1);
    let routes = Routes {
        start,
        verdicts,
        answers,
        bye,
        tunnels: tunnels.clone(),
    };
    let outgoing = outgoing.clone();
    Builder::new()
        .name("control-in".to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            let error = read_messages(&routes);
            outgoing.abort(&chain(&error));
        })?;
    Ok(Incoming {
        start: started,
        verdicts: verdicts_out,
        answers: answers_out,
        bye: bye_out,
        tunnels,
    })
}

/// Reads until stdin ends, which ends the process, or until something is wrong.
fn read_messages(routes: &Routes) -> IncomingError {
    let mut message = Vec::new();
    loop {
        let mut length = [0; framing::LENGTH_BYTES];
        read_or_exit(&mut length);
        let length = match framing::frame_length(length) {
            Ok(length) => length,
            Err(error) => return error.into(),
        };
        message.resize(length, 0);
        read_or_exit(&mut message);
        let decoded = FromCoordinator::decode(&message);
        // It may have been the orders, with keys in them.
        message.zeroize();
        message.shrink_to(64 << 10);
        let routed = match decoded {
            Ok(decoded) => routes.route(decoded),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = routed {
            return error;
        }
    }
}

/// Fills the buffer. Without a coordinator there is nothing to do: the process ends here and now.
fn read_or_exit(mut buffer: &mut [u8]) {
    let stdin = io::stdin();
    while !buffer.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::read(stdin.as_fd(), &mut *buffer)) {
            Ok(0) | Err(_) => exit(1),
            Ok(read) => buffer = &mut buffer[read..],
        }
    }
}

impl Routes {
    fn route(&self, message: FromCoordinator) -> Result<(), IncomingError> {
        match message {
            FromCoordinator::Start(start) => hand(&self.start, start, "orders"),
            FromCoordinator::Verdicts(bits) => hand(&self.verdicts, bits, "verdicts"),
            FromCoordinator::Wanted(bits) => hand(&self.answers, bits, "answers"),
            FromCoordinator::Bye => {
                hand(&self.bye, (), "a farewell")?;
                // The end of stdin must not overtake a good end. A farewell that comes too early is none.
                std::thread::sleep(ABORT_WAIT);
                exit(1)
            }
            FromCoordinator::Tunnel(bytes) => self.tunnel(&bytes),
            FromCoordinator::Abort(text) => {
                eprintln!(
                    "target-agent: the coordinator gave up: {}",
                    text.escape_default()
                );
                exit(1)
            }
        }
    }

    fn tunnel(&self, bytes: &TunnelBytes) -> Result<(), IncomingError> {
        let unasked = IncomingError::Unasked {
            what: "tunnel bytes",
        };
        match self.tunnels.get(usize::from(bytes.connection)) {
            Some(inbox) if inbox.put(&bytes.bytes) => Ok(()),
            _ => Err(unasked),
        }
    }
}

fn hand<T>(route: &Sender<T>, message: T, what: &'static str) -> Result<(), IncomingError> {
    match route.try_send(message) {
        // Nobody waits any more only when the session is over already.
        Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        Err(TrySendError::Full(_)) => Err(IncomingError::Unasked { what }),
    }
}

/// Bytes that arrived for one upload connection over stdio.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InboxState {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Inbox {
    /// Adds bytes; none close it. Refused when more wait than any answer has.
    fn put(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed || state.bytes.len() + bytes.len() > TUNNEL_INBOX_BYTES_MAX {
            return false;
        }
        state.closed = bytes.is_empty();
        state.bytes.extend(bytes);
        self.changed.notify_all();
        true
    }

    /// Waits for bytes and takes some; 0 when the connection is closed.
    pub fn take(&self, buffer: &mut [u8], wait_max: Duration) -> io::Result<usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut state, waited) = self
            .changed
            .wait_timeout_while(state, wait_max, |state| {
                state.bytes.is_empty() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = buffer.len().min(state.bytes.len());
        for (slot, byte) in buffer.iter_mut().zip(state.bytes.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }
}
