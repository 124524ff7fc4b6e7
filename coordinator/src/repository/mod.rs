//! A host's repository: made on the host's first run, checked and opened on every later one. Never replaces
//! a config or a key bundle, never makes a new repository where one was established and is gone.

pub mod catch_up;
pub mod checked_config;
pub mod layout;
pub mod memory;
pub mod packs;
pub mod store;
pub mod users;

use std::fs::DirBuilder;
use std::future::Future;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use append_server::fan_out::queue::placing::Keeping;
use bytes::Bytes;
use formats::config::{CONFIG_BYTES, ConfigError, RepositoryConfig};
use formats::ids::RepositoryId;
use formats::keys::derive::Epoch;
use formats::keys::repository::{CertificateError, MissingKeyError, RepositoryKeys};
use formats::keys::secret::{RandomError, random};
use formats::object::{ObjectName, UserName};
use futures_util::future::try_join_all;
use jiff::Timestamp;

use crate::catalog::state::{KnownRepository, State};
use crate::catalog::{Catalog, CatalogError};
use crate::database::DatabaseError;
use crate::index::{Index, IndexError};
use crate::keyring::Keyring;
use crate::repository::checked_config::{check_config, own_bundle};
use crate::repository::layout::StateDir;
use crate::repository::store::{ObjectStore, Put, StoreError, tell_bad_copy};

/// The generation of keys that new repositories begin with.
const FIRST_EPOCH: Epoch = 1;

/// Why a repository could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Storage failed.
    #[error("could not reach repository {name}")]
    Store {
        /// The host or group.
        name: String,
        /// Why.
        source: StoreError,
    },
    /// It was there, and is gone.
    #[error(
        "repository {repository} of {name} has no config in the destination, though it was made: the \
         destination lost it or is another one; put it back from a copy, or correct the destination's url"
    )]
    Lost {
        /// The host or group.
        name: String,
        /// The repository.
        repository: RepositoryId,
    },
    /// Its config is refused.
    #[error("repository {repository} of {name} is refused")]
    Config {
        /// The host or group.
        name: String,
        /// The repository.
        repository: RepositoryId,
        /// Why.
        source: ConfigError,
    },
    /// Its config has other keys than the ones derived.
    #[error(
        "repository {repository} of {name}, epoch {epoch}, has other public keys than these keys derive: use \
         the keys it was made with"
    )]
    OtherKeys {
        /// The host or group.
        name: String,
        /// The repository.
        repository: RepositoryId,
        /// Its generation of keys.
        epoch: Epoch,
    },
    /// Something that is not of this set-up stands at a name that was drawn at random.
    #[error("could not make a repository for {name}: {object} is in the destination already")]
    Occupied {
        /// The host or group.
        name: String,
        /// The object.
        object: String,
    },
    /// Nothing there says to these keys which key signs it.
    #[error(
        "repository {repository} of {name} does not have the keys of user {user} with its certificate: run `coordinator key \
         derive {user} --role restore` on the coordinator that backs up; it puts them where they are missing"
    )]
    NotCertified {
        /// The host or group.
        name: String,
        /// The repository.
        repository: RepositoryId,
        /// Whose keys they are.
        user: UserName,
        /// Why a certificate that is there is refused.
        source: Option<CertificateError>,
    },
    /// Keys that only add snapshots.
    #[error(
        "the keys of user {user} cannot make a repository for {name}, whose public keys come from keys that they do not have: do its \
         first run with the full keys, or `coordinator key derive {user} --role ingest`, which makes one for every host that has none"
    )]
    CannotMake {
        /// The host or group.
        name: String,
        /// Whose keys they are.
        user: UserName,
    },
    /// Another user had the name.
    #[error(
        "repository {repository} of {name} has other keys of a user {user} already, and nothing is overwritten: choose \
         another name for the user"
    )]
    OtherUser {
        /// The host or group.
        name: String,
        /// The repository.
        repository: RepositoryId,
        /// The name.
        user: UserName,
    },
    /// The role does not hold the keys.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// The state file failed.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The caches' directory could not be made.
    #[error("could not create {}: check the state directory's owner and mode", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl RepositoryError {
    /// Whether the keys at hand are not the repository's.
    pub fn is_wrong_key(&self) -> bool {
        matches!(
            self,
            Self::OtherKeys { .. }
                | Self::NotCertified { .. }
                | Self::CannotMake { .. }
                | Self::MissingKey(_)
                | Self::Config {
                    source: ConfigError::OtherKey,
                    ..
                }
        )
    }
}

