//! The daemon: backs up every host when it is due, until it is told to end.

pub mod records;
