//! Writes a snapshot, or paths of it, as a tar stream that GNU tar, bsdtar and others read. Every chunk is checked before a
//! byte of it is written; at the first that cannot be had, writing ends without the end of an archive, so that what reads
//! it fails, too. Holds the chunks of a few files, whatever the snapshot's size.

pub mod header;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use formats::chunk::ChunkKind;
use formats::ids::ChunkId;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryKind, join};
use formats::listing::order::{compare_directories, is_within};
use formats::wire::control::names::Names;

use crate::commands::cat::{write_content, write_extents, write_zeros};
use crate::commands::opened_snapshot::SnapshotCommandError;
use crate::export::header::{BLOCK_BYTES, TarEntry, TarKind, padding, put_header};
use crate::restore::plan::{Selection, clean_path};
use crate::snapshot::content::chunk_ids;
use crate::snapshot::further::whole;
use crate::snapshot::listing::Listing;

/// Entries that are written together, at most.
const ENTRIES_TOGETHER: usize = 512;
/// Chunks of their contents that are read together, at most: each may keep a frame of some MiB in memory.
const CHUNKS_TOGETHER: usize = 64;
/// Files with several names that are remembered as left out. Past it, links to them come without what they name.
const LEFT_OUT_MAX: usize = 1 << 16;
/// What a tape writes at once; the stream ends at a multiple of it.
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES as u64;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Exported {
    /// Entries.
    pub entries: u64,
    /// Bytes of their contents, holes written out.
    pub bytes: u64,
    /// Files left out, as their content could not be read when they were backed up.
    pub unread: u64,
    /// Sockets left out, which a tar stream cannot have.
    pub sockets: u64,
}

/// Writes the selected paths, or everything without any.
pub async fn export(
    listing: &Listing,
    paths: &[Vec<u8>],
    names: &Names,
    out: &mut (dyn Write + Send),
) -> Result<Exported, SnapshotCommandError> {
    let selection = Selection::find(listing.clone(), paths).await?;
    let mut wanted = Vec::with_capacity(paths.len());
    for path in paths {
        wanted.push(clean_path(path)?);
    }
    wanted.sort_by(|a, b| compare_directories(a, b));
    let mut stream = Stream {
        listing,
        wanted,
        users: names.users.iter().map(as_key).collect(),
        groups: names.groups.iter().map(as_key).collect(),
        waiting: Vec::new(),
        waiting_chunks: 0,
        left_out: HashSet::new(),
        written: 0,
        exported: Exported::default(),
        out,
    };
    let mut entries = selection.entries();
    while let Some((directory, entry)) = entries.next_entry().await? {
        stream.add(join(&directory, &entry.name), entry).await?;
    }
    stream.finish().await
}

fn as_key((id, name): &(u32, String)) -> (u32, &str) {
    (*id, name)
}

/// An entry whose content is still to be read.
struct Waiting {
    header: Vec<u8>,
    size: u64,
    extents: Vec<Extent>,
}

struct Stream<'a> {
    listing: &'a Listing,
    /// The selected paths, in the order in which they are written; none for everything.
    wanted: Vec<Vec<u8>>,
    users: HashMap<u32, &'a str>,
    groups: HashMap<u32, &'a str>,
    waiting: Vec<Waiting>,
    waiting_chunks: usize,
    /// First names of files that were left out, so that their further names are, too.
    left_out: HashSet<Vec<u8>>,
    written: u64,
    exported: Exported,
    out: &'a mut (dyn Write + Send),
}

