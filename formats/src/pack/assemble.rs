//! Assembles a pack: the caller streams each sealed frame as it comes, and at the end the bytes given here.

use crate::keys::secret::{RandomError, TableKey};
use crate::limits::{PACK_BYTES_TARGET, PACK_CHUNKS_MAX, PACK_FRAMES_MAX, PACK_RUN_HEADERS_MAX};
use crate::pack::table::{Table, TableChunk, TableFrame};
use crate::pack::trailer::{FOOTER_BYTES, Footer, table_associated};
use crate::seal::aead::{self, OVERHEAD};
use crate::seal::frame::FrameShape;
use crate::seal::run_header::RunHeader;

/// A pack under way: remembers what was streamed.
#[derive(Debug)]
pub struct PackAssembler {
    header: RunHeader,
    /// Of the runs that sealed frames which were copied.
    others: Vec<RunHeader>,
    key: TableKey,
    table: Table,
    frames_bytes: u64,
    chunks: u64,
}

impl PackAssembler {
    /// An empty pack of one run.
    pub fn new(header: RunHeader, key: TableKey) -> Self {
        Self {
            header,
            others: Vec::new(),
            key,
            table: Table::default(),
            frames_bytes: 0,
            chunks: 0,
        }
    }

    /// Notes a sealed frame that follows the ones before it; its chunks must add up to its plain length.
    pub fn add_frame(&mut self, shape: FrameShape, chunks: Vec<TableChunk>) {
        self.note(0, shape, chunks);
    }

    /// Notes a frame that another run sealed, and that was copied as it is. False when the pack has as many run headers as it
    /// may have: then nothing is noted, and the frame belongs into the next pack.
    pub fn add_frame_of(
        &mut self,
        run: &RunHeader,
        shape: FrameShape,
        chunks: Vec<TableChunk>,
    ) -> bool {
        let mut headers = std::iter::once(&self.header).chain(&self.others);
        let place = headers.position(|header| header == run);
        if place.is_none() && self.others.len() as u64 + 1 >= PACK_RUN_HEADERS_MAX {
            return false;
        }
        let Ok(number) = u16::try_from(place.unwrap_or(self.others.len() + 1)) else {
            return false;
        };
        if place.is_none() {
            self.others.push(run.clone());
        }
        self.note(number, shape, chunks);
        true
    }

    fn note(&mut self, run_header: u16, shape: FrameShape, chunks: Vec<TableChunk>) {
        self.frames_bytes += u64::from(shape.sealed_bytes);
        self.chunks += chunks.len() as u64;
        self.table.frames.push(TableFrame {
            run_header,
            shape,
            chunks,
        });
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.table.frames.is_empty()
    }

    /// Bytes of the frames so far.
    pub fn frames_bytes(&self) -> u64 {
        self.frames_bytes
    }

    /// Whether the pack should be finished before a frame of up to `chunks_next` chunks is added.
    pub fn is_full(&self, chunks_next: u64) -> bool {
        self.frames_bytes >= PACK_BYTES_TARGET
            || self.table.frames.len() as u64 >= PACK_FRAMES_MAX
            || self.chunks + chunks_next > PACK_CHUNKS_MAX
    }

    /// The bytes after the last frame: sealed table, run header, footer. A pack that was not filled is padded
    /// to a Padmé length, so that its size tells little.
    pub fn finish(self) -> Result<Vec<u8>, RandomError> {
        let headers = std::iter::once(&self.header).chain(&self.others);
        let headers: Vec<u8> = headers.flat_map(RunHeader::encode).collect();
        let plain = self.table.encode(0);
        let fixed = OVERHEAD + headers.len() + FOOTER_BYTES;
        // A table's own length is padded always, since it would tell the number of chunks.
        let mut padded = padme(plain.len() as u64);
        if self.frames_bytes < PACK_BYTES_TARGET {
            let unpadded = self.frames_bytes + padded + fixed as u64;
            padded += padme(unpadded) - unpadded;
        }
        let padded = usize::try_from(padded).unwrap_or(plain.len());
        let plain = if padded > plain.len() {
            self.table.encode(padded)
        } else {
            plain
        };
        let footer = Footer {
            table_bytes: u32::try_from(plain.len() + OVERHEAD).unwrap_or(u32::MAX),
            run_headers: u16::try_from(self.others.len() + 1).unwrap_or(u16::MAX),
        };
        let mut tail = headers;
        tail.extend_from_slice(&footer.encode());
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD + tail.len());
        aead::seal(
            self.key.expose(),
            &table_associated(&self.header, &tail),
            &plain,
            &mut out,
        )?;
        out.extend_from_slice(&tail);
        Ok(out)
    }
}

