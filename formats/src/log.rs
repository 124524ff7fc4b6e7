//! The log: a signed hash chain of records, each sealed to the log key. A record is a snapshot, a lease,
//! the settings of a host, or an act of retention.
//! Specified in `formats/docs/repository.md`.

pub mod lease;
pub mod record;
pub mod retention;
pub mod settings;
pub mod snapshot;
pub mod thinning;
