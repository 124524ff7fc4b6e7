//! `key`: writes the recovery kit again, proves that a copy of it is good, and derives keys that only read or only add. Never shows a key.

pub mod derive;
mod derive_ingest;

use std::io;
use std::path::{Path, PathBuf};

use formats::config::CONFIG_BYTES;
use formats::ids::RepositoryId;
use formats::object::{ObjectName, UserName};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::catalog::state::KnownRepository;
use crate::clock::utc;
use crate::config::replace_file::replace_file;
use crate::keyring::kit::{self, KitFacts, write_kit};
use crate::keyring::unlock::UnlockFrom;
use crate::keyring::{Keyring, KeyringError};
use crate::repository::RepositoryError;
use crate::repository::checked_config::check_config;
use crate::repository::store::{ObjectStore, StoreError};

/// Why a kit could not be written or proved.
#[derive(Debug, thiserror::Error)]
pub enum KeyCommandError {
    /// Keys or kit were refused.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A repository's config could not be read.
    #[error(
        "could not read the config of repository {repository} of {name}, to prove the kit against it"
    )]
    Store {
        /// The host or group.
        name: String,
        /// The repository.
        repository: RepositoryId,
        /// Why.
        source: StoreError,
    },
    /// That it was proved could not be written down.
    #[error("the kit is good, but {} could not be written", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A user that is the coordinator's own.
    #[error("user {user} is the coordinator's own: choose another name")]
    OwnUser {
        /// The name.
        user: UserName,
    },
    /// A user that has keys.
    #[error(
        "user {user} has keys already: without --out they are put where they are missing; for new ones choose another name"
    )]
    HasKeys {
        /// The name.
        user: UserName,
    },
    /// Something else has the name of the user's bundle.
    #[error(
        "{} is there and is no bundle of user {user} for this role: move it away, or choose another name",
        bundle.display()
    )]
    OtherBundle {
        /// The name.
        user: UserName,
        /// What is there.
        bundle: PathBuf,
    },
    /// A key file without a bundle, which it would have after a derivation that was not cut short.
    #[error(
        "{} exists and is not overwritten: user {user} has no keys yet, so if a `key derive` of this user that was cut short \
         left it, it belongs to no bundle and may be removed; else name another file with --out", path.display()
    )]
    KeyFile {
        /// The name.
        user: UserName,
        /// The file.
        path: PathBuf,
    },
    /// The master key's bundle is not there.
    #[error(
        "the admin's key bundle {} is not there: give the recovery kit in its place, with --kit FILE, or put the bundle \
         back from a copy", bundle.display()
    )]
    NoAdmin {
        /// Where it should be.
        bundle: PathBuf,
    },
    /// The admin's bundle is of another master key.
    #[error(
        "the admin's key bundle {} is of another set-up, whose master key does not derive these keys: give the recovery kit \
         in its place, with --kit FILE", bundle.display()
    )]
    OtherAdmin {
        /// The bundle.
        bundle: PathBuf,
    },
    /// Root, for keys that are another user's.
    #[error(
        "{} belongs to {owner}, whose daemon could not read what root makes beside it: run this as that user, as in \
         `runuser -u {owner} -- coordinator key derive`", bundle.display()
    )]
    NotOwner {
        /// The coordinator's own bundle.
        bundle: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// A file that cannot be looked at.
    #[error("could not look at {}: run as the user that owns the keys", path.display())]
    Look {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A repository is not the kit's.
    #[error("recovery kit {} does not open every repository", kit.display())]
    Repository {
        /// The kit.
        kit: PathBuf,
        /// Which one, and why.
        source: Box<RepositoryError>,
    },
}

impl KeyCommandError {
    /// Whether the password or the kit is the wrong one.
    pub fn is_wrong_key(&self) -> bool {
        match self {
            Self::Keyring(error) => error.is_wrong_key(),
            Self::Repository { source, .. } => source.is_wrong_key(),
            Self::OtherAdmin { .. } => true,
            Self::Store { .. }
            | Self::Record { .. }
            | Self::OwnUser { .. }
            | Self::HasKeys { .. }
            | Self::OtherBundle { .. }
            | Self::KeyFile { .. }
            | Self::NoAdmin { .. }
            | Self::NotOwner { .. }
            | Self::Look { .. } => false,
        }
    }
}

/// Writes the recovery kit again, with the master key of the admin's bundle.
pub fn export_kit(
    path: &Path,
    facts: &KitFacts<'_>,
    admin_bundle: &Path,
    from: &UnlockFrom,
) -> Result<(), KeyCommandError> {
    let admin = Keyring::unlock(admin_bundle, from)?;
    Ok(write_kit(path, facts, admin.master()?)?)
}

/// What a kit was proved to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KitProof {
    /// The kit.
    pub kit: PathBuf,
    /// The user whose keys it derives.
    pub user: String,
    /// The repositories whose configs it checks.
    pub repositories: Vec<ProvedRepository>,
}

/// A repository that a kit was proved to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvedRepository {
    /// The host or group.
    pub name: String,
    /// The repository.
    #[serde(serialize_with = "as_text")]
    pub repository: RepositoryId,
}

fn as_text<S: Serializer>(repository: &RepositoryId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(repository)
}

/// Proves that a kit derives the unlocked keys and the public keys of every repository there is.
pub async fn verify_kit<S: ObjectStore>(
    kit: &Path,
    keyring: &Keyring,
    known: &[KnownRepository],
    store: &S,
) -> Result<KitProof, KeyCommandError> {
    let from_kit = kit::verify_kit(kit, keyring)?;
    let mut repositories = Vec::new();
    for known in known.iter().filter(|known| known.established) {
        let (name, repository) = (known.name.clone(), known.repository);
        let config = store
            .get(repository, &ObjectName::Config, CONFIG_BYTES as u64)
            .await;
        match config {
            Ok(bytes) => {
                check_config(&from_kit, &name, repository, &bytes, None).map_err(|source| {
                    KeyCommandError::Repository {
                        kit: kit.to_owned(),
                        source: Box::new(source),
                    }
                })?
            }
            Err(source) => {
                return Err(KeyCommandError::Store {
                    name,
                    repository,
                    source,
                });
            }
        };
        repositories.push(ProvedRepository { name, repository });
    }
    Ok(KitProof {
        kit: kit.to_owned(),
        user: keyring.user().to_string(),
        repositories,
    })
}

/// Where a proof is written down, in the state directory.
const PROOF_FILE: &str = "kit-verified";

/// Writes down when a kit was proved, for `doctor`.
pub fn record_proof(state_dir: &Path, now: Timestamp) -> Result<(), KeyCommandError> {
    let path = state_dir.join(PROOF_FILE);
    let line = format!("{}\n", utc(now));
    replace_file(&path, line.as_bytes()).map_err(|source| KeyCommandError::Record { path, source })
}

/// When a kit was proved last; nothing when none was, or when that cannot be read.
pub fn last_proof(state_dir: &Path) -> Option<Timestamp> {
    let line = std::fs::read_to_string(state_dir.join(PROOF_FILE)).ok()?;
    line.trim_end().parse().ok()
}

#[cfg(test)]
mod tests;
