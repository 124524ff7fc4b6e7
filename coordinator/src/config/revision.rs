//! Which configuration is in force: a digest of every effective value, and the record of what was applied last. Never
//! holds a secret, and never changes with comments, the order of tables or where a value stands.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::utc;
use crate::config::Config;
use crate::config::replace_file::replace_file;
use crate::config::show::effective;

/// The record in the state directory.
pub const APPLIED_FILE: &str = "applied-config.json";
/// What its `format` says.
const APPLIED_FORMAT: u32 = 1;
/// Digits of a revision that are shown to people.
const SHORT_DIGITS: usize = 12;

/// The digest of a whole configuration: two are the same when every effective value is.
///
/// Secrets are not in it, only where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRevision(blake3::Hash);

impl ConfigRevision {
    /// The revision of a configuration.
    pub fn of(config: &Config) -> Self {
        Self::of_effective(&effective(config, None))
    }

    /// All 64 digits.
    pub fn full(&self) -> String {
        self.0.to_hex().to_string()
    }

    fn of_effective(effective: &Value) -> Self {
        // Objects are sorted by their keys, so that equal values give equal texts.
        Self(blake3::hash(effective.to_string().as_bytes()))
    }
}

impl fmt::Display for ConfigRevision {
    /// The first digits, for people.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.to_hex()[..SHORT_DIGITS])
    }
}

/// The configuration that was applied last.
#[derive(Debug, Serialize, Deserialize)]
pub struct Applied {
    format: u32,
    /// The version of the program that applied it.
    pub program: String,
    /// When, in RFC 3339.
    pub applied_at: String,
    /// All digits of its revision.
    pub revision: String,
    /// Every effective value.
    pub effective: Value,
}

/// The record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AppliedError {
    /// Not written.
    #[error("{}: could not write down the applied configuration", path.display())]
    Write {
        /// The record.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not read.
    #[error("{}: could not read the applied configuration", path.display())]
    Read {
        /// The record.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a record.
    #[error("{}: is no record of an applied configuration: reload the daemon, which writes it anew", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A record of another program version.
    #[error("{}: has format {found}, and this program reads {APPLIED_FORMAT}: reload the daemon, which writes it anew", path.display())]
    Format {
        /// The record.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Writes down that a configuration is in force from now on; to be called by what applies it.
pub fn record_applied(config: &Config, at: Timestamp) -> Result<ConfigRevision, AppliedError> {
    let effective = effective(config, None);
    let revision = ConfigRevision::of_effective(&effective);
    let applied = Applied {
        format: APPLIED_FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        applied_at: utc(at),
        revision: revision.full(),
        effective,
    };
    let path = config.state_dir.join(APPLIED_FILE);
    let written = serde_json::to_vec(&applied)
        .map_err(io::Error::from)
        .and_then(|bytes| replace_file(&path, &bytes));
    match written {
        Ok(()) => Ok(revision),
        Err(source) => Err(AppliedError::Write { path, source }),
    }
}

/// What was applied last; nothing when nothing ever was.
pub fn read_applied(state_dir: &Path) -> Result<Option<Applied>, AppliedError> {
    let path = state_dir.join(APPLIED_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AppliedError::Read { path, source }),
    };
    /// What every format has.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let damaged = |source| AppliedError::Damaged {
        path: path.clone(),
        source,
    };
    let head: Head = serde_json::from_slice(&bytes).map_err(damaged)?;
    if head.format != APPLIED_FORMAT {
        let found = head.format;
        return Err(AppliedError::Format { path, found });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests;
