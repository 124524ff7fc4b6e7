//! Certificates: what tells a holder of reading keys which key signs a repository, in place of the signing root that it must
//! not have. Made by whoever holds that root; stands behind the reader's bundle in each repository.

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::codec::Put as _;
use crate::ids::RepositoryId;
use crate::keys::derive::{Epoch, context};
use crate::keys::repository::signature_is_good;
use crate::keys::secret::RootKey;

const TEXT: &[u8] = b"capstan 2026-11 certificate";

/// Bytes of a certificate.
pub const CERTIFICATE_BYTES: usize = 64;

/// Says that a key signs a repository: a signature (Ed25519) of the certifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate(pub [u8; CERTIFICATE_BYTES]);

/// The public key that checks the certificates of every repository under one master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertifierKey(pub [u8; 32]);

impl CertifierKey {
    /// The one of a signing root.
    pub fn of(signing: &RootKey) -> Self {
        Self(certifier(signing).verifying_key().to_bytes())
    }

    /// Whether `certificate` says that `verifying` checks the signatures of this repository and epoch.
    pub fn vouches(
        &self,
        certificate: &Certificate,
        repository: RepositoryId,
        epoch: Epoch,
        verifying: &[u8; 32],
    ) -> bool {
        let message = message(repository, epoch, verifying);
        signature_is_good(&self.0, &message, &certificate.0)
    }
}

impl Certificate {
    /// Certifies the key that checks the signatures of a repository and epoch.
    pub fn issue(
        signing: &RootKey,
        repository: RepositoryId,
        epoch: Epoch,
        verifying: &[u8; 32],
    ) -> Self {
        let message = message(repository, epoch, verifying);
        Self(certifier(signing).sign(&message).to_bytes())
    }
}

fn certifier(signing: &RootKey) -> SigningKey {
    let seed = blake3::derive_key(context::CERTIFIER, signing.expose());
    SigningKey::from_bytes(&Zeroizing::new(seed))
}

fn message(repository: RepositoryId, epoch: Epoch, verifying: &[u8; 32]) -> Vec<u8> {
    let mut message = TEXT.to_vec();
    message.put(repository.as_bytes());
    message.put_u32(epoch);
    message.put(verifying);
    message
}

#[cfg(test)]
mod tests {
    use super::{Certificate, CertifierKey};
    use crate::ids::RepositoryId;
    use crate::keys::secret::RootKey;

    #[test]
    fn a_certificate_is_good_for_one_key_of_one_repository_and_epoch() {
        let root = RootKey::from_bytes([1; 32]);
        let (repository, other) = (RepositoryId([2; 16]), RepositoryId([3; 16]));
        let certificate = Certificate::issue(&root, repository, 1, &[4; 32]);
        let key = CertifierKey::of(&root);
        assert!(key.vouches(&certificate, repository, 1, &[4; 32]));
        assert!(!key.vouches(&certificate, other, 1, &[4; 32]));
        assert!(!key.vouches(&certificate, repository, 2, &[4; 32]));
        assert!(!key.vouches(&certificate, repository, 1, &[5; 32]));
        let stranger = CertifierKey::of(&RootKey::from_bytes([9; 32]));
        assert!(!stranger.vouches(&certificate, repository, 1, &[4; 32]));
    }
}
