//! A log record: sequence number, the hash of the record before, a sealed payload, a signature over all of
//! it. Whoever stores the log sees sequence numbers and padded sizes, and can change none of it unnoticed.

use crate::codec::{DecodeError, Put, Reader, read_magic_and_version};
use crate::ids::{RecordId, RepositoryId};
use crate::keys::derive::Epoch;
use crate::keys::repository::{MissingKeyError, RepositoryKeys, signature_is_good};
use crate::keys::secret::{KemSeed, RandomError};
use crate::limits::RECORD_BYTES_MAX;
use crate::log::lease::Lease;
use crate::log::retention::Retention;
use crate::log::settings::HostSettings;
use crate::log::snapshot::Snapshot;
use crate::pack::assemble::padme;
use crate::seal::aead;
use crate::seal::kem::{self, ENCAPSULATED_BYTES, Encapsulated, KemError, KemPublic};

const MAGIC: &[u8; 8] = b"CAPSTLOG";
/// The last version; what a snapshot's record has is the first.
const VERSION: u16 = 4;
const HEADER_BYTES: usize = 8 + 2 + 16 + 4 + 8 + 32;
const SIGNATURE_BYTES: usize = 64;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A committed snapshot.
    Snapshot(Box<Snapshot>),
    /// Which coordinator writes from here on.
    Lease(Lease),
    /// How a host is reached and what of it is backed up.
    Settings(HostSettings),
    /// What becomes of snapshots and packs.
    Retention(Box<Retention>),
}

impl Payload {
    /// The version of a record that says this.
    fn version(&self) -> u16 {
        match self {
            Self::Snapshot(_) => 1,
            Self::Lease(_) | Self::Settings(_) => 2,
            Self::Retention(retention) if retention.act.is_first() => 3,
            Self::Retention(_) => 4,
        }
    }

    /// Its bytes as they are sealed, with their padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Snapshot(snapshot) => {
                body.put_u8(1);
                snapshot.put(&mut body);
            }
            Self::Lease(lease) => {
                body.put_u8(2);
                lease.put(&mut body);
            }
            Self::Settings(settings) => {
                body.put_u8(3);
                settings.put(&mut body);
            }
            Self::Retention(retention) => {
                body.put_u8(4);
                retention.put(&mut body);
            }
        }
        let mut out = Vec::with_capacity(body.len() + 8);
        out.put_prefixed(&body);
        let padded = usize::try_from(padme(out.len() as u64)).unwrap_or(out.len());
        out.resize(padded, 0);
        out
    }

    /// Reads them.
    pub fn decode(plain: &[u8]) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(plain);
        let body = outer.prefixed("log payload", RECORD_BYTES_MAX)?;
        if outer.rest().iter().any(|byte| *byte != 0) {
            return Err(DecodeError::NotCanonical {
                what: "log padding",
            });
        }
        let mut reader = Reader::new(body);
        let payload = match reader.u8("log payload")? {
            1 => Self::Snapshot(Box::new(Snapshot::read(&mut reader)?)),
            2 => Self::Lease(Lease::read(&mut reader)?),
            3 => Self::Settings(HostSettings::read(&mut reader)?),
            4 => Self::Retention(Box::new(Retention::read(&mut reader)?)),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "log payload",
                    tag: tag.into(),
                });
            }
        };
        reader.finish("log payload")?;
        Ok(payload)
    }
}

/// What a record says, as far as it can be told without the key that opens it. The version is signed, and a record that opens to
/// something else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A committed snapshot.
    Snapshot,
    /// A lease, or a host's settings.
    LeaseOrSettings,
    /// An act of retention: the only kind that can condemn packs.
    Retention,
}

/// Where a record stands: which repository, which place, after which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// The repository.
    pub repository: RepositoryId,
    /// Its generation of keys.
    pub epoch: Epoch,
    /// The place in the log, from 1.
    pub sequence: u64,
    /// The record before; zeros for the first.
    pub previous: RecordId,
}

impl RecordPlace {
    fn header(&self, version: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put(MAGIC);
        out.put_u16(version);
        out.put(self.repository.as_bytes());
        out.put_u32(self.epoch);
        out.put_u64(self.sequence);
        out.put(self.previous.as_bytes());
        out
    }

    fn info(&self, version: u16) -> Vec<u8> {
        let mut info = b"capstan 2026-11 log record".to_vec();
        info.put(&self.header(version));
        info
    }
}

