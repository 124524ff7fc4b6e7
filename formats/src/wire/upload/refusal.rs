//! Why a request was refused, and its HTTP status.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::TEXT_BYTES_MAX;

/// Why a request was refused: the body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// What was attempted, and the remedy.
    pub text: String,
}

impl Refusal {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(self.kind.status());
        let mut end = self.text.len().min(1_024);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        out.put_prefixed(self.text.as_bytes().get(..end).unwrap_or_default());
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let status = reader.u16("refusal")?;
        let kind = RefusalKind::ALL
            .into_iter()
            .find(|kind| kind.status() == status)
            .ok_or(DecodeError::UnknownTag {
                what: "refusal",
                tag: status.into(),
            })?;
        let text = reader.text("refusal", TEXT_BYTES_MAX)?;
        reader.finish("refusal")?;
        Ok(Self { kind, text })
    }
}

/// The kinds of refusals, each with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// 400: the request is not one of this interface.
    Malformed,
    /// 403: the grant does not allow it.
    NotGranted,
    /// 404: no such object.
    Absent,
    /// 409: an object of that name with other bytes is there.
    Conflict,
    /// 413: the grant's bytes or packs, or an object's size, are used up.
    Quota,
    /// 507: a disk is full.
    NoSpace,
    /// 500: storage failed; the outcome is not known.
    Storage,
}

impl RefusalKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Malformed,
        Self::NotGranted,
        Self::Absent,
        Self::Conflict,
        Self::Quota,
        Self::NoSpace,
        Self::Storage,
    ];

    /// Its HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NotGranted => 403,
            Self::Absent => 404,
            Self::Conflict => 409,
            Self::Quota => 413,
            Self::NoSpace => 507,
            Self::Storage => 500,
        }
    }
}
