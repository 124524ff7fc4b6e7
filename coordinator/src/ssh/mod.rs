//! The SSH side of a run: connect to a pinned host, execute, deploy the agent, open the tunnel.
//! Never trusts a host key that is not pinned, and never accepts a channel that was not asked for.
//!
//! One run, in order: [`connect::connect`], [`deploy::deploy`] (a janitor keeps the directory),
//! [`tunnel::open_tunnel`] into that directory, [`deploy::DeployedAgent::start`], the conversation
//! on its streams while [`tunnel::Tunnel::accept`] hands out the uploads, then
//! [`deploy::DeployedAgent::remove`], [`remains::probe_left_behind`] and
//! [`connect::SshConnection::disconnect`]. Dropping anything early cleans up as well.

pub mod target;

pub mod host_key;

pub mod connect;

pub mod credentials;

pub mod error;

pub mod exec;

pub mod stream;

pub mod tunnel;

pub mod janitor;

pub mod deploy;

pub mod remains;

pub mod escape;

mod algorithms;
mod auth;
mod cut;
mod gate;
mod peer;
mod shell;

#[cfg(test)]
mod tests;
