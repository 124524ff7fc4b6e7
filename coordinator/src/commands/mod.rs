//! What each command does. They take arguments and a loaded configuration, and return what to print.

pub mod audit;
pub mod audit_log;
pub mod cat;
pub mod config_check;
pub mod demo;
pub mod destination;
pub mod destination_policy;
pub mod destination_role;
pub mod doctor;
pub mod hold;
pub mod host;
pub mod init;
pub mod key;
pub mod lease;
pub mod ls;
pub mod on_storage;
pub mod opened_snapshot;
pub mod recover;
pub mod rescue;
pub mod restore;
pub mod retention;
pub mod run;
pub mod scan;
pub mod show;
pub mod snapshots;
pub mod verify;
