//! Builds small repositories in memory from described trees, through `formats` alone: what tests read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use formats::chunk::{ChunkKind, chunk_id};
use formats::ids::{ChunkId, PackId, RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Role};
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::MasterKey;
use formats::listing::content::{Content, ContentPage, Extent, encode_content_page};
use formats::listing::entry::{Entry, EntryFlags, EntryKind, Stat, Timestamp, Xattr, join};
use formats::listing::page::{Page, PageBuilder};
use formats::listing::page_index::{PageIndexBuilder, PageRef};
use formats::log::snapshot::{ChunkRef, Snapshot, SnapshotTotals};
use formats::pack::assemble::PackAssembler;
use formats::pack::table::TableChunk;
use formats::seal::frame::FrameSealer;
use formats::seal::run_header::{Purpose, RunContext, RunHeader};
use formats::wire::control::names::Names;
use formats::wire::facts::HostFacts;

use crate::snapshot::chunks::{ChunkReader, ReadLimits};
use crate::snapshot::listing::Listing;
use crate::snapshot::memory::MemoryRepository;

/// Chunks of files are cut to this many bytes, so that small files have several.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// Frames are closed at this many bytes.
const FRAME_BYTES: usize = 256 << 10;

/// The keys of every test repository.
pub(crate) fn keys() -> RepositoryKeys {
    let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
    RepositoryKeys::derive(&bundle, RepositoryId([2; 16]), 1)
}

/// A repository under construction.
pub(crate) struct RepositoryBuilder {
    pub(crate) keys: RepositoryKeys,
    pub(crate) repository: Arc<MemoryRepository>,
    /// Blocks by directory; directories sort by their names.
    pub(crate) blocks: BTreeMap<Vec<Vec<u8>>, Vec<Entry>>,
    data: PackWriter,
    meta: PackWriter,
    inode: u64,
    /// Every pack written, data and meta.
    pub(crate) packs: Vec<(PackId, Purpose)>,
}

/// What a builder gives.
pub(crate) struct Built {
    pub(crate) repository: Arc<MemoryRepository>,
    pub(crate) snapshot: Snapshot,
    pub(crate) chunks: ChunkReader,
    pub(crate) packs: Vec<(PackId, Purpose)>,
}

impl Built {
    pub(crate) async fn listing(&self) -> Listing {
        Listing::open(self.chunks.clone(), &self.snapshot.page_index)
            .await
            .expect("the listing opens")
    }
}

/// A stat of a kind and mode, owned by whoever runs the test.
pub(crate) fn stat(kind: EntryKind, mode: u16) -> Stat {
    Stat {
        kind,
        mode,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        size: 0,
        mtime: Timestamp {
            seconds: 1_600_000_000,
            nanoseconds: 123_456_789,
        },
        ctime: Timestamp::default(),
        inode: 0,
        links: 1,
        device: (0, 0),
    }
}

/// An entry without content.
pub(crate) fn entry(name: &[u8], kind: EntryKind, mode: u16) -> Entry {
    Entry {
        name: name.to_vec(),
        stat: stat(kind, mode),
        flags: EntryFlags::default(),
        xattrs: Vec::new(),
        link_target: Vec::new(),
        hard_link_to: None,
        content: match kind {
            EntryKind::File => Content::Extents(Vec::new()),
            _ => Content::None,
        },
    }
}

/// An extended attribute.
pub(crate) fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr {
        name: name.as_bytes().to_vec(),
        value: value.to_vec(),
    }
}

impl RepositoryBuilder {
    pub(crate) fn new() -> Self {
        let keys = keys();
        Self {
            data: PackWriter::new(&keys, Purpose::Data),
            meta: PackWriter::new(&keys, Purpose::Meta),
            keys,
            repository: Arc::new(MemoryRepository::default()),
            blocks: BTreeMap::new(),
            inode: 100,
            packs: Vec::new(),
        }
    }

