//! Restores from what packs survive, without config, log or index: opens every pack by itself, takes the newest
//! entry of every path from whatever pages of listings are there, and makes one listing of them, which the
//! ordinary restore consumes. Never writes to where the packs are.
//!
//! Reading order: where packs are, what is in them, the entries in their pages, the listing made of those, and
//! the whole of it in [`run`]. Everything that grows with a repository is in SQLite files of a `workspace`.

pub mod error;
pub mod shelf;

mod folder;
mod opening;
mod shelf_packs;

mod store;
mod workspace;

mod duplicates;
mod places;
mod survey;

mod compose;
mod entries;
mod kept_pages;

mod latest;
pub mod list;
mod pruned;
pub mod report;
pub mod run;

#[cfg(test)]
mod tests;
