//! Frames: consecutive chunks compressed together and sealed once. A frame opens only to its exact declared
//! length, and only as the repository, epoch, run, kind, length and compression it was sealed for; never
//! bound to a pack or offset, so that prune can move it without a key.

use std::io::Cursor;

use zstd::zstd_safe::{CParameter, Strategy};

use crate::chunk::ChunkKind;
use crate::codec::{DecodeError, Put};
use crate::keys::secret::{DataKey, RandomError};
use crate::limits::FRAME_PLAIN_MAX;
use crate::seal::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::seal::run_header::RunContext;

/// How a frame's plaintext is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As it is.
    None,
    /// One Zstandard frame (RFC 8878).
    Zstd,
}

impl Compression {
    /// Its tag in tables and associated data.
    pub fn tag(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd => 1,
        }
    }

    /// The compression of a tag.
    pub fn from_tag(tag: u8) -> Result<Self, DecodeError> {
        match tag {
            0 => Ok(Self::None),
            1 => Ok(Self::Zstd),
            tag => Err(DecodeError::UnknownTag {
                what: "compression",
                tag: tag.into(),
            }),
        }
    }
}

/// What a frame is sealed as; its pack's table says so, and the seal is bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameShape {
    /// What its chunks are.
    pub kind: ChunkKind,
    /// How its plaintext is stored.
    pub compression: Compression,
    /// Bytes of its plaintext.
    pub plain_bytes: u32,
    /// Bytes of the sealed frame.
    pub sealed_bytes: u32,
}

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It holds more than a frame may.
    #[error("a frame of {plain_bytes} bytes is above the limit of {FRAME_PLAIN_MAX}")]
    TooLarge {
        /// The bytes declared or given.
        plain_bytes: u64,
    },
    /// The seal does not open.
    #[error("the frame's seal does not open: another key or purpose, or altered bytes")]
    Seal,
    /// It does not decompress to exactly its declared length.
    #[error("the frame does not hold the {declared} bytes it declares")]
    Length {
        /// The declared length.
        declared: u32,
    },
    /// The compressor failed.
    #[error("zstd could not compress {plain_bytes} bytes")]
    Compress {
        /// The length given.
        plain_bytes: u64,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

fn associated(
    context: &RunContext,
    kind: ChunkKind,
    compression: Compression,
    plain: u32,
) -> Vec<u8> {
    let mut out = b"capstan 2026-11 frame".to_vec();
    context.put(&mut out);
    out.put_u8(kind.tag());
    out.put_u8(compression.tag());
    out.put_u32(plain);
    out
}

/// The zstd level that is quickest: parameters of our own, found by measuring. A table of 512 KiB stays in the
/// processor's cache, and seven bytes that must agree make few, long matches: 20 to 30 % faster than zstd's level 3
/// with frames of half the size, at the same ratio on text, source code and programs.
pub const LEVEL_QUICK: i32 = 1;

fn compressor(level: i32) -> Result<zstd::bulk::Compressor<'static>, FrameError> {
    let failed = |_| FrameError::Compress { plain_bytes: 0 };
    let mut compressor = zstd::bulk::Compressor::new(level).map_err(failed)?;
    if level == LEVEL_QUICK {
        for parameter in [
            CParameter::Strategy(Strategy::ZSTD_fast),
            CParameter::WindowLog(22),
            CParameter::HashLog(17),
            CParameter::MinMatch(7),
        ] {
            compressor.set_parameter(parameter).map_err(failed)?;
        }
    }
    Ok(compressor)
}

/// Seals frames of one run; keeps the compressor's state for reuse.
pub struct FrameSealer {
    context: RunContext,
    key: DataKey,
    level: i32,
    compressor: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for FrameSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameSealer")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl FrameSealer {
    /// A sealer at a zstd level, or at [`LEVEL_QUICK`].
    pub fn new(context: RunContext, key: DataKey, level: i32) -> Result<Self, FrameError> {
        Ok(Self {
            context,
            key,
            level,
            compressor: compressor(level)?,
        })
    }

    /// Compresses at another level from now on.
    pub fn set_level(&mut self, level: i32) -> Result<(), FrameError> {
        if level != self.level {
            self.compressor = compressor(level)?;
            self.level = level;
        }
        Ok(())
    }

