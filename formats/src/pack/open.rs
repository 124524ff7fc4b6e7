//! Opens packs: the trailer with the table, frames, and the check of every chunk's keyed hash. What does not
//! check out is an error, never other bytes.

use crate::chunk::{ChunkKind, chunk_id};
use crate::codec::{DecodeError, Reader};
use crate::ids::ChunkId;
use crate::keys::secret::{DataKey, IdKey, KemSeed, TableKey};
use crate::pack::table::{Table, TableFrame};
use crate::pack::trailer::{FOOTER_BYTES, Footer, table_associated};
use crate::seal::aead;
use crate::seal::frame::{FrameError, FrameOpener};
use crate::seal::run_header::{Purpose, RUN_HEADER_BYTES, RunHeader, RunHeaderError};

/// Why a pack was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Its bytes are no pack.
    #[error("the pack cannot be read")]
    Decode(#[from] DecodeError),
    /// A run header's key could not be had.
    #[error("the pack's run header does not open")]
    RunHeader(#[from] RunHeaderError),
    /// The table's seal does not open.
    #[error("the pack's table does not open: another key, or altered bytes")]
    Table,
    /// The frames do not fill the pack.
    #[error("the pack's table tells {told} bytes of frames, but {found} are there")]
    FramesLength {
        /// The table's sum.
        told: u64,
        /// The bytes before the table.
        found: u64,
    },
    /// A frame was refused.
    #[error("frame {frame} of the pack cannot be opened")]
    Frame {
        /// Its place.
        frame: usize,
        /// Why.
        source: FrameError,
    },
    /// A chunk's bytes do not have its name.
    #[error("chunk {id} of frame {frame} has other bytes than its id says")]
    Chunk {
        /// The frame's place.
        frame: usize,
        /// The chunk's name in the table.
        id: ChunkId,
    },
}

/// A pack's trailer: run headers and table, with the table's place known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// The run headers; the first is of the run that wrote the pack.
    pub headers: Vec<RunHeader>,
    footer: Footer,
    sealed_table: Vec<u8>,
    headers_and_footer: Vec<u8>,
    pack_bytes: u64,
}

impl Trailer {
    /// How many bytes of a pack's end to read, from its last [`FOOTER_BYTES`].
    pub fn bytes_to_read(footer: &[u8; FOOTER_BYTES], pack_bytes: u64) -> Result<u64, DecodeError> {
        Footer::decode(footer, pack_bytes).map(|footer| footer.trailer_bytes())
    }

    /// Reads the trailer from a pack's end: `tail` must hold at least [`Trailer::bytes_to_read`] bytes.
    pub fn decode(tail: &[u8], pack_bytes: u64) -> Result<Self, DecodeError> {
        let truncated = DecodeError::Truncated { what: "pack" };
        let (_, footer_bytes) = tail
            .split_last_chunk::<FOOTER_BYTES>()
            .ok_or(truncated.clone())?;
        let footer = Footer::decode(footer_bytes, pack_bytes)?;
        let wanted = usize::try_from(footer.trailer_bytes()).map_err(|_| truncated.clone())?;
        let start = tail.len().checked_sub(wanted).ok_or(truncated.clone())?;
        let (_, trailer) = tail.split_at(start);
        let (sealed_table, rest) = trailer
            .split_at_checked(footer.table_bytes as usize)
            .ok_or(truncated)?;
        let mut reader = Reader::new(rest);
        let mut headers = Vec::with_capacity(footer.run_headers.into());
        for _ in 0..footer.run_headers {
            let bytes = reader.bytes("run header", RUN_HEADER_BYTES)?;
            headers.push(RunHeader::decode(bytes)?);
        }
        check_gathered(&headers)?;
        Ok(Self {
            headers,
            footer,
            sealed_table: sealed_table.to_vec(),
            headers_and_footer: rest.to_vec(),
            pack_bytes,
        })
    }

    /// The run that wrote the pack.
    pub fn writer(&self) -> Option<&RunHeader> {
        self.headers.first()
    }

    /// Bytes of the frames, from the pack's first byte on.
    pub fn frames_bytes(&self) -> u64 {
        self.pack_bytes - self.footer.trailer_bytes()
    }

    /// Opens the table with the writing run's table key.
    pub fn open_table(&self, key: &TableKey) -> Result<Table, PackError> {
        let first = self.writer().ok_or(PackError::Table)?;
        let mut plain = Vec::new();
        aead::open(
            key.expose(),
            &table_associated(first, &self.headers_and_footer),
            &self.sealed_table,
            &mut plain,
        )
        .map_err(|_| PackError::Table)?;
        let table = Table::decode(&plain, self.headers.len())?;
        check_kinds(&self.headers, &table)?;
        let (told, found) = (table.frames_bytes(), self.frames_bytes());
        if told == found {
            Ok(table)
        } else {
            Err(PackError::FramesLength { told, found })
        }
    }

