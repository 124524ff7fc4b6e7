//! Makes the golden repository: one data pack, one meta pack, two snapshots. Its seals are random, so it is
//! made once and kept under `formats/golden/repository`.

use formats::chunk::{ChunkKind, chunk_id};
use formats::ids::{ChunkId, PackId, RecordId};
use formats::keys::bundle::{KeyBundle, Lock, Role};
use formats::listing::content::{Content, ContentPage, encode_content_page};
use formats::listing::entry::{Entry, EntryKind};
use formats::listing::page::PageBuilder;
use formats::listing::page_index::{PageIndexBuilder, PageRef};
use formats::log::record::{Payload, RecordPlace, seal_record};
use formats::log::snapshot::{ChunkRef, Snapshot};
use formats::object::ObjectName;
use formats::pack::assemble::PackAssembler;
use formats::pack::index::encode_pieces;
use formats::pack::table::{Table, TableChunk, TableFrame};
use formats::seal::frame::FrameSealer;
use formats::seal::run_header::{Purpose, RunHeader};

use super::reader::Objects;
use super::{
    SMALL_PLAIN, config, content_page, context, data_chunk, entry_device, entry_directory,
    entry_file, entry_hard_link, entry_missing, entry_pages, entry_symlink, file_key, id_key, keys,
    long_plain, master, meta_run, public, repository, snapshot, stat,
};

/// The listing of both snapshots.
pub fn listing() -> Vec<(Vec<u8>, Entry)> {
    let below = |directory: &[u8], entry| (directory.to_vec(), entry);
    let page = encode_content_page(&content_page());
    let pages = vec![ContentPage {
        id: meta_chunk(ChunkKind::Content, &page),
        bytes: u32::try_from(page.len()).expect("a short page"),
        covers: 1_048_589,
    }];
    let disk = Entry {
        content: Content::Pages(pages),
        ..entry_pages()
    };
    let long = long_plain();
    let (first, second) = long.split_at(300);
    let notes = Entry {
        name: b"notes.txt".to_vec(),
        stat: stat(EntryKind::File, 600),
        content: Content::Extents(
            [first, second]
                .map(|plain| formats::listing::content::Extent::Chunk {
                    id: data_chunk(plain),
                    bytes: 300,
                })
                .to_vec(),
        ),
        xattrs: Vec::new(),
        ..entry_file()
    };
    vec![
        below(b"", entry_directory(b"etc")),
        below(b"", entry_directory(b"srv")),
        below(b"etc", entry_file()),
        below(b"etc", entry_symlink()),
        below(b"srv", disk),
        below(b"srv", entry_hard_link()),
        below(b"srv", notes),
        below(b"srv", entry_device()),
        below(b"srv", entry_missing()),
    ]
}

fn meta_chunk(kind: ChunkKind, plain: &[u8]) -> ChunkId {
    chunk_id(&id_key(), kind, plain)
}

/// Seals one pack whose frames are these chunks' groups.
fn pack(purpose: Purpose, frames: &[(ChunkKind, Vec<Vec<u8>>)]) -> (Vec<u8>, Table) {
    let (header, run) = RunHeader::create(context(purpose), &public()).expect("keys encapsulate");
    let mut sealer =
        FrameSealer::new(context(purpose), run.data.clone(), 3).expect("a level zstd has");
    let mut assembler = PackAssembler::new(header, run.table.clone());
    let (mut bytes, mut table) = (Vec::new(), Table::default());
    for (kind, plains) in frames {
        let shape = sealer
            .seal(*kind, &plains.concat(), &mut bytes)
            .expect("sealing works");
        let chunks: Vec<TableChunk> = plains
            .iter()
            .map(|plain| TableChunk {
                id: meta_chunk(*kind, plain),
                bytes: u32::try_from(plain.len()).expect("short chunks"),
            })
            .collect();
        assembler.add_frame(shape, chunks.clone());
        table.frames.push(TableFrame {
            run_header: 0,
            shape,
            chunks,
        });
    }
    bytes.extend(assembler.finish().expect("finishing works"));
    (bytes, table)
}

