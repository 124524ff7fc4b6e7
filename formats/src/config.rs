//! A repository's `config` object: format version, ids and public keys, signed. Written once, never changed.
//! Whoever swaps a key in it breaks the signature, whose key is derived, or certified.

use crate::codec::{DecodeError, Put, Reader, read_magic};
use crate::ids::RepositoryId;
use crate::keys::derive::Epoch;
use crate::keys::repository::{MissingKeyError, PublicKeys, RepositoryKeys, signature_is_good};
use crate::seal::kem::KemPublic;

const MAGIC: &[u8; 8] = b"CAPSCONF";
/// Also the version of what has none of its own, as what a chunk id is made of.
const VERSION: u16 = 2;
const SIGNATURE_BYTES: usize = 64;

/// Bytes of an encoded config.
pub const CONFIG_BYTES: usize = 8 + 2 + 16 + 4 + 3 * 1_216 + 32 + SIGNATURE_BYTES;

/// What `config` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// The repository.
    pub repository: RepositoryId,
    /// Its generation of keys.
    pub epoch: Epoch,
    /// Its public keys.
    pub public: PublicKeys,
}

/// Why a config was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Its bytes are no config.
    #[error("the repository's config cannot be read")]
    Decode(#[from] DecodeError),
    /// It is another master key's.
    #[error(
        "the repository's config is signed by another key than expected: use the keys it was made with"
    )]
    OtherKey,
    /// Its signature is not good.
    #[error("the repository's config does not match its signature: forged or altered")]
    Signature,
    /// It is another repository's.
    #[error("the config found is of repository {found}")]
    OtherRepository {
        /// The repository found.
        found: RepositoryId,
    },
}

impl RepositoryConfig {
    /// Its signed bytes.
    pub fn seal(&self, keys: &RepositoryKeys) -> Result<Vec<u8>, MissingKeyError> {
        let mut out = Vec::with_capacity(CONFIG_BYTES);
        out.put(MAGIC);
        out.put_u16(VERSION);
        out.put(self.repository.as_bytes());
        out.put_u32(self.epoch);
        for key in [&self.public.data, &self.public.meta, &self.public.log] {
            out.put(key.0.as_ref());
        }
        out.put(&self.public.verifying);
        let signature = keys.sign(&out)?;
        out.put(&signature);
        Ok(out)
    }

    /// The key that a config says it is signed by: only a certificate makes it the repository's.
    pub fn claimed_verifying(bytes: &[u8]) -> Result<[u8; 32], ConfigError> {
        Ok(Self::read(bytes)?.0.public.verifying)
    }

    /// Reads the config of `repository`, signed by `verifying`.
    pub fn open(
        bytes: &[u8],
        repository: RepositoryId,
        verifying: &[u8; 32],
    ) -> Result<Self, ConfigError> {
        let (config, signed, signature) = Self::read(bytes)?;
        if config.public.verifying != *verifying {
            return Err(ConfigError::OtherKey);
        }
        if !signature_is_good(verifying, signed, signature) {
            return Err(ConfigError::Signature);
        }
        if config.repository != repository {
            return Err(ConfigError::OtherRepository {
                found: config.repository,
            });
        }
        Ok(config)
    }

    /// What a config says, what of it is signed, and the signature, which is not checked yet.
    fn read(bytes: &[u8]) -> Result<(Self, &[u8], &[u8; SIGNATURE_BYTES]), DecodeError> {
        let (signed, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(DecodeError::Truncated { what: "config" })?;
        let mut reader = Reader::new(signed);
        read_magic(&mut reader, "config", MAGIC, VERSION)?;
        let repository = RepositoryId::read(&mut reader)?;
        let epoch = reader.u32("epoch")?;
        let mut key = || -> Result<KemPublic, DecodeError> {
            Ok(KemPublic(Box::new(reader.array("public key")?)))
        };
        let (data, meta, log) = (key()?, key()?, key()?);
        let config = Self {
            repository,
            epoch,
            public: PublicKeys {
                data,
                meta,
                log,
                verifying: reader.array("verifying key")?,
            },
        };
        reader.finish("config")?;
        Ok((config, signed, signature))
    }
}
