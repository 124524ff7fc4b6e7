//! Starts threads whose failure ends the run: an error goes to the coordinator as an abort, a panic ends the
//! process. Nothing goes on half.

use std::error::Error;
use std::io;
use std::thread::{Builder, JoinHandle};

use crate::control::outgoing::Outgoing;

/// Enough for the deepest call here; zstd and BLAKE3 keep their state elsewhere.
const STACK_BYTES: usize = 512 << 10;

/// An error that ends a thread.
pub trait ThreadError: Error + 'static {
    /// Whether it is only the echo of another thread's error, which says why.
    fn is_echo(&self) -> bool;
}

impl ThreadError for io::Error {
    fn is_echo(&self) -> bool {
        false
    }
}

/// Starts a thread; its error aborts the run.
pub fn spawn<E: ThreadError>(
    name: &str,
    outgoing: &Outgoing,
    body: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let outgoing = outgoing.clone();
    Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            match body() {
                Ok(()) => {}
                // Ending like a thread whose work is done would look like success to those after it.
                Err(error) if error.is_echo() => wait_for_the_end(),
                Err(error) => outgoing.abort(&chain(&error)),
            }
        })
}

/// Waits until the process ends.
pub fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}

/// An error and what it came from, as one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
