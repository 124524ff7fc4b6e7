//! SSH connections to pinned servers, logged in: to hosts for the coordinator, to SFTP destinations for this server.
//! Never trusts a host key that is not pinned, and never accepts a channel that was not asked for.
//!
//! [`connect::connect`] makes one; [`stream`] reads and writes its channels, [`subsystem`] opens one for SFTP, and the
//! coordinator runs commands and tunnels over it.

pub mod target;

pub mod host_key;

pub mod connect;

pub mod credentials;

pub mod error;

pub mod stream;

pub mod subsystem;

pub mod gate;

pub mod peer;

pub mod escape;

mod algorithms;
mod auth;
mod cut;
