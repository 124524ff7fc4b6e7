//! Writes a run's meta packs: listing pages, page index, content pages, index pieces. Sealed under a run
//! header of the coordinator's own, whose keys never leave it. A piece that an earlier run stored is not
//! stored again.

use std::collections::HashSet;

use formats::chunk::{ChunkKind, chunk_id};
use formats::ids::{ChunkId, PackId};
use formats::keys::secret::IdKey;
use formats::limits::{FRAME_CHUNKS_MAX, FRAME_PLAIN_TARGET};
use formats::pack::assemble::PackAssembler;
use formats::pack::table::TableChunk;
use formats::seal::frame::FrameSealer;
use formats::seal::run_header::{RunHeader, RunKeys};

use crate::backup::error::RunError;

/// zstd level of listings; 6 would make one 4 % smaller.
const META_LEVEL: i32 = 3;

/// A finished meta pack, to be stored under its name.
#[derive(Debug)]
pub struct MetaPack {
    /// BLAKE3 of its bytes.
    pub id: PackId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct OpenFrame {
    kind: ChunkKind,
    plain: Vec<u8>,
    chunks: Vec<TableChunk>,
}

/// Gathers pieces into frames and frames into packs.
#[derive(Debug)]
pub struct MetaWriter {
    header: RunHeader,
    keys: RunKeys,
    id_key: IdKey,
    sealer: FrameSealer,
    assembler: PackAssembler,
    pack: Vec<u8>,
    frames: Vec<OpenFrame>,
    written: HashSet<ChunkId>,
}

impl MetaWriter {
    /// A writer under a fresh meta run header.
    pub fn new(header: RunHeader, keys: RunKeys, id_key: IdKey) -> Result<Self, RunError> {
        let sealer = FrameSealer::new(header.context, keys.data.clone(), META_LEVEL)?;
        Ok(Self {
            assembler: PackAssembler::new(header.clone(), keys.table.clone()),
            header,
            keys,
            id_key,
            sealer,
            pack: Vec::new(),
            frames: Vec::new(),
            written: HashSet::new(),
        })
    }

    /// The name that a piece has or will have.
    pub fn name(&self, kind: ChunkKind, plain: &[u8]) -> ChunkId {
        chunk_id(&self.id_key, kind, plain)
    }

    /// Whether this run has written the piece already.
    pub fn has(&self, id: &ChunkId) -> bool {
        self.written.contains(id)
    }

    /// Adds a piece that is not stored yet; gives a pack that it completes.
    pub fn add(
        &mut self,
        kind: ChunkKind,
        id: ChunkId,
        plain: &[u8],
    ) -> Result<Option<MetaPack>, RunError> {
        self.written.insert(id);
        let place = match self.frames.iter().position(|frame| frame.kind == kind) {
            Some(place) => place,
            None => {
                self.frames.push(OpenFrame {
                    kind,
                    plain: Vec::new(),
                    chunks: Vec::new(),
                });
                self.frames.len() - 1
            }
        };
        let frame = &mut self.frames[place];
        frame.plain.extend_from_slice(plain);
        frame.chunks.push(TableChunk {
            id,
            bytes: u32::try_from(plain.len()).unwrap_or(u32::MAX),
        });
        let full = frame.plain.len() >= FRAME_PLAIN_TARGET as usize
            || frame.chunks.len() as u64 >= FRAME_CHUNKS_MAX;
        if full {
            let frame = self.frames.swap_remove(place);
            self.seal(frame)?;
        }
        if self.assembler.is_full(FRAME_CHUNKS_MAX) {
            return self.close().map(Some);
        }
        Ok(None)
    }

    /// The last pack, if anything is left.
    pub fn finish(&mut self) -> Result<Option<MetaPack>, RunError> {
        for frame in std::mem::take(&mut self.frames) {
            self.seal(frame)?;
        }
        if self.assembler.is_empty() {
            return Ok(None);
        }
        self.close().map(Some)
    }

    fn seal(&mut self, frame: OpenFrame) -> Result<(), RunError> {
        let shape = self.sealer.seal(frame.kind, &frame.plain, &mut self.pack)?;
        self.assembler.add_frame(shape, frame.chunks);
        Ok(())
    }

    fn close(&mut self) -> Result<MetaPack, RunError> {
        let fresh = PackAssembler::new(self.header.clone(), self.keys.table.clone());
        let tail = std::mem::replace(&mut self.assembler, fresh).finish()?;
        let mut bytes = std::mem::take(&mut self.pack);
        bytes.extend_from_slice(&tail);
        Ok(MetaPack {
            id: PackId(blake3::hash(&bytes).into()),
            bytes,
        })
    }
}
