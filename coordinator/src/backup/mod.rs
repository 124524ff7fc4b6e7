//! One backup run, from the lock to the committed snapshot. Read `run` first: the whole flow is there on one
//! page. The coordinator decides everything here; the agent only reads.

pub mod run;

pub mod begin;
pub mod prepared;

pub mod dead_runs;
pub mod hooks;
pub mod limited_carrying;
pub mod login;
pub mod session;

pub mod before;
pub mod carrier;
pub mod changes;
pub mod comparison;
pub mod control;
pub mod conversation;
pub mod guard;
pub mod new_chunks;
pub mod newly_excluded;
pub mod parent;
pub mod pending;
pub mod remembered;
pub mod reuse;
pub mod sources;
pub mod state_copy;
pub mod stored;
pub mod streams;
pub mod threaded;
pub mod verdict;

pub mod commit;
pub mod listing_writer;
pub mod meta_writer;
pub mod shared_index;
pub mod verifier;

pub mod error;
pub mod progress;
pub mod report;

#[cfg(test)]
mod sample_entry;
