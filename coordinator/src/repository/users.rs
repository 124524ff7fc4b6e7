//! Users' sealed key bundles as they stand in repositories that were made before. Writes nothing, and takes none for a user's
//! that these keys would not have put there.

use formats::ids::RepositoryId;
use formats::keys::bundle::{Role, header};
use formats::limits::KEY_BUNDLE_BYTES_MAX;
use formats::object::{ObjectKind, ObjectName, UserName};

use crate::catalog::state::KnownRepository;
use crate::keyring::Keyring;
use crate::repository::store::{ObjectStore, StoreError};
use crate::repository::{FIRST_EPOCH, RepositoryError};

/// The most users of one repository that are looked at.
const USERS_MAX: usize = 64;

/// A user's bundle, as the user's file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersBundle {
    /// Whose.
    pub user: UserName,
    /// What its keys are good for.
    pub role: Role,
    /// The bundle, without the certificate that stands behind it in the repository.
    pub sealed: Vec<u8>,
}

/// The bundle of a user whose keys only read; nothing where there is none. Anything else at its name is refused.
pub async fn readers_bundle<S: ObjectStore>(
    keyring: &Keyring,
    store: &S,
    known: &KnownRepository,
    user: &UserName,
) -> Result<Option<Vec<u8>>, RepositoryError> {
    let repository = known.repository;
    let name = || known.name.clone();
    let object = ObjectName::Keys(user.clone());
    let stored = match store.get(repository, &object, KEY_BUNDLE_BYTES_MAX).await {
        Ok(stored) => as_put(keyring, repository, user, &stored),
        Err(StoreError::Missing { .. }) => return Ok(None),
        Err(StoreError::TooLarge { .. }) => None,
        Err(source) => {
            return Err(RepositoryError::Store {
                name: name(),
                source,
            });
        }
    };
    match stored {
        Some(found) if found.role == Role::Read => Ok(Some(found.sealed)),
        _ => Err(RepositoryError::OtherUser {
            name: name(),
            repository,
            user: user.clone(),
        }),
    }
}

/// Every user's bundle there. One that cannot be read, or is not as it was put, is told and left out.
pub async fn users_bundles<S: ObjectStore>(
    keyring: &Keyring,
    store: &S,
    known: &KnownRepository,
) -> Result<Vec<UsersBundle>, StoreError> {
    let repository = known.repository;
    let objects = store.list(repository, ObjectKind::Keys).await?;
    let mut bundles = Vec::new();
    for object in objects.into_iter().take(USERS_MAX) {
        let ObjectName::Keys(user) = &object else {
            continue;
        };
        let found = match store.get(repository, &object, KEY_BUNDLE_BYTES_MAX).await {
            Ok(stored) => as_put(keyring, repository, user, &stored),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %repository, %user, "a user's keys cannot be read");
                continue;
            }
        };
        match found {
            Some(found) => bundles.push(found),
            None => tracing::warn!(%repository, %user, "a user's keys are not as they were put"),
        }
    }
    Ok(bundles)
}

/// What was put there, if it is this user's and stands there as these keys put it.
fn as_put(
    keyring: &Keyring,
    repository: RepositoryId,
    user: &UserName,
    stored: &[u8],
) -> Option<UsersBundle> {
    let (found, role) = header::owner(stored).ok()?;
    let sealed = header::with_certificate(stored, None).ok()?;
    let keys = keyring.repository(repository, FIRST_EPOCH);
    let is_as_put = found == *user && keyring.stored_bundle(&sealed, &keys) == stored;
    is_as_put.then_some(UsersBundle {
        user: found,
        role,
        sealed,
    })
}
