//! What could not be kept as it should. Snapshots keep these too, in the same bytes.

use crate::codec::{DecodeError, Put, Reader};
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, TEXT_BYTES_MAX};

/// What kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProblemKind {
    /// A source path of the configuration does not exist.
    SourceMissing,
    /// A directory or file could not be read.
    Unreadable,
    /// It vanished between the walk and the read.
    Vanished,
    /// It changed while it was read, twice.
    Changed,
    /// Its name or path is beyond a limit: left out.
    BeyondLimit,
    /// Anything else; the text says what.
    Other,
}

impl ProblemKind {
    const ALL: [Self; 6] = [
        Self::SourceMissing,
        Self::Unreadable,
        Self::Vanished,
        Self::Changed,
        Self::BeyondLimit,
        Self::Other,
    ];

    fn tag(self) -> u8 {
        match self {
            Self::SourceMissing => 1,
            Self::Unreadable => 2,
            Self::Vanished => 3,
            Self::Changed => 4,
            Self::BeyondLimit => 5,
            Self::Other => 6,
        }
    }
}

/// One thing that could not be kept as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// The path, without a slash in front.
    pub path: Vec<u8>,
    /// The kernel's error number, or 0.
    pub errno: u32,
    /// What was attempted.
    pub text: String,
}

impl Problem {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.kind.tag());
        out.put_prefixed(&self.path);
        out.put_u32(self.errno);
        out.put_prefixed(self.text.as_bytes());
    }

    /// Reads it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8("problem")?;
        let kind = ProblemKind::ALL
            .into_iter()
            .find(|kind| kind.tag() == tag)
            .ok_or(DecodeError::UnknownTag {
                what: "problem",
                tag: tag.into(),
            })?;
        Ok(Self {
            kind,
            path: reader
                .prefixed("problem path", PATH_BYTES_MAX + NAME_BYTES_MAX + 1)?
                .to_vec(),
            errno: reader.u32("errno")?,
            text: reader.text("problem text", TEXT_BYTES_MAX)?,
        })
    }
}
