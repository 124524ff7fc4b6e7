//! The walk: one tree rooted at "/", in listing order, relative to directory descriptors. Never follows a
//! symbolic link, never opens anything but directories (and CACHEDIR.TAG files), works past `PATH_MAX`.

pub mod batch;
mod descent;
pub mod directory;
pub mod ground;
pub mod names;
pub mod pseudo;
pub mod skip;
pub mod sources;
mod streams;
pub mod walker;

#[cfg(test)]
mod tests;
