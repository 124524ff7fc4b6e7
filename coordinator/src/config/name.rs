//! The grammar of names that become file names, log fields and arguments. Never accepts a path.

use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("a name is empty: give it at least one letter or digit")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("name has {bytes} bytes: shorten it to {NAME_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Starts with something other than a letter or digit.
    #[error("name {name:?} starts with {first:?}: start it with a-z or 0-9")]
    BadStart {
        /// The refused name.
        name: String,
        /// Its first character.
        first: char,
    },
    /// Holds a character outside the grammar.
    #[error(
        "name {name:?} holds {character:?}: use only a-z, 0-9, \".\", \"_\" and \"-\" (a name is not a path)"
    )]
    BadCharacter {
        /// The refused name.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Holds "..", which would leave a directory.
    #[error("name {name:?} holds \"..\": a name is not a path, write it with single dots")]
    PathLike {
        /// The refused name.
        name: String,
    },
}

/// Defines one newtype per kind of name, so that a host is never taken for a destination.
macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of one `[host.NAME]` of hosts.toml.
    HostName
);
name_type!(
    /// The name of one `[[destination]]` of coordinator.toml.
    DestinationName
);
name_type!(
    /// The name of the repository a host writes to: its own, or the group it was put in.
    RepositoryName
);
name_type!(
    /// The name of one `[group.NAME]` of hosts.toml.
    GroupName
);
name_type!(
    /// A label of a host, by which commands pick several.
    Tag
);
name_type!(
    /// What hosts share that can be asked by one of them at a time, such as a hypervisor or a store.
    ConcurrencyKey
);
name_type!(
    /// The name of the key bundle's user.
    KeyUser
);

impl From<&HostName> for RepositoryName {
    /// A host alone in its repository gives it its own name; the grammar is the same.
    fn from(host: &HostName) -> Self {
        Self(host.0.clone())
    }
}

fn check(text: &str) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else {
        return Err(NameError::Empty);
    };
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    if let Some(character) = text.chars().find(|character| !allowed(*character)) {
        return Err(NameError::BadCharacter {
            name: text.to_owned(),
            character,
        });
    }
    if text.contains("..") {
        return Err(NameError::PathLike {
            name: text.to_owned(),
        });
    }
    if !first.is_ascii_lowercase() && !first.is_ascii_digit() {
        return Err(NameError::BadStart {
            name: text.to_owned(),
            first,
        });
    }
    Ok(())
}

fn allowed(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || "._-".contains(character)
}
