//! Reads every page that survives and keeps the newest entry of every path. Pages do not say which snapshot they
//! were of, and an entry's ctime is what its host's kernel said: newer is what changed later there.
//!
//! Of two entries of one path wins, in this order: the one that has content, the one with the newer ctime, the
//! first name of a hard link before a further one. What is still alike is decided by bytes, so that the order in
//! which pages are read never matters.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::codec::DecodeError;
use formats::ids::{ChunkId, PackId};
use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryKind, Stat, Timestamp, join};
use formats::listing::page::PageReader;
use formats::listing::page_index::decode_page_index;
use formats::pack::index::decode_piece;
use rusqlite::{Transaction, params};

use crate::rescue::error::RescueError;
use crate::rescue::places::Places;
use crate::rescue::pruned::{Pruned, drop_pruned, note_live_pages, note_live_paths};
use crate::rescue::store::Store;
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::chunks::{ChunkReader, ChunkSink};
use crate::terminal::error_line;

/// Chunks read together, at most, and their bytes.
const CHUNKS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: u64 = 8 << 20;
/// Packs asked for at once.
const PACKS_AT_ONCE: usize = 256;

/// What came of the pages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PagesRead {
    /// Pages whose entries were taken.
    pub(crate) read: u64,
    /// Pages and lists of them that are in a pack, and damaged.
    pub(crate) damaged: u64,
    /// Pages that a surviving list names, and no surviving pack holds.
    pub(crate) lost: u64,
    /// Entries of all pages.
    pub(crate) entries: u64,
    /// Files that only forgotten snapshots had, and of which prune removed something.
    pub(crate) pruned: u64,
}

/// Reads the surviving index pieces: which data packs the coordinator had verified.
pub(crate) async fn read_index_pieces(
    reader: &ChunkReader,
    places: &Arc<Places>,
    pages: &mut PagesRead,
) -> Result<HashSet<PackId>, RescueError> {
    let mut verified = HashSet::new();
    let mut groups = MetaChunks::new(places, ChunkKind::Index);
    while let Some(ids) = groups.next().await? {
        for (id, found) in read(reader, ChunkKind::Index, &ids).await? {
            let piece = found.map_err(|error| error_line(error.as_ref()));
            let piece = piece.and_then(|bytes| {
                decode_piece(&bytes).map_err(|error: DecodeError| error_line(&error))
            });
            match piece {
                Ok(piece) => verified.extend(piece.into_iter().map(|group| group.pack)),
                Err(cause) => pages.count_damaged("index piece", id, &cause),
            }
        }
    }
    Ok(verified)
}

/// Reads the lists that name pages, and the surviving pages. Where the log tells of prunes, lists of forgotten snapshots
/// say nothing of what should be there.
pub(crate) async fn take_entries(
    reader: &ChunkReader,
    places: &Arc<Places>,
    store: &Store,
    pages: &mut PagesRead,
    pruned: Option<&Pruned>,
) -> Result<(), RescueError> {
    let mut live_lists = HashSet::new();
    let mut groups = MetaChunks::new(places, ChunkKind::PageIndex);
    while let Some(ids) = groups.next().await? {
        for (id, found) in read(reader, ChunkKind::PageIndex, &ids).await? {
            if pruned.is_some_and(|pruned| !pruned.live_lists.contains(&id)) {
                continue;
            }
            let named = found.map_err(|error| error_line(error.as_ref()));
            let named = named.and_then(|bytes| {
                decode_page_index(&bytes).map_err(|error: DecodeError| error_line(&error))
            });
            match named {
                Ok(named) => {
                    let ids: Vec<ChunkId> = named.iter().map(|page| page.id).collect();
                    if pruned.is_some() {
                        note_live_pages(store, &ids)?;
                        live_lists.insert(id);
                    }
                    note_lost_pages(reader, store, ids).await?;
                }
                Err(cause) => pages.count_damaged("list of pages", id, &cause),
            }
        }
    }
    let mut groups = MetaChunks::new(places, ChunkKind::Page);
    while let Some(ids) = groups.next().await? {
        let mut whole = Vec::with_capacity(ids.len());
        for (id, found) in read(reader, ChunkKind::Page, &ids).await? {
            match found {
                Ok(bytes) => whole.push((id, bytes)),
                Err(error) => pages.count_damaged("page", id, &error_line(error.as_ref())),
            }
        }
        let store = store.clone();
        let taking = tokio::task::spawn_blocking(move || take_pages(&store, &whole));
        let (taken, refused) = taking.await.map_err(|_| RescueError::Stopped)??;
        pages.read += taken.read;
        pages.entries += taken.entries;
        for (id, cause) in refused {
            pages.count_damaged("page", id, &error_line(&cause));
        }
    }
    pages.lost = count_lost(store)?;
    // With a list that is lost, what only forgotten snapshots had cannot be told from what others have.
    if pruned.is_some_and(|pruned| pruned.live_lists == live_lists) {
        pages.pruned = drop_pruned(reader, store).await?;
    }
    tracing::info!(
        pages = pages.read,
        entries = pages.entries,
        "pages were read"
    );
    Ok(())
}

