//! The daemon: backs up every host when it is due, until it is told to end. One task owns what is due and what runs; everybody
//! else sends it messages.

pub mod client;
pub mod control;
pub mod dead_runs;
pub mod handle;
pub mod health;
pub mod lock;
pub mod protocol;
pub mod records;
pub mod reload;
pub mod runs;
pub mod serve;
pub mod services;
pub mod start;
