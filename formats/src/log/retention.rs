//! What becomes of snapshots and packs after they were committed: which snapshots are forgotten, brought back or pinned,
//! which packs nothing needs any more, and which of those are gone. Times are the coordinator's.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{ActId, PackId, RecordId};
use crate::limits::{
    ACT_PACKS_MAX, ACT_SNAPSHOTS_MAX, PACK_BYTES_MAX, SNAPSHOT_INDEXES_MAX,
    SNAPSHOT_META_PACKS_MAX, TEXT_BYTES_MAX,
};
use crate::log::snapshot::{ChunkRef, put_chunks, read_chunks};
use crate::log::thinning::Thinning;
use crate::seal::run_header::Purpose;
use crate::wire::placing::DESTINATION_NAME_BYTES_MAX;

/// One act of retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Its own name, by which its coordinator knows it again.
    pub id: ActId,
    /// When, by the coordinator's clock: nanoseconds since 1970.
    pub at_nanos: i64,
    /// What was done.
    pub act: Act,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Snapshots are not part of the history any more; what only they need may go.
    Forget {
        /// Whether a person named them, and not the host's keep rules.
        by_person: bool,
        /// Their records.
        snapshots: Vec<RecordId>,
    },
    /// Forgotten snapshots are back, and so are condemned packs.
    Undelete {
        /// The snapshots' records.
        snapshots: Vec<RecordId>,
        /// Packs that are not condemned any more.
        packs: Vec<PackId>,
    },
    /// Packs that nothing needs are condemned: nothing may be built upon them, and in time they go.
    Prune(Prune),
    /// Condemned packs that are removed from now on. None of them comes back.
    Sweep {
        /// The packs.
        packs: Vec<PackId>,
    },
    /// A snapshot is kept whatever the keep rules say, or is not any more.
    Pin {
        /// Its record.
        snapshot: RecordId,
        /// Whether it is pinned from now on.
        pinned: bool,
        /// Why, for people.
        reason: String,
    },
    /// One destination does not keep what others do.
    Thin(Thinning),
    /// Data packs that are condemned at one destination, and removed there from now on.
    SweepAt {
        /// The destination, by its name.
        destination: String,
        /// The packs.
        packs: Vec<PackId>,
    },
}

impl Act {
    /// Whether the first readers of acts knew of it.
    pub(super) fn is_first(&self) -> bool {
        !matches!(self, Self::Thin(_) | Self::SweepAt { .. })
    }
}

/// What a prune found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prune {
    /// The last record of the log whose snapshot, if it has one, was looked through for what it needs.
    pub marked: u64,
    /// Snapshots that were left.
    pub snapshots: u64,
    /// Packs that were left.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// An index object of packs that this prune wrote, and of packs whose index pieces were in meta packs that go.
    pub index: Vec<ChunkRef>,
    /// The meta packs that this prune wrote.
    pub meta_packs: Vec<PackId>,
    /// What nothing needs any more.
    pub condemned: Vec<CondemnedPack>,
}

/// A pack that nothing needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CondemnedPack {
    /// The pack.
    pub pack: PackId,
    /// Whether it is a data or a meta pack.
    pub purpose: Purpose,
    /// Its bytes.
    pub bytes: u64,
}

