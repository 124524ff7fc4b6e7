//! Copies frames that are needed, as they are sealed, into new packs, and writes tables anew. What is new is durable, read back
//! and checked, every chunk of it, before anything old is condemned. Needs no data key to copy a frame: its seal binds neither
//! pack nor place.

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::ids::{ActId, PackId, RunId};
use formats::keys::secret::TableKey;
use formats::limits::PACK_BYTES_MAX;
use formats::log::snapshot::ChunkRef;
use formats::object::ObjectName;
use formats::pack::assemble::PackAssembler;
use formats::pack::open::Trailer;
use formats::pack::table::{Table, TableFrame};
use formats::seal::run_header::{Purpose, RunContext, RunHeader, RunKeys};

use crate::backup::meta_writer::{MetaPack, MetaWriter};
use crate::coordinator::{Coordinator, HostRepository};
use crate::index::{LiveFrames, PackFacts, PackFrames};
use crate::repository::packs::pack_name;
use crate::retention::error::PruneError;
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::pack_check::check_pack_bytes;
use crate::storage::ReadRange;

/// Data packs whose tables are gathered into index pieces at a time.
const TABLES_AT_ONCE: usize = 16;

/// What writing anew works with.
pub(super) struct Writer<'a> {
    pub(super) coordinator: &'a Coordinator,
    pub(super) opened: &'a HostRepository,
    pub(super) reader: &'a ChunkReader,
    /// The act, which is the new packs' run.
    pub(super) act: ActId,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// New packs, verified and in the index.
    pub(super) data: Vec<PackId>,
    pub(super) meta: Vec<PackId>,
    /// The pieces of an index object, in those meta packs.
    pub(super) index: Vec<ChunkRef>,
    /// Bytes of all of them.
    pub(super) bytes: u64,
    /// Packs whose frames are all copied.
    pub(super) sources: Vec<PackFrames>,
}

/// A pack that is being put together.
struct Gathering {
    purpose: Purpose,
    header: RunHeader,
    keys: RunKeys,
    assembler: PackAssembler,
    bytes: Vec<u8>,
}

impl Gathering {
    fn fresh(header: &RunHeader, keys: &RunKeys) -> Self {
        Self {
            purpose: header.context.purpose,
            header: header.clone(),
            keys: keys.clone(),
            assembler: PackAssembler::new(header.clone(), keys.table.clone()),
            bytes: Vec::new(),
        }
    }
}

