//! Why a connection could not be made or was ended: each reason names the host and the remedy.

use std::io;
use std::time::Duration;

use crate::ssh::credentials::CredentialError;
use crate::ssh::host_key::Fingerprint;

/// The step of a connection at which something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Resolving the name and connecting.
    Connect,
    /// Identification strings and key exchange.
    KeyExchange,
    /// Comparing the host key with the pinned ones.
    HostKey,
    /// Logging in.
    Authentication,
    /// After login.
    Session,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::KeyExchange => "key exchange",
            Self::HostKey => "verify host key",
            Self::Authentication => "authentication",
            Self::Session => "session",
        })
    }
}

/// Why there is no connection to a host.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The name does not resolve, nothing listens, or the network does not lead there.
    #[error("cannot connect to {host} at {address}")]
    Unreachable {
        /// The host's name.
        host: String,
        /// Its address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The peer did not finish a stage in time.
    #[error("{stage} with {host} did not finish within {} s", limit.as_secs())]
    TimedOut {
        /// The host's name.
        host: String,
        /// The stage.
        stage: Stage,
        /// How long it was given.
        limit: Duration,
    },
    /// The server's key is none of the pinned ones.
    #[error(
        "host key of {host} is {presented} ({algorithm}), pinned is {}: somebody may be in between; \
         if the key was changed on purpose, run `coordinator host trust {host}`",
        list(pinned)
    )]
    HostKeyMismatch {
        /// The host's name.
        host: String,
        /// The keys that `hosts.toml` trusts.
        pinned: Vec<Fingerprint>,
        /// The key that the server proved to have.
        presented: Fingerprint,
        /// Its kind.
        algorithm: String,
    },
    /// No key is pinned, so no server can be the right one.
    #[error("no host key is pinned for {host}: run `coordinator host trust {host}`")]
    HostKeyNotPinned {
        /// The host's name.
        host: String,
    },
    /// The key exchange ended without a check, or a later one used another key.
    #[error("{host} changed its host key within the connection, or never showed one; refused")]
    HostKeyChanged {
        /// The host's name.
        host: String,
    },
    /// The server offers none of the host keys that can be checked.
    #[error("{host} has no Ed25519 or ECDSA host key: create one with `ssh-keygen -A` on it")]
    NoUsableHostKey {
        /// The host's name.
        host: String,
    },
    /// Client and server share no algorithm that is safe.
    #[error("{host} offers no acceptable {kind} algorithm, only {theirs}: update its SSH server")]
    NoCommonAlgorithm {
        /// The host's name.
        host: String,
        /// What there is none of: `key exchange`, `host key`, `cipher`, …
        kind: &'static str,
        /// What the server offers, escaped.
        theirs: String,
    },
    /// What was negotiated is not what was offered.
    #[error("{host} negotiated algorithms that are not acceptable: update its SSH server")]
    WeakAlgorithms {
        /// The host's name.
        host: String,
    },
    /// The peer does not speak SSH 2, or breaks its rules before login.
    #[error("key exchange with {host} failed")]
    Handshake {
        /// The host's name.
        host: String,
        /// What the library said.
        source: russh::Error,
    },
    /// A key, a certificate or the SSH agent cannot be used.
    #[error("no usable credentials for {user}@{host}")]
    Credentials {
        /// The host's name.
        host: String,
        /// The user to log in as.
        user: String,
        /// What is wrong.
        source: CredentialError,
    },
    /// The server takes none of the credentials.
    #[error(
        "{host} refused the authentication of {user} with {tried}; it allows: {allowed}{}",
        banner_text(banner)
    )]
    AuthRefused {
        /// The host's name.
        host: String,
        /// The user to log in as.
        user: String,
        /// What was tried.
        tried: String,
        /// The methods that the server would take.
        allowed: String,
        /// What the server displays before login, escaped and cut.
        banner: String,
    },
    /// The jump host cannot be reached or logged in to.
    #[error("cannot go through {jump} to {host}")]
    Jump {
        /// The host's name.
        host: String,
        /// The jump host's name.
        jump: String,
        /// What happened there.
        source: Box<SshError>,
    },
    /// The jump host does not connect us on.
    #[error(
        "{jump} does not connect to {address} for {host}: is it up, and does sshd of {jump} have \
         AllowTcpForwarding?"
    )]
    JumpRefused {
        /// The host's name.
        host: String,
        /// The jump host's name.
        jump: String,
        /// Where it was asked to connect.
        address: String,
        /// What it said.
        source: russh::Error,
    },
    /// The server opens channels that nobody asked for.
    #[error("{host} opened {refused} channels that were not asked for; closed the connection")]
    TooManyChannels {
        /// The host's name.
        host: String,
        /// How many were refused.
        refused: u32,
    },
    /// The connection was lost.
    #[error("connection to {host} was lost during {stage}{said}")]
    Lost {
        /// The host's name.
        host: String,
        /// The stage.
        stage: Stage,
        /// What the server said about it, escaped and cut.
        said: String,
    },
}

impl SshError {
    /// The step at which it failed.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Unreachable { .. } | Self::Jump { .. } | Self::JumpRefused { .. } => {
                Stage::Connect
            }
            Self::TimedOut { stage, .. } | Self::Lost { stage, .. } => *stage,
            Self::HostKeyMismatch { .. }
            | Self::HostKeyNotPinned { .. }
            | Self::HostKeyChanged { .. }
            | Self::NoUsableHostKey { .. } => Stage::HostKey,
            Self::NoCommonAlgorithm { .. }
            | Self::WeakAlgorithms { .. }
            | Self::Handshake { .. } => Stage::KeyExchange,
            Self::Credentials { .. } | Self::AuthRefused { .. } => Stage::Authentication,
            Self::TooManyChannels { .. } => Stage::Session,
        }
    }

    /// Whether the host, or a jump host on the way, is not the one that was pinned.
    #[must_use]
    pub fn is_host_key_mismatch(&self) -> bool {
        match self {
            Self::HostKeyMismatch { .. }
            | Self::HostKeyNotPinned { .. }
            | Self::HostKeyChanged { .. } => true,
            Self::Jump { source, .. } => source.is_host_key_mismatch(),
            _ => false,
        }
    }
}

fn list(pinned: &[Fingerprint]) -> String {
    let texts: Vec<String> = pinned.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn banner_text(banner: &str) -> String {
    if banner.is_empty() {
        String::new()
    } else {
        format!("; it says: {banner}")
    }
}