    /// Appends the sealed frame of `plain` to `out`; what does not shrink by 1/32 is stored as it is.
    pub fn seal(
        &mut self,
        kind: ChunkKind,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<FrameShape, FrameError> {
        let failed = FrameError::Compress {
            plain_bytes: plain.len() as u64,
        };
        let plain_bytes = u32::try_from(plain.len())
            .ok()
            .filter(|bytes| *bytes <= FRAME_PLAIN_MAX)
            .ok_or(FrameError::TooLarge {
                plain_bytes: plain.len() as u64,
            })?;
        let start = out.len();
        let body = start + NONCE_BYTES;
        out.reserve(frame_sealing_bytes(plain.len()));
        out.resize(body, 0);
        // Compressed to where it is sealed: behind the room for the nonce.
        let mut behind = Cursor::new(&mut *out);
        behind.set_position(body as u64);
        let compressed_bytes = self
            .compressor
            .compress_to_buffer(plain, &mut behind)
            .map_err(|_| failed)?;
        let worth = compressed_bytes + plain.len() / 32 < plain.len();
        let compression = if worth {
            out.truncate(body + compressed_bytes);
            Compression::Zstd
        } else {
            out.truncate(body);
            out.extend_from_slice(plain);
            Compression::None
        };
        let associated = associated(&self.context, kind, compression, plain_bytes);
        aead::seal_in_place(self.key.expose(), &associated, start, out)?;
        Ok(FrameShape {
            kind,
            compression,
            plain_bytes,
            sealed_bytes: u32::try_from(out.len() - start).map_err(|_| FrameError::TooLarge {
                plain_bytes: plain_bytes.into(),
            })?,
        })
    }
}

/// The most bytes that sealing so much plaintext takes in its buffer: what zstd makes of it at worst, nonce and tag.
pub fn frame_sealing_bytes(plain_bytes: usize) -> usize {
    NONCE_BYTES + zstd::zstd_safe::compress_bound(plain_bytes) + TAG_BYTES
}

/// Opens frames of one run; keeps the decompressor's state for reuse.
pub struct FrameOpener {
    context: RunContext,
    key: DataKey,
    decompressor: zstd::bulk::Decompressor<'static>,
    opened: Vec<u8>,
}

impl std::fmt::Debug for FrameOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameOpener")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl FrameOpener {
    /// An opener.
    pub fn new(context: RunContext, key: DataKey) -> Result<Self, FrameError> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|_| FrameError::Length { declared: 0 })?;
        Ok(Self {
            context,
            key,
            decompressor,
            opened: Vec::new(),
        })
    }

    /// Replaces `out` by the frame's plaintext, exactly `shape.plain_bytes` of it.
    pub fn open(
        &mut self,
        shape: &FrameShape,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let opened = self.try_open(shape, sealed, out);
        if opened.is_err() {
            out.clear();
        }
        opened
    }

    fn try_open(
        &mut self,
        shape: &FrameShape,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        check_lengths(shape, sealed)?;
        let associated = self.associated(shape);
        let key = self.key.expose();
        match shape.compression {
            Compression::None => {
                aead::open(key, &associated, sealed, out).map_err(|_| FrameError::Seal)?;
            }
            Compression::Zstd => {
                aead::open(key, &associated, sealed, &mut self.opened)
                    .map_err(|_| FrameError::Seal)?;
                out.resize(shape.plain_bytes as usize, 0);
                decompress(&mut self.decompressor, &self.opened, out)?;
            }
        }
        if out.len() == shape.plain_bytes as usize {
            return Ok(());
        }
        Err(wrong_length(shape.plain_bytes))
    }

    /// The frame's plaintext, exactly `shape.plain_bytes` of it. `sealed` is used up; the plaintext lies there, or
    /// in a buffer of the opener's.
    pub fn open_in_place<'a>(
        &'a mut self,
        shape: &FrameShape,
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], FrameError> {
        check_lengths(shape, sealed)?;
        let associated = self.associated(shape);
        let wrong = || wrong_length(shape.plain_bytes);
        let plain_bytes = shape.plain_bytes as usize;
        let opened = aead::open_in_place(self.key.expose(), &associated, sealed)
            .map_err(|_| FrameError::Seal)?;
        match shape.compression {
            Compression::None if opened.len() == plain_bytes => Ok(opened),
            Compression::None => Err(wrong()),
            Compression::Zstd => {
                if self.opened.len() < plain_bytes {
                    self.opened.resize(plain_bytes, 0);
                }
                let room = self.opened.get_mut(..plain_bytes).ok_or_else(wrong)?;
                decompress(&mut self.decompressor, opened, room)?;
                Ok(room)
            }
        }
    }

    fn associated(&self, shape: &FrameShape) -> Vec<u8> {
        associated(
            &self.context,
            shape.kind,
            shape.compression,
            shape.plain_bytes,
        )
    }
}

/// Fills the exact room and no more: a frame that would grow past it is an error in zstd.
fn decompress(
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    compressed: &[u8],
    room: &mut [u8],
) -> Result<(), FrameError> {
    match decompressor.decompress_to_buffer(compressed, &mut *room) {
        Ok(written) if written == room.len() => Ok(()),
        _ => Err(wrong_length(u32::try_from(room.len()).unwrap_or(u32::MAX))),
    }
}

fn wrong_length(declared: u32) -> FrameError {
    FrameError::Length { declared }
}

fn check_lengths(shape: &FrameShape, sealed: &[u8]) -> Result<(), FrameError> {
    if shape.plain_bytes > FRAME_PLAIN_MAX {
        return Err(FrameError::TooLarge {
            plain_bytes: shape.plain_bytes.into(),
        });
    }
    if sealed.len() as u64 != u64::from(shape.sealed_bytes) {
        return Err(FrameError::Seal);
    }
    Ok(())
}