    /// Opens the table with the repository's meta seed.
    pub fn open_table_with(&self, meta: &KemSeed) -> Result<Table, PackError> {
        let first = self.writer().ok_or(PackError::Table)?;
        self.open_table(&first.open_table_key(meta)?)
    }
}

/// Runs whose frames are gathered in one pack are of one repository and purpose: what a target wrote never
/// stands among what the coordinator wrote.
fn check_gathered(headers: &[RunHeader]) -> Result<(), DecodeError> {
    let alike = |a: &RunHeader, b: &RunHeader| {
        a.context.repository == b.context.repository && a.context.purpose == b.context.purpose
    };
    let all_alike = headers
        .first()
        .is_none_or(|first| headers.iter().all(|header| alike(first, header)));
    if all_alike {
        Ok(())
    } else {
        Err(DecodeError::Invalid {
            what: "run headers",
            rule: "must be of one repository and purpose",
        })
    }
}

/// A data run packs file pieces and nothing else, a meta run everything else: a target cannot plant a page
/// under the page's own name, which the coordinator would then take for stored.
fn check_kinds(headers: &[RunHeader], table: &Table) -> Result<(), DecodeError> {
    let fits = |frame: &TableFrame| {
        let header = headers.get(usize::from(frame.run_header));
        let is_data = frame.shape.kind == ChunkKind::Data;
        header.is_some_and(|header| is_data == (header.context.purpose == Purpose::Data))
    };
    if table.frames.iter().all(fits) {
        Ok(())
    } else {
        Err(DecodeError::Invalid {
            what: "chunk kind",
            rule: "must be file data in a data run, and not in a meta run",
        })
    }
}

/// Opens a frame and checks every chunk in it; gives the chunks one after another. `sealed` is used up.
pub fn open_frame<'a>(
    opener: &'a mut FrameOpener,
    id_key: &IdKey,
    frame: &TableFrame,
    place: usize,
    sealed: &'a mut [u8],
) -> Result<&'a [u8], PackError> {
    let plain = opener
        .open_in_place(&frame.shape, sealed)
        .map_err(|source| PackError::Frame {
            frame: place,
            source,
        })?;
    let mut reader = Reader::new(plain);
    for chunk in &frame.chunks {
        let bytes = reader.bytes("chunk", chunk.bytes as usize)?;
        if chunk_id(id_key, frame.shape.kind, bytes) != chunk.id {
            return Err(PackError::Chunk {
                frame: place,
                id: chunk.id,
            });
        }
    }
    reader.finish("frame")?;
    Ok(plain)
}

/// The check of a whole pack of one run: run header as issued, table, every frame, every chunk. Takes the pack's
/// end first and then its frames in order, so that no more than one of them is in memory.
#[derive(Debug)]
pub struct PackCheck<'k> {
    table: Table,
    opener: FrameOpener,
    id_key: &'k IdKey,
    place: usize,
}

/// The keys of a run's packs, and the key of chunk ids.
#[derive(Debug, Clone, Copy)]
pub struct CheckKeys<'k> {
    /// The run header that was issued.
    pub issued: &'k RunHeader,
    /// The run's key of tables.
    pub table: &'k TableKey,
    /// The run's key of frames.
    pub data: &'k DataKey,
    /// The repository's key of chunk ids.
    pub id: &'k IdKey,
}

impl<'k> PackCheck<'k> {
    /// Begins with the pack's end: at least [`Trailer::bytes_to_read`] bytes of it.
    pub fn begin(tail: &[u8], pack_bytes: u64, keys: CheckKeys<'k>) -> Result<Self, PackError> {
        let trailer = Trailer::decode(tail, pack_bytes)?;
        if trailer.headers.as_slice() != std::slice::from_ref(keys.issued) {
            return Err(PackError::RunHeader(RunHeaderError::Commitment));
        }
        let table = trailer.open_table(keys.table)?;
        let opener = FrameOpener::new(keys.issued.context, keys.data.clone())
            .map_err(|source| PackError::Frame { frame: 0, source })?;
        Ok(Self {
            table,
            opener,
            id_key: keys.id,
            place: 0,
        })
    }

    /// The sealed bytes of the next frame; none when all are checked.
    pub fn next_frame_bytes(&self) -> Option<usize> {
        let frame = self.table.frames.get(self.place)?;
        Some(frame.shape.sealed_bytes as usize)
    }

