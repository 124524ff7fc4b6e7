//! `host ls`, `host trust` and `host test`: what there is to back up, whether it is the right machine, and
//! whether a backup would work. Only `host trust` changes anything: it pins keys in the hosts file.

pub mod list;
pub mod trial;
pub mod trust;

#[cfg(test)]
mod tests;
