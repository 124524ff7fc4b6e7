//! The program's configuration. Unknown keys are errors, with their line and column.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::accounts::{self, AccountError};
use crate::destination::DestinationName;
use crate::fan_out::queue::QUEUE_FILE;
use crate::io_faults::IoFaults;
use crate::limits::{
    PATIENCE_MAX, REMOVAL_DAILY_BYTES_DEFAULT, REMOVAL_GRACE_DEFAULT, RESERVE_BYTES_DEFAULT,
    SPOOL_BYTES_DEFAULT,
};
use crate::places::table::DestinationTable;
use crate::places::{FileFacts, Place, PlaceError};
use crate::receive::Pace;
use crate::removals::RemovalPolicy;
use crate::server::ServerOptions;
use crate::spool::SpoolOptions;

/// `append-server.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    control_socket: PathBuf,
    ingest_socket: PathBuf,
    #[serde(default)]
    allow_users: Vec<String>,
    #[serde(default)]
    allow_uids: Vec<u32>,
    #[serde(default = "one")]
    min_copies: usize,
    #[serde(default = "patience_default", deserialize_with = "patience")]
    patience_secs: u64,
    spool: SpoolConfig,
    #[serde(default)]
    removal: RemovalConfig,
    destination: Vec<DestinationTable>,
    /// The file, its directory, and whether nobody but its owner may read it.
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    directory: PathBuf,
    #[serde(skip)]
    is_private: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpoolConfig {
    dir: PathBuf,
    #[serde(default = "spool_bytes_default")]
    bytes_max: u64,
    #[serde(default = "reserve_bytes_default")]
    reserve_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RemovalConfig {
    grace_secs: u64,
    daily_bytes_max: u64,
}

impl Default for RemovalConfig {
    fn default() -> Self {
        Self {
            grace_secs: REMOVAL_GRACE_DEFAULT.as_secs(),
            daily_bytes_max: REMOVAL_DAILY_BYTES_DEFAULT,
        }
    }
}

fn one() -> usize {
    1
}

fn patience_default() -> u64 {
    PATIENCE_MAX.as_secs()
}

fn patience<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let max = patience_default();
    match u64::deserialize(from)? {
        secs if (1..=max).contains(&secs) => Ok(secs),
        secs => Err(D::Error::custom(format!(
            "{secs} seconds of patience are out of range: write a number from 1 to {max}"
        ))),
    }
}

fn spool_bytes_default() -> u64 {
    SPOOL_BYTES_DEFAULT
}

