//! A run's index object: the tables of the packs it wrote, gathered, so that rebuilding the local index reads
//! a few pieces and not every pack's trailer. Cut into pieces, named by the snapshot.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::PackId;
use crate::limits::{
    INDEX_PIECE_BYTES_TARGET, PACK_BYTES_MAX, PACK_CHUNKS_MAX, PACK_FRAMES_MAX,
    PACK_RUN_HEADERS_MAX,
};
use crate::pack::table::{Table, TableFrame};

const VERSION: u8 = 1;

/// Some of a pack's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedFrames {
    /// The pack.
    pub pack: PackId,
    /// All of the pack's bytes.
    pub pack_bytes: u64,
    /// Where the first of these frames begins in the pack.
    pub offset: u64,
    /// The frames, without gaps.
    pub frames: Vec<TableFrame>,
}

/// The pieces of an index object (chunks of kind "index") for these packs.
pub fn encode_pieces<'a>(
    packs: impl IntoIterator<Item = (PackId, u64, &'a Table)>,
) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut piece = vec![VERSION];
    for (pack, pack_bytes, table) in packs {
        let mut offset = 0u64;
        let mut frames = table.frames.iter().peekable();
        while frames.peek().is_some() {
            let from = offset;
            let mut body = Vec::new();
            let mut count = 0u64;
            while piece.len() + body.len() < INDEX_PIECE_BYTES_TARGET
                && let Some(frame) = frames.next()
            {
                frame.put(&mut body);
                offset += u64::from(frame.shape.sealed_bytes);
                count += 1;
            }
            piece.put(pack.as_bytes());
            piece.put_varint(pack_bytes);
            piece.put_varint(from);
            piece.put_varint(count);
            piece.put(&body);
            if piece.len() >= INDEX_PIECE_BYTES_TARGET {
                pieces.push(std::mem::replace(&mut piece, vec![VERSION]));
            }
        }
    }
    if piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

/// Reads a piece: at least one group, each of at least one frame.
pub fn decode_piece(plain: &[u8]) -> Result<Vec<IndexedFrames>, DecodeError> {
    let mut reader = Reader::new(plain);
    let version = reader.u8("index piece")?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion {
            what: "index piece",
            found: version.into(),
            known: VERSION.into(),
        });
    }
    let mut groups = Vec::new();
    if reader.remaining() == 0 {
        return Err(DecodeError::NotCanonical {
            what: "index piece",
        });
    }
    while reader.remaining() > 0 {
        groups.push(read_group(&mut reader)?);
    }
    Ok(groups)
}

fn read_group(reader: &mut Reader<'_>) -> Result<IndexedFrames, DecodeError> {
    let pack = PackId::read(reader)?;
    let pack_bytes = reader.varint("pack bytes")?;
    let offset = reader.varint("frame offset")?;
    if pack_bytes > PACK_BYTES_MAX || offset > pack_bytes {
        return Err(DecodeError::AboveLimit {
            what: "pack bytes",
            found: pack_bytes.max(offset),
            limit: PACK_BYTES_MAX,
        });
    }
    let count = reader.count("frames", PACK_FRAMES_MAX, 8)?;
    if count == 0 {
        return Err(DecodeError::NotCanonical {
            what: "index piece",
        });
    }
    let mut frames = Vec::with_capacity(count);
    let mut end = offset;
    for _ in 0..count {
        // The run headers are the pack's; a frame that names one it does not have fails there.
        let headers = usize::try_from(PACK_RUN_HEADERS_MAX).unwrap_or(usize::MAX);
        let frame = TableFrame::read(reader, headers, PACK_CHUNKS_MAX)?;
        end += u64::from(frame.shape.sealed_bytes);
        frames.push(frame);
    }
    if end > pack_bytes {
        return Err(DecodeError::Invalid {
            what: "index piece",
            rule: "a pack's frames must lie in it",
        });
    }
    Ok(IndexedFrames {
        pack,
        pack_bytes,
        offset,
        frames,
    })
}

#[cfg(test)]
mod tests {
    use super::decode_piece;

    #[test]
    fn a_group_without_frames_is_refused() {
        let mut piece = vec![1];
        piece.extend_from_slice(&[9; 32]);
        piece.extend_from_slice(&[100, 0, 0]);
        assert!(decode_piece(&piece).is_err());
        assert!(decode_piece(&[1]).is_err(), "nor one without groups");
    }
}
