//! A repository's keys of one epoch, as far as the bundle in hand reaches.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::ids::RepositoryId;
use crate::keys::bundle::KeyBundle;
use crate::keys::certificate::{Certificate, CertifierKey};
use crate::keys::derive::{Epoch, Use, repository_bytes};
use crate::keys::secret::{ChunkingKey, IdKey, KemSeed, SigningSeed};
use crate::seal::kem::{self, KemPublic};

/// The public half: what the repository's signed `config` carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys {
    /// Run data keys are encapsulated to it.
    pub data: KemPublic,
    /// Table keys and meta run keys are encapsulated to it.
    pub meta: KemPublic,
    /// Log records are sealed to it.
    pub log: KemPublic,
    /// Checks the log's and the config's signatures (Ed25519).
    pub verifying: [u8; 32],
}

/// A use that the unlocked role does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the unlocked keys do not include the {use_:?} key; use a role that holds it (data or admin)"
)]
pub struct MissingKeyError {
    /// The use that is missing.
    pub use_: Use,
}

/// A certificate that is another repository's, another key's, or forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the certificate does not say that this key signs the repository: forged, altered or another's"
)]
pub struct CertificateError;

/// The secrets of one repository and epoch that a bundle gives.
#[derive(Debug, Clone)]
pub struct RepositoryKeys {
    /// Which repository.
    pub repository: RepositoryId,
    /// Which generation of its keys.
    pub epoch: Epoch,
    data: Option<KemSeed>,
    meta: Option<KemSeed>,
    log: Option<KemSeed>,
    id: Option<IdKey>,
    chunking: Option<ChunkingKey>,
    signing: Option<SigningSeed>,
    /// Checks certificates, where nothing signs.
    certifier: Option<CertifierKey>,
    /// The key that a certificate vouched for.
    certified: Option<[u8; 32]>,
}

impl RepositoryKeys {
    /// Derives what `bundle` allows.
    pub fn derive(bundle: &KeyBundle, repository: RepositoryId, epoch: Epoch) -> Self {
        let bytes = |use_| {
            bundle
                .root(use_)
                .map(|root| repository_bytes(&root, use_, repository, epoch))
        };
        Self {
            repository,
            epoch,
            data: bytes(Use::Data).map(KemSeed::from_bytes),
            meta: bytes(Use::Meta).map(KemSeed::from_bytes),
            log: bytes(Use::Log).map(KemSeed::from_bytes),
            id: bytes(Use::Id).map(IdKey::from_bytes),
            chunking: bytes(Use::Chunking).map(ChunkingKey::from_bytes),
            signing: bytes(Use::Signing).map(SigningSeed::from_bytes),
            certifier: bundle.certifier(),
            certified: None,
        }
    }

    /// Whether the key that checks this repository's signatures comes by a certificate, and has yet to.
    pub fn wants_certificate(&self) -> bool {
        self.certifier.is_some() && self.certified.is_none()
    }

    /// Takes the key that checks this repository's signatures from a certificate.
    pub fn certified(
        self,
        verifying: [u8; 32],
        certificate: &Certificate,
    ) -> Result<Self, CertificateError> {
        let (repository, epoch) = (self.repository, self.epoch);
        let vouched = self
            .certifier
            .is_some_and(|certifier| certifier.vouches(certificate, repository, epoch, &verifying));
        match vouched {
            true => Ok(Self {
                certified: Some(verifying),
                ..self
            }),
            false => Err(CertificateError),
        }
    }

    /// Whether they open what is stored: without, nothing of the repository is read back.
    pub fn opens(&self) -> bool {
        self.data.is_some() && self.meta.is_some()
    }

    /// The seed that opens run data keys.
    pub fn data(&self) -> Result<&KemSeed, MissingKeyError> {
        self.data
            .as_ref()
            .ok_or(MissingKeyError { use_: Use::Data })
    }

    /// The seed that opens table keys and meta run keys.
    pub fn meta(&self) -> Result<&KemSeed, MissingKeyError> {
        self.meta
            .as_ref()
            .ok_or(MissingKeyError { use_: Use::Meta })
    }

    /// The seed that opens log records.
    pub fn log(&self) -> Result<&KemSeed, MissingKeyError> {
        self.log.as_ref().ok_or(MissingKeyError { use_: Use::Log })
    }

    /// The key of chunk ids.
    pub fn id(&self) -> Result<&IdKey, MissingKeyError> {
        self.id.as_ref().ok_or(MissingKeyError { use_: Use::Id })
    }

    /// The key of chunk and page boundaries.
    pub fn chunking(&self) -> Result<&ChunkingKey, MissingKeyError> {
        self.chunking.as_ref().ok_or(MissingKeyError {
            use_: Use::Chunking,
        })
    }

    fn signing_key(&self) -> Result<SigningKey, MissingKeyError> {
        let seed = self
            .signing
            .as_ref()
            .ok_or(MissingKeyError { use_: Use::Signing })?;
        Ok(SigningKey::from_bytes(seed.expose()))
    }

    /// Signs bytes of the log or the config (Ed25519).
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], MissingKeyError> {
        Ok(self.signing_key()?.sign(message).to_bytes())
    }

    /// The key that checks this repository's signatures.
    pub fn verifying(&self) -> Result<[u8; 32], MissingKeyError> {
        if let (None, Some(certified)) = (&self.signing, self.certified) {
            return Ok(certified);
        }
        Ok(self.signing_key()?.verifying_key().to_bytes())
    }

    /// All public keys; only a role that holds the secrets can derive them.
    pub fn public(&self) -> Result<PublicKeys, MissingKeyError> {
        Ok(PublicKeys {
            data: kem::public(self.data()?),
            meta: kem::public(self.meta()?),
            log: kem::public(self.log()?),
            verifying: self.verifying()?,
        })
    }
}

/// Whether `signature` is `verifying`'s over `message`, by the strict rules (no malleable forms).
pub fn signature_is_good(verifying: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(verifying) else {
        return false;
    };
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(message, &signature).is_ok()
}