    /// Adds an entry to a directory, which need not be listed: hostile listings are built with it too.
    pub(crate) fn add(&mut self, directory: &str, mut entry: Entry) -> &mut Self {
        self.inode += 1;
        entry.stat.inode = self.inode;
        let key = components(directory.as_bytes());
        self.blocks.entry(key).or_default().push(entry);
        self
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u16) -> &mut Self {
        let (parent, name) = split(path);
        self.add(parent, entry(name.as_bytes(), EntryKind::Directory, mode))
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        let (parent, name) = split(path);
        let mut link = entry(name.as_bytes(), EntryKind::Symlink, 0o777);
        link.link_target = target.as_bytes().to_vec();
        self.add(parent, link)
    }

    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        let (parent, name) = split(path);
        let file = self.file_entry(name.as_bytes(), content);
        self.add(parent, file)
    }

    /// A further name of `first`, with the same metadata.
    pub(crate) fn hard_link(&mut self, path: &str, first: &str) -> &mut Self {
        let (parent, name) = split(path);
        let mut link = entry(name.as_bytes(), EntryKind::File, 0o644);
        let (first_parent, first_name) = split(first);
        let source = self
            .blocks
            .get_mut(&components(first_parent.as_bytes()))
            .and_then(|block| {
                block
                    .iter_mut()
                    .find(|entry| entry.name == first_name.as_bytes())
            });
        if let Some(source) = source {
            source.stat.links += 1;
            link.stat = source.stat;
            link.stat.kind = EntryKind::File;
        }
        link.hard_link_to = Some(first.as_bytes().to_vec());
        link.content = Content::None;
        self.add(parent, link)
    }

    /// A file entry whose chunks are stored.
    pub(crate) fn file_entry(&mut self, name: &[u8], content: &[u8]) -> Entry {
        let mut file = entry(name, EntryKind::File, 0o644);
        file.stat.size = content.len() as u64;
        let extents: Vec<Extent> = content
            .chunks(CHUNK_BYTES)
            .map(|bytes| self.chunk(bytes))
            .collect();
        file.content = self.content(extents);
        file
    }

    /// Stores a piece of a file.
    pub(crate) fn chunk(&mut self, bytes: &[u8]) -> Extent {
        Extent::Chunk {
            id: self.data.add(ChunkKind::Data, bytes),
            bytes: bytes.len() as u32,
        }
    }

    /// Content of extents: in the entry, or in content pages when there are many.
    pub(crate) fn content(&mut self, extents: Vec<Extent>) -> Content {
        if extents.len() <= 8 {
            return Content::Extents(extents);
        }
        let pages = extents
            .chunks(5)
            .map(|extents| {
                let plain = encode_content_page(extents);
                ContentPage {
                    id: self.meta.add(ChunkKind::Content, &plain),
                    bytes: plain.len() as u32,
                    covers: extents.iter().map(Extent::bytes).sum(),
                }
            })
            .collect();
        Content::Pages(pages)
    }

    /// Writes packs, listing and snapshot. Blocks are sorted, entries within them too.
    pub(crate) fn build(mut self) -> Built {
        for block in self.blocks.values_mut() {
            block.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.build_unsorted()
    }

    /// The same with the entries of each block as they were added.
    pub(crate) fn build_unsorted(mut self) -> Built {
        let chunking = self.keys.chunking().expect("the role has it").clone();
        let mut builder = PageBuilder::new(&chunking);
        let mut pages: Vec<Page> = Vec::new();
        let mut totals = SnapshotTotals::default();
        for (directory, entries) in &self.blocks {
            let directory = directory.join(&b'/');
            for entry in entries {
                match entry.stat.kind {
                    EntryKind::File => totals.files += 1,
                    EntryKind::Directory => totals.directories += 1,
                    _ => totals.others += 1,
                }
                totals.bytes += entry.stat.size;
                pages.extend(builder.push(&directory, entry));
            }
        }
        pages.extend(builder.finish());
        let mut index = PageIndexBuilder::new();
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for page in pages {
            let reference = PageRef {
                id: self.meta.add(ChunkKind::Page, &page.plain),
                bytes: page.plain.len() as u32,
                entries: page.entries,
                first_directory: page.first_directory,
                first_name: page.first_name,
            };
            pieces.extend(index.push(&reference));
        }
        pieces.extend(index.finish());
        let page_index = pieces
            .iter()
            .map(|piece| ChunkRef {
                id: self.meta.add(ChunkKind::PageIndex, piece),
                bytes: piece.len() as u32,
            })
            .collect();
        self.finish(page_index, totals)
    }

    fn finish(mut self, page_index: Vec<ChunkRef>, totals: SnapshotTotals) -> Built {
        let mut meta_packs = Vec::new();
        for (writer, purpose) in [(self.data, Purpose::Data), (self.meta, Purpose::Meta)] {
            if let Some(pack) = writer.finish(&self.repository, purpose) {
                self.packs.push((pack, purpose));
                if purpose == Purpose::Meta {
                    meta_packs.push(pack);
                }
            }
        }
        let snapshot = Snapshot {
            host: "web1".into(),
            run: RunId([3; 16]),
            started_nanos: 1_700_000_000_000_000_000,
            committed_nanos: 1_700_000_060_000_000_000,
            parent: None,
            verified: true,
            sources: vec![Vec::new()],
            page_index,
            index: Vec::new(),
            meta_packs,
            totals,
            problems: Vec::new(),
            names: Names::default(),
            facts: HostFacts::default(),
            agent: "0.1.0".into(),
        };
        let chunks = reader(&self.repository, &self.keys);
        Built {
            repository: self.repository,
            snapshot,
            chunks,
            packs: self.packs,
        }
    }
}