impl PagesRead {
    fn count_damaged(&mut self, what: &str, id: ChunkId, cause: &str) {
        tracing::warn!(what, chunk = %id, cause, "a piece of a listing cannot be read");
        self.damaged += 1;
    }
}

/// The chunks of one kind in the meta packs that opened, group by group.
struct MetaChunks<'a> {
    places: &'a Arc<Places>,
    kind: ChunkKind,
    packs: Vec<PackId>,
    row: i64,
    chunks: Vec<(ChunkId, u32)>,
}

impl<'a> MetaChunks<'a> {
    fn new(places: &'a Arc<Places>, kind: ChunkKind) -> Self {
        Self {
            places,
            kind,
            packs: Vec::new(),
            row: 0,
            chunks: Vec::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<ChunkId>>, RescueError> {
        while self.chunks.is_empty() {
            if self.packs.is_empty() && !self.next_packs()? {
                return Ok(None);
            }
            if let Some(pack) = self.packs.pop() {
                self.chunks = self.chunks_of(pack).await?;
                self.chunks.reverse();
            }
        }
        let (mut ids, mut bytes) = (Vec::new(), 0u64);
        while ids.len() < CHUNKS_AT_ONCE
            && bytes < BYTES_AT_ONCE
            && let Some((id, size)) = self.chunks.pop()
        {
            ids.push(id);
            bytes += u64::from(size);
        }
        Ok(Some(ids))
    }

    fn next_packs(&mut self) -> Result<bool, RescueError> {
        let row = self.row;
        let packs = self
            .places
            .with_index(META, |index| {
                index.packs_by_row(row, i64::MAX, PACKS_AT_ONCE)
            })
            .transpose()?
            .unwrap_or_default();
        if let Some((last, _)) = packs.last() {
            self.row = last.row;
        }
        self.packs = packs.iter().rev().map(|(named, _)| named.pack).collect();
        Ok(!self.packs.is_empty())
    }

    async fn chunks_of(&self, pack: PackId) -> Result<Vec<(ChunkId, u32)>, RescueError> {
        let (places, kind) = (Arc::clone(self.places), self.kind);
        let looking = tokio::task::spawn_blocking(move || {
            let look = |index: &crate::index::Index| {
                let mut chunks = Vec::new();
                for pack in index.packs_named(&[pack])? {
                    let frames = pack?.table.frames;
                    let frames = frames.into_iter().filter(|frame| frame.shape.kind == kind);
                    chunks.extend(frames.flat_map(|frame| frame.chunks));
                }
                Ok::<_, crate::index::IndexError>(chunks)
            };
            places.with_index(META, look)
        });
        let chunks = looking.await.map_err(|_| RescueError::Stopped)?;
        let chunks = chunks.transpose()?.unwrap_or_default();
        Ok(chunks.iter().map(|chunk| (chunk.id, chunk.bytes)).collect())
    }
}

/// The place of the meta packs' index among the places.
pub(crate) const META: usize = 0;

type Found = (ChunkId, Result<Bytes, Arc<ChunkError>>);

#[derive(Debug, Default)]
struct Gathered {
    found: Mutex<Vec<Found>>,
}

impl ChunkSink for Gathered {
    fn chunk(&self, id: ChunkId, found: Result<Bytes, Arc<ChunkError>>) {
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((id, found));
    }
}

async fn read(
    reader: &ChunkReader,
    kind: ChunkKind,
    ids: &[ChunkId],
) -> Result<Vec<Found>, RescueError> {
    let gathered = Arc::new(Gathered::default());
    let sink = Arc::clone(&gathered) as Arc<dyn ChunkSink>;
    reader.deliver(kind, ids, sink).await?;
    let mut found = gathered
        .found
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *found))
}

async fn note_lost_pages(
    reader: &ChunkReader,
    store: &Store,
    ids: Vec<ChunkId>,
) -> Result<(), RescueError> {
    let places = reader.locate(ids.clone()).await?;
    let lost: Vec<ChunkId> = ids
        .into_iter()
        .zip(places)
        .filter_map(|(id, place)| place.is_none().then_some(id))
        .collect();
    Ok(store.with(|transaction| {
        let mut note =
            transaction.prepare_cached("INSERT OR IGNORE INTO lost_pages (id) VALUES (?1)")?;
        for id in lost {
            note.execute([id.as_bytes()])?;
        }
        Ok(())
    })?)
}

