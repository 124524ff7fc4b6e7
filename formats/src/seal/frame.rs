//! Frames: consecutive chunks compressed together and sealed once. A frame opens only to its exact declared
//! length, and only as the repository, epoch, run, kind, length and compression it was sealed for; never
//! bound to a pack or offset, so that prune can move it without a key.

use crate::chunk::ChunkKind;
use crate::codec::{DecodeError, Put};
use crate::keys::secret::{DataKey, RandomError};
use crate::limits::FRAME_PLAIN_MAX;
use crate::seal::aead::{self, OVERHEAD};
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

/// Seals frames of one run; keeps the compressor's state for reuse.
pub struct FrameSealer {
    context: RunContext,
    key: DataKey,
    compressor: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
}

impl std::fmt::Debug for FrameSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameSealer")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl FrameSealer {
    /// A sealer at a zstd level.
    pub fn new(context: RunContext, key: DataKey, level: i32) -> Result<Self, FrameError> {
        let compressor = zstd::bulk::Compressor::new(level)
            .map_err(|_| FrameError::Compress { plain_bytes: 0 })?;
        Ok(Self {
            context,
            key,
            compressor,
            compressed: Vec::new(),
        })
    }

    /// Appends the sealed frame of `plain` to `out`; what does not shrink by 1/32 is stored as it is.
    pub fn seal(
        &mut self,
        kind: ChunkKind,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<FrameShape, FrameError> {
        let plain_bytes = u32::try_from(plain.len())
            .ok()
            .filter(|bytes| *bytes <= FRAME_PLAIN_MAX)
            .ok_or(FrameError::TooLarge {
                plain_bytes: plain.len() as u64,
            })?;
        self.compressed
            .resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
        let compressed_bytes = self
            .compressor
            .compress_to_buffer(plain, self.compressed.as_mut_slice())
            .map_err(|_| FrameError::Compress {
                plain_bytes: plain_bytes.into(),
            })?;
        let worth = compressed_bytes + plain.len() / 32 < plain.len();
        let (compression, stored) = match self.compressed.get(..compressed_bytes) {
            Some(compressed) if worth => (Compression::Zstd, compressed),
            _ => (Compression::None, plain),
        };
        let associated = associated(&self.context, kind, compression, plain_bytes);
        aead::seal(self.key.expose(), &associated, stored, out)?;
        Ok(FrameShape {
            kind,
            compression,
            plain_bytes,
            sealed_bytes: u32::try_from(stored.len() + OVERHEAD).map_err(|_| {
                FrameError::TooLarge {
                    plain_bytes: plain_bytes.into(),
                }
            })?,
        })
    }
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
        out.clear();
        if shape.plain_bytes > FRAME_PLAIN_MAX {
            return Err(FrameError::TooLarge {
                plain_bytes: shape.plain_bytes.into(),
            });
        }
        if sealed.len() as u64 != u64::from(shape.sealed_bytes) {
            return Err(FrameError::Seal);
        }
        let associated = associated(
            &self.context,
            shape.kind,
            shape.compression,
            shape.plain_bytes,
        );
        let declared = FrameError::Length {
            declared: shape.plain_bytes,
        };
        let plain_bytes = shape.plain_bytes as usize;
        match shape.compression {
            Compression::None => {
                aead::open(self.key.expose(), &associated, sealed, out)
                    .map_err(|_| FrameError::Seal)?;
            }
            Compression::Zstd => {
                aead::open(self.key.expose(), &associated, sealed, &mut self.opened)
                    .map_err(|_| FrameError::Seal)?;
                // The exact room and no more: a frame that would grow past it is an error in zstd.
                out.resize(plain_bytes, 0);
                let written = self
                    .decompressor
                    .decompress_to_buffer(&self.opened, out.as_mut_slice())
                    .unwrap_or(usize::MAX);
                if written != plain_bytes {
                    out.clear();
                    return Err(declared);
                }
            }
        }
        if out.len() == plain_bytes {
            Ok(())
        } else {
            out.clear();
            Err(declared)
        }
    }
}
