//! Run headers: a run's two symmetric keys, encapsulated to the repository's public keys, with key
//! commitments. Only the coordinator makes one; every pack's trailer carries it.

use subtle::ConstantTimeEq as _;

use crate::codec::{DecodeError, Put, Reader, read_magic};
use crate::ids::{RepositoryId, RunId};
use crate::keys::derive::{Epoch, commitment};
use crate::keys::repository::PublicKeys;
use crate::keys::secret::{DataKey, KemSeed, TableKey};
use crate::seal::kem::{self, ENCAPSULATED_BYTES, Encapsulated, KemError};

const MAGIC: &[u8; 8] = b"CAPSRUNH";
const VERSION: u16 = 1;

/// Bytes of an encoded run header.
pub const RUN_HEADER_BYTES: usize = 8 + 2 + 1 + 16 + 4 + 16 + 2 * (ENCAPSULATED_BYTES + 32);

/// Who seals with a run header's keys, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The agent seals file content; the frame key opens with the data key pair.
    Data,
    /// The coordinator seals listings and index pieces; both keys open with the meta key pair.
    Meta,
}

impl Purpose {
    /// Its number in formats.
    pub fn tag(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Meta => 2,
        }
    }

    /// The purpose of a number.
    pub fn from_tag(tag: u8) -> Result<Self, DecodeError> {
        match tag {
            1 => Ok(Self::Data),
            2 => Ok(Self::Meta),
            tag => Err(DecodeError::UnknownTag {
                what: "purpose",
                tag: tag.into(),
            }),
        }
    }
}

/// What a seal of this run is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunContext {
    /// The repository.
    pub repository: RepositoryId,
    /// Its generation of keys.
    pub epoch: Epoch,
    /// The run.
    pub run: RunId,
    /// Data or meta.
    pub purpose: Purpose,
}

impl RunContext {
    /// The bytes that every seal under this run is bound to.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.purpose.tag());
        out.put(self.repository.as_bytes());
        out.put_u32(self.epoch);
        out.put(self.run.as_bytes());
    }

    fn info(&self, what: &[u8]) -> Vec<u8> {
        let mut info = b"capstan 2026-11 run key ".to_vec();
        info.put(what);
        self.put(&mut info);
        info
    }
}

/// One run's keys: to the agent for a data run, kept by the coordinator for a meta run.
#[derive(Debug, Clone)]
pub struct RunKeys {
    /// Seals frames.
    pub data: DataKey,
    /// Seals pack tables.
    pub table: TableKey,
}

/// A run's keys as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHeader {
    /// What they are bound to.
    pub context: RunContext,
    data: Slot,
    table: Slot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    encapsulated: Encapsulated,
    commitment: [u8; 32],
}

/// Why a run header's key could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunHeaderError {
    /// The encapsulation is not valid.
    #[error(transparent)]
    Kem(#[from] KemError),
    /// The key found is not the one committed to: another repository's key, or altered bytes.
    #[error("the run header's key does not match its commitment: another key, or altered bytes")]
    Commitment,
}

impl RunHeader {
    /// Fresh keys for a run, and the header that stores them.
    pub fn create(
        context: RunContext,
        public: &PublicKeys,
    ) -> Result<(Self, RunKeys), RunHeaderError> {
        let frames_to = match context.purpose {
            Purpose::Data => &public.data,
            Purpose::Meta => &public.meta,
        };
        let (data_encapsulated, data) = kem::encapsulate(frames_to, &context.info(b"data"))?;
        let (table_encapsulated, table) = kem::encapsulate(&public.meta, &context.info(b"table"))?;
        let header = Self {
            context,
            data: Slot {
                encapsulated: data_encapsulated,
                commitment: commitment(&data),
            },
            table: Slot {
                encapsulated: table_encapsulated,
                commitment: commitment(&table),
            },
        };
        let keys = RunKeys {
            data: DataKey::from_bytes(*data),
            table: TableKey::from_bytes(*table),
        };
        Ok((header, keys))
    }

    /// The key of the run's frames; `seed` is the data pair's, or the meta pair's for a meta run.
    pub fn open_data_key(&self, seed: &KemSeed) -> Result<DataKey, RunHeaderError> {
        let key = self.data.open(seed, &self.context.info(b"data"))?;
        Ok(DataKey::from_bytes(key))
    }

    /// The key of the run's pack tables; `seed` is the meta pair's.
    pub fn open_table_key(&self, seed: &KemSeed) -> Result<TableKey, RunHeaderError> {
        let key = self.table.open(seed, &self.context.info(b"table"))?;
        Ok(TableKey::from_bytes(key))
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(RUN_HEADER_BYTES);
        out.put(MAGIC);
        out.put_u16(VERSION);
        self.context.put(&mut out);
        for slot in [&self.data, &self.table] {
            out.put(slot.encapsulated.0.as_ref());
            out.put(&slot.commitment);
        }
        out
    }

    /// Reads one from the front of a pack's headers.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        read_magic(reader, "run header", MAGIC, VERSION)?;
        let purpose = Purpose::from_tag(reader.u8("purpose")?)?;
        Ok(Self {
            context: RunContext {
                repository: RepositoryId::read(reader)?,
                epoch: reader.u32("epoch")?,
                run: RunId::read(reader)?,
                purpose,
            },
            data: Slot::read(reader)?,
            table: Slot::read(reader)?,
        })
    }

    /// Reads exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = Self::read(&mut reader)?;
        reader.finish("run header")?;
        Ok(header)
    }
}

impl Slot {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            encapsulated: Encapsulated(Box::new(reader.array("encapsulated key")?)),
            commitment: reader.array("key commitment")?,
        })
    }

    fn open(&self, seed: &KemSeed, info: &[u8]) -> Result<[u8; 32], RunHeaderError> {
        let key = kem::decapsulate(seed, &self.encapsulated, info)?;
        if bool::from(commitment(&key).ct_eq(&self.commitment)) {
            Ok(*key)
        } else {
            Err(RunHeaderError::Commitment)
        }
    }
}
