//! The SSH side of a run over a connection that `append_server::ssh` made: execute, deploy the agent, open the tunnel.
//! Never leaves anything on the host.
//!
//! One run, in order: [`append_server::ssh::connect::connect`], [`deploy::deploy`] (a janitor keeps the directory),
//! [`tunnel::open_tunnel`] into that directory, [`deploy::DeployedAgent::start`], the conversation
//! on its streams while [`tunnel::Tunnel::accept`] hands out the uploads, then
//! [`deploy::DeployedAgent::remove`], [`remains::probe_left_behind`] and
//! [`append_server::ssh::connect::SshConnection::disconnect`]. Dropping anything early cleans up as well.

pub mod embedded_sshd;
pub mod fresh_key;
pub mod this_machine;

pub mod exec;
pub mod guarded;

pub mod tunnel;

pub mod janitor;
pub mod priority;

pub mod deploy;

pub mod remains;

pub(crate) mod shell;

#[cfg(test)]
mod tests;
