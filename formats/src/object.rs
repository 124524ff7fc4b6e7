//! Names of objects: the same on every destination, and the only names that exist there.

use std::fmt;
use std::str::FromStr;

use crate::ids::{PackId, RepositoryId};
use crate::limits::USER_NAME_BYTES_MAX;

/// One object of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// The repository's signed configuration: `config`.
    Config,
    /// A user's key bundle: `keys/<user>`.
    Keys(UserName),
    /// A data pack: `packs/ab/abcd…`.
    Pack(PackId),
    /// A meta pack, of listing pages and index pieces: `meta/ab/abcd…`.
    Meta(PackId),
    /// A log record: `log/<20-digit sequence number>`.
    Log(u64),
}

/// A folder of objects that can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// The single `config`.
    Config,
    /// `keys/`.
    Keys,
    /// `packs/`.
    Pack,
    /// `meta/`.
    Meta,
    /// `log/`.
    Log,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Config, Self::Keys, Self::Pack, Self::Meta, Self::Log];

    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Keys => "keys",
            Self::Pack => "packs",
            Self::Meta => "meta",
            Self::Log => "log",
        }
    }
}

/// Text that names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an object's name")]
pub struct ParseObjectNameError {
    text: String,
}

impl ObjectName {
    /// Which folder it stands in.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Config => ObjectKind::Config,
            Self::Keys(_) => ObjectKind::Keys,
            Self::Pack(_) => ObjectKind::Pack,
            Self::Meta(_) => ObjectKind::Meta,
            Self::Log(_) => ObjectKind::Log,
        }
    }

    /// The digest of its bytes, for names that are one.
    pub fn digest(&self) -> Option<PackId> {
        match self {
            Self::Pack(id) | Self::Meta(id) => Some(*id),
            Self::Config | Self::Keys(_) | Self::Log(_) => None,
        }
    }

    /// Its full key on a destination: `<repository>/<name>`.
    pub fn key(&self, repository: RepositoryId) -> String {
        format!("{repository}/{self}")
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.kind().folder();
        match self {
            Self::Config => write!(f, "{folder}"),
            Self::Keys(user) => write!(f, "{folder}/{user}"),
            Self::Pack(id) | Self::Meta(id) => {
                let [first, ..] = id.as_bytes();
                write!(f, "{folder}/{first:02x}/{id}")
            }
            Self::Log(sequence) => write!(f, "{folder}/{sequence:020}"),
        }
    }
}

impl FromStr for ObjectName {
    type Err = ParseObjectNameError;

    fn from_str(text: &str) -> Result<Self, ParseObjectNameError> {
        let fail = || ParseObjectNameError {
            text: text.chars().take(120).collect(),
        };
        let name = match text.split_once('/') {
            None if text == "config" => Self::Config,
            Some(("keys", user)) => Self::Keys(user.parse().map_err(|_| fail())?),
            Some(("log", digits)) => Self::Log(digits.parse().map_err(|_| fail())?),
            Some((folder @ ("packs" | "meta"), rest)) => {
                let (_, id) = rest.split_once('/').ok_or_else(fail)?;
                let id = id.parse().map_err(|_| fail())?;
                if folder == "packs" {
                    Self::Pack(id)
                } else {
                    Self::Meta(id)
                }
            }
            _ => return Err(fail()),
        };
        // One spelling each: what does not print back as it was read is refused.
        if name.to_string() == text {
            Ok(name)
        } else {
            Err(fail())
        }
    }
}

/// The name of a key bundle's user: 1 to 64 of `a-z 0-9 . _ -`, not beginning with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

impl UserName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is not a user's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a user name: use 1 to 64 of a-z 0-9 . _ -, not a dot first")]
pub struct ParseUserNameError {
    text: String,
}

impl FromStr for UserName {
    type Err = ParseUserNameError;

    fn from_str(text: &str) -> Result<Self, ParseUserNameError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let good = !text.is_empty()
            && text.len() as u64 <= USER_NAME_BYTES_MAX
            && !text.starts_with('.')
            && text.bytes().all(allowed);
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseUserNameError {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ObjectName;
    use crate::ids::PackId;

    #[test]
    fn names_have_one_spelling() {
        let id = PackId([0xcd; 32]);
        for name in [
            ObjectName::Config,
            ObjectName::Keys("daemon".parse().expect("a good user name")),
            ObjectName::Pack(id),
            ObjectName::Meta(id),
            ObjectName::Log(7),
        ] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for bad in [
            "",
            "config/",
            "keys/",
            "keys/../x",
            "keys/.x",
            "log/7",
            "log/+0000000000000000007",
            "packs/cd",
            "packs/ab/cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
            "x/y",
        ] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
    }
}
