//! The log: a signed hash chain of records, each sealed to the log key. A snapshot is one kind of record.
//! Specified in `formats/docs/repository.md`.

pub mod record;
pub mod snapshot;
