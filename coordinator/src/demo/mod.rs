//! The demo: everything from `init` to a compared restore, in a temporary directory, against an SSH server of
//! its own. Never touches a configuration, and leaves nothing behind unless it is told to.

pub mod flow;

pub mod workspace;

pub mod keys;
pub mod ssh_server;
pub mod system_sshd;

pub mod changes;
pub mod comparison;
pub mod restoring;
pub mod sample_tree;
pub mod seeded;
pub mod tree_copy;

pub mod table;

pub mod error;

#[cfg(test)]
mod tests;
