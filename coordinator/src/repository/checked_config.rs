//! Whether a stored config is the one that these keys' repository was made with. Keys that cannot sign, and so cannot derive
//! which key signs, are told by a certificate; nothing else is believed.

use bytes::Bytes;
use formats::config::RepositoryConfig;
use formats::ids::RepositoryId;
use formats::keys::bundle::header;
use formats::keys::repository::{MissingKeyError, RepositoryKeys};
use formats::limits::KEY_BUNDLE_BYTES_MAX;
use formats::object::ObjectName;

use crate::keyring::Keyring;
use crate::repository::store::{ObjectStore, StoreError};
use crate::repository::{FIRST_EPOCH, RepositoryError};

/// The keyring's own bundle as it stands in a repository, for keys that need the certificate behind it; none where there
/// is none, or none is needed.
pub async fn own_bundle<S: ObjectStore>(
    keyring: &Keyring,
    store: &S,
    repository: RepositoryId,
) -> Result<Option<Bytes>, StoreError> {
    if !keyring
        .repository(repository, FIRST_EPOCH)
        .wants_certificate()
    {
        return Ok(None);
    }
    let name = ObjectName::Keys(keyring.user().clone());
    match store.get(repository, &name, KEY_BUNDLE_BYTES_MAX).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks a stored config against keys: signature, id, and every public key that can be derived. Keys that cannot sign take
/// the signature's key from the certificate behind their own bundle.
pub fn check_config(
    keyring: &Keyring,
    name: &str,
    repository: RepositoryId,
    bytes: &[u8],
    own_bundle: Option<&[u8]>,
) -> Result<(RepositoryConfig, RepositoryKeys), RepositoryError> {
    let mut keys = keyring.repository(repository, FIRST_EPOCH);
    if keys.wants_certificate() {
        let refused = |source| RepositoryError::NotCertified {
            name: name.to_owned(),
            repository,
            user: keyring.user().clone(),
            source,
        };
        let claimed = RepositoryConfig::claimed_verifying(bytes).map_err(|source| {
            RepositoryError::Config {
                name: name.to_owned(),
                repository,
                source,
            }
        })?;
        let certificate = own_bundle.and_then(|stored| header::certificate(stored).ok().flatten());
        let certificate = certificate.ok_or_else(|| refused(None))?;
        let certified = keys.certified(claimed, &certificate);
        keys = certified.map_err(|source| refused(Some(source)))?;
    }
    let config = check_config_with(&keys, name, bytes)?;
    Ok((config, keys))
}

/// The same with a repository's keys that are known already.
pub fn check_config_with(
    keys: &RepositoryKeys,
    name: &str,
    bytes: &[u8],
) -> Result<RepositoryConfig, RepositoryError> {
    let repository = keys.repository;
    let config =
        RepositoryConfig::open(bytes, repository, &keys.verifying()?).map_err(|source| {
            RepositoryError::Config {
                name: name.to_owned(),
                repository,
                source,
            }
        })?;
    // A role without the private halves cannot derive the public ones: the signature stands for them.
    let same = match keys.public() {
        Ok(public) => public == config.public,
        Err(MissingKeyError { .. }) => true,
    };
    if same && config.epoch == FIRST_EPOCH {
        Ok(config)
    } else {
        Err(RepositoryError::OtherKeys {
            name: name.to_owned(),
            repository,
            epoch: config.epoch,
        })
    }
}
