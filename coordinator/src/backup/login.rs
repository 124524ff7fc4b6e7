//! A host of the configuration as the SSH connection wants it. Never reads a key file itself.

use append_server::ssh::connect::{SshConnection, connect};
use append_server::ssh::error::SshError;
use append_server::ssh::host_key::Fingerprint;
use append_server::ssh::target::{
    AddressError, SshTarget, Timeouts, agent_socket_from_environment,
};

use crate::config::host::{Host, HostLimits, Login};
use crate::ssh::this_machine::{ThisMachineError, connect_here};

/// Why a host's configuration gives no connection.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The address is none.
    #[error("the address of {host} cannot be used")]
    Address {
        /// The host's name.
        host: String,
        /// Why.
        source: AddressError,
    },
}

/// Why a host is not reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Its configuration.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The connection.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The machine that the coordinator itself is on.
    #[error("cannot start a session on this machine")]
    Here(#[from] ThisMachineError),
}

/// Connects to `host`: over SSH, unless it is the machine that this is.
pub async fn reach(host: &Host) -> Result<SshConnection, ReachError> {
    let target = ssh_target(host)?;
    Ok(match host.local {
        true => connect_here(target).await?,
        false => connect(&target).await?,
    })
}

/// Where and how to connect to `host`, over its jump hosts.
pub fn ssh_target(host: &Host) -> Result<SshTarget, LoginError> {
    let mut through = None;
    for (hop, jump) in host.jumps.iter().enumerate() {
        let name = match &jump.host {
            Some(name) => name.to_string(),
            None => format!("{} (jump {})", host.name, hop + 1),
        };
        let target = login_target(&name, &jump.login, &host.limits, through)?;
        through = Some(Box::new(target));
    }
    login_target(&host.name.to_string(), &host.login, &host.limits, through)
}

fn login_target(
    name: &str,
    login: &Login,
    limits: &HostLimits,
    jump: Option<Box<SshTarget>>,
) -> Result<SshTarget, LoginError> {
    let address = login
        .address
        .to_string()
        .parse()
        .map_err(|source| LoginError::Address {
            host: name.to_owned(),
            source,
        })?;
    let connect = limits.connect.duration();
    Ok(SshTarget {
        name: name.to_owned(),
        address,
        user: login.user.as_str().to_owned(),
        identity_file: login
            .identity_file
            .as_ref()
            .map(|file| file.path().to_owned()),
        certificate_file: login.certificate_file.clone(),
        agent_socket: login
            .use_agent
            .then(agent_socket_from_environment)
            .flatten(),
        password: None,
        host_keys: login
            .host_keys
            .iter()
            .filter_map(|key| key.to_string().parse::<Fingerprint>().ok())
            .collect(),
        jump,
        timeouts: Timeouts {
            tcp: connect.min(Timeouts::default().tcp),
            handshake: connect,
            inactivity: limits.idle.duration(),
            ..Timeouts::default()
        },
    })
}
