//! Checks one whole pack: its name is the digest of its bytes, its table opens, every frame opens to exactly
//! its length, every chunk has the keyed id that the table says. Tells what of it is good even when some is not.

use std::sync::Arc;

use bytes::Bytes;
use formats::chunk::chunk_id;
use formats::ids::{ChunkId, PackId};
use formats::limits::PACK_BYTES_MAX;
use formats::pack::open::Trailer;
use formats::pack::table::TableFrame;
use formats::seal::run_header::Purpose;

use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::memory::table_places;
use crate::snapshot::place::ChunkPlace;
use crate::terminal::error_line;

/// What was found in a pack.
#[derive(Debug, Default)]
pub struct PackCheck {
    /// Bytes read.
    pub bytes: u64,
    /// The chunks that are what their ids say, with their true places.
    pub good: Vec<(ChunkId, ChunkPlace)>,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
}

/// Reads and checks a pack. An error means that nothing can be said of it: storage or keys.
pub async fn check_pack(
    reader: &ChunkReader,
    pack: PackId,
    purpose: Purpose,
) -> Result<PackCheck, Arc<ChunkError>> {
    let bytes = match read_pack(reader, pack, purpose).await {
        Ok(bytes) => bytes,
        Err(error) if error.class() == FailureClass::Integrity => {
            return Ok(PackCheck {
                problems: vec![error_line(&error)],
                ..PackCheck::default()
            });
        }
        Err(error) => return Err(Arc::new(error)),
    };
    check_pack_bytes(reader, pack, purpose, bytes).await
}

/// Checks a pack that was read.
pub async fn check_pack_bytes(
    reader: &ChunkReader,
    pack: PackId,
    purpose: Purpose,
    bytes: Bytes,
) -> Result<PackCheck, Arc<ChunkError>> {
    let reader = reader.clone();
    tokio::task::spawn_blocking(move || check_bytes(&reader, pack, purpose, &bytes))
        .await
        .map_err(|_| Arc::new(ChunkError::Stopped))?
        .map_err(Arc::new)
}

async fn read_pack(
    reader: &ChunkReader,
    pack: PackId,
    purpose: Purpose,
) -> Result<Bytes, ChunkError> {
    let packs = reader.packs();
    let bytes = packs.pack_bytes(pack, purpose).await?;
    if bytes > PACK_BYTES_MAX {
        let source = formats::codec::DecodeError::AboveLimit {
            what: "pack",
            found: bytes,
            limit: PACK_BYTES_MAX,
        };
        return Err(ChunkError::Trailer { pack, source });
    }
    Ok(packs.read_range(pack, purpose, 0, bytes).await?)
}

fn check_bytes(
    reader: &ChunkReader,
    pack: PackId,
    purpose: Purpose,
    bytes: &[u8],
) -> Result<PackCheck, ChunkError> {
    let mut check = PackCheck {
        bytes: bytes.len() as u64,
        ..PackCheck::default()
    };
    if blake3::hash(bytes).as_bytes() != pack.as_bytes() {
        check
            .problems
            .push(format!("pack {pack} does not have the bytes its name says"));
    }
    let seed = reader.openers().table_seed()?;
    let opened = Trailer::decode(bytes, bytes.len() as u64)
        .map_err(|source| error_line(&source))
        .and_then(|trailer| {
            let table = trailer.open_table_with(seed);
            table
                .map(|table| (trailer, table))
                .map_err(|source| error_line(&source))
        });
    let (trailer, table) = match opened {
        Ok(opened) => opened,
        Err(cause) => {
            check.problems.push(format!("pack {pack}: {cause}"));
            return Ok(check);
        }
    };
    let headers: Vec<Vec<u8>> = trailer
        .headers
        .iter()
        .map(formats::seal::run_header::RunHeader::encode)
        .collect();
    let mut places = table_places((pack, check.bytes), purpose, &table);
    let mut offset = 0usize;
    let mut plain = Vec::new();
    for frame in &table.frames {
        let end = offset.saturating_add(frame.shape.sealed_bytes as usize);
        let sealed = bytes.get(offset..end).unwrap_or_default();
        let header = headers.get(usize::from(frame.run_header));
        let opened = open(
            reader,
            (pack, purpose, offset),
            frame,
            header,
            sealed,
            &mut plain,
        );
        let in_frame: Vec<(ChunkId, ChunkPlace)> =
            places.by_ref().take(frame.chunks.len()).collect();
        match opened {
            Ok(()) => keep_good(reader, &in_frame, &plain, &mut check),
            Err(error) if error.class() == FailureClass::Integrity => {
                check.problems.push(error_line(&error));
            }
            Err(error) => return Err(error),
        }
        offset = end;
    }
    Ok(check)
}

fn open(
    reader: &ChunkReader,
    (pack, purpose, offset): (PackId, Purpose, usize),
    frame: &TableFrame,
    header: Option<&Vec<u8>>,
    sealed: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), ChunkError> {
    let run_header = frame.run_header;
    let header = header.ok_or(ChunkError::NoRunHeader { pack, run_header })?;
    let opener = reader.openers().opener(pack, purpose, run_header, header)?;
    opener
        .open(&frame.shape, sealed, plain)
        .map_err(|source| ChunkError::Frame {
            pack,
            frame_offset: offset as u64,
            source,
        })
}

fn keep_good(
    reader: &ChunkReader,
    in_frame: &[(ChunkId, ChunkPlace)],
    plain: &[u8],
    check: &mut PackCheck,
) {
    for (id, place) in in_frame {
        let begin = place.offset_in_frame as usize;
        let bytes = plain.get(begin..begin.saturating_add(place.bytes as usize));
        let is_good =
            bytes.is_some_and(|bytes| chunk_id(reader.id_key(), place.shape.kind, bytes) == *id);
        if is_good {
            check.good.push((*id, *place));
        } else {
            check.problems.push(format!(
                "pack {}: chunk {id} has other bytes than its id says",
                place.pack
            ));
        }
    }
}
