//! Tells what could be restored: every object of the listing that was made, and of files whether all of their
//! chunks are in packs that opened. Reads no file content, so damage inside a frame is found by a restore alone.

use std::io;

use formats::ids::ChunkId;
use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, EntryKind, join};

use crate::rescue::error::RescueError;
use crate::restore::error::RestoreError;
use crate::restore::patterns::Patterns;
use crate::restore::summary::{ProblemKind, Tally};
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::content::ExtentStream;
use crate::snapshot::listing::Listing;
use crate::terminal::error_line;

/// An object of the listing.
#[derive(Debug)]
pub struct ListedObject<'a> {
    /// Its path in the listing.
    pub path: Vec<u8>,
    /// Its entry.
    pub entry: &'a Entry,
    /// Whether it can be restored as far as packs are there.
    pub is_whole: bool,
}

/// Hands every object to `tell`, and counts them as a restore would.
pub async fn list(
    listing: &Listing,
    mut patterns: Patterns,
    tally: &Tally,
    tell: &mut (dyn FnMut(ListedObject<'_>) -> io::Result<()> + Send),
) -> Result<(), RescueError> {
    let mut entries = listing.entries();
    while let Some((directory, entry)) = entries.next_entry().await? {
        let is_directory = entry.stat.kind == EntryKind::Directory;
        let verdict = patterns.verdict(&directory, &entry.name, is_directory);
        if verdict.excluded || !verdict.included {
            continue;
        }
        let path = join(&directory, &entry.name);
        let lack = lack_of(listing, &entry).await?;
        match &lack {
            Some((kind, text)) => tally.problem(&path, *kind, text.clone()),
            None if is_directory => Tally::add(&tally.directories, 1),
            None => {
                Tally::add(&tally.files, 1);
                if entry.hard_link_to.is_none() {
                    Tally::add(&tally.bytes, entry.stat.size);
                }
            }
        }
        tell(ListedObject {
            path,
            entry: &entry,
            is_whole: lack.is_none(),
        })?;
    }
    Ok(())
}

type Lack = Option<(ProblemKind, String)>;

/// What an object lacks, if anything. A further name of a file is as whole as its first.
async fn lack_of(listing: &Listing, entry: &Entry) -> Result<Lack, RescueError> {
    let first = match &entry.hard_link_to {
        Some(first) => listing.entry(first).await?,
        None => None,
    };
    let entry = first.as_ref().unwrap_or(entry);
    if entry.content == Content::Missing {
        let text = "its content could not be read when it was backed up";
        return Ok(Some((ProblemKind::Unreadable, text.to_owned())));
    }
    let (lost, lost_bytes) = match lost_chunks(listing.chunks(), &entry.content).await? {
        Ok(lost) => lost,
        Err(cause) => return Ok(Some((ProblemKind::Damaged, cause))),
    };
    Ok((lost > 0).then(|| {
        let text = format!(
            "{lost} of its chunks, {lost_bytes} of {} bytes, are in no pack that opens",
            entry.stat.size
        );
        (ProblemKind::Damaged, text)
    }))
}

/// How many of a file's chunks are in no pack that opens, and their bytes; why that cannot be told, where its list of chunks
/// cannot be read.
pub(super) async fn lost_chunks(
    reader: &ChunkReader,
    content: &Content,
) -> Result<Result<(u64, u64), String>, RescueError> {
    let mut extents = ExtentStream::new(reader.clone(), content.clone());
    let (mut lost, mut lost_bytes) = (0u64, 0u64);
    loop {
        let group = match extents.next_extents().await {
            Ok(Some(group)) => group,
            Ok(None) => return Ok(Ok((lost, lost_bytes))),
            Err(error) => return Ok(Err(error_line(&error))),
        };
        let chunks: Vec<(ChunkId, u32)> = group
            .iter()
            .filter_map(|extent| match extent {
                Extent::Chunk { id, bytes } => Some((*id, *bytes)),
                Extent::Hole { .. } => None,
            })
            .collect();
        let ids = chunks.iter().map(|(id, _)| *id).collect();
        let places = reader.locate(ids).await.map_err(RestoreError::from)?;
        for ((_, bytes), place) in chunks.iter().zip(places) {
            if place.is_none_or(|place| place.bytes != *bytes) {
                lost += 1;
                lost_bytes += u64::from(*bytes);
            }
        }
    }
}