fn reserve_bytes_default() -> u64 {
    RESERVE_BYTES_DEFAULT
}

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}:{line} is not a configuration of this version: {problem}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Its line; what stands there may be a secret and is not repeated.
        line: usize,
        /// Why.
        problem: String,
    },
    /// A destination.
    #[error("destination {name:?} in {} cannot be used", path.display())]
    Destination {
        /// The file.
        path: PathBuf,
        /// The destination.
        name: String,
        /// Why.
        source: PlaceError,
    },
    /// A user that may connect.
    #[error("`allow_users` in {} cannot be used", path.display())]
    User {
        /// The file.
        path: PathBuf,
        /// Why.
        source: AccountError,
    },
    /// Two destinations are in one place.
    #[error("destination {name} is where {other} is; give each a place of its own")]
    DuplicateUrl {
        /// The later one.
        name: DestinationName,
        /// The earlier one.
        other: DestinationName,
    },
    /// Two destinations have one name.
    #[error("two destinations are named {name}; give each its own name")]
    DuplicateName {
        /// The name.
        name: DestinationName,
    },
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode();
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            ConfigError::Parse {
                path: path.to_owned(),
                line: before.unwrap_or_default().matches('\n').count() + 1,
                problem: error.message().to_owned(),
            }
        })?;
        config.directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        config.is_private = mode & 0o077 == 0;
        config.path = path.to_owned();
        Ok(config)
    }

    /// What the server is started with.
    pub fn server_options(&self) -> Result<ServerOptions, ConfigError> {
        Ok(ServerOptions {
            control_socket: self.control_socket.clone(),
            ingest_socket: self.ingest_socket.clone(),
            allow_uids: self.allowed_uids(Path::new(accounts::PASSWD))?,
            spool: SpoolOptions {
                dir: self.spool.dir.clone(),
                bytes_max: self.spool.bytes_max,
                reserve_bytes: self.spool.reserve_bytes,
            },
            queue: self.spool.dir.join(QUEUE_FILE),
            removals: self.removal_policy(),
            copies_min: self.min_copies,
            patience: Duration::from_secs(self.patience_secs),
            pace: Pace::default(),
            spool_faults: IoFaults::none(),
        })
    }

    fn allowed_uids(&self, passwd: &Path) -> Result<Vec<u32>, ConfigError> {
        let named = accounts::uids_of(&self.allow_users, passwd);
        let mut uids = named.map_err(|source| ConfigError::User {
            path: self.path.clone(),
            source,
        })?;
        uids.extend(&self.allow_uids);
        Ok(uids)
    }

    /// A table that says something else than it may is told by [`Self::places`], and starts no server.
    fn removal_policy(&self) -> RemovalPolicy {
        let rules = self.destination.iter().filter_map(|table| {
            let name = table.name.get_ref().parse().ok()?;
            Some((name, table.removal().ok()?))
        });
        RemovalPolicy {
            grace: Duration::from_secs(self.removal.grace_secs),
            daily_bytes_max: self.removal.daily_bytes_max,
            rules: rules.collect(),
        }
    }

    /// Its destinations.
    pub fn places(&self) -> Result<Vec<Place>, ConfigError> {
        let file = FileFacts {
            directory: &self.directory,
            is_private: self.is_private,
        };
        let mut places: Vec<Place> = Vec::new();
        for table in &self.destination {
            let place = Place::read(table, file).map_err(|source| ConfigError::Destination {
                path: self.path.clone(),
                name: table.name.get_ref().clone(),
                source,
            })?;
            if places.iter().any(|other| other.name == place.name) {
                return Err(ConfigError::DuplicateName { name: place.name });
            }
            // Two copies in one place would be counted as two and be one.
            if let Some(other) = places.iter().find(|other| other.is_where(&place)) {
                return Err(ConfigError::DuplicateUrl {
                    name: place.name,
                    other: other.name.clone(),
                });
            }
            places.push(place);
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Config, ConfigError};
    use crate::limits::{RESERVE_BYTES_DEFAULT, SPOOL_BYTES_DEFAULT};
    use std::path::Path;

    const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/append-server.toml");

    fn read(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("append-server.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn the_sample_is_read_and_shows_the_defaults() {
        let config = Config::read(Path::new(SAMPLE)).unwrap();
        let options = config.server_options().unwrap();
        assert_eq!(options.spool.bytes_max, SPOOL_BYTES_DEFAULT);
        assert_eq!(options.spool.reserve_bytes, RESERVE_BYTES_DEFAULT);
        let places = config.places().unwrap();
        assert_eq!(places.len(), 1);
        assert!(places.iter().all(|place| place.required));
    }

    #[test]
    fn users_may_be_named_or_numbered() {
        let sample = std::fs::read_to_string(SAMPLE).unwrap();
        let named = sample.replace("allow_users = []", "allow_users = [\"root\"]");
        let named = named.replace("allow_uids = []", "allow_uids = [998]");
        let options = read(&named).unwrap().server_options().unwrap();
        assert_eq!(options.allow_uids, [0, 998]);
        let unknown = sample.replace("allow_users = []", "allow_users = [\"no-such-user\"]");
        assert!(matches!(
            read(&unknown).unwrap().server_options(),
            Err(ConfigError::User { .. })
        ));
    }

    #[test]
    fn mistakes_are_named() {
        let sample = std::fs::read_to_string(SAMPLE).unwrap();
        let unknown = read(&format!("{sample}\ncolour = 1\n")).unwrap_err();
        let text = unknown.to_string();
        assert!(text.contains("colour"), "{text}");
        for (right, wrong) in [
            ("file:///srv/backup\"", "ftp://bucket\""),
            ("file:///srv/backup\"", "file://relative\""),
            ("name = \"local\"", "name = \"../local\""),
        ] {
            let changed = sample.replace(right, wrong);
            assert_ne!(changed, sample);
            assert!(read(&changed).unwrap().places().is_err(), "{wrong}");
        }
        let (_, destination) = sample.split_at(sample.find("[[destination]]").unwrap());
        let twice = read(&format!("{sample}\n{destination}")).unwrap();
        assert!(matches!(
            twice.places(),
            Err(ConfigError::DuplicateName { .. })
        ));
    }
}
