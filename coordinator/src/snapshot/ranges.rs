//! Gathers the frames that are wanted into ranges to read: in pack order, near ones together. Pure.

use formats::ids::{ChunkId, PackId};

use crate::snapshot::place::ChunkPlace;

/// Frames nearer than this are read together: a request costs more than the bytes between.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// A range is not grown past this.
const RANGE_BYTES_MAX: u64 = 4 << 20;

/// A chunk wanted of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WantedChunk {
    /// Its name.
    pub(crate) id: ChunkId,
    /// Where it begins in the frame's plaintext.
    pub(crate) offset: u32,
    /// Its plain bytes.
    pub(crate) bytes: u32,
}

/// A frame and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedFrame {
    /// The place of its first wanted chunk; pack, offset, shape and run header hold for all.
    pub(crate) place: ChunkPlace,
    /// The chunks.
    pub(crate) chunks: Vec<WantedChunk>,
}

impl WantedFrame {
    /// One past its last byte in the pack.
    pub(crate) fn end(&self) -> u64 {
        self.place
            .frame_offset
            .saturating_add(self.place.shape.sealed_bytes.into())
    }
}

/// Frames of one pack that are read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameRange {
    /// The frames, in the pack's order.
    pub(crate) frames: Vec<WantedFrame>,
    /// The first byte to read.
    pub(crate) offset: u64,
    /// How many.
    pub(crate) bytes: u64,
}

/// Groups chunks by frame, in pack order. A place that disagrees with another of the same frame makes a frame
/// of its own, which then fails alone.
pub(crate) fn group_by_frame(places: &[(ChunkId, ChunkPlace)]) -> Vec<WantedFrame> {
    let mut sorted: Vec<&(ChunkId, ChunkPlace)> = places.iter().collect();
    sorted.sort_by_key(|(_, place)| (place.pack, place.frame_offset, place.offset_in_frame));
    let mut frames: Vec<WantedFrame> = Vec::new();
    for (id, place) in sorted {
        let chunk = WantedChunk {
            id: *id,
            offset: place.offset_in_frame,
            bytes: place.bytes,
        };
        match frames.last_mut() {
            Some(frame) if same_frame(&frame.place, place) => frame.chunks.push(chunk),
            _ => frames.push(WantedFrame {
                place: *place,
                chunks: vec![chunk],
            }),
        }
    }
    frames
}

fn same_frame(a: &ChunkPlace, b: &ChunkPlace) -> bool {
    let key = |place: &ChunkPlace| -> (PackId, u64, u16) {
        (place.pack, place.frame_offset, place.run_header)
    };
    key(a) == key(b) && a.shape == b.shape && a.purpose == b.purpose
}

/// Gathers frames, given in pack order, into ranges.
pub(crate) fn coalesce(frames: Vec<WantedFrame>) -> Vec<FrameRange> {
    let mut ranges: Vec<FrameRange> = Vec::new();
    for frame in frames {
        let end = frame.end();
        match ranges.last_mut() {
            Some(range) if extends(range, &frame, end) => {
                range.bytes = range.bytes.max(end - range.offset);
                range.frames.push(frame);
            }
            _ => ranges.push(FrameRange {
                offset: frame.place.frame_offset,
                bytes: frame.place.shape.sealed_bytes.into(),
                frames: vec![frame],
            }),
        }
    }
    ranges
}

fn extends(range: &FrameRange, frame: &WantedFrame, end: u64) -> bool {
    let same_pack = range.frames.last().is_some_and(|last| {
        last.place.pack == frame.place.pack && last.place.purpose == frame.place.purpose
    });
    let range_end = range.offset.saturating_add(range.bytes);
    same_pack
        && frame.place.frame_offset.saturating_sub(range_end) <= GAP_BYTES_MAX
        && end >= range.offset
        && end - range.offset <= RANGE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::{coalesce, group_by_frame};
    use crate::snapshot::place::ChunkPlace;
    use formats::chunk::ChunkKind;
    use formats::ids::{ChunkId, PackId};
    use formats::seal::frame::{Compression, FrameShape};
    use formats::seal::run_header::Purpose;

    fn at(pack: u8, frame_offset: u64, offset_in_frame: u32) -> (ChunkId, ChunkPlace) {
        let place = ChunkPlace {
            pack: PackId([pack; 32]),
            pack_bytes: 4 << 20,
            purpose: Purpose::Data,
            frame_offset,
            shape: FrameShape {
                kind: ChunkKind::Data,
                compression: Compression::None,
                plain_bytes: 1 << 20,
                sealed_bytes: (1 << 20) + 40,
            },
            run_header: 0,
            offset_in_frame,
            bytes: 10,
        };
        (ChunkId([offset_in_frame as u8; 32]), place)
    }

    #[test]
    fn near_frames_of_a_pack_are_one_range_and_far_ones_are_not() {
        let mib = 1u64 << 20;
        let places = [
            at(2, 0, 0),
            at(1, 40 * mib, 0),
            at(1, mib + 100, 7),
            at(1, 0, 5),
            at(1, 0, 3),
        ];
        let ranges = coalesce(group_by_frame(&places));
        let shape: Vec<_> = ranges
            .iter()
            .map(|range| (range.offset, range.bytes, range.frames.len()))
            .collect();
        assert_eq!(
            shape,
            [
                (0, 2 * mib + 140, 2),
                (40 * mib, mib + 40, 1),
                (0, mib + 40, 1)
            ]
        );
        assert_eq!(ranges[0].frames[0].chunks.len(), 2);
    }

    #[test]
    fn a_range_stops_growing() {
        let places: Vec<_> = (0..32).map(|n| at(1, n * ((1 << 20) + 40), 0)).collect();
        let ranges = coalesce(group_by_frame(&places));
        assert!(ranges.iter().all(|range| range.bytes <= 4 << 20));
        assert_eq!(
            ranges.iter().map(|range| range.frames.len()).sum::<usize>(),
            32
        );
    }

    #[test]
    fn offsets_near_the_end_of_numbers_do_not_overflow() {
        let places = [at(1, u64::MAX - 5, 0), at(1, u64::MAX, 0), at(1, 0, 0)];
        let ranges = coalesce(group_by_frame(&places));
        let frames: usize = ranges.iter().map(|range| range.frames.len()).sum();
        assert_eq!(frames, 3);
    }
}
