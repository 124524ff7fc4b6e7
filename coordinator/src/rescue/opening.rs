//! Opens one pack by itself: reads its end, finds its run headers and table, and says in a word why it does not
//! open. What is in its frames is checked when they are read.

use std::error::Error;

use bytes::Bytes;
use formats::codec::DecodeError;
use formats::keys::derive::Epoch;
use formats::keys::repository::RepositoryKeys;
use formats::pack::open::{PackError, Trailer};
use formats::pack::table::Table;
use formats::pack::trailer::{FOOTER_BYTES, Footer};
use serde::Serialize;

use crate::index::PackFacts;
use crate::rescue::shelf::FoundPack;
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::place::{PackSource, PackSourceError};
use crate::terminal::error_line;

/// Bytes read of a pack's end at first: enough for most tables.
const TAIL_BYTES: u64 = 64 << 10;

/// What kind of reason a pack has not to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// Its bytes are no pack, or not all of one.
    Damaged,
    /// Its keys do not open with the kit, or were altered.
    Keys,
    /// It is of another repository, or of the other kind of pack.
    Foreign,
    /// It is of another generation of keys.
    Epoch,
    /// It could not be read.
    Unreadable,
}

/// Why a pack does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// For people.
    pub(crate) text: String,
    pub(crate) epoch: Option<Epoch>,
}

impl Refusal {
    fn new(kind: RefusalKind, text: String) -> Self {
        Self {
            kind,
            text,
            epoch: None,
        }
    }

    pub(crate) fn damaged(error: &(dyn Error + 'static)) -> Self {
        Self::new(RefusalKind::Damaged, error_line(error))
    }

    pub(crate) fn unreadable(error: impl Error + 'static) -> Self {
        Self::new(RefusalKind::Unreadable, error_line(&error))
    }
}

/// A pack that opened.
#[derive(Debug)]
pub(crate) struct OpenedPack {
    pub(crate) facts: PackFacts,
    pub(crate) table: Table,
}

/// Reads a pack's end and opens it. The error is of the place, not of the pack.
pub(crate) async fn open_pack(
    packs: &dyn PackSource,
    found: FoundPack,
    keys: RepositoryKeys,
) -> Result<Result<OpenedPack, Refusal>, ChunkError> {
    let tail = match read_tail(packs, &found).await {
        Ok(Ok(tail)) => tail,
        Ok(Err(error)) => return Ok(Err(Refusal::damaged(&error))),
        Err(PackSourceError::Missing { pack }) => {
            let gone = PackSourceError::Missing { pack };
            return Ok(Err(Refusal::unreadable(gone)));
        }
        Err(error) => return Err(error.into()),
    };
    tokio::task::spawn_blocking(move || open_tail(&tail, &found, &keys))
        .await
        .map_err(|_| ChunkError::Stopped)
}

async fn read_tail(
    packs: &dyn PackSource,
    found: &FoundPack,
) -> Result<Result<Bytes, DecodeError>, PackSourceError> {
    let read = async |bytes: u64| {
        let offset = found.bytes.saturating_sub(bytes);
        let bytes = bytes.min(found.bytes);
        packs
            .read_range(found.pack, found.purpose, offset, bytes)
            .await
    };
    let truncated = DecodeError::Truncated { what: "pack" };
    if found.bytes < FOOTER_BYTES as u64 {
        return Ok(Err(truncated));
    }
    let tail = read(TAIL_BYTES).await?;
    let Some(footer) = tail.last_chunk::<FOOTER_BYTES>() else {
        return Ok(Err(truncated));
    };
    // Every length in it is checked against the pack's own, and that against the limit.
    let trailer_bytes = match Footer::decode(footer, found.bytes) {
        Ok(footer) => footer.trailer_bytes(),
        Err(error) => return Ok(Err(error)),
    };
    match trailer_bytes <= tail.len() as u64 {
        true => Ok(Ok(tail)),
        false => read(trailer_bytes).await.map(Ok),
    }
}

fn open_tail(tail: &[u8], found: &FoundPack, keys: &RepositoryKeys) -> Result<OpenedPack, Refusal> {
    let trailer = Trailer::decode(tail, found.bytes).map_err(|error| Refusal::damaged(&error))?;
    let truncated = DecodeError::Truncated { what: "pack" };
    let writer = trailer
        .writer()
        .ok_or_else(|| Refusal::damaged(&truncated))?;
    let context = writer.context;
    if context.repository != keys.repository {
        let text = format!("it is of repository {}", context.repository);
        return Err(Refusal::new(RefusalKind::Foreign, text));
    }
    // What a target put among the data packs is never taken for what the coordinator wrote.
    if context.purpose != found.purpose {
        let text = "it is of the other kind of pack than its folder's".to_owned();
        return Err(Refusal::new(RefusalKind::Foreign, text));
    }
    let epochs = trailer.headers.iter().map(|header| header.context.epoch);
    if let Some(epoch) = epochs.into_iter().find(|epoch| *epoch != keys.epoch) {
        return Err(Refusal {
            kind: RefusalKind::Epoch,
            text: format!("its keys are of epoch {epoch}"),
            epoch: Some(epoch),
        });
    }
    let meta = keys
        .meta()
        .map_err(|error| Refusal::new(RefusalKind::Keys, error_line(&error)))?;
    let table = trailer.open_table_with(meta).map_err(|error| {
        let kind = match error {
            PackError::RunHeader(_) | PackError::Table => RefusalKind::Keys,
            _ => RefusalKind::Damaged,
        };
        Refusal::new(kind, error_line(&error))
    })?;
    let facts = PackFacts {
        pack: found.pack,
        bytes: found.bytes,
        purpose: found.purpose,
        run: context.run,
    };
    Ok(OpenedPack { facts, table })
}