impl Writer<'_> {
    fn header(&self, purpose: Purpose) -> Result<(RunHeader, RunKeys), PruneError> {
        let repository = &self.opened.repository;
        let context = RunContext {
            repository: repository.id(),
            epoch: repository.config.epoch,
            run: RunId(self.act.0),
            purpose,
        };
        Ok(RunHeader::create(context, &repository.config.public)?)
    }

    /// Copies the live frames of packs into new ones.
    pub(super) async fn copy(
        &self,
        sources: &[PackFrames],
        live: LiveFrames,
        written: &mut Written,
    ) -> Result<(), PruneError> {
        let mut live = live;
        for purpose in [Purpose::Data, Purpose::Meta] {
            let mut of_purpose = sources
                .iter()
                .filter(|source| source.facts.purpose == purpose)
                .peekable();
            if of_purpose.peek().is_none() {
                continue;
            }
            let (header, keys) = self.header(purpose)?;
            let mut gathering = Gathering::fresh(&header, &keys);
            for source in of_purpose {
                live = self.copy_one(source, live, &mut gathering, written).await?;
            }
            self.close(&mut gathering, written).await?;
        }
        Ok(())
    }

    async fn copy_one(
        &self,
        source: &PackFrames,
        live: LiveFrames,
        gathering: &mut Gathering,
        written: &mut Written,
    ) -> Result<LiveFrames, PruneError> {
        let pack = source.facts.pack;
        let asked = self.opened.index.with(move |index| {
            let found = index.live_frames_of(pack, &live)?;
            Ok((found, live))
        });
        let (found, live) = asked.await?;
        let Some((indexed, needed)) = found else {
            return Ok(live); // Gone from the index meanwhile: nothing is copied, and it is not condemned.
        };
        let bytes = self.read_whole(pack, source.facts.purpose).await?;
        let trailer = Trailer::decode(&bytes, bytes.len() as u64)
            .map_err(|source| PruneError::Table { pack, source })?;
        let mut offset = 0usize;
        for (frame, needed) in indexed.table.frames.iter().zip(needed) {
            let end = offset + frame.shape.sealed_bytes as usize;
            let sealed = bytes.get(offset..end).unwrap_or_default();
            offset = end;
            // Index pieces are written anew for what stays.
            if !needed || frame.shape.kind == ChunkKind::Index {
                continue;
            }
            let header = trailer.headers.get(usize::from(frame.run_header));
            let header = header.ok_or(PruneError::NoRunHeader { pack })?;
            self.add(header, frame, sealed, gathering, written).await?;
        }
        written.sources.push(source.clone());
        Ok(live)
    }

    async fn add(
        &self,
        header: &RunHeader,
        frame: &TableFrame,
        sealed: &[u8],
        gathering: &mut Gathering,
        written: &mut Written,
    ) -> Result<(), PruneError> {
        if gathering.assembler.is_full(frame.chunks.len() as u64) {
            self.close(gathering, written).await?;
        }
        let (shape, chunks) = (frame.shape, &frame.chunks);
        if !gathering
            .assembler
            .add_frame_of(header, shape, chunks.clone())
        {
            // As many run headers as a pack may have.
            self.close(gathering, written).await?;
            gathering
                .assembler
                .add_frame_of(header, shape, chunks.clone());
        }
        gathering.bytes.extend_from_slice(sealed);
        Ok(())
    }

    /// The bytes of a pack as they were stored, from whichever copy has them.
    async fn read_whole(&self, pack: PackId, purpose: Purpose) -> Result<Bytes, PruneError> {
        let repository = self.opened.repository.id();
        let name = pack_name(pack, purpose);
        let storage = &self.coordinator.storage;
        let is_whole = |bytes: &Bytes| blake3::hash(bytes).as_bytes() == pack.as_bytes();
        let first = storage
            .get(repository, &name, ReadRange::All, PACK_BYTES_MAX)
            .await;
        if let Ok(bytes) = &first
            && is_whole(bytes)
        {
            return Ok(first?);
        }
        for copy in storage.each() {
            let read = copy
                .get(repository, &name, ReadRange::All, PACK_BYTES_MAX)
                .await;
            if let Ok(bytes) = read
                && is_whole(&bytes)
            {
                return Ok(bytes);
            }
        }
        first?;
        Err(PruneError::OtherBytes { pack })
    }

    /// Stores the pack that was put together, and begins another.
    async fn close(
        &self,
        gathering: &mut Gathering,
        written: &mut Written,
    ) -> Result<(), PruneError> {
        if gathering.assembler.is_empty() {
            return Ok(());
        }
        let fresh = Gathering::fresh(&gathering.header, &gathering.keys);
        let full = std::mem::replace(gathering, fresh);
        let table_key = full.keys.table.clone();
        let mut bytes = full.bytes;
        bytes.extend_from_slice(&full.assembler.finish()?);
        let pack = PackId(blake3::hash(&bytes).into());
        self.store(pack, full.purpose, bytes.into(), &table_key, written)
            .await
    }

    /// Stores a pack, reads it back, opens every frame, recomputes every chunk's id, and takes it into the index.
    async fn store(
        &self,
        pack: PackId,
        purpose: Purpose,
        bytes: Bytes,
        table_key: &TableKey,
        written: &mut Written,
    ) -> Result<(), PruneError> {
        let repository = self.opened.repository.id();
        let storage = &self.coordinator.storage;
        match purpose {
            Purpose::Data => storage.put_moved(repository, pack, bytes.clone()).await?,
            Purpose::Meta => {
                let name = ObjectName::Meta(pack);
                storage.put(repository, &name, bytes.clone()).await?;
            }
        }
        let name = pack_name(pack, purpose);
        let back = storage
            .get(repository, &name, ReadRange::All, PACK_BYTES_MAX)
            .await?;
        let check = check_pack_bytes(self.reader, pack, purpose, back.clone()).await?;
        if back != bytes || !check.problems.is_empty() {
            let problem = check.problems.first().cloned().unwrap_or_default();
            return Err(PruneError::NotVerified { pack, problem });
        }
        let trailer = Trailer::decode(&back, back.len() as u64)
            .map_err(|source| PruneError::Table { pack, source })?;
        let table: Table = trailer.open_table(table_key).map_err(|source| {
            let problem = source.to_string();
            PruneError::NotVerified { pack, problem }
        })?;
        let facts = PackFacts {
            pack,
            bytes: back.len() as u64,
            purpose,
            run: RunId(self.act.0),
        };
        self.opened.index.insert_pack(facts, table).await?;
        written.bytes += facts.bytes;
        match purpose {
            Purpose::Data => written.data.push(pack),
            Purpose::Meta => written.meta.push(pack),
        }
        Ok(())
    }

    /// Writes an index object of these packs.
    pub(super) async fn write_index(
        &self,
        packs: &[PackId],
        written: &mut Written,
    ) -> Result<(), PruneError> {
        if packs.is_empty() {
            return Ok(());
        }
        let (header, keys) = self.header(Purpose::Meta)?;
        let table_key = keys.table.clone();
        let id_key = self.opened.repository.keys.id()?.clone();
        let mut writer = MetaWriter::new(header, keys, id_key)?;
        for some in packs.chunks(TABLES_AT_ONCE) {
            for plain in self.opened.index.index_pieces(some.to_vec()).await? {
                let id = writer.name(ChunkKind::Index, &plain);
                let bytes = u32::try_from(plain.len()).unwrap_or(u32::MAX);
                written.index.push(ChunkRef { id, bytes });
                if writer.has(&id) {
                    continue;
                }
                if let Some(full) = writer.add(ChunkKind::Index, id, &plain)? {
                    self.store_meta(full, &table_key, written).await?;
                }
            }
        }
        if let Some(last) = writer.finish()? {
            self.store_meta(last, &table_key, written).await?;
        }
        Ok(())
    }

    async fn store_meta(
        &self,
        pack: MetaPack,
        table_key: &TableKey,
        written: &mut Written,
    ) -> Result<(), PruneError> {
        let MetaPack { id, bytes } = pack;
        self.store(id, Purpose::Meta, bytes.into(), table_key, written)
            .await
    }
}