fn digest(bytes: &[u8]) -> PackId {
    PackId(blake3::hash(bytes).into())
}

fn chunk_ref(kind: ChunkKind, plain: &[u8]) -> ChunkRef {
    ChunkRef {
        id: meta_chunk(kind, plain),
        bytes: u32::try_from(plain.len()).expect("short pieces"),
    }
}

/// All objects, fresh.
pub fn make() -> Objects {
    let long = long_plain();
    let (first, second) = long.split_at(300);
    let (data, table) = pack(
        Purpose::Data,
        &[
            (ChunkKind::Data, vec![SMALL_PLAIN.to_vec()]),
            (ChunkKind::Data, vec![first.to_vec(), second.to_vec()]),
        ],
    );
    let mut builder = PageBuilder::new(keys().chunking().expect("the admin holds it"));
    for (directory, entry) in listing() {
        assert_eq!(builder.push(&directory, &entry), None);
    }
    let page = builder.finish().expect("one page");
    let mut index_builder = PageIndexBuilder::new();
    index_builder.push(&PageRef {
        id: meta_chunk(ChunkKind::Page, &page.plain),
        bytes: u32::try_from(page.plain.len()).expect("a short page"),
        entries: page.entries,
        first_directory: page.first_directory.clone(),
        first_name: page.first_name.clone(),
    });
    let page_index = index_builder.finish().expect("one piece");
    let pieces = encode_pieces([(digest(&data), data.len() as u64, &table)]);
    let piece = pieces.first().expect("one piece").clone();
    let (meta, _) = pack(
        Purpose::Meta,
        &[
            (
                ChunkKind::Content,
                vec![encode_content_page(&content_page())],
            ),
            (ChunkKind::Page, vec![page.plain]),
            (ChunkKind::PageIndex, vec![page_index.clone()]),
            (ChunkKind::Index, vec![piece.clone()]),
        ],
    );
    let first = Snapshot {
        page_index: vec![chunk_ref(ChunkKind::PageIndex, &page_index)],
        index: vec![chunk_ref(ChunkKind::Index, &piece)],
        meta_packs: vec![digest(&meta)],
        ..snapshot()
    };
    let mut objects = seal_log(first);
    objects.insert(ObjectName::Pack(digest(&data)).to_string(), data);
    objects.insert(ObjectName::Meta(digest(&meta)).to_string(), meta);
    let sealed = config().seal(&keys()).expect("the admin holds the key");
    objects.insert(ObjectName::Config.to_string(), sealed);
    let user = "daemon".parse().expect("a good name");
    let bundle = KeyBundle::new(&master(), Role::Data)
        .seal(&user, &Lock::File(&file_key()))
        .expect("sealing works");
    objects.insert(ObjectName::Keys(user).to_string(), bundle);
    objects
}

/// Two records; the second snapshot found nothing new.
fn seal_log(first: Snapshot) -> Objects {
    let mut objects = Objects::new();
    let mut place = RecordPlace {
        repository: repository(),
        epoch: 1,
        sequence: 1,
        previous: RecordId([0; 32]),
    };
    let second = Snapshot {
        run: meta_run(),
        index: Vec::new(),
        meta_packs: Vec::new(),
        ..first.clone()
    };
    for mut snapshot in [first, second] {
        if place.sequence > 1 {
            snapshot.parent = Some(place.previous);
        }
        let payload = Payload::Snapshot(Box::new(snapshot));
        let (bytes, id) =
            seal_record(&place, &payload, &public().log, &keys()).expect("sealing works");
        objects.insert(ObjectName::Log(place.sequence).to_string(), bytes);
        place.sequence += 1;
        place.previous = id;
    }
    objects
}
