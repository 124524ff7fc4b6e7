//! The keys that a recovered coordinator gets: the kit's, and with them the sealed bundles of the admin and of readers that the
//! repositories have; or those of a user whose key file is at hand and whose sealed bundle is in the repositories.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use append_server::destination::{ByteRange, Destination, DestinationError, ObjectKey};
use bytes::BytesMut;
use formats::ids::RepositoryId;
use formats::keys::bundle::{BundleError, KeyBundle, Role, Unlock, header};
use formats::keys::secret::{FileKey, MasterKey};
use formats::limits::KEY_BUNDLE_BYTES_MAX;
use formats::object::{ObjectName, UserName};
use futures_util::StreamExt as _;

use crate::cli::recover::RecoverArgs;
use crate::commands::init::stage::{Staging, stage_daemon, stage_user};
use crate::commands::init::{ADMIN_USER, DAEMON_USER};
use crate::commands::recover::RecoverError;
use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::keyring::KeyringError;
use crate::keyring::kit::read_kit;
use crate::keyring::unlock::read_key_file;
use crate::repository::users::users_bundles;

/// Whose keys the new coordinator gets.
pub(super) enum NewKeys {
    /// A daemon's, new, under the kit's master key.
    Kit(MasterKey),
    /// A user's, as they are.
    User {
        /// Whose.
        user: UserName,
        /// What unlocks them.
        key: FileKey,
    },
}

impl NewKeys {
    /// Reads what was given.
    pub(super) fn read(args: &RecoverArgs) -> Result<Self, RecoverError> {
        match (&args.kit, &args.user, &args.key_file) {
            (Some(kit), _, _) => Ok(Self::Kit(read_kit(kit)?)),
            (None, Some(user), Some(file)) => Ok(Self::User {
                user: user.clone(),
                key: read_key_file(file)?,
            }),
            _ => Err(RecoverError::NoKeys),
        }
    }

    /// What their files are called by.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::Kit(_) => DAEMON_USER,
            Self::User { user, .. } => user.as_str(),
        }
    }

    /// Puts them into the staging directory.
    pub(super) async fn stage(
        &self,
        staging: &Staging,
        config: &Config,
    ) -> Result<(), RecoverError> {
        match self {
            Self::Kit(master) => {
                stage_daemon(staging, master)?;
            }
            Self::User { user, key } => {
                let sealed = find_bundle(config, user, key).await?;
                stage_user(staging, user, key, &sealed)?;
            }
        }
        Ok(())
    }
}

/// The sealed bundles of other users that the repositories have: the admin's, and those of keys that only read. Repositories
/// that are made later get them from the coordinator's directory. A recovery does not fail for one that cannot be had.
pub(super) async fn users_of_before(
    coordinator: &Coordinator,
) -> Result<BTreeMap<UserName, Vec<u8>>, RecoverError> {
    let mut users: BTreeMap<UserName, Vec<u8>> = BTreeMap::new();
    // Of a coordinator whose keys only read, no repository is made.
    if !coordinator.keyring.role().signs() {
        return Ok(users);
    }
    let known = coordinator.state.lock().await.repositories()?;
    for known in known.iter().filter(|known| known.established) {
        let found = users_bundles(&coordinator.keyring, &coordinator.storage, known).await;
        let found = found.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, repository = %known.repository, "no user's keys are taken over");
            Vec::new()
        });
        for found in found {
            let is_taken_over = match found.user.as_str() {
                ADMIN_USER => found.role == Role::Admin,
                DAEMON_USER => false, // Its keys are new.
                _ => found.role == Role::Read,
            };
            if !is_taken_over {
                continue;
            }
            match users.get(&found.user) {
                Some(first) if *first != found.sealed => tracing::warn!(
                    user = %found.user,
                    repository = %known.repository,
                    "the user has other keys here than in the repositories before"
                ),
                Some(_) => {}
                None => {
                    users.insert(found.user, found.sealed);
                }
            }
        }
    }
    Ok(users)
}

/// The user's bundle from the first repository that has one which the key opens, without the certificate that is there.
async fn find_bundle(
    config: &Config,
    user: &UserName,
    key: &FileKey,
) -> Result<Vec<u8>, RecoverError> {
    let place = config.destinations.first();
    let place = place.ok_or_else(|| RecoverError::NothingThere { url: String::new() })?;
    let destination = place.open()?;
    let ids = destination.repositories().await?;
    if ids.is_empty() {
        return Err(RecoverError::NothingThere {
            url: place.url.clone(),
        });
    }
    let mut refused = None;
    for id in ids {
        let name = ObjectName::Keys(user.clone());
        let path = PathBuf::from(name.key(id));
        let Some(stored) = read_bundle(&destination, id, name).await? else {
            continue;
        };
        match open_as(&stored, user, key) {
            Ok(sealed) => return Ok(sealed),
            Err(source) => refused = Some(KeyringError::Wrong { path, source }),
        }
    }
    Err(match refused {
        Some(error) => error.into(),
        None => RecoverError::NoSuchUser {
            user: user.clone(),
            url: place.url.clone(),
        },
    })
}

/// The bundle alone, where it is this user's and the key opens it.
fn open_as(stored: &[u8], user: &UserName, key: &FileKey) -> Result<Vec<u8>, BundleError> {
    let (found, _) = KeyBundle::open(stored, &Unlock::File(key))?;
    match found == *user {
        true => Ok(header::with_certificate(stored, None)?),
        false => Err(BundleError::Wrong {
            user: found.to_string(),
        }),
    }
}

/// An object of a bundle's size; nothing where there is none.
async fn read_bundle(
    destination: &Arc<dyn Destination>,
    repository: RepositoryId,
    name: ObjectName,
) -> Result<Option<BytesMut>, DestinationError> {
    let range = ByteRange {
        start: 0,
        bytes: Some(KEY_BUNDLE_BYTES_MAX + 1), // One more shows that it is no bundle.
    };
    let key = ObjectKey { repository, name };
    let mut read = match destination.get_range(key, range).await {
        Ok(read) => read,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = BytesMut::new();
    while let Some(part) = read.body.next().await {
        bytes.extend_from_slice(&part?);
        if bytes.len() as u64 > KEY_BUNDLE_BYTES_MAX {
            break;
        }
    }
    Ok(Some(bytes))
}
