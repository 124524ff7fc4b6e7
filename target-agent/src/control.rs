//! The control conversation on stdin and stdout: one thread reads, one writes.

pub mod incoming;
pub mod outgoing;
