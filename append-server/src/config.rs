//! The program's configuration. Unknown keys are errors, with their line and column.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::destination::local::{LocalDestination, LocalOptions};
use crate::destination::local_root::RootError;
use crate::destination::{DestinationName, ParseDestinationNameError};
use crate::fan_out::Placement;
use crate::io_faults::IoFaults;
use crate::limits::{RESERVE_BYTES_DEFAULT, SPOOL_BYTES_DEFAULT};
use crate::receive::Pace;
use crate::server::ServerOptions;
use crate::spool::SpoolOptions;

/// `append-server.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    control_socket: PathBuf,
    ingest_socket: PathBuf,
    #[serde(default)]
    allow_uids: Vec<u32>,
    spool: SpoolConfig,
    destination: Vec<DestinationConfig>,
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
#[serde(deny_unknown_fields)]
struct DestinationConfig {
    name: String,
    url: String,
    #[serde(default = "yes")]
    required: bool,
}

fn spool_bytes_default() -> u64 {
    SPOOL_BYTES_DEFAULT
}

fn reserve_bytes_default() -> u64 {
    RESERVE_BYTES_DEFAULT
}

fn yes() -> bool {
    true
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
    #[error("{} is not a configuration of this version", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A destination's name.
    #[error(transparent)]
    Name(#[from] ParseDestinationNameError),
    /// Two destinations have one name.
    #[error("two destinations are named {name}; give each its own name")]
    DuplicateName {
        /// The name.
        name: DestinationName,
    },
    /// A destination's URL.
    #[error("destination {name}: {url:?} is not `file:///absolute/path`")]
    Url {
        /// The destination.
        name: DestinationName,
        /// What was given.
        url: String,
    },
    /// A destination cannot be used.
    #[error("destination {name} cannot be used")]
    Root {
        /// The destination.
        name: DestinationName,
        /// Why.
        source: RootError,
    },
}

/// A destination in a directory, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPlace {
    /// Its name.
    pub name: DestinationName,
    /// Its root.
    pub path: PathBuf,
    /// Whether nothing is acknowledged without it.
    pub required: bool,
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// What the server is started with.
    pub fn server_options(&self) -> ServerOptions {
        ServerOptions {
            control_socket: self.control_socket.clone(),
            ingest_socket: self.ingest_socket.clone(),
            allow_uids: self.allow_uids.clone(),
            spool: SpoolOptions {
                dir: self.spool.dir.clone(),
                bytes_max: self.spool.bytes_max,
                reserve_bytes: self.spool.reserve_bytes,
            },
            pace: Pace::default(),
            spool_faults: IoFaults::none(),
        }
    }

    /// Its destinations.
    pub fn places(&self) -> Result<Vec<LocalPlace>, ConfigError> {
        let mut places: Vec<LocalPlace> = Vec::new();
        for config in &self.destination {
            let name: DestinationName = config.name.parse()?;
            if places.iter().any(|place| place.name == name) {
                return Err(ConfigError::DuplicateName { name });
            }
            let path = config.url.strip_prefix("file://").map(PathBuf::from);
            let Some(path) = path.filter(|path| path.is_absolute()) else {
                return Err(ConfigError::Url {
                    name,
                    url: config.url.clone(),
                });
            };
            places.push(LocalPlace {
                name,
                path,
                required: config.required,
            });
        }
        Ok(places)
    }
}

/// Opens destinations. One that is not required and cannot be opened is left out, with a warning.
pub fn open_places(places: &[LocalPlace]) -> Result<Vec<Placement>, ConfigError> {
    let mut placements = Vec::new();
    for place in places {
        let opened =
            LocalDestination::open(place.name.clone(), &place.path, LocalOptions::default());
        match opened {
            Ok(destination) => placements.push(Placement {
                destination: Arc::new(destination),
                required: place.required,
            }),
            Err(error) if !place.required => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(destination = %place.name, error, "destination is left out until the next start");
            }
            Err(source) => {
                return Err(ConfigError::Root {
                    name: place.name.clone(),
                    source,
                });
            }
        }
    }
    Ok(placements)
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
        let options = config.server_options();
        assert_eq!(options.spool.bytes_max, SPOOL_BYTES_DEFAULT);
        assert_eq!(options.spool.reserve_bytes, RESERVE_BYTES_DEFAULT);
        let places = config.places().unwrap();
        assert_eq!(places.len(), 1);
        assert!(places.iter().all(|place| place.required));
    }

    #[test]
    fn mistakes_are_named() {
        let sample = std::fs::read_to_string(SAMPLE).unwrap();
        let unknown = read(&format!("{sample}\ncolour = 1\n")).unwrap_err();
        let source = std::error::Error::source(&unknown).unwrap().to_string();
        assert!(source.contains("colour"), "{source}");
        for (right, wrong) in [
            ("file:///srv/backup\"", "s3://bucket\""),
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
