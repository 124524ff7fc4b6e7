//! The target agent: reads one host for one run and streams sealed packs back. Threads and blocking I/O.
//! Never holds history, never decides what is kept, never writes outside its own temporary directory,
//! but for the filesystem snapshots that it is told to take, and removes.
//!
//! Reading order: the session, the conversation it has, then the way of a tree (walk, filter), of a file
//! (dispatch, read, window, pack) and of a pack (upload).

pub mod pipeline;
pub mod session;

pub mod clock;
pub mod cpu_limit;
pub mod facts;
pub mod hardening;
pub mod limits;
pub mod mount_table;
pub mod own_file;
pub mod surroundings;
pub mod threads;
pub mod totals;

pub mod control;

pub mod batches;
pub mod filter;
pub mod fs_snapshot;
pub mod stat;
pub mod streams;
pub mod walk;

pub mod budget;
pub mod dispatch;
pub mod read;
pub mod window;

pub mod pack;
pub mod upload;
