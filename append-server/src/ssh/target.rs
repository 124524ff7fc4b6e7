//! What a connection needs to know about a host: address, user, credentials, pinned keys, limits.
//! Keys stay in their files or in the SSH agent until the moment of use; a password, which hosts never have, is wiped.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::ssh::host_key::Fingerprint;

/// One host as `hosts.toml` describes it, as far as SSH is concerned.
#[derive(Clone)]
pub struct SshTarget {
    /// The host's name in `hosts.toml`; appears in every error.
    pub name: String,
    /// Where its SSH server listens.
    pub address: Address,
    /// The user to log in as.
    pub user: String,
    /// The private key to log in with.
    pub identity_file: Option<PathBuf>,
    /// An OpenSSH user certificate for that key, or for a key held by the SSH agent.
    pub certificate_file: Option<PathBuf>,
    /// The socket of an SSH agent, usually [`agent_socket_from_environment`].
    pub agent_socket: Option<PathBuf>,
    /// The password to log in with, after everything else that is configured.
    pub password: Option<Zeroizing<String>>,
    /// The host keys that are trusted; none means that every connection is refused.
    pub host_keys: Vec<Fingerprint>,
    /// The host to go through.
    pub jump: Option<Box<SshTarget>>,
    /// How long each stage may take.
    pub timeouts: Timeouts,
}

impl fmt::Debug for SshTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshTarget")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The SSH agent's socket that the environment names.
#[must_use]
pub fn agent_socket_from_environment() -> Option<PathBuf> {
    std::env::var_os("SSH_AUTH_SOCK")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// How long each stage of a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Resolving the name and connecting TCP.
    pub tcp: Duration,
    /// Identification strings and key exchange.
    pub handshake: Duration,
    /// Authentication, all methods together.
    pub auth: Duration,
    /// One request to the server: opening a channel, starting a command, asking for a forwarding.
    pub request: Duration,
    /// Silence after which a keepalive is sent; four without an answer end the connection.
    pub keepalive: Duration,
    /// Silence, or a write that does not proceed, that ends the connection whatever keepalives say.
    pub inactivity: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(15),
            handshake: Duration::from_secs(30),
            auth: Duration::from_secs(60),
            request: Duration::from_secs(30),
            keepalive: Duration::from_secs(15),
            inactivity: Duration::from_secs(300),
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The name or the IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 22 when none was written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// No host, or characters that no host name has.
    #[error("address {text:?} names no host; write name:port, 192.0.2.1:22 or [2001:db8::1]:22")]
    Host {
        /// What was written.
        text: String,
    },
    /// The port is no number from 1 to 65535.
    #[error(
        "address {text:?} has no valid port; write name:port, 192.0.2.1:22 or [2001:db8::1]:22"
    )]
    Port {
        /// What was written.
        text: String,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = split_port(text);
        let plausible = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || host.starts_with('-') || !host.chars().all(plausible) {
            return Err(AddressError::Host { text: text.into() });
        }
        let port = match port {
            None => 22,
            Some(digits) => digits
                .parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| AddressError::Port { text: text.into() })?,
        };
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

/// Splits off the port; a bare IPv6 address has colons but no port.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, tail)) => (host, Some(tail.strip_prefix(':').unwrap_or(""))),
            None => ("", None),
        };
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