fn count_lost(store: &Store) -> Result<u64, RescueError> {
    Ok(store.with(|transaction| {
        let count = "SELECT count(*) FROM lost_pages";
        transaction.query_row(count, [], |row| crate::database::unsigned(row, 0))
    })?)
}

type Taken = (PagesRead, Vec<(ChunkId, DecodeError)>);

fn take_pages(store: &Store, pages: &[(ChunkId, Bytes)]) -> Result<Taken, RescueError> {
    let (mut taken, mut refused) = (PagesRead::default(), Vec::new());
    store.with(|transaction| {
        for (id, plain) in pages {
            // A page is taken whole or not at all.
            match decode(plain) {
                Ok(entries) => {
                    taken.read += 1;
                    taken.entries += entries.len() as u64;
                    for (directory, entry) in &entries {
                        take(transaction, directory, entry)?;
                    }
                    note_live_paths(transaction, *id, &entries)?;
                }
                Err(error) => refused.push((*id, error)),
            }
        }
        Ok(())
    })?;
    Ok((taken, refused))
}

fn decode(plain: &[u8]) -> Result<Vec<(Vec<u8>, Entry)>, DecodeError> {
    let mut reader = PageReader::new(plain)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push((reader.directory().to_vec(), entry));
    }
    Ok(entries)
}

const TAKE: &str = "
INSERT INTO entries (directory, name, is_directory, made, has_content, seconds, nanoseconds, is_first, body)
VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (directory, name) DO UPDATE SET
    is_directory = excluded.is_directory, has_content = excluded.has_content,
    seconds = excluded.seconds, nanoseconds = excluded.nanoseconds,
    is_first = excluded.is_first, body = excluded.body
WHERE (excluded.has_content, excluded.seconds, excluded.nanoseconds, excluded.is_first, excluded.body)
    > (has_content, seconds, nanoseconds, is_first, body)";

fn take(transaction: &Transaction<'_>, directory: &[u8], entry: &Entry) -> rusqlite::Result<()> {
    let mut body = Vec::with_capacity(256);
    entry.put(&mut body);
    let is_directory = entry.stat.kind == EntryKind::Directory;
    let is_first = entry.hard_link_to.is_none();
    transaction.prepare_cached(TAKE)?.execute(params![
        sort_key(directory),
        entry.name,
        is_directory,
        has_content(entry),
        entry.stat.ctime.seconds,
        entry.stat.ctime.nanoseconds,
        is_first,
        body,
    ])?;
    if is_first && !is_directory && entry.stat.links > 1 {
        let path = join(directory, &entry.name);
        for id in link_ids(&path, &entry.stat) {
            transaction.prepare_cached(TAKE_FIRST)?.execute(params![
                id,
                has_content(entry),
                entry.stat.ctime.seconds,
                entry.stat.ctime.nanoseconds,
                body,
            ])?;
        }
    }
    Ok(())
}

const TAKE_FIRST: &str = "
INSERT INTO firsts (id, has_content, seconds, nanoseconds, body) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (id) DO UPDATE SET
    has_content = excluded.has_content, seconds = excluded.seconds,
    nanoseconds = excluded.nanoseconds, body = excluded.body
WHERE (excluded.has_content, excluded.seconds, excluded.nanoseconds, excluded.body)
    > (has_content, seconds, nanoseconds, body)";

/// Whether the host could read what the entry stands for.
fn has_content(entry: &Entry) -> bool {
    let is_unread_link = entry.stat.kind == EntryKind::Symlink && entry.link_target.is_empty();
    entry.hard_link_to.is_some() || (entry.content != Content::Missing && !is_unread_link)
}

/// What all names of one file have in common, from the closest on: the first name's path and the inode, then also
/// the ctime, or if that changed between two names being listed, the content's time and size. An inode's number alone
/// is not enough: another file may have it by now.
pub(crate) fn link_ids(first: &[u8], stat: &Stat) -> [[u8; 32]; 2] {
    let id = |tag: u8, time: Timestamp, size: u64| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[tag, stat.kind.tag()]);
        hasher.update(&stat.inode.to_le_bytes());
        hasher.update(&time.seconds.to_le_bytes());
        hasher.update(&time.nanoseconds.to_le_bytes());
        hasher.update(&size.to_le_bytes());
        hasher.update(first);
        hasher.finalize().into()
    };
    [id(0, stat.ctime, 0), id(1, stat.mtime, stat.size)]
}

/// A directory's path such that bytes sort as listings do. Paths hold no zero byte.
pub(crate) fn sort_key(directory: &[u8]) -> Vec<u8> {
    let swapped = directory.iter().map(|byte| match byte {
        b'/' => 0,
        other => *other,
    });
    swapped.collect()
}

/// The path of a sort key.
pub(crate) fn path_of_key(key: &[u8]) -> Vec<u8> {
    let swapped = key.iter().map(|byte| match byte {
        0 => b'/',
        other => *other,
    });
    swapped.collect()
}
