//! Storage as the coordinator sees it: the append-server's control socket, whoever runs that server. Never
//! reads a destination's files itself.

pub mod client;
mod connection;
pub mod destinations;
pub mod embedded;
pub mod error;
pub mod ingest;
mod placing;
pub mod relay;
pub mod removals;

pub use client::{ReadRange, StorageClient};
pub use error::StorageError;

#[cfg(test)]
mod tests;
