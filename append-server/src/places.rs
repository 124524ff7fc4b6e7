//! The `[[destination]]` tables of both programs' configurations: what may stand in one, what it means, and how it is
//! opened. Reading a table touches nothing; secrets are fetched when a destination is opened.

pub mod keep;
pub mod object_lock;
pub mod s3;
pub mod secret;
pub mod sftp;
pub mod storage_class;
pub mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SystemClock;
use crate::destination::bandwidth::Bandwidth;
use crate::destination::late::LateDestination;
use crate::destination::local::{LocalDestination, LocalOptions};
use crate::destination::local_role_trial;
use crate::destination::local_root::RootError;
use crate::destination::s3::{OptionsError, S3Destination};
use crate::destination::sftp::SftpDestination;
use crate::destination::{
    Destination, DestinationError, DestinationName, ParseDestinationNameError,
};
use crate::fan_out::Placement;
use crate::places::s3::S3Place;
use crate::places::secret::SecretError;
use crate::places::sftp::SftpPlace;
use crate::places::table::{DestinationTable, KeyError};
use crate::removals::RemovalRule;
use crate::role::Role;
use crate::role_trial::RoleTrial;

/// A configured destination, checked and not yet opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: DestinationName,
    /// Where it is, in one spelling.
    pub url: String,
    /// Whether nothing is acknowledged without it.
    pub required: bool,
    /// What prune may remove there.
    pub removal: RemovalRule,
    /// What kind it is.
    pub kind: PlaceKind,
}

/// What a table's meaning takes from the file that it stands in.
#[derive(Debug, Clone, Copy)]
pub struct FileFacts<'a> {
    /// Where relative paths begin.
    pub directory: &'a Path,
    /// Whether nobody but its owner may read it, so that a secret may stand in it.
    pub is_private: bool,
}

/// The kinds of destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceKind {
    /// A directory of this machine.
    Local(PathBuf),
    /// A bucket.
    S3(Box<S3Place>),
    /// A directory of an SFTP server.
    Sftp(Box<SftpPlace>),
}

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Its name.
    #[error(transparent)]
    Name(#[from] ParseDestinationNameError),
    /// Its URL.
    #[error(
        "{url:?} is not where a destination can be: write \"file:///srv/backup\", \"s3://bucket/prefix\" or \"sftp://user@host:port/path\""
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// A directory that is none.
    #[error(
        "{url:?} is not a plain directory: write the absolute path it leads to, as in \"file:///srv/backup\""
    )]
    Path {
        /// What was given.
        url: String,
    },
    /// Another key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key of another kind of destination.
    #[error("`{key}` does not belong to a destination of kind {kind}://")]
    ForeignKey {
        /// The key.
        key: &'static str,
        /// The kind.
        kind: &'static str,
    },
}

/// A destination could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory.
    #[error("destination {name} cannot be used")]
    Root {
        /// The destination.
        name: DestinationName,
        /// Why.
        source: RootError,
    },
    /// A secret.
    #[error("destination {name} cannot be used")]
    Secret {
        /// The destination.
        name: DestinationName,
        /// Why.
        source: SecretError,
    },
    /// A bucket.
    #[error("destination {name} cannot be used")]
    S3 {
        /// The destination.
        name: DestinationName,
        /// Why.
        source: OptionsError,
    },
    /// The destination itself said no.
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

impl Place {
    /// Whether what is stored there is locked for a time.
    pub fn has_lock(&self) -> bool {
        self.lock_time().is_some()
    }

    /// For how long what is stored there is locked, if it is.
    pub fn lock_time(&self) -> Option<Duration> {
        match &self.kind {
            PlaceKind::S3(s3) => s3.lock.map(|lock| lock.retain),
            PlaceKind::Local(_) | PlaceKind::Sftp(_) => None,
        }
    }

    /// Reads a table of a configuration file.
    pub fn read(table: &DestinationTable, file: FileFacts<'_>) -> Result<Self, PlaceError> {
        let name: DestinationName = table.name.get_ref().parse()?;
        let text = table.url.get_ref().as_str();
        let (url, kind) = if let Some(path) = text.strip_prefix("file://") {
            table.refuse_keys("file")?;
            let path = local_path(text, path)?;
            (format!("file://{}", path.display()), PlaceKind::Local(path))
        } else if text.starts_with("s3://") {
            table.refuse_keys("s3")?;
            let place = S3Place::read(table, file)?;
            (place.url(), PlaceKind::S3(Box::new(place)))
        } else if text.starts_with("sftp://") || sftp::is_scp_style(text) {
            table.refuse_keys("sftp")?;
            let place = SftpPlace::read(table, file)?;
            (place.url(), PlaceKind::Sftp(Box::new(place)))
        } else {
            return Err(PlaceError::Url {
                url: without_user(text),
            });
        };
        Ok(Self {
            name,
            url,
            required: table.required.unwrap_or(true),
            removal: table.removal()?,
            kind,
        })
    }

    /// A directory of this machine, as `init` and the demonstration use one.
    pub fn local(name: DestinationName, path: &Path, required: bool) -> Self {
        Self {
            name,
            url: format!("file://{}", path.display()),
            required,
            removal: RemovalRule::default(),
            kind: PlaceKind::Local(path.to_owned()),
        }
    }

