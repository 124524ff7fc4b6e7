//! `[listener]` of coordinator.toml: where health and metrics are asked for.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

use crate::config::raw::Text;
use crate::config::settings::ValueReader;

/// `[listener]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    pub(super) address: Option<Text>,
    pub(super) insecure: Option<bool>,
}

/// Where the listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether nobody on the network can read along.
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Why the listener cannot listen there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// Neither an address with a port nor a socket.
    #[error(
        "{text:?} is no address to listen on: write \"127.0.0.1:9820\", \"[::1]:9820\" or \"unix:/run/coordinator/listener\""
    )]
    NoAddress {
        /// What was written.
        text: String,
    },
    /// Tokens would cross the network in clear.
    #[error(
        "tokens would cross the network to {address} in clear: listen on 127.0.0.1 behind a proxy with TLS, or set `insecure = true`"
    )]
    Insecure {
        /// The address.
        address: String,
    },
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let fail = || ListenAddressError::NoAddress {
            text: text.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() && path.file_name().is_some() {
                true => Ok(Self::Unix(path)),
                false => Err(fail()),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| fail())
    }
}

pub(super) fn read_listener(
    reader: &mut ValueReader<'_>,
    raw: &RawListener,
) -> Option<ListenAddress> {
    let text = raw.address.as_ref()?;
    let address: ListenAddress = reader.one(text)?;
    if !address.is_local() && raw.insecure != Some(true) {
        let address = address.to_string();
        reader.refuse(&text.span(), ListenAddressError::Insecure { address });
        return None;
    }
    Some(address)
}
