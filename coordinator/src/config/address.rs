//! Where a host listens and who logs in there. Never resolves a name, never connects.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of SSH, when none is written.
pub const SSH_PORT_DEFAULT: u16 = 22;
/// The longest host part of an address: a DNS name's limit.
const HOST_BYTES_MAX: usize = 253;
/// The longest user name of a login.
const USER_BYTES_MAX: usize = 128;

/// Why a text is not an address or a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was written.
    #[error("address is empty: write \"host\" or \"host:port\"")]
    Empty,
    /// Starts with "-", as an option of a program would.
    #[error("{text:?} starts with \"-\" and could be taken for an option: write the plain name")]
    LooksLikeOption {
        /// The refused text.
        text: String,
    },
    /// Names the user inside the address.
    #[error("address {text:?} names a user: write it under `user`")]
    HoldsUser {
        /// The refused text.
        text: String,
    },
    /// Holds a character no host name has.
    #[error(
        "address {text:?} holds {character:?}: use a DNS name (a-z, 0-9, \".\", \"-\", \"_\"), an IPv4 address, or IPv6 in brackets"
    )]
    BadCharacter {
        /// The refused text.
        text: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// An IPv6 address without brackets, where the port would be ambiguous.
    #[error("address {text:?} is IPv6 without brackets: write \"[{text}]\" or \"[{text}]:22\"")]
    BareIpv6 {
        /// The refused text.
        text: String,
    },
    /// The text in brackets is no IPv6 address.
    #[error("address {text:?} is not an IPv6 address in brackets: write \"[2001:db8::1]:22\"")]
    BadIpv6 {
        /// The refused text.
        text: String,
    },
    /// The part after the colon is no port.
    #[error("address {text:?} has no valid port: write a number from 1 to 65535 after the colon")]
    BadPort {
        /// The refused text.
        text: String,
    },
    /// Longer than a DNS name can be.
    #[error("address has {bytes} bytes: a host name has at most {HOST_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The user is empty, too long, or holds a character that logins do not have.
    #[error(
        "user {text:?} is not a login name: no spaces, no control characters, no \"@\", 1 to {USER_BYTES_MAX} bytes"
    )]
    BadUser {
        /// The refused text.
        text: String,
    },
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The DNS name or IP address, IPv6 without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, [`SSH_PORT_DEFAULT`] when none was written.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.starts_with('-') {
            return Err(AddressError::LooksLikeOption {
                text: text.to_owned(),
            });
        }
        if text.contains('@') {
            return Err(AddressError::HoldsUser {
                text: text.to_owned(),
            });
        }
        if text.starts_with('[') {
            return bracketed(text);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddressError::BareIpv6 {
                text: text.to_owned(),
            });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(text, port)?),
            None => (text, SSH_PORT_DEFAULT),
        };
        check_dns(text, host)?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// A user name to log in with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoginUser(String);

impl LoginUser {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LoginUser {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('-') {
            return Err(AddressError::LooksLikeOption {
                text: text.to_owned(),
            });
        }
        let bad = text
            .chars()
            .any(|character| character.is_control() || character.is_whitespace());
        if text.is_empty() || text.len() > USER_BYTES_MAX || bad || text.contains('@') {
            return Err(AddressError::BadUser {
                text: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LoginUser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn bracketed(text: &str) -> Result<Address, AddressError> {
    let bad = || AddressError::BadIpv6 {
        text: text.to_owned(),
    };
    let (host, rest) = text
        .strip_prefix('[')
        .and_then(|inner| inner.split_once(']'))
        .ok_or_else(bad)?;
    let (literal, zone) = match host.split_once('%') {
        Some((literal, zone)) => (literal, Some(zone)),
        None => (host, None),
    };
    if literal.parse::<Ipv6Addr>().is_err() {
        return Err(bad());
    }
    if zone.is_some_and(|zone| zone.is_empty() || !zone.chars().all(allowed)) {
        return Err(bad());
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => parse_port(text, port)?,
        None if rest.is_empty() => SSH_PORT_DEFAULT,
        None => return Err(bad()),
    };
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

/// Digits only: `parse` alone would also take "+22".
fn parse_port(text: &str, port: &str) -> Result<u16, AddressError> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits && number > 0 => Ok(number),
        _ => Err(AddressError::BadPort {
            text: text.to_owned(),
        }),
    }
}

fn check_dns(text: &str, host: &str) -> Result<(), AddressError> {
    if host.is_empty() {
        return Err(AddressError::Empty);
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(AddressError::TooLong { bytes: host.len() });
    }
    match host.chars().find(|character| !allowed(*character)) {
        Some(character) => Err(AddressError::BadCharacter {
            text: text.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

fn allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-".contains(character)
}
