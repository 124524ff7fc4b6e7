//! Reads wanted entries: content in chunks, attributes, link targets, and the output of commands for streams. Opens regular
//! files only; never a FIFO, a socket or a device.

pub mod cache;
pub mod command;
pub mod content;
pub mod entry;
pub mod file;
pub mod hash;
pub mod worker;
pub mod xattrs;

#[cfg(test)]
mod tests;