/// Why a record was refused or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Its bytes are no record.
    #[error("the log record cannot be read")]
    Decode(#[from] DecodeError),
    /// The signature is not this repository's.
    #[error("log record {sequence} is not signed by this repository's key: forged or altered")]
    Signature {
        /// The record's place.
        sequence: u64,
    },
    /// It belongs elsewhere.
    #[error("log record {found} stands where {expected} of this repository was expected")]
    Place {
        /// The place found in it.
        found: u64,
        /// The place it was read from.
        expected: u64,
    },
    /// It does not follow the record before it.
    #[error(
        "log record {sequence} does not follow the record before it: the log was forked or rolled back"
    )]
    Chain {
        /// The record's place.
        sequence: u64,
    },
    /// The seal does not open.
    #[error("log record {sequence} does not open: another key, or altered bytes")]
    Seal {
        /// The record's place.
        sequence: u64,
    },
    /// It is larger than a record may be.
    #[error("the log record would have {bytes} bytes; {RECORD_BYTES_MAX} is the limit")]
    TooLarge {
        /// Its bytes.
        bytes: u64,
    },
    /// The role does not hold the key.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// Sealing failed.
    #[error(transparent)]
    Kem(#[from] KemError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The bytes of a signed, sealed record, and its name.
pub fn seal_record(
    place: &RecordPlace,
    payload: &Payload,
    log: &KemPublic,
    keys: &RepositoryKeys,
) -> Result<(Vec<u8>, RecordId), RecordError> {
    let version = payload.version();
    let (encapsulated, key) = kem::encapsulate(log, &place.info(version))?;
    let mut out = place.header(version);
    out.put(encapsulated.0.as_ref());
    let associated = out.clone();
    aead::seal(&key, &associated, &payload.encode(), &mut out)?;
    let signature = keys.sign(&out)?;
    out.put(&signature);
    let bytes = out.len() as u64;
    if bytes > RECORD_BYTES_MAX {
        return Err(RecordError::TooLarge { bytes });
    }
    let id = RecordId(blake3::hash(&out).into());
    Ok((out, id))
}

/// A record whose signature and place are good; its payload is still sealed.
#[derive(Debug, Clone)]
pub struct SealedRecord<'a> {
    /// Its place.
    pub place: RecordPlace,
    /// Its name.
    pub id: RecordId,
    version: u16,
    encapsulated: Encapsulated,
    associated: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> SealedRecord<'a> {
    /// Reads the record found at `expected`, checking signature and chain before anything else is believed.
    pub fn check(
        bytes: &'a [u8],
        verifying: &[u8; 32],
        expected: &RecordPlace,
    ) -> Result<Self, RecordError> {
        if bytes.len() as u64 > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge {
                bytes: bytes.len() as u64,
            });
        }
        let (signed, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(DecodeError::Truncated { what: "log record" })?;
        let mut reader = Reader::new(signed);
        let version = read_magic_and_version(&mut reader, "log record", MAGIC, 1..=VERSION)?;
        let place = RecordPlace {
            repository: RepositoryId::read(&mut reader)?,
            epoch: reader.u32("epoch")?,
            sequence: reader.u64("sequence")?,
            previous: RecordId::read(&mut reader)?,
        };
        let encapsulated = Encapsulated(Box::new(
            reader.array::<ENCAPSULATED_BYTES>("encapsulated key")?,
        ));
        let sealed = reader.rest();
        let sequence = expected.sequence;
        if !signature_is_good(verifying, signed, signature) {
            return Err(RecordError::Signature { sequence });
        }
        if place.sequence != sequence
            || place.repository != expected.repository
            || place.epoch != expected.epoch
        {
            return Err(RecordError::Place {
                found: place.sequence,
                expected: sequence,
            });
        }
        if place.previous != expected.previous {
            return Err(RecordError::Chain { sequence });
        }
        let (associated, _) = signed.split_at(signed.len() - sealed.len());
        Ok(Self {
            place,
            id: RecordId(blake3::hash(bytes).into()),
            version,
            encapsulated,
            associated,
            sealed,
        })
    }

    /// What it says, as far as that can be told without opening it.
    pub fn kind(&self) -> RecordKind {
        match self.version {
            1 => RecordKind::Snapshot,
            2 => RecordKind::LeaseOrSettings,
            _ => RecordKind::Retention,
        }
    }

    /// Opens the payload with the repository's log seed.
    pub fn open(&self, log: &KemSeed) -> Result<Payload, RecordError> {
        let fail = RecordError::Seal {
            sequence: self.place.sequence,
        };
        let info = self.place.info(self.version);
        let key = kem::decapsulate(log, &self.encapsulated, &info).map_err(|_| fail.clone())?;
        let mut plain = Vec::new();
        aead::open(&key, self.associated, self.sealed, &mut plain).map_err(|_| fail)?;
        let payload = Payload::decode(&plain)?;
        if payload.version() != self.version {
            return Err(RecordError::Decode(DecodeError::NotCanonical {
                what: "log record's version",
            }));
        }
        Ok(payload)
    }
}
