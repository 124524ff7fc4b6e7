//! Restores a snapshot, or parts of it, to a local directory. The snapshot may be hostile: everything is done
//! relative to directory descriptors beneath the target, one name at a time, and no link is ever followed.
//!
//! Reading order: what is asked for, what came of it, the run itself, then its steps in the order they happen.
//!
//! Steps: the listing streams by in its own order (`plan`); directories are made at once, files gather into
//! windows (`window`); a window's chunks are read in pack order and written wherever they belong
//! (`fetch`, `write`); a file takes its final name only when it is whole and has its metadata. Links,
//! symbolic links and devices follow at the end of each window (`after`). When all is written, a second pass
//! over the listing gives directories their metadata (`directories`). Memory is bounded by the window.

pub mod error;
pub mod options;
pub mod summary;

pub mod run;

pub mod patterns;
pub mod plan;

mod decide;
pub(crate) mod open_target;
mod staging;
mod tree;

mod after;
mod fetch;
mod filling;
mod links;
mod place;
mod site;
mod window;
mod write;

mod directories;
pub mod metadata;
pub mod owners;

pub mod dry_run;

#[cfg(test)]
mod tests;