/// What a repository is made or opened with.
#[derive(Debug, Clone, Copy)]
pub struct RepositoryRequest<'a> {
    /// The host's name, or its group's: whoever shares a name shares a repository.
    pub name: &'a str,
    /// The unlocked keys.
    pub keyring: &'a Keyring,
    /// Users' sealed bundles, to store in a new repository.
    pub bundles: &'a [(UserName, Bytes)],
    /// The time now.
    pub now: Timestamp,
    /// How it is kept once something is written to it.
    pub keeping: &'a Keeping,
}

/// A repository whose config was checked.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The host's name, or the group's.
    pub name: String,
    /// Its signed config.
    pub config: RepositoryConfig,
    /// Its keys, as far as the role reaches.
    pub keys: RepositoryKeys,
    /// Whether it was made just now.
    pub created: bool,
}

impl Repository {
    /// Its id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// Opens its index, or begins an empty one.
    pub fn open_index(&self, state_dir: &StateDir) -> Result<Index, RepositoryError> {
        self.make_cache_dir(state_dir)?;
        let path = state_dir.index_file(self.id());
        Ok(Index::open(&path, self.id())?)
    }

    /// Opens its catalog, or begins an empty one; [`Catalog::sync`] then reads the log.
    pub fn open_catalog(&self, state_dir: &StateDir) -> Result<Catalog, RepositoryError> {
        self.make_cache_dir(state_dir)?;
        let path = state_dir.catalog_file(self.id());
        Ok(Catalog::open(&path, self.id(), self.config.epoch)?)
    }

    fn make_cache_dir(&self, state_dir: &StateDir) -> Result<(), RepositoryError> {
        let path = state_dir.repository_dir(self.id());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| RepositoryError::Directory { path, source })
    }
}

/// Opens the repository of a host or group; makes it when the name has none yet. A crash at any point is
/// mended by the next call: the id is remembered first, the config is stored last.
pub async fn create_or_open<S: ObjectStore>(
    request: &RepositoryRequest<'_>,
    store: &S,
    state: &mut State,
) -> Result<Repository, RepositoryError> {
    if let Some(known) = state.repository(request.name)?
        && known.established
    {
        place(request, store, known.repository).await?;
        return open_established(request.keyring, store, &known).await;
    }
    match create(request, store, state).await {
        // A bundle was changed between two attempts. Nothing was backed up to the half-made repository, so
        // another id is drawn.
        Err(RepositoryError::Occupied { .. }) => {
            if let Some(known) = state.repository(request.name)? {
                state.forget_unestablished(known.repository)?;
            }
            create(request, store, state).await
        }
        made => made,
    }
}

/// Opens the repository of a host or group that has one; `None` where it has none yet. The state is looked
/// at before the future is given, which therefore does not hold it and can run on any thread.
pub fn open<'a, S: ObjectStore>(
    request: &'a RepositoryRequest<'_>,
    store: &'a S,
    state: &State,
) -> impl Future<Output = Result<Option<Repository>, RepositoryError>> + Send + use<'a, S> {
    let known = state.repository(request.name);
    let keyring = request.keyring;
    async move {
        match known?.filter(|known| known.established) {
            Some(known) => open_established(keyring, store, &known).await.map(Some),
            None => Ok(None),
        }
    }
}

