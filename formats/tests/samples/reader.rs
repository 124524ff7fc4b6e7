//! The smallest reader of a repository: from a bundle and its key file to every file's bytes, with every
//! check that a reader owes. The damage tests run it; a second implementation can be held against it.

use std::collections::{BTreeMap, HashMap};

use formats::chunk::ChunkKind;
use formats::config::RepositoryConfig;
use formats::ids::{ChunkId, PackId, RecordId, RepositoryId};
use formats::keys::bundle::{KeyBundle, Unlock};
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::FileKey;
use formats::listing::content::{Content, Extent, decode_content_page};
use formats::listing::entry::{Entry, join};
use formats::listing::order::OrderChecker;
use formats::listing::page::PageReader;
use formats::listing::page_index::decode_page_index;
use formats::log::record::{Payload, RecordPlace, SealedRecord};
use formats::log::snapshot::{ChunkRef, Snapshot};
use formats::object::ObjectName;
use formats::pack::index::decode_piece;
use formats::pack::open::{Trailer, open_frame};
use formats::pack::table::Table;
use formats::seal::frame::FrameOpener;
use formats::seal::run_header::Purpose;

pub type Refused = Box<dyn std::error::Error>;

/// A repository's objects by name, as they are on a destination.
pub type Objects = BTreeMap<String, Vec<u8>>;

/// What is known of every chunk read so far.
pub type Chunks = HashMap<(ChunkKind, ChunkId), Vec<u8>>;

/// Whether a pack's name is compared with its digest; without it the seals alone must refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Checked,
    Ignored,
}

/// One restored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub path: Vec<u8>,
    pub entry: Entry,
    pub bytes: Vec<u8>,
}

/// Restores the last snapshot.
pub fn restore(
    objects: &Objects,
    repository: RepositoryId,
    file: &FileKey,
    names: Names,
) -> Result<Vec<Restored>, Refused> {
    let keys = open_keys(object(objects, "keys/daemon")?, repository, file)?;
    open_config(object(objects, "config")?, &keys)?;
    let snapshots = open_log(objects, &keys)?;
    let mut chunks = Chunks::new();
    for snapshot in &snapshots {
        for id in &snapshot.meta_packs {
            let bytes = object(objects, &ObjectName::Meta(*id).to_string())?;
            open_pack(bytes, *id, names, Purpose::Meta, &keys, &mut chunks)?;
        }
    }
    for snapshot in &snapshots {
        for (pack, indexed) in read_index(&snapshot.index, &chunks)? {
            let bytes = object(objects, &ObjectName::Pack(pack).to_string())?;
            let table = open_pack(bytes, pack, names, Purpose::Data, &keys, &mut chunks)?;
            require(
                table == indexed,
                "the index tells other frames than the pack",
            )?;
        }
    }
    let last = snapshots.last().ok_or("there is no snapshot")?;
    read_listing(&last.page_index, &chunks)
}

fn object<'a>(objects: &'a Objects, name: &str) -> Result<&'a [u8], Refused> {
    let bytes = objects.get(name).ok_or("an object is missing")?;
    Ok(bytes)
}

