//! Listings: the sorted stream of a snapshot's entries, cut into pages. Specified in
//! `formats/docs/repository.md`.
//!
//! Order: every directory's children in byte order of their names as one block, then each subdirectory's
//! block in order, recursively. So a directory is one seek, a subtree is one range, and two listings merge in
//! one pass.

pub mod content;
pub mod entry;
pub mod order;
pub mod page;
pub mod page_index;