/// A reader of a repository in memory.
pub(crate) fn reader(repository: &Arc<MemoryRepository>, keys: &RepositoryKeys) -> ChunkReader {
    ChunkReader::new(
        Arc::clone(repository) as Arc<_>,
        Arc::clone(repository) as Arc<_>,
        keys.clone(),
        ReadLimits {
            parallel_reads: 4,
            cache_bytes: 1 << 20,
        },
    )
    .expect("the role has the id key")
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    if path.is_empty() {
        return Vec::new();
    }
    path.split(|byte| *byte == b'/')
        .map(<[u8]>::to_vec)
        .collect()
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Joins two parts of a path, for tests that build deep ones.
pub(crate) fn below(directory: &str, name: &str) -> String {
    String::from_utf8(join(directory.as_bytes(), name.as_bytes())).expect("both are text")
}

struct PackWriter {
    id_key: formats::keys::secret::IdKey,
    sealer: FrameSealer,
    assembler: PackAssembler,
    bytes: Vec<u8>,
    kind: ChunkKind,
    plain: Vec<u8>,
    chunks: Vec<TableChunk>,
    known: std::collections::HashSet<ChunkId>,
}

impl PackWriter {
    fn new(keys: &RepositoryKeys, purpose: Purpose) -> Self {
        let context = RunContext {
            repository: keys.repository,
            epoch: keys.epoch,
            run: RunId([3; 16]),
            purpose,
        };
        let public = keys.public().expect("the role has all keys");
        let (header, run_keys) = RunHeader::create(context, &public).expect("keys encapsulate");
        Self {
            id_key: keys.id().expect("the role has it").clone(),
            sealer: FrameSealer::new(context, run_keys.data.clone(), 1).expect("a level of zstd"),
            assembler: PackAssembler::new(header, run_keys.table),
            bytes: Vec::new(),
            kind: ChunkKind::Data,
            plain: Vec::new(),
            chunks: Vec::new(),
            known: std::collections::HashSet::new(),
        }
    }

    fn add(&mut self, kind: ChunkKind, bytes: &[u8]) -> ChunkId {
        let id = chunk_id(&self.id_key, kind, bytes);
        if !self.known.insert(id) {
            return id;
        }
        if kind != self.kind || self.plain.len() >= FRAME_BYTES || self.chunks.len() >= 4_096 {
            self.close_frame();
        }
        self.kind = kind;
        self.plain.extend_from_slice(bytes);
        self.chunks.push(TableChunk {
            id,
            bytes: bytes.len() as u32,
        });
        id
    }

    fn close_frame(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        let shape = self
            .sealer
            .seal(self.kind, &self.plain, &mut self.bytes)
            .expect("sealing works");
        self.assembler
            .add_frame(shape, std::mem::take(&mut self.chunks));
        self.plain.clear();
    }

    fn finish(mut self, repository: &MemoryRepository, purpose: Purpose) -> Option<PackId> {
        self.close_frame();
        if self.assembler.is_empty() {
            return None;
        }
        self.bytes
            .extend(self.assembler.finish().expect("finishing works"));
        let pack = PackId(blake3::hash(&self.bytes).into());
        let keys = keys();
        let table = formats::pack::open::Trailer::decode(&self.bytes, self.bytes.len() as u64)
            .expect("the trailer reads")
            .open_table_with(keys.meta().expect("the role has it"))
            .expect("the table opens");
        repository.insert(pack, purpose, Bytes::from(self.bytes), &table);
        Some(pack)
    }
}
