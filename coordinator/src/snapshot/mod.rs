//! Reads snapshots: chunks by their ids, a listing's pages and entries, a file's extents. Every chunk is
//! checked against its keyed id before a byte of it is used. Never writes to a repository.
//!
//! Reading order: where a chunk lies, how frames are read and opened, then the listing on top of them.

pub mod place;

mod frame_cache;
mod plain_buffers;
mod run_keys;

pub mod chunk_error;
pub mod chunks;
mod ranges;

pub mod content;
pub mod cursor;
pub mod listing;
pub mod pages;

pub mod difference;
pub mod further;

pub mod pack_check;
pub mod verification;

pub(crate) mod named_chunks;

pub mod memory;
pub mod shown;

#[cfg(test)]
pub(crate) mod tree_builder;

#[cfg(test)]
mod tests;
