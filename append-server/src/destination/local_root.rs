//! Making and opening a local destination's root. Never makes a root again that is missing: a disk that is not
//! mounted must not be taken for an empty one.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use formats::ids::to_hex;

use crate::destination::DestinationName;
use crate::destination::beneath::Beneath;
use crate::destination::local::{Inner, LocalDestination, LocalOptions};

/// The file that says that a directory is a destination's root.
pub const MARKER: &str = "capstan-destination";
/// Its first line.
pub(super) const MARKER_TITLE: &str = "capstan-destination 1";

/// A root could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is a destination already.
    #[error("{} is a destination already", path.display())]
    AlreadyThere {
        /// The root.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not empty; choose an empty directory for a new destination", path.display())]
    NotEmpty {
        /// The root.
        path: PathBuf,
    },
    /// It has no marker.
    #[error(
        "{} has no file `{MARKER}`: is its disk mounted? If it is a new destination, create it first",
        path.display()
    )]
    NoMarker {
        /// The root.
        path: PathBuf,
    },
    /// Its marker says something unknown.
    #[error("{} has a `{MARKER}` that this version does not know; it expects {MARKER_TITLE:?}", path.display())]
    UnknownMarker {
        /// The root.
        path: PathBuf,
    },
    /// It is missing.
    #[error("{} does not exist: is its disk mounted?", path.display())]
    Missing {
        /// The root.
        path: PathBuf,
    },
    /// The system said no.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LocalDestination {
    /// Makes an empty or missing directory a destination's root. Only `init` does this.
    pub fn create(path: &Path) -> Result<(), RootError> {
        let io = |action| {
            move |source| RootError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        crate::claimed_dir::make_private_dir(path).map_err(io("make directory"))?;
        for entry in std::fs::read_dir(path).map_err(io("list"))? {
            let name = entry.map_err(io("list"))?.file_name();
            if name == MARKER {
                return Err(RootError::AlreadyThere {
                    path: path.to_owned(),
                });
            }
            // A fresh file system's own directory.
            if name != "lost+found" {
                return Err(RootError::NotEmpty {
                    path: path.to_owned(),
                });
            }
        }
        let id: [u8; 16] = formats::keys::secret::random()
            .map_err(|error| io("choose an id for")(io::Error::other(error)))?;
        let marker = path.join(MARKER);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&marker)
            .map_err(io("make the marker in"))?;
        file.write_all(format!("{MARKER_TITLE}\n{}\n", to_hex(&id)).as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(path)?.sync_all())
            .map_err(io("make durable"))?;
        // The root's own name; a parent that cannot be opened is not ours to judge.
        if let Some(parent) = path.parent().filter(|parent| parent.is_dir()) {
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(io("make the name durable of"))?;
        }
        Ok(())
    }

    /// Opens a root that [`LocalDestination::create`] made.
    pub fn open(
        name: DestinationName,
        path: &Path,
        options: LocalOptions,
    ) -> Result<Self, RootError> {
        let beneath = Beneath::open(path, options.resolve).map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound => RootError::Missing { path },
                _ => RootError::Io {
                    action: "open",
                    path,
                    source,
                },
            }
        })?;
        check_marker(&beneath, path)?;
        Ok(Self(Arc::new(Inner {
            name,
            path: path.to_owned(),
            beneath,
            durable_folders: Mutex::new(HashSet::new()),
            temporary: OnceLock::new(),
            copies: AtomicU64::new(0),
            faults: options.faults,
        })))
    }
}

fn check_marker(beneath: &Beneath, path: &Path) -> Result<(), RootError> {
    let mut text = String::new();
    let read = beneath
        .open_file(MARKER)
        .and_then(|file| File::from(file).take(256).read_to_string(&mut text));
    match read {
        Ok(_) if text.lines().next() == Some(MARKER_TITLE) => {}
        Ok(_) => {
            return Err(RootError::UnknownMarker {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RootError::NoMarker {
                path: path.to_owned(),
            });
        }
        Err(source) => {
            return Err(RootError::Io {
                action: "read the marker of",
                path: path.to_owned(),
                source,
            });
        }
    }
    let mode = File::open(path).and_then(|root| root.metadata());
    if mode.is_ok_and(|facts| facts.mode() & 0o022 != 0) {
        tracing::warn!(path = %path.display(), "other users may write to this destination; chmod go-w it");
    }
    Ok(())
}
