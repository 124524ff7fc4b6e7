//! A snapshot's record: whose, when by the coordinator's clock, where its listing and index are, and what
//! went wrong. Everything a restore starts from.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{ChunkId, PackId, RecordId, RunId};
use crate::limits::{
    FRAME_PLAIN_MAX, PATH_BYTES_MAX, SNAPSHOT_INDEXES_MAX, SNAPSHOT_META_PACKS_MAX,
    SNAPSHOT_PAGE_INDEXES_MAX, SNAPSHOT_PROBLEMS_MAX, SOURCES_MAX, TEXT_BYTES_MAX,
};
use crate::listing::entry::check_path;
use crate::wire::control::names::Names;
use crate::wire::control::problem::Problem;
use crate::wire::facts::HostFacts;

/// A chunk and its plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The chunk.
    pub id: ChunkId,
    /// Its bytes.
    pub bytes: u32,
}

/// A snapshot's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotTotals {
    /// Regular files, further names of one file included.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes of all files' content, holes included.
    pub bytes: u64,
    /// Bytes that were read from the host.
    pub bytes_read: u64,
    /// Plain bytes of chunks that were new.
    pub bytes_new: u64,
    /// Bytes of the packs stored for it, meta packs included.
    pub bytes_stored: u64,
    /// Problems, all of them.
    pub problems: u64,
}

impl SnapshotTotals {
    fn fields(&self) -> [u64; 8] {
        [
            self.files,
            self.directories,
            self.others,
            self.bytes,
            self.bytes_read,
            self.bytes_new,
            self.bytes_stored,
            self.problems,
        ]
    }
}

/// A committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The host's name in the coordinator's configuration.
    pub host: String,
    /// The run that made it.
    pub run: RunId,
    /// When the run began, by the coordinator's clock: nanoseconds since 1970.
    pub started_nanos: i64,
    /// When it was committed, by the same clock.
    pub committed_nanos: i64,
    /// The snapshot it was compared with.
    pub parent: Option<RecordId>,
    /// Whether the coordinator opened and checked every pack of the run before this was written.
    pub verified: bool,
    /// The source paths, without the slash in front.
    pub sources: Vec<Vec<u8>>,
    /// The listing: pieces of the page index, in order.
    pub page_index: Vec<ChunkRef>,
    /// The run's index: which of its packs hold which chunks.
    pub index: Vec<ChunkRef>,
    /// The meta packs that this run wrote; page and index pieces not in them are in earlier ones.
    pub meta_packs: Vec<PackId>,
    /// Counts.
    pub totals: SnapshotTotals,
    /// The first problems; `totals.problems` counts all.
    pub problems: Vec<Problem>,
    /// User and group names.
    pub names: Names,
    /// What the agent said of its host.
    pub facts: HostFacts,
    /// The agent's version and digest.
    pub agent: String,
}

impl Snapshot {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_prefixed(self.host.as_bytes());
        out.put(self.run.as_bytes());
        out.put_i64(self.started_nanos);
        out.put_i64(self.committed_nanos);
        match &self.parent {
            Some(parent) => {
                out.put_flag(true);
                out.put(parent.as_bytes());
            }
            None => out.put_flag(false),
        }
        out.put_flag(self.verified);
        out.put_varint(self.sources.len() as u64);
        for source in &self.sources {
            out.put_prefixed(source);
        }
        put_chunks(out, &self.page_index);
        put_chunks(out, &self.index);
        out.put_varint(self.meta_packs.len() as u64);
        for pack in &self.meta_packs {
            out.put(pack.as_bytes());
        }
        for field in self.totals.fields() {
            out.put_varint(field);
        }
        out.put_varint(self.problems.len() as u64);
        for problem in &self.problems {
            problem.put(out);
        }
        self.names.put(out);
        self.facts.put(out);
        out.put_prefixed(self.agent.as_bytes());
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            host: reader.text("host", TEXT_BYTES_MAX)?,
            run: RunId::read(reader)?,
            started_nanos: reader.i64("started")?,
            committed_nanos: reader.i64("committed")?,
            parent: match reader.flag("parent")? {
                true => Some(RecordId::read(reader)?),
                false => None,
            },
            verified: reader.flag("verified")?,
            sources: read_sources(reader)?,
            page_index: read_chunks(reader, SNAPSHOT_PAGE_INDEXES_MAX)?,
            index: read_chunks(reader, SNAPSHOT_INDEXES_MAX)?,
            meta_packs: read_packs(reader)?,
            totals: read_totals(reader)?,
            problems: read_problems(reader)?,
            names: Names::read(reader)?,
            facts: HostFacts::read(reader)?,
            agent: reader.text("agent", TEXT_BYTES_MAX)?,
        })
    }
}

fn read_sources(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, DecodeError> {
    let count = reader.count("sources", SOURCES_MAX, 1)?;
    let mut sources = Vec::with_capacity(count);
    for _ in 0..count {
        let source = reader.prefixed("source", PATH_BYTES_MAX)?;
        check_path(source)?;
        sources.push(source.to_vec());
    }
    Ok(sources)
}

pub(super) fn put_chunks(out: &mut Vec<u8>, chunks: &[ChunkRef]) {
    out.put_varint(chunks.len() as u64);
    for chunk in chunks {
        out.put(chunk.id.as_bytes());
        out.put_varint(chunk.bytes.into());
    }
}

pub(super) fn read_chunks(
    reader: &mut Reader<'_>,
    limit: u64,
) -> Result<Vec<ChunkRef>, DecodeError> {
    let count = reader.count("chunks", limit, 33)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ChunkId::read(reader)?;
        match reader.varint32("chunk")? {
            bytes if (1..=FRAME_PLAIN_MAX).contains(&bytes) => chunks.push(ChunkRef { id, bytes }),
            bytes => {
                return Err(DecodeError::AboveLimit {
                    what: "chunk",
                    found: bytes.into(),
                    limit: FRAME_PLAIN_MAX.into(),
                });
            }
        }
    }
    Ok(chunks)
}

fn read_packs(reader: &mut Reader<'_>) -> Result<Vec<PackId>, DecodeError> {
    let count = reader.count("meta packs", SNAPSHOT_META_PACKS_MAX, 32)?;
    let mut packs = Vec::with_capacity(count);
    for _ in 0..count {
        packs.push(PackId::read(reader)?);
    }
    Ok(packs)
}

fn read_totals(reader: &mut Reader<'_>) -> Result<SnapshotTotals, DecodeError> {
    Ok(SnapshotTotals {
        files: reader.varint("files")?,
        directories: reader.varint("directories")?,
        others: reader.varint("others")?,
        bytes: reader.varint("bytes")?,
        bytes_read: reader.varint("bytes read")?,
        bytes_new: reader.varint("bytes new")?,
        bytes_stored: reader.varint("bytes stored")?,
        problems: reader.varint("problems")?,
    })
}

fn read_problems(reader: &mut Reader<'_>) -> Result<Vec<Problem>, DecodeError> {
    let count = reader.count("problems", SNAPSHOT_PROBLEMS_MAX, 7)?;
    let mut problems = Vec::with_capacity(count);
    for _ in 0..count {
        problems.push(Problem::read(reader)?);
    }
    Ok(problems)
}
