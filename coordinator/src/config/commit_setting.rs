//! `commit` of hosts.toml: on how many of the destinations that a host is kept at its objects must be before they are
//! acknowledged. The required destinations must have them in any case, and `min_copies` of coordinator.toml is the floor for every
//! host. Never counts destinations; `placing` does that.

use std::fmt;
use std::ops::Range;

use append_server::destination::DestinationName;
use formats::wire::placing::Copies;
use formats::wire::upload::destinations::DESTINATIONS_MAX;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;

use crate::config::Config;
use crate::config::error::ValueError;
use crate::config::host::Host;
use crate::config::placing::KnownPlaces;
use crate::config::settings::ValueReader;

/// On how many destinations an object of a host must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Commit {
    /// On the required ones, and on as many as `min_copies` says.
    #[default]
    Any,
    /// On every one that the host is kept at.
    All,
    /// On so many, the required ones among them.
    AtLeast(u64),
}

/// A checked `commit`, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct CommitSetting {
    pub(super) commit: Commit,
    pub(super) span: Range<usize>,
}

/// `commit`: a word, or a number.
#[derive(Debug)]
pub(super) enum RawCommit {
    Word(String),
    Number(u64),
}

// Derived code for an untagged enum would lose the places of the values.
impl<'de> Deserialize<'de> for RawCommit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrNumber;
        impl Visitor<'_> for WordOrNumber {
            type Value = RawCommit;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("\"any\", \"all\", or a number of destinations such as 2")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawCommit, E> {
                Ok(RawCommit::Word(text.to_owned()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<RawCommit, E> {
                Ok(RawCommit::Number(number))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<RawCommit, E> {
                let number = u64::try_from(number);
                let number = number.map_err(|_| E::custom("a number of destinations is from 1 up"));
                number.map(RawCommit::Number)
            }
        }
        deserializer.deserialize_any(WordOrNumber)
    }
}

pub(super) fn read_commit(
    reader: &mut ValueReader<'_>,
    raw: &Spanned<RawCommit>,
) -> Option<CommitSetting> {
    let commit = match raw.get_ref() {
        RawCommit::Word(word) if word == "any" => Commit::Any,
        RawCommit::Word(word) if word == "all" => Commit::All,
        RawCommit::Number(copies @ 1..=DESTINATIONS_MAX) => Commit::AtLeast(*copies),
        RawCommit::Word(word) => {
            let text = format!("{word:?}");
            reader.refuse(&raw.span(), ValueError::NoCommit { text });
            return None;
        }
        RawCommit::Number(number) => {
            let text = number.to_string();
            reader.refuse(&raw.span(), ValueError::NoCommit { text });
            return None;
        }
    };
    Some(CommitSetting {
        commit,
        span: raw.span(),
    })
}

impl Commit {
    /// As the append-server is told.
    pub fn copies(self) -> Copies {
        match self {
            Self::Any => Copies::Floor,
            Self::All => Copies::All,
            Self::AtLeast(copies) => Copies::AtLeast(copies),
        }
    }
}

/// As in hosts.toml.
impl fmt::Display for Commit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("\"any\""),
            Self::All => out.write_str("\"all\""),
            Self::AtLeast(copies) => write!(out, "{copies}"),
        }
    }
}

impl Serialize for Commit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::All => serializer.serialize_str("all"),
            Self::AtLeast(copies) => serializer.serialize_u64(*copies),
        }
    }
}

/// Where a host is kept, and on how many destinations there its objects must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiesOfHost<'a> {
    /// The destinations that it is kept at, in the order of coordinator.toml.
    pub kept_at: Vec<&'a DestinationName>,
    /// Those of them that always have them.
    pub required: Vec<&'a DestinationName>,
    /// On how many of all they must be, as far as coordinator.toml says.
    pub copies: u64,
}

impl Config {
    /// On how many destinations, and of which, an object of a host must be before it is acknowledged.
    pub fn copies_of(&self, host: &Host) -> CopiesOfHost<'_> {
        let known = KnownPlaces {
            places: &self.destinations,
            copies_min: self.limits.min_copies,
        };
        let required = self.destinations.iter().filter(|place| place.required);
        let required: Vec<_> = required.map(|place| &place.name).collect();
        let kept_at = known.kept(host);
        let asked = match host.commit {
            Commit::Any => 0,
            Commit::All => kept_at.len() as u64,
            Commit::AtLeast(copies) => copies,
        };
        CopiesOfHost {
            copies: asked.max(required.len() as u64).max(known.copies_min),
            kept_at,
            required,
        }
    }
}
