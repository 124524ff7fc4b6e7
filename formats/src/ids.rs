//! Identifiers. Each is its own type, shown and parsed as lower-case hexadecimal, and means one thing.

use std::fmt;
use std::str::FromStr;

use crate::codec::{DecodeError, Reader};

/// Text that is not the hexadecimal form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected} lower-case hexadecimal digits")]
pub struct ParseIdError {
    text: String,
    expected: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// How many bytes it has.
            pub const BYTES: usize = $bytes;

            /// Its bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Reads it from a format's bytes.
            pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array(stringify!($name)).map(Self)
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id! {
    /// One repository: everything under one `config` object. Random.
    RepositoryId, 16
}
id! {
    /// One coordinator: the state directory of one machine. Random.
    CoordinatorId, 16
}
id! {
    /// One execution of a host's backup. Random, chosen by the coordinator.
    RunId, 16
}
id! {
    /// One act of retention. Random, chosen by the coordinator.
    ActId, 16
}

id! {
    /// A chunk's name: the keyed hash of its kind and plaintext under the repository's id key.
    ChunkId, 32
}
id! {
    /// A pack's name: the BLAKE3 digest of its bytes, so that anyone can check it without a key.
    PackId, 32
}
id! {
    /// A log record's name: the BLAKE3 digest of its bytes. A snapshot is named by its record.
    RecordId, 32
}
id! {
    /// An audit record's name: the BLAKE3 digest of its bytes.
    AuditId, 32
}

/// Decodes exactly `N` bytes of lower-case hexadecimal.
pub fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let fail = || ParseIdError {
        text: text.chars().take(80).collect(),
        expected: N * 2,
    };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(fail());
    }
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return Err(fail()),
            };
            *byte = *byte << 4 | value;
        }
    }
    Ok(bytes)
}

/// Lower-case hexadecimal of any bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{PackId, RunId};

    #[test]
    fn ids_parse_only_their_own_lower_case_form() {
        let id = RunId([0xab; 16]);
        assert_eq!(id.to_string().parse::<RunId>(), Ok(id));
        assert_eq!(id.short(), "abababab");
        assert!("AB".repeat(16).parse::<RunId>().is_err());
        assert!("ab".repeat(16).parse::<PackId>().is_err());
        assert!("zz".repeat(16).parse::<RunId>().is_err());
    }
}
