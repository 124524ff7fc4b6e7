//! What one destination does not keep any more, while others do: snapshots that its own keep rules dropped there, and the data
//! packs that nothing needs there. Everything else of a repository is at every destination.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{PackId, RecordId};
use crate::limits::{ACT_PACKS_MAX, ACT_SNAPSHOTS_MAX, PACK_BYTES_MAX};
use crate::log::retention::{put_ids, read_ids};
use crate::wire::placing::DESTINATION_NAME_BYTES_MAX;

/// What a prune found that one destination does not need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thinning {
    /// The destination, by its name.
    pub destination: String,
    /// Snapshots that are left there.
    pub snapshots: u64,
    /// Data packs that are left there.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots that are not kept there any more: whoever restores them reads another destination.
    pub dropped: Vec<RecordId>,
    /// Data packs that nothing needs there any more: nothing may be built upon them, and in time they go there.
    pub condemned: Vec<ThinnedPack>,
}

/// A data pack that is condemned at one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThinnedPack {
    /// The pack.
    pub pack: PackId,
    /// Its bytes.
    pub bytes: u64,
}

impl Thinning {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_prefixed(self.destination.as_bytes());
        for field in [self.snapshots, self.packs, self.bytes] {
            out.put_varint(field);
        }
        put_ids(out, &self.dropped, RecordId::as_bytes);
        out.put_varint(self.condemned.len() as u64);
        for condemned in &self.condemned {
            out.put(condemned.pack.as_bytes());
            out.put_varint(condemned.bytes);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            destination: reader.text("destination", DESTINATION_NAME_BYTES_MAX)?,
            snapshots: reader.varint("snapshots")?,
            packs: reader.varint("packs")?,
            bytes: reader.varint("bytes")?,
            dropped: read_ids(reader, "dropped", ACT_SNAPSHOTS_MAX, RecordId::read)?,
            condemned: read_condemned(reader)?,
        })
    }
}

fn read_condemned(reader: &mut Reader<'_>) -> Result<Vec<ThinnedPack>, DecodeError> {
    let count = reader.count("thinned packs", ACT_PACKS_MAX, 33)?;
    let mut condemned = Vec::with_capacity(count);
    for _ in 0..count {
        let pack = PackId::read(reader)?;
        let bytes = reader.varint("pack bytes")?;
        if bytes > PACK_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "pack bytes",
                found: bytes,
                limit: PACK_BYTES_MAX,
            });
        }
        condemned.push(ThinnedPack { pack, bytes });
    }
    Ok(condemned)
}