    /// Its directory, if it is one of this machine's.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.kind {
            PlaceKind::Local(path) => Some(path),
            PlaceKind::S3(_) | PlaceKind::Sftp(_) => None,
        }
    }

    /// The most it takes per second, if that is limited.
    pub fn bandwidth(&self) -> Option<Bandwidth> {
        match &self.kind {
            PlaceKind::Local(_) => None,
            PlaceKind::S3(place) => place.bandwidth(),
            PlaceKind::Sftp(place) => place.bandwidth(),
        }
    }

    /// Opens it. A directory must be a destination's root; what is far away is first asked when it is used.
    pub fn open(&self) -> Result<Arc<dyn Destination>, OpenError> {
        Ok(match &self.kind {
            PlaceKind::Local(path) => {
                let opened =
                    LocalDestination::open(self.name.clone(), path, LocalOptions::default());
                Arc::new(opened.map_err(|source| self.root(source))?)
            }
            PlaceKind::S3(place) => Arc::new(self.open_s3(place)?),
            PlaceKind::Sftp(place) => Arc::new(self.open_sftp(place)?),
        })
    }

    /// Makes it ready for its first use: an empty directory becomes a destination's root. Says whether it was one
    /// already. A bucket must be there, and needs nothing else.
    pub async fn create(&self) -> Result<bool, OpenError> {
        match &self.kind {
            PlaceKind::Local(path) => match LocalDestination::create(path) {
                Ok(()) => Ok(false),
                Err(RootError::AlreadyThere { .. }) => Ok(true),
                Err(source) => Err(self.root(source)),
            },
            PlaceKind::S3(place) => {
                self.open_s3(place)?.conditional_writes().await?;
                Ok(true)
            }
            PlaceKind::Sftp(place) => Ok(self.open_sftp(place)?.create_root().await?),
        }
    }

    /// Tries out this place's credentials as a role's: what the role needs must work, and what it must not do must be
    /// refused. What they may not put is put with the credentials of the place as it is `configured`.
    pub async fn try_role(&self, role: Role, configured: &Self) -> Result<RoleTrial, OpenError> {
        match (&self.kind, &configured.kind) {
            (PlaceKind::S3(place), _) => {
                let bucket = self.open_s3(place)?;
                let others = match &configured.kind {
                    // What is not set up yet is of no help, and no reason not to try the rest.
                    PlaceKind::S3(others) => configured.open_s3(others).ok(),
                    PlaceKind::Local(_) | PlaceKind::Sftp(_) => None,
                };
                let others = others.as_ref().unwrap_or(&bucket);
                let refuses_overwriting = place.refuses_overwriting();
                Ok(bucket.try_role(role, others, refuses_overwriting).await)
            }
            (PlaceKind::Sftp(place), PlaceKind::Sftp(others)) => {
                let others = configured.open_sftp(others)?;
                Ok(self.open_sftp(place)?.try_role(role, &others).await?)
            }
            (PlaceKind::Sftp(place), _) => {
                let login = self.open_sftp(place)?;
                Ok(login.try_role(role, &login).await?)
            }
            (PlaceKind::Local(path), _) => {
                self.open()?;
                Ok(local_role_trial::try_role(path, role))
            }
        }
    }

    /// Whether both are one place, whoever asks.
    pub fn is_where(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (PlaceKind::Local(path), PlaceKind::Local(others)) => path == others,
            (PlaceKind::S3(place), PlaceKind::S3(others)) => place.is_where(others),
            (PlaceKind::Sftp(place), PlaceKind::Sftp(others)) => place.is_where(others),
            _ => false,
        }
    }

    fn open_s3(&self, place: &S3Place) -> Result<S3Destination, OpenError> {
        let options = place.options().map_err(|source| self.secret(source))?;
        let name = self.name.clone();
        S3Destination::new(name.clone(), options, Arc::new(SystemClock))
            .map_err(|source| OpenError::S3 { name, source })
    }

    fn open_sftp(&self, place: &SftpPlace) -> Result<SftpDestination, OpenError> {
        let options = place
            .options(&self.name)
            .map_err(|source| self.secret(source))?;
        Ok(SftpDestination::new(self.name.clone(), options))
    }

    fn root(&self, source: RootError) -> OpenError {
        OpenError::Root {
            name: self.name.clone(),
            source,
        }
    }

    fn secret(&self, source: SecretError) -> OpenError {
        OpenError::Secret {
            name: self.name.clone(),
            source,
        }
    }
}

/// Opens destinations. One that is not required and cannot be opened is tried again whenever it is used.
pub fn open_places(places: &[Place]) -> Result<Vec<Placement>, OpenError> {
    let mut placements = Vec::new();
    for place in places {
        match place.open() {
            Ok(destination) => placements.push(Placement {
                destination,
                required: place.required,
            }),
            Err(error) if !place.required => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(destination = %place.name, error, "destination cannot be used yet");
                placements.push(Placement {
                    destination: Arc::new(LateDestination::new(place.clone())),
                    required: false,
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(placements)
}

/// A URL without what stands before the host, which may be a password.
fn without_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, rest)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://…@{rest}")
        }
        None => url.to_owned(),
    }
}

/// A directory: everything after the slashes is the path as it is, without percent escapes, so that every directory
/// has one spelling.
fn local_path(url: &str, rest: &str) -> Result<PathBuf, PlaceError> {
    let climbs = rest.split('/').any(|part| part == "..");
    let path: PathBuf = Path::new(rest).components().collect();
    if !rest.starts_with('/') || climbs || rest.contains('\0') || path.parent().is_none() {
        return Err(PlaceError::Path {
            url: url.to_owned(),
        });
    }
    Ok(path)
}
