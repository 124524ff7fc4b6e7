//! Whole sessions: the real program over pipes, a scripted coordinator and a small append-server in the test.
//! Everything that arrives is checked as a coordinator would, and files are put together again byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod peer;
mod server;

mod memory;
mod refusals;
mod runs;
