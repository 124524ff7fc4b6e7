//! Chunks: where a file is cut (FastCDC with a keyed gear table) and how a chunk is named (BLAKE3 keyed by
//! the repository's id key, over plaintext and kind).

use crate::codec::DecodeError;
use crate::ids::ChunkId;
use crate::keys::derive::context;
use crate::keys::secret::{ChunkingKey, IdKey};
use crate::limits::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

/// What a chunk holds; part of its id, so that one kind can never be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkKind {
    /// A piece of a file.
    Data,
    /// A page of a listing.
    Page,
    /// A piece of a snapshot's list of pages.
    PageIndex,
    /// A piece of a big file's list of chunks.
    Content,
    /// A piece of a run's index: which pack holds which chunk.
    Index,
}

impl ChunkKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Data,
        Self::Page,
        Self::PageIndex,
        Self::Content,
        Self::Index,
    ];

    /// Its tag in ids, tables and associated data.
    pub fn tag(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Page => 2,
            Self::PageIndex => 3,
            Self::Content => 4,
            Self::Index => 5,
        }
    }

    /// The kind of a tag.
    pub fn from_tag(tag: u8) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.tag() == tag)
            .ok_or(DecodeError::UnknownTag {
                what: "chunk kind",
                tag: tag.into(),
            })
    }
}

/// A chunk's name.
pub fn chunk_id(key: &IdKey, kind: ChunkKind, plain: &[u8]) -> ChunkId {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    // The kind comes last: in front it would keep BLAKE3 from taking the plaintext in the large steps it is fast in.
    hasher.update(plain);
    hasher.update(&[kind.tag()]);
    ChunkId(hasher.finalize().into())
}

/// Finds the end of the next chunk; boundaries depend on the repository's chunking key.
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    mask_small: u64,
    mask_large: u64,
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunker(..)")
    }
}

impl Chunker {
    /// The repository's chunker: its gear table is 256 little-endian u64 of BLAKE3's extended output.
    pub fn new(key: &ChunkingKey) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context::GEAR_TABLE);
        hasher.update(key.expose());
        let mut output = hasher.finalize_xof();
        let mut gear = Box::new([0u64; 256]);
        for value in gear.iter_mut() {
            let mut bytes = [0u8; 8];
            output.fill(&mut bytes);
            *value = u64::from_le_bytes(bytes);
        }
        let gear_shifted = Box::new(gear.map(|value| value << 1));
        let (mask_small, mask_large) = fastcdc::v2020::select_masks(
            CHUNK_BYTES_AVERAGE as usize,
            fastcdc::v2020::Normalization::Level1,
        );
        Self {
            gear,
            gear_shifted,
            mask_small,
            mask_large,
        }
    }

    /// How many bytes of `source` the next chunk takes; `source` must reach to the end of the data or hold
    /// at least [`CHUNK_BYTES_MAX`] bytes. 0 only for an empty source.
    pub fn cut(&self, source: &[u8]) -> usize {
        let (_, end) = fastcdc::v2020::cut_gear(
            source,
            CHUNK_BYTES_MIN as usize,
            CHUNK_BYTES_AVERAGE as usize,
            CHUNK_BYTES_MAX as usize,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            self.gear.as_slice(),
            self.gear_shifted.as_slice(),
        );
        end
    }
}

#[cfg(test)]
mod tests {
    use super::{ChunkKind, Chunker, chunk_id};
    use crate::keys::secret::{ChunkingKey, IdKey};
    use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

    fn noise(bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        data
    }

    fn cuts(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < data.len() {
            at += chunker.cut(&data[at..]);
            ends.push(at);
        }
        ends
    }

    #[test]
    fn cuts_stay_in_bounds_depend_on_the_key_and_survive_an_insertion() {
        let data = noise(32 << 20);
        let chunker = Chunker::new(&ChunkingKey::from_bytes([1; 32]));
        let ends = cuts(&chunker, &data);
        let mut from = 0;
        for (index, end) in ends.iter().enumerate() {
            let bytes = end - from;
            assert!(bytes <= CHUNK_BYTES_MAX as usize);
            assert!(bytes >= CHUNK_BYTES_MIN as usize || index + 1 == ends.len());
            from = *end;
        }
        let other = Chunker::new(&ChunkingKey::from_bytes([2; 32]));
        assert_ne!(ends, cuts(&other, &data));
        let mut shifted = data.clone();
        shifted.splice(100..100, [0u8; 7]);
        let moved = cuts(&chunker, &shifted);
        let same = moved
            .iter()
            .filter(|end| ends.contains(&(*end - 7)))
            .count();
        assert!(same * 10 > ends.len() * 8, "{same} of {}", ends.len());
    }

    #[test]
    fn the_kind_is_part_of_the_id() {
        let key = IdKey::from_bytes([5; 32]);
        let ids: std::collections::HashSet<_> = ChunkKind::ALL
            .into_iter()
            .map(|kind| chunk_id(&key, kind, b"same"))
            .collect();
        assert_eq!(ids.len(), ChunkKind::ALL.len());
    }
}
