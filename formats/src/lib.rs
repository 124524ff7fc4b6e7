//! Every byte that two of Capstan's programs must agree on: repository, sealing, wire, limits.
//! Never opens a file or a socket, never reads a clock.
//!
//! Reading order: identifiers and limits, the codec, then a file's way down (chunk, frame, pack), then a
//! tree's way down (entry, page, listing), then what ties them together (log, config), then the audit log, then the wire.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

pub mod codec;
pub mod ids;
pub mod limits;
pub mod object;

pub mod keys;
pub mod seal;

pub mod chunk;
pub mod pack;

pub mod listing;

pub mod config;
pub mod log;

pub mod audit;

pub mod wire;
