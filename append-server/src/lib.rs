//! Takes new objects, never overwrites, fans out to destinations, serves reads to the coordinator alone. Removes packs
//! alone, long after the log says so (`removals`). Never knows a decryption key.
//!
//! Reading order: who may do what (grants), the way of a pack in (ingest, receive, spool, fan-out,
//! destination; ssh carries SFTP), what the coordinator may ask (control), then what holds it together (places, server,
//! config).

pub mod limits;
pub mod quantity;

pub mod age_clock;
pub mod clock;

pub mod grants;

pub mod ingest;
pub mod paced_stream;
pub mod receive;
pub mod spool;

pub mod destination;
pub mod examination;
pub mod fan_out;
pub mod removals;
pub mod role;
pub mod role_trial;

pub mod ssh;

pub mod answer;
pub mod control;

pub mod claimed_dir;
pub mod io_faults;
pub mod small_database;
pub mod socket;

pub mod accounts;
pub mod config;
pub mod credential_file;
pub mod places;
pub mod server;
pub mod service_manager;
