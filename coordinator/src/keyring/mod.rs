//! The coordinator's keys: opens a key bundle, derives repositories' keys from it, writes and checks the
//! recovery kit. Never stores a key unsealed, except in the recovery kit that a person asks for.

pub mod kit;
pub mod password;
pub mod private_file;
pub mod unlock;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use append_server::places::secret::SecretError;
use formats::ids::RepositoryId;
use formats::keys::bundle::{BundleError, KeyBundle, Role, Unlock, header};
use formats::keys::certificate::Certificate;
use formats::keys::derive::{Epoch, Use};
use formats::keys::kit::KitError;
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::{MasterKey, RandomError};
use formats::object::UserName;
use zeroize::Zeroizing;

use crate::keyring::private_file::{Kind, PrivateFileError, read_private};
use crate::keyring::unlock::{Secret, UnlockFrom, read_secret};

const BUNDLE: Kind = Kind {
    what: "key bundle",
    remedy: "put it back from a copy, or name the right one in [keys] of coordinator.toml; for a new set-up \
             run `coordinator init`",
};

const BUNDLE_EXTENSION: &str = "bundle";

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A file was refused.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The key file's text is no key.
    #[error("key file {} is damaged: it must hold 64 lower-case hexadecimal digits", path.display())]
    BadKeyFile {
        /// Where.
        path: PathBuf,
    },
    /// A key that does not come from a file.
    #[error(
        "the key in keys.key_credential is damaged: it must be 64 lower-case hexadecimal digits"
    )]
    BadKey,
    /// A secret could not be had.
    #[error("could not unlock the key bundle")]
    Secret(#[from] SecretError),
    /// The password file is empty.
    #[error("password file {} is empty: write the password into it", path.display())]
    EmptyPassword {
        /// Where.
        path: PathBuf,
    },
    /// Nobody could be asked.
    #[error(
        "could not ask for the password: run on a terminal, or name a file in {}",
        unlock::PASSWORD_FILE_VARIABLE
    )]
    Prompt(#[source] io::Error),
    /// The password or key file is not the bundle's.
    #[error("wrong password or key file for {}, or the bundle was altered", path.display())]
    Wrong {
        /// The bundle.
        path: PathBuf,
        /// What was found.
        source: BundleError,
    },
    /// The bundle cannot be read.
    #[error("could not open key bundle {}: put it back from a copy", path.display())]
    Bundle {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: BundleError,
    },
    /// A bundle could not be made.
    #[error("could not make a key bundle")]
    Seal(#[source] BundleError),
    /// The bundle does not hold the master key.
    #[error("the keys of role {role} do not include the master key: use the admin's bundle")]
    NoMaster {
        /// The role that was opened.
        role: Role,
    },
    /// The bundle does not hold the key that signs.
    #[error(
        "the keys of user {user} only read (role {role}), and nothing is written with them: run this on the coordinator that \
         backs up, or name its keys in [keys] of coordinator.toml"
    )]
    ReadOnly {
        /// Whose keys they are.
        user: UserName,
        /// Their role.
        role: Role,
    },
    /// The bundle does not hold the keys that open what is stored.
    #[error(
        "the keys of user {user} only add snapshots (role {role}), and open nothing that is stored: run this with the admin's keys \
         or the daemon's of role data in [keys] of coordinator.toml, or with keys of `coordinator key derive --role restore` on \
         another machine"
    )]
    WriteOnly {
        /// Whose keys they are.
        user: UserName,
        /// Their role.
        role: Role,
    },
    /// The recovery kit's text is damaged or mistyped.
    #[error("recovery kit {}", path.display())]
    Kit {
        /// The kit.
        path: PathBuf,
        /// What is wrong with it.
        source: KitError,
    },
    /// The kit is of another master key.
    #[error("recovery kit {} is of another set-up: its key does not derive these keys", path.display())]
    OtherKit {
        /// The kit.
        path: PathBuf,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl KeyringError {
    /// Whether the secret at hand is the wrong one, as opposed to not being there or not readable.
    pub fn is_wrong_key(&self) -> bool {
        matches!(
            self,
            Self::Wrong { .. }
                | Self::NoMaster { .. }
                | Self::ReadOnly { .. }
                | Self::WriteOnly { .. }
                | Self::OtherKit { .. }
        )
    }
}

/// The keys of one user of the coordinator.
#[derive(Debug, Clone)]
pub struct Keyring {
    user: UserName,
    bundle: KeyBundle,
}

impl Keyring {
    /// Opens the bundle at `path`.
    pub fn unlock(path: &Path, from: &UnlockFrom) -> Result<Self, KeyringError> {
        let sealed = read_private(path, BUNDLE)?;
        let secret = read_secret(from)?;
        let unlock = match &secret {
            Secret::Key(key) => Unlock::File(key),
            Secret::Password(password) => Unlock::Password(password),
        };
        let path = path.to_owned();
        match KeyBundle::open(&sealed, &unlock) {
            Ok((user, bundle)) => Ok(Self { user, bundle }),
            Err(source @ (BundleError::Wrong { .. } | BundleError::OtherProtection { .. })) => {
                Err(KeyringError::Wrong { path, source })
            }
            Err(source) => Err(KeyringError::Bundle { path, source }),
        }
    }

    /// The admin's keys under a master key: what `init` and a recovery begin with.
    pub fn from_master(master: &MasterKey, user: UserName) -> Self {
        Self {
            user,
            bundle: KeyBundle::new(master, Role::Admin),
        }
    }

    /// Whose keys these are.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// What they are good for.
    pub fn role(&self) -> Role {
        self.bundle.role()
    }

    /// Refuses keys that cannot sign.
    pub fn may_write(&self) -> Result<(), KeyringError> {
        refuse_reader(&self.user, self.role())
    }

    /// A user's sealed bundle as it is stored in a repository whose keys these are: a reader's with a certificate of the
    /// key that signs there, any other as it is.
    pub fn stored_bundle(&self, sealed: &[u8], keys: &RepositoryKeys) -> Vec<u8> {
        let certificate = match (self.bundle.root(Use::Signing), keys.verifying()) {
            (Some(signing), Ok(verifying)) => Some(Certificate::issue(
                &signing,
                keys.repository,
                keys.epoch,
                &verifying,
            )),
            _ => None,
        };
        header::with_certificate(sealed, certificate.as_ref()).unwrap_or_else(|_| sealed.to_vec())
    }

    /// A repository's keys, as far as the role reaches.
    pub fn repository(&self, repository: RepositoryId, epoch: Epoch) -> RepositoryKeys {
        RepositoryKeys::derive(&self.bundle, repository, epoch)
    }

    /// The master key, for the recovery kit.
    pub fn master(&self) -> Result<&MasterKey, KeyringError> {
        self.bundle
            .master()
            .ok_or(KeyringError::NoMaster { role: self.role() })
    }

    pub(super) fn bundle(&self) -> &KeyBundle {
        &self.bundle
    }
}

fn refuse_reader(user: &UserName, role: Role) -> Result<(), KeyringError> {
    match role.signs() {
        true => Ok(()),
        false => Err(KeyringError::ReadOnly {
            user: user.clone(),
            role,
        }),
    }
}

fn refuse_writer(user: &UserName, role: Role) -> Result<(), KeyringError> {
    match role.opens() || !role.signs() {
        true => Ok(()),
        false => Err(KeyringError::WriteOnly {
            user: user.clone(),
            role,
        }),
    }
}

/// Refuses a bundle whose keys cannot sign, before it is unlocked. One that cannot be read is refused by whoever unlocks it.
pub fn refuse_readers_bundle(path: &Path) -> Result<(), KeyringError> {
    match bundle_owner(path) {
        Some((user, role)) => refuse_reader(&user, role),
        None => Ok(()),
    }
}

/// Refuses a bundle whose keys sign and open nothing, in the same way.
pub fn refuse_writers_bundle(path: &Path) -> Result<(), KeyringError> {
    match bundle_owner(path) {
        Some((user, role)) => refuse_writer(&user, role),
        None => Ok(()),
    }
}

/// Whose a bundle is and its role, without unlocking it; nothing where it cannot be read.
pub fn bundle_owner(path: &Path) -> Option<(UserName, Role)> {
    let sealed = read_private(path, BUNDLE).ok()?;
    header::owner(&sealed).ok()
}

/// The sealed bundles of users that were derived to read, from the directory of the coordinator's own. What cannot be read is
/// told and left out: backups go on without it.
pub fn readers_bundles(directory: &Path) -> Vec<(UserName, Zeroizing<Vec<u8>>)> {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.unwrap_or_else(|error| {
        tracing::warn!(%error, directory = %directory.display(), "no user's keys are looked for");
        Vec::new()
    });
    let mut bundles = Vec::new();
    for path in entries.into_iter().map(|entry| entry.path()) {
        if path
            .extension()
            .is_none_or(|extension| extension != BUNDLE_EXTENSION)
        {
            continue;
        }
        let sealed = match read_private(&path, BUNDLE) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::warn!(%error, "a user's keys are left out of new repositories");
                continue;
            }
        };
        if let Ok((user, Role::Read)) = header::owner(&sealed)
            && path == bundle_path(directory, &user)
        {
            bundles.push((user, sealed));
        }
    }
    bundles
}

/// Where a user's bundle is, in the directory of the coordinator's own.
pub fn bundle_path(directory: &Path, user: &UserName) -> PathBuf {
    directory.join(format!("{user}.{BUNDLE_EXTENSION}"))
}

/// A sealed bundle's bytes, to be stored in a repository.
pub fn read_sealed_bundle(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    Ok(read_private(path, BUNDLE)?)
}

#[cfg(test)]
mod tests;