async fn create<S: ObjectStore>(
    request: &RepositoryRequest<'_>,
    store: &S,
    state: &mut State,
) -> Result<Repository, RepositoryError> {
    if !request.keyring.role().opens() {
        return Err(RepositoryError::CannotMake {
            name: request.name.to_owned(),
            user: request.keyring.user().clone(),
        });
    }
    let drawn = RepositoryId(random()?);
    let known = state.remember_repository(request.name, drawn, request.now)?;
    let repository = known.repository;
    place(request, store, repository).await?;
    let keys = request.keyring.repository(repository, FIRST_EPOCH);
    let config = RepositoryConfig {
        repository,
        epoch: FIRST_EPOCH,
        public: keys.public()?,
    };
    let bundles = request.bundles.iter().map(|(user, sealed)| {
        let name = ObjectName::Keys(user.clone());
        let stored = request.keyring.stored_bundle(sealed, &keys);
        put(request, store, repository, name, stored.into())
    });
    try_join_all(bundles).await?;
    let sealed = Bytes::from(config.seal(&keys)?);
    put(request, store, repository, ObjectName::Config, sealed).await?;
    state.mark_established(repository)?;
    Ok(Repository {
        name: request.name.to_owned(),
        config,
        keys,
        created: true,
    })
}

/// Before anything is stored, which goes nowhere else then.
async fn place<S: ObjectStore>(
    request: &RepositoryRequest<'_>,
    store: &S,
    repository: RepositoryId,
) -> Result<(), RepositoryError> {
    let placed = store.place(repository, request.keeping).await;
    placed.map_err(|source| RepositoryError::Store {
        name: request.name.to_owned(),
        source,
    })
}

/// Stores a user's sealed bundle in a repository that was made before; says whether it was missing there.
pub async fn add_user<S: ObjectStore>(
    keyring: &Keyring,
    store: &S,
    known: &KnownRepository,
    user: &UserName,
    sealed: &[u8],
) -> Result<bool, RepositoryError> {
    let repository = known.repository;
    let keys = keyring.repository(repository, FIRST_EPOCH);
    let stored = keyring.stored_bundle(sealed, &keys);
    let object = ObjectName::Keys(user.clone());
    let name = || known.name.clone();
    match store.put_new(repository, &object, stored.into()).await {
        Ok(Put::Created) => Ok(true),
        Ok(Put::Existed) => Ok(false),
        Ok(Put::Conflict) => Err(RepositoryError::OtherUser {
            name: name(),
            repository,
            user: user.clone(),
        }),
        Err(source) => Err(RepositoryError::Store {
            name: name(),
            source,
        }),
    }
}

async fn put<S: ObjectStore>(
    request: &RepositoryRequest<'_>,
    store: &S,
    repository: RepositoryId,
    object: ObjectName,
    bytes: Bytes,
) -> Result<(), RepositoryError> {
    let name = request.name.to_owned();
    match store.put_new(repository, &object, bytes).await {
        Ok(Put::Created | Put::Existed) => Ok(()),
        Ok(Put::Conflict) => Err(RepositoryError::Occupied {
            name,
            object: object.key(repository),
        }),
        Err(source) => Err(RepositoryError::Store { name, source }),
    }
}

/// Opens with the first config that the keys vouch for; the first copy's failure is what is told.
async fn open_established<S: ObjectStore>(
    keyring: &Keyring,
    store: &S,
    known: &KnownRepository,
) -> Result<Repository, RepositoryError> {
    let first = match open_copy(keyring, store, known).await {
        Ok(repository) => return Ok(repository),
        Err(error) => error,
    };
    for copy in store.copies() {
        if let Ok(repository) = open_copy(keyring, &copy, known).await {
            tell_bad_copy(&first);
            return Ok(repository);
        }
    }
    Err(first)
}

async fn open_copy<S: ObjectStore>(
    keyring: &Keyring,
    store: &S,
    known: &KnownRepository,
) -> Result<Repository, RepositoryError> {
    let repository = known.repository;
    let name = || known.name.clone();
    let bytes_max = CONFIG_BYTES as u64;
    let bytes = match store.get(repository, &ObjectName::Config, bytes_max).await {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. }) => {
            return Err(RepositoryError::Lost {
                name: name(),
                repository,
            });
        }
        Err(source) => {
            return Err(RepositoryError::Store {
                name: name(),
                source,
            });
        }
    };
    let own = own_bundle(keyring, store, repository).await;
    let own = own.map_err(|source| RepositoryError::Store {
        name: name(),
        source,
    })?;
    let (config, keys) = check_config(keyring, &known.name, repository, &bytes, own.as_deref())?;
    Ok(Repository {
        name: known.name.clone(),
        config,
        keys,
        created: false,
    })
}

#[cfg(test)]
mod tests;