/// The Padmé length of `bytes` (Nikitin et al. 2019): at most 12 % more, and only O(log log) bits told.
pub fn padme(bytes: u64) -> u64 {
    if bytes < 2 {
        return bytes;
    }
    let exponent = bytes.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    let mask = (1u64 << exponent.saturating_sub(mantissa_bits)) - 1;
    bytes.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::{PackAssembler, padme};
    use crate::chunk::ChunkKind;
    use crate::ids::{ChunkId, RepositoryId, RunId};
    use crate::keys::bundle::{KeyBundle, Role};
    use crate::keys::repository::RepositoryKeys;
    use crate::keys::secret::MasterKey;
    use crate::limits::PACK_FRAMES_MAX;
    use crate::pack::table::TableChunk;
    use crate::seal::frame::{Compression, FrameShape};
    use crate::seal::run_header::{Purpose, RunContext, RunHeader};

    fn assembler() -> PackAssembler {
        let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
        let keys = RepositoryKeys::derive(&bundle, RepositoryId([2; 16]), 1);
        let context = RunContext {
            repository: keys.repository,
            epoch: keys.epoch,
            run: RunId([3; 16]),
            purpose: Purpose::Data,
        };
        let public = keys.public().expect("the data role has all keys");
        let (header, run) = RunHeader::create(context, &public).expect("keys encapsulate");
        PackAssembler::new(header, run.table)
    }

    fn add(assembler: &mut PackAssembler, plain_bytes: u32) {
        let shape = FrameShape {
            kind: ChunkKind::Data,
            compression: Compression::None,
            plain_bytes,
            sealed_bytes: plain_bytes + 40,
        };
        let id = ChunkId([4; 32]);
        assembler.add_frame(
            shape,
            vec![TableChunk {
                id,
                bytes: plain_bytes,
            }],
        );
    }

    #[test]
    fn padme_never_shrinks_and_adds_at_most_an_eighth() {
        for bytes in (0..100_000).chain([1 << 25, (1 << 25) + 1, 33_554_431]) {
            let padded = padme(bytes);
            assert!(
                padded >= bytes && padded - bytes <= bytes / 8,
                "{bytes} {padded}"
            );
            assert_eq!(padme(padded), padded);
        }
    }

    #[test]
    fn a_pack_that_was_not_filled_has_a_padme_length() {
        for frames in [1, 2, 3, 5, 30, 200] {
            for plain_bytes in [1, 77, 1_000, 5_003, 40_001] {
                let mut assembler = assembler();
                for _ in 0..frames {
                    add(&mut assembler, plain_bytes);
                }
                let frames_bytes = assembler.frames_bytes();
                let tail = assembler.finish().expect("finishing works");
                let pack_bytes = frames_bytes + tail.len() as u64;
                assert_eq!(padme(pack_bytes), pack_bytes, "{frames} of {plain_bytes}");
            }
        }
    }

    #[test]
    fn a_pack_is_full_before_its_table_has_more_frames_than_a_reader_takes() {
        let mut assembler = assembler();
        for _ in 0..PACK_FRAMES_MAX {
            assert!(!assembler.is_full(1));
            add(&mut assembler, 1);
        }
        assert!(assembler.is_full(1));
    }
}
