//! Yes or no for each of many: what the coordinator answers to a batch of entries, or to a query of chunks.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{BATCH_ENTRIES_MAX, SEEN_CHUNKS_MAX};

/// Answers for numbered things: bit `i` of byte `i / 8`, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// The batch or query answered.
    pub of: u64,
    /// How many bits count.
    pub bits: u32,
    /// The bits; those past the count are zero.
    pub bytes: Vec<u8>,
}

impl Bitmap {
    /// A bitmap from its answers.
    pub fn new(of: u64, answers: impl ExactSizeIterator<Item = bool>) -> Self {
        let mut bytes = vec![0u8; answers.len().div_ceil(8)];
        let bits = u32::try_from(answers.len()).unwrap_or(u32::MAX);
        for (index, answer) in answers.enumerate() {
            if let Some(byte) = bytes.get_mut(index / 8) {
                *byte |= u8::from(answer) << (index % 8);
            }
        }
        Self { of, bits, bytes }
    }

    /// The answer at a place; past the end, no.
    pub fn get(&self, index: usize) -> bool {
        self.bytes
            .get(index / 8)
            .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.of);
        out.put_varint(self.bits.into());
        out.put(&self.bytes);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let of = reader.varint("answer")?;
        let bits = reader.varint32("bits")?;
        let limit = BATCH_ENTRIES_MAX.max(SEEN_CHUNKS_MAX);
        if u64::from(bits) > limit {
            return Err(DecodeError::AboveLimit {
                what: "bits",
                found: bits.into(),
                limit,
            });
        }
        let bytes = reader.bytes("bits", bits.div_ceil(8) as usize)?.to_vec();
        let spare = bits % 8;
        if spare != 0 && bytes.last().is_some_and(|last| last >> spare != 0) {
            return Err(DecodeError::NotCanonical { what: "bits" });
        }
        Ok(Self { of, bits, bytes })
    }
}
