//! `ionice` of a host's limits: how the agent stands back at the host's disks. Never sets it.

use std::fmt;
use std::str::FromStr;

/// The lowest level of the best-effort class.
const LEVEL_MAX: u8 = 7;

/// A class of Linux's I/O scheduling, and the level in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoPriority {
    /// Only when nobody else reads or writes.
    Idle,
    /// With everybody, from 0, the first, to 7, the last.
    BestEffort(u8),
}

impl IoPriority {
    /// The options of the program `ionice`.
    pub fn options(self) -> String {
        match self {
            Self::Idle => "-c3".to_owned(),
            Self::BestEffort(level) => format!("-c2 -n{level}"),
        }
    }
}

/// Why a text is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no I/O priority: write \"idle\", or \"best-effort:0\" (first) to \"best-effort:7\" (last)"
)]
pub struct ParseIoPriorityError {
    /// The refused text.
    text: String,
}

impl FromStr for IoPriority {
    type Err = ParseIoPriorityError;

    fn from_str(text: &str) -> Result<Self, ParseIoPriorityError> {
        let level = text
            .strip_prefix("best-effort:")
            .and_then(|level| level.parse().ok());
        match (text, level) {
            ("idle", _) => Ok(Self::Idle),
            (_, Some(level @ 0..=LEVEL_MAX)) => Ok(Self::BestEffort(level)),
            _ => Err(ParseIoPriorityError {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => out.write_str("idle"),
            Self::BestEffort(level) => write!(out, "best-effort:{level}"),
        }
    }
}