impl Stream<'_> {
    async fn add(&mut self, path: Vec<u8>, mut entry: Entry) -> Result<(), SnapshotCommandError> {
        if entry.stat.kind == EntryKind::Socket {
            self.exported.sockets += 1;
            return Ok(());
        }
        let is_before = entry.hard_link_to.as_ref();
        let is_before = is_before.is_some_and(|first| self.is_before(first, &path));
        let first = match is_before {
            true => entry.hard_link_to.take(),
            false => {
                entry = whole(self.listing, entry).await?;
                None
            }
        };
        if first
            .as_ref()
            .is_some_and(|first| self.left_out.contains(first))
        {
            self.exported.unread += 1;
            return Ok(());
        }
        let has_no_target = entry.stat.kind == EntryKind::Symlink && entry.link_target.is_empty();
        if (entry.content == Content::Missing || has_no_target) && first.is_none() {
            self.exported.unread += 1;
            if entry.stat.links > 1 && self.left_out.len() < LEFT_OUT_MAX {
                self.left_out.insert(path);
            }
            return Ok(());
        }
        let size = match first {
            None => entry.stat.size,
            Some(_) => 0,
        };
        let mut header = Vec::with_capacity(BLOCK_BYTES);
        put_header(
            &self.tar_entry(&path, &entry, first.as_deref()),
            &mut header,
        );
        self.exported.entries += 1;
        self.exported.bytes += size;
        let extents = match entry.content {
            Content::Extents(extents) => extents,
            Content::None | Content::Missing => Vec::new(),
            pages @ Content::Pages(_) => {
                self.write_waiting().await?;
                self.write_header(&header)?;
                return self.write_content(pages, size).await;
            }
        };
        let chunks = self.waiting_chunks + extents.len();
        if chunks > CHUNKS_TOGETHER || self.waiting.len() >= ENTRIES_TOGETHER {
            self.write_waiting().await?;
        }
        self.waiting_chunks += extents.len();
        self.waiting.push(Waiting {
            header,
            size,
            extents,
        });
        Ok(())
    }

    /// Whether a path is written before another, if it is at all: a hard link must come after what it names.
    fn is_before(&self, first: &[u8], path: &[u8]) -> bool {
        let part = |path: &[u8]| {
            self.wanted
                .iter()
                .position(|wanted| is_within(path, wanted))
        };
        match (part(first), part(path)) {
            // Each part is in the listing's order, in which the first name comes first.
            (Some(first), Some(path)) => first <= path,
            _ => self.wanted.is_empty(),
        }
    }

    fn tar_entry<'e>(
        &self,
        path: &'e [u8],
        entry: &'e Entry,
        first: Option<&'e [u8]>,
    ) -> TarEntry<'e>
    where
        Self: 'e,
    {
        let stat = &entry.stat;
        let kind = match stat.kind {
            _ if first.is_some() => TarKind::HardLink,
            EntryKind::Directory => TarKind::Directory,
            EntryKind::Symlink => TarKind::Symlink,
            EntryKind::Fifo => TarKind::Fifo,
            EntryKind::CharDevice => TarKind::CharDevice,
            EntryKind::BlockDevice => TarKind::BlockDevice,
            EntryKind::File | EntryKind::Socket => TarKind::File,
        };
        TarEntry {
            path,
            kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            user: self.users.get(&stat.uid).copied().unwrap_or_default(),
            group: self.groups.get(&stat.gid).copied().unwrap_or_default(),
            size: match kind {
                TarKind::File => stat.size,
                _ => 0,
            },
            mtime: stat.mtime,
            link: first.unwrap_or(&entry.link_target),
            device: stat.device,
            xattrs: &entry.xattrs,
        }
    }

    /// Writes what waits, with all contents read at once.
    async fn write_waiting(&mut self) -> Result<(), SnapshotCommandError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_chunks = 0;
        let extents = waiting.iter().flat_map(|one| chunk_ids(&one.extents));
        let ids: Vec<ChunkId> = extents.collect();
        let reader = self.listing.chunks();
        let mut chunks = reader.read_many(ChunkKind::Data, &ids).await?.into_iter();
        for one in waiting {
            self.write_header(&one.header)?;
            write_extents(&one.extents, &mut chunks, self.out)?;
            self.pad(one.size)?;
        }
        Ok(())
    }

    /// Writes a content that is read by itself.
    async fn write_content(
        &mut self,
        content: Content,
        size: u64,
    ) -> Result<(), SnapshotCommandError> {
        write_content(self.listing.chunks(), content, self.out).await?;
        Ok(self.pad(size)?)
    }

    fn write_header(&mut self, header: &[u8]) -> io::Result<()> {
        self.written += header.len() as u64;
        self.out.write_all(header)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let zeros = padding(size);
        write_zeros(zeros as u64, self.out)?;
        self.written += size + zeros as u64;
        Ok(())
    }

    async fn finish(mut self) -> Result<Exported, SnapshotCommandError> {
        self.write_waiting().await?;
        // Two blocks of zeros end an archive, and more make its last record whole.
        let end = self.written + 2 * BLOCK_BYTES as u64;
        let zeros = end.next_multiple_of(RECORD_BYTES) - self.written;
        write_zeros(zeros, self.out)?;
        self.out.flush()?;
        Ok(self.exported)
    }
}

#[cfg(test)]
mod tests;