impl Retention {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put(self.id.as_bytes());
        out.put_i64(self.at_nanos);
        match &self.act {
            Act::Forget {
                by_person,
                snapshots,
            } => {
                out.put_u8(1);
                out.put_flag(*by_person);
                put_ids(out, snapshots, RecordId::as_bytes);
            }
            Act::Undelete { snapshots, packs } => {
                out.put_u8(2);
                put_ids(out, snapshots, RecordId::as_bytes);
                put_ids(out, packs, PackId::as_bytes);
            }
            Act::Prune(prune) => {
                out.put_u8(3);
                prune.put(out);
            }
            Act::Sweep { packs } => {
                out.put_u8(4);
                put_ids(out, packs, PackId::as_bytes);
            }
            Act::Pin {
                snapshot,
                pinned,
                reason,
            } => {
                out.put_u8(5);
                out.put(snapshot.as_bytes());
                out.put_flag(*pinned);
                out.put_prefixed(reason.as_bytes());
            }
            Act::Thin(thinning) => {
                out.put_u8(6);
                thinning.put(out);
            }
            Act::SweepAt { destination, packs } => {
                out.put_u8(7);
                out.put_prefixed(destination.as_bytes());
                put_ids(out, packs, PackId::as_bytes);
            }
        }
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: ActId::read(reader)?,
            at_nanos: reader.i64("at")?,
            act: match reader.u8("act")? {
                1 => Act::Forget {
                    by_person: reader.flag("by person")?,
                    snapshots: read_ids(reader, "snapshots", ACT_SNAPSHOTS_MAX, RecordId::read)?,
                },
                2 => Act::Undelete {
                    snapshots: read_ids(reader, "snapshots", ACT_SNAPSHOTS_MAX, RecordId::read)?,
                    packs: read_ids(reader, "packs", ACT_PACKS_MAX, PackId::read)?,
                },
                3 => Act::Prune(Prune::read(reader)?),
                4 => Act::Sweep {
                    packs: read_ids(reader, "packs", ACT_PACKS_MAX, PackId::read)?,
                },
                5 => Act::Pin {
                    snapshot: RecordId::read(reader)?,
                    pinned: reader.flag("pinned")?,
                    reason: reader.text("reason", TEXT_BYTES_MAX)?,
                },
                6 => Act::Thin(Thinning::read(reader)?),
                7 => Act::SweepAt {
                    destination: reader.text("destination", DESTINATION_NAME_BYTES_MAX)?,
                    packs: read_ids(reader, "packs", ACT_PACKS_MAX, PackId::read)?,
                },
                tag => {
                    return Err(DecodeError::UnknownTag {
                        what: "act",
                        tag: tag.into(),
                    });
                }
            },
        })
    }
}

impl Prune {
    fn put(&self, out: &mut Vec<u8>) {
        for field in [self.marked, self.snapshots, self.packs, self.bytes] {
            out.put_varint(field);
        }
        put_chunks(out, &self.index);
        put_ids(out, &self.meta_packs, PackId::as_bytes);
        out.put_varint(self.condemned.len() as u64);
        for condemned in &self.condemned {
            out.put(condemned.pack.as_bytes());
            out.put_u8(condemned.purpose.tag());
            out.put_varint(condemned.bytes);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            marked: reader.varint("marked")?,
            snapshots: reader.varint("snapshots")?,
            packs: reader.varint("packs")?,
            bytes: reader.varint("bytes")?,
            index: read_chunks(reader, SNAPSHOT_INDEXES_MAX)?,
            meta_packs: read_ids(reader, "meta packs", SNAPSHOT_META_PACKS_MAX, PackId::read)?,
            condemned: read_condemned(reader)?,
        })
    }
}

fn read_condemned(reader: &mut Reader<'_>) -> Result<Vec<CondemnedPack>, DecodeError> {
    let count = reader.count("condemned packs", ACT_PACKS_MAX, 34)?;
    let mut condemned = Vec::with_capacity(count);
    for _ in 0..count {
        let pack = PackId::read(reader)?;
        let purpose = Purpose::from_tag(reader.u8("purpose")?)?;
        let bytes = reader.varint("pack bytes")?;
        if bytes > PACK_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "pack bytes",
                found: bytes,
                limit: PACK_BYTES_MAX,
            });
        }
        condemned.push(CondemnedPack {
            pack,
            purpose,
            bytes,
        });
    }
    Ok(condemned)
}

pub(super) fn put_ids<T>(out: &mut Vec<u8>, ids: &[T], bytes: impl Fn(&T) -> &[u8; 32]) {
    out.put_varint(ids.len() as u64);
    for id in ids {
        out.put(bytes(id));
    }
}

pub(super) fn read_ids<T>(
    reader: &mut Reader<'_>,
    what: &'static str,
    limit: u64,
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(what, limit, 32)?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(read(reader)?);
    }
    Ok(ids)
}
