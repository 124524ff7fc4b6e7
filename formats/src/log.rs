//! The log: a signed hash chain of records, each sealed to the log key. A record is a snapshot, a lease, or
//! the settings of a host.
//! Specified in `formats/docs/repository.md`.

pub mod lease;
pub mod record;
pub mod settings;
pub mod snapshot;
