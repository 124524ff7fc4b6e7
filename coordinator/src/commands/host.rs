//! `host ls`, `host trust`, `host test` and `host accept-identity`: what there is to back up, whether it is the right
//! machine, and whether a backup would work. Only `host trust` changes a file: it pins keys in the hosts file.

pub mod explain;
mod explain_path;
pub mod identity;
pub mod list;
pub mod trial;
pub mod trust;

#[cfg(test)]
mod tests;
