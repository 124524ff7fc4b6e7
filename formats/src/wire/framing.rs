//! The control conversation's framing: a 32-bit little-endian length, then that many bytes, the first of
//! which is the message's tag. The length is checked before anything is read for it.

use crate::limits::CONTROL_FRAME_BYTES_MAX;

/// Version of the control conversation. Agent and coordinator must have the same.
pub const PROTOCOL_VERSION: u16 = 6;
/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// A frame's length that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a control frame of {found} bytes; allowed are 1 to {CONTROL_FRAME_BYTES_MAX}")]
pub struct FrameLengthError {
    /// The length found.
    pub found: u64,
}

/// Checks a frame's length.
pub fn frame_length(bytes: [u8; LENGTH_BYTES]) -> Result<usize, FrameLengthError> {
    match u32::from_le_bytes(bytes) {
        found if (1..=CONTROL_FRAME_BYTES_MAX).contains(&found) => Ok(found as usize),
        found => Err(FrameLengthError {
            found: found.into(),
        }),
    }
}

/// Puts a message's length in front of it.
pub fn frame(message: &[u8]) -> Result<Vec<u8>, FrameLengthError> {
    let fail = FrameLengthError {
        found: message.len() as u64,
    };
    let length = u32::try_from(message.len())
        .ok()
        .filter(|length| (1..=CONTROL_FRAME_BYTES_MAX).contains(length))
        .ok_or(fail)?;
    let mut out = Vec::with_capacity(LENGTH_BYTES + message.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(message);
    Ok(out)
}
