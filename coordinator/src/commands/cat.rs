//! `cat`: writes a file of a snapshot to standard output, in order. Every chunk is checked before it is
//! written; at the first one that is not what it should be, writing stops with an error.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::ids::ChunkId;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryKind};

use crate::cli::snapshot::CatArgs;
use crate::commands::opened_snapshot::{OpenedSnapshot, SnapshotCommandError};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::restore::error::RestoreError;
use crate::restore::plan::clean_path;
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::content::{ExtentStream, chunk_ids};
use crate::snapshot::listing::Listing;

/// Chunks read at once: up to 32 MiB.
const CHUNKS_AT_ONCE: usize = 16;
/// Zeros of a hole written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// `cat HOST SNAP PATH`.
pub async fn cat_command(
    args: &CatArgs,
    config: Config,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, SnapshotCommandError> {
    let opened = OpenedSnapshot::open(
        config,
        &args.host,
        &args.snapshot,
        args.from.destination.as_deref(),
    )
    .await?;
    opened.expect_kept()?;
    let listing = opened.listing().await?;
    write_file(&listing, args.path.as_bytes(), out).await?;
    opened.coordinator.close().await;
    Ok(ExitCode::Ok)
}

/// Writes the content of the file at a path.
pub async fn write_file(
    listing: &Listing,
    path: &[u8],
    out: &mut (dyn Write + Send),
) -> Result<(), SnapshotCommandError> {
    let path = clean_path(path)?;
    let entry = find_file(listing, &path).await?;
    if entry.content == Content::Missing {
        return Err(SnapshotCommandError::NotBackedUp { path });
    }
    write_content(listing.chunks(), entry.content, out).await?;
    Ok(out.flush()?)
}

/// The file at a path, or the one that the path is a further name of.
async fn find_file(listing: &Listing, path: &[u8]) -> Result<Entry, SnapshotCommandError> {
    let no_such = || RestoreError::NoSuchPath {
        path: path.to_vec(),
    };
    let not_a_file = || SnapshotCommandError::NotAFile {
        path: path.to_vec(),
    };
    if path.is_empty() {
        return Err(not_a_file());
    }
    let mut entry = listing.entry(path).await?.ok_or_else(no_such)?;
    if let Some(first) = entry.hard_link_to.take() {
        entry = listing.entry(&first).await?.ok_or_else(no_such)?;
    }
    if entry.stat.kind != EntryKind::File || entry.hard_link_to.is_some() {
        return Err(not_a_file());
    }
    Ok(entry)
}

/// Writes a content, some chunks at once.
pub async fn write_content(
    chunks: &ChunkReader,
    content: Content,
    out: &mut (dyn Write + Send),
) -> Result<(), SnapshotCommandError> {
    let mut extents = ExtentStream::new(chunks.clone(), content);
    while let Some(group) = extents.next_extents().await? {
        for some in group.chunks(CHUNKS_AT_ONCE) {
            let ids: Vec<ChunkId> = chunk_ids(some).collect();
            let mut read = chunks.read_many(ChunkKind::Data, &ids).await?.into_iter();
            write_extents(some, &mut read, out)?;
        }
    }
    Ok(())
}

/// Writes pieces of a file, whose chunks come next in `read`.
pub fn write_extents(
    extents: &[Extent],
    read: &mut impl Iterator<Item = Bytes>,
    out: &mut (dyn Write + Send),
) -> Result<(), SnapshotCommandError> {
    for extent in extents {
        match extent {
            Extent::Hole { bytes } => write_zeros(*bytes, out)?,
            Extent::Chunk { id, bytes } => match read.next() {
                Some(chunk) if chunk.len() as u64 == u64::from(*bytes) => out.write_all(&chunk)?,
                _ => return Err(Arc::new(ChunkError::Unknown { id: *id }).into()),
            },
        }
    }
    Ok(())
}

/// Writes so many zeros.
pub fn write_zeros(mut bytes: u64, out: &mut (dyn Write + Send)) -> io::Result<()> {
    while bytes > 0 {
        let count = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        out.write_all(ZEROS.get(..count).unwrap_or(&ZEROS))?;
        bytes -= count as u64;
    }
    Ok(())
}