fn require(holds: bool, what: &'static str) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Opens the daemon's bundle and derives the repository's keys.
pub fn open_keys(
    bytes: &[u8],
    repository: RepositoryId,
    file: &FileKey,
) -> Result<RepositoryKeys, Refused> {
    let (user, bundle) = KeyBundle::open(bytes, &Unlock::File(file))?;
    require(user.as_str() == "daemon", "the bundle is another user's")?;
    Ok(RepositoryKeys::derive(&bundle, repository, 1))
}

/// Opens the config; its keys must be the derived ones.
pub fn open_config(bytes: &[u8], keys: &RepositoryKeys) -> Result<RepositoryConfig, Refused> {
    let config = RepositoryConfig::open(bytes, keys.repository, &keys.verifying()?)?;
    require(config.public == keys.public()?, "the config has other keys")?;
    require(config.epoch == keys.epoch, "the config is of another epoch")?;
    Ok(config)
}

/// Opens every record of the log, each after the one before it.
pub fn open_log(objects: &Objects, keys: &RepositoryKeys) -> Result<Vec<Snapshot>, Refused> {
    let mut place = RecordPlace {
        repository: keys.repository,
        epoch: keys.epoch,
        sequence: 1,
        previous: RecordId([0; 32]),
    };
    let mut snapshots = Vec::new();
    while let Some(bytes) = objects.get(&ObjectName::Log(place.sequence).to_string()) {
        let record = SealedRecord::check(bytes, &keys.verifying()?, &place)?;
        if let Payload::Snapshot(snapshot) = record.open(keys.log()?)? {
            snapshots.push(*snapshot);
        }
        place.sequence += 1;
        place.previous = record.id;
    }
    let records = objects.keys().filter(|name| name.starts_with("log/"));
    require(
        records.count() as u64 == place.sequence - 1,
        "the log has a gap",
    )?;
    Ok(snapshots)
}

/// Opens a pack, every frame and every chunk of it.
pub fn open_pack(
    bytes: &[u8],
    id: PackId,
    names: Names,
    purpose: Purpose,
    keys: &RepositoryKeys,
    chunks: &mut Chunks,
) -> Result<Table, Refused> {
    let digest = PackId(blake3::hash(bytes).into());
    require(
        names == Names::Ignored || digest == id,
        "the pack's bytes do not have its name",
    )?;
    let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
    let writer = trailer.writer().ok_or("no run header")?;
    require(
        writer.context.repository == keys.repository && writer.context.purpose == purpose,
        "the pack belongs elsewhere",
    )?;
    let table = trailer.open_table_with(keys.meta()?)?;
    let seed = match purpose {
        Purpose::Data => keys.data()?,
        Purpose::Meta => keys.meta()?,
    };
    let mut openers = Vec::new();
    for header in &trailer.headers {
        openers.push(FrameOpener::new(
            header.context,
            header.open_data_key(seed)?,
        )?);
    }
    let mut rest = bytes;
    for (place, frame) in table.frames.iter().enumerate() {
        let opener = openers
            .get_mut(usize::from(frame.run_header))
            .ok_or("no such run header")?;
        let (sealed, after) = rest
            .split_at_checked(frame.shape.sealed_bytes as usize)
            .ok_or("the pack ends in a frame")?;
        rest = after;
        let mut sealed = sealed.to_vec();
        let mut left = open_frame(opener, keys.id()?, frame, place, &mut sealed)?;
        for chunk in &frame.chunks {
            let (bytes, after) = left
                .split_at_checked(chunk.bytes as usize)
                .ok_or("the frame ends in a chunk")?;
            left = after;
            chunks.insert((frame.shape.kind, chunk.id), bytes.to_vec());
        }
    }
    Ok(table)
}

fn chunk(chunks: &Chunks, kind: ChunkKind, id: ChunkId, bytes: u32) -> Result<&[u8], Refused> {
    let plain = chunks.get(&(kind, id)).ok_or("a chunk is in no pack")?;
    require(
        plain.len() as u64 == u64::from(bytes),
        "a chunk has another length",
    )?;
    Ok(plain)
}

fn read_index(refs: &[ChunkRef], chunks: &Chunks) -> Result<Vec<(PackId, Table)>, Refused> {
    let mut packs: Vec<(PackId, Table)> = Vec::new();
    for piece in refs {
        for group in decode_piece(chunk(chunks, ChunkKind::Index, piece.id, piece.bytes)?)? {
            match packs.last_mut() {
                Some((pack, table)) if *pack == group.pack => {
                    require(table.frames_bytes() == group.offset, "an index has a gap")?;
                    table.frames.extend(group.frames);
                }
                _ => {
                    require(group.offset == 0, "an index begins in a pack")?;
                    let frames = group.frames;
                    packs.push((group.pack, Table { frames }));
                }
            }
        }
    }
    Ok(packs)
}

fn read_listing(refs: &[ChunkRef], chunks: &Chunks) -> Result<Vec<Restored>, Refused> {
    let mut order = OrderChecker::new();
    let mut restored: Vec<Restored> = Vec::new();
    for piece in refs {
        let piece = chunk(chunks, ChunkKind::PageIndex, piece.id, piece.bytes)?;
        for page in decode_page_index(piece)? {
            let plain = chunk(chunks, ChunkKind::Page, page.id, page.bytes)?;
            let mut reader = PageReader::new(plain)?;
            let first = restored.len();
            while let Some(entry) = reader.next_entry()? {
                order.block(reader.directory())?;
                order.entry(&entry.name, entry.stat.kind)?;
                restored.push(Restored {
                    path: join(reader.directory(), &entry.name),
                    bytes: read_content(&entry, chunks)?,
                    entry,
                });
            }
            let found = restored.get(first..).unwrap_or_default();
            require(
                found.len() as u64 == u64::from(page.entries),
                "a page has other entries",
            )?;
            let named = join(&page.first_directory, &page.first_name);
            require(
                found.first().is_some_and(|entry| entry.path == named),
                "a page begins elsewhere",
            )?;
        }
    }
    Ok(restored)
}

fn read_content(entry: &Entry, chunks: &Chunks) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    match &entry.content {
        Content::None | Content::Missing => {}
        Content::Extents(extents) => read_extents(extents, chunks, &mut bytes)?,
        Content::Pages(pages) => {
            for page in pages {
                let plain = chunk(chunks, ChunkKind::Content, page.id, page.bytes)?;
                let extents = decode_content_page(plain, page.covers)?;
                read_extents(&extents, chunks, &mut bytes)?;
            }
        }
    }
    Ok(bytes)
}

fn read_extents(extents: &[Extent], chunks: &Chunks, out: &mut Vec<u8>) -> Result<(), Refused> {
    for extent in extents {
        match extent {
            Extent::Chunk { id, bytes } => {
                out.extend_from_slice(chunk(chunks, ChunkKind::Data, *id, *bytes)?);
            }
            Extent::Hole { bytes } => {
                out.resize(out.len() + usize::try_from(*bytes)?, 0);
            }
        }
    }
    Ok(())
}