    /// Checks the next frame, which is used up.
    pub fn check_next(&mut self, sealed: &mut [u8]) -> Result<(), PackError> {
        let Some(frame) = self.table.frames.get(self.place) else {
            return Err(PackError::FramesLength {
                told: self.table.frames_bytes(),
                found: self.table.frames_bytes() + sealed.len() as u64,
            });
        };
        open_frame(&mut self.opener, self.id_key, frame, self.place, sealed)?;
        self.place += 1;
        Ok(())
    }

    /// The table, once every frame is checked.
    pub fn finish(self) -> Result<Table, PackError> {
        match self.next_frame_bytes() {
            None => Ok(self.table),
            Some(_) => Err(PackError::Decode(DecodeError::Truncated { what: "pack" })),
        }
    }
}

/// Checks a whole pack that is in memory. Gives its table.
pub fn verify_pack(
    pack: &[u8],
    issued: &RunHeader,
    table_key: &TableKey,
    data_key: &DataKey,
    id_key: &IdKey,
) -> Result<Table, PackError> {
    let keys = CheckKeys {
        issued,
        table: table_key,
        data: data_key,
        id: id_key,
    };
    let mut check = PackCheck::begin(pack, pack.len() as u64, keys)?;
    let mut reader = Reader::new(pack);
    let mut sealed = Vec::new();
    while let Some(bytes) = check.next_frame_bytes() {
        sealed.clear();
        sealed.extend_from_slice(reader.bytes("frame", bytes)?);
        check.check_next(&mut sealed)?;
    }
    check.finish()
}

#[cfg(test)]
mod tests {
    use super::{PackError, Trailer};
    use crate::chunk::ChunkKind;
    use crate::ids::{ChunkId, RepositoryId, RunId};
    use crate::keys::bundle::{KeyBundle, Role};
    use crate::keys::repository::RepositoryKeys;
    use crate::keys::secret::MasterKey;
    use crate::pack::assemble::PackAssembler;
    use crate::pack::table::TableChunk;
    use crate::pack::trailer::{FOOTER_BYTES, Footer};
    use crate::seal::frame::{Compression, FrameShape};
    use crate::seal::run_header::{Purpose, RunContext, RunHeader};

    fn keys(repository: u8) -> RepositoryKeys {
        let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
        RepositoryKeys::derive(&bundle, RepositoryId([repository; 16]), 1)
    }

    fn context(keys: &RepositoryKeys, purpose: Purpose) -> RunContext {
        RunContext {
            repository: keys.repository,
            epoch: keys.epoch,
            run: RunId([3; 16]),
            purpose,
        }
    }

    fn header(keys: &RepositoryKeys, purpose: Purpose) -> RunHeader {
        let public = keys.public().expect("the data role has all keys");
        let (header, _) =
            RunHeader::create(context(keys, purpose), &public).expect("keys encapsulate");
        header
    }

    #[test]
    fn a_run_packs_only_the_kinds_of_its_purpose() {
        let keys = keys(2);
        let public = keys.public().expect("the data role has all keys");
        for purpose in [Purpose::Data, Purpose::Meta] {
            for kind in ChunkKind::ALL {
                let (header, run) =
                    RunHeader::create(context(&keys, purpose), &public).expect("keys encapsulate");
                let mut assembler = PackAssembler::new(header, run.table.clone());
                let shape = FrameShape {
                    kind,
                    compression: Compression::None,
                    plain_bytes: 1,
                    sealed_bytes: 41,
                };
                let id = ChunkId([4; 32]);
                assembler.add_frame(shape, vec![TableChunk { id, bytes: 1 }]);
                let mut pack = vec![0; 41];
                pack.extend(assembler.finish().expect("finishing works"));
                let trailer = Trailer::decode(&pack, pack.len() as u64).expect("it reads");
                let opened = trailer.open_table(&run.table);
                let fits = (kind == ChunkKind::Data) == (purpose == Purpose::Data);
                assert_eq!(opened.is_ok(), fits, "{purpose:?} {kind:?}");
                assert!(fits || matches!(opened, Err(PackError::Decode(_))));
            }
        }
    }

    #[test]
    fn a_pack_gathers_runs_of_one_repository_and_purpose() {
        let first = header(&keys(2), Purpose::Data);
        let reads = |second: RunHeader| {
            let mut pack = vec![0; 100];
            pack.extend(first.encode());
            pack.extend(second.encode());
            let footer = Footer {
                table_bytes: 100,
                run_headers: 2,
            };
            pack.extend(footer.encode());
            assert!(pack.len() > FOOTER_BYTES);
            Trailer::decode(&pack, pack.len() as u64).is_ok()
        };
        assert!(reads(header(&keys(2), Purpose::Data)));
        assert!(
            !reads(header(&keys(3), Purpose::Data)),
            "another repository"
        );
        assert!(!reads(header(&keys(2), Purpose::Meta)), "another purpose");
    }
}
