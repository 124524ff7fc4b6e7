//! What was done at one destination: objects it lacked are queued, one is healed, a lock is prolonged.

use crate::codec::{DecodeError, Put, Reader};
use crate::wire::upload::destinations::{DESTINATION_TEXT_BYTES_MAX, put_text};

/// What a destination lacked and is to get now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queued {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Queued {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.objects);
        out.put_u64(self.bytes);
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let queued = Self {
            objects: reader.u64("objects")?,
            bytes: reader.u64("bytes")?,
        };
        reader.finish("queued")?;
        Ok(queued)
    }
}

/// What became of an object of one destination that was to be healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealedObject {
    /// Nothing was wrong with it.
    Good,
    /// It is on its way there.
    Pending,
    /// It was missing, and was copied.
    Stored {
        /// From which destination.
        from: String,
    },
    /// It was damaged, and was replaced.
    Replaced {
        /// From which destination.
        from: String,
        /// Where the damaged bytes are kept.
        kept: String,
    },
}

impl HealedObject {
    /// Its bytes. Texts are cut to what a reader takes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Good => out.put_u8(0),
            Self::Pending => out.put_u8(1),
            Self::Stored { from } => {
                out.put_u8(2);
                put_text(&mut out, from);
            }
            Self::Replaced { from, kept } => {
                out.put_u8(3);
                put_text(&mut out, from);
                put_text(&mut out, kept);
            }
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let healed = match reader.u8("healed")? {
            0 => Self::Good,
            1 => Self::Pending,
            2 => Self::Stored {
                from: reader.text("from", DESTINATION_TEXT_BYTES_MAX)?,
            },
            3 => Self::Replaced {
                from: reader.text("from", DESTINATION_TEXT_BYTES_MAX)?,
                kept: reader.text("kept", DESTINATION_TEXT_BYTES_MAX)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "healed",
                    tag: tag.into(),
                });
            }
        };
        reader.finish("healed object")?;
        Ok(healed)
    }
}

/// How long an object of one destination is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedObject {
    /// Until when nobody may remove it, in seconds since 1970.
    pub until_unix_secs: u64,
    /// What was done about that, or why nothing was.
    pub outcome: LockOutcome,
    /// Whether it is held besides, until a person lifts that.
    pub is_held: bool,
}

impl LockedObject {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.until_unix_secs);
        out.put_u8(self.outcome.tag());
        out.put_flag(self.is_held);
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let locked = Self {
            until_unix_secs: reader.u64("until")?,
            outcome: LockOutcome::read(&mut reader)?,
            is_held: reader.flag("held")?,
        };
        reader.finish("locked object")?;
        Ok(locked)
    }
}

/// What was done about a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOutcome {
    /// Nothing: enough of it is left.
    Enough,
    /// It was prolonged.
    Renewed,
    /// It reaches as far as the configuration allows, which is less than it would be prolonged to.
    AtLimit,
    /// Nothing: it is longer than this configuration makes any.
    Longer,
}

impl LockOutcome {
    /// Every one, in the order of their tags.
    pub const ALL: [Self; 4] = [Self::Enough, Self::Renewed, Self::AtLimit, Self::Longer];

    fn tag(self) -> u8 {
        match self {
            Self::Enough => 0,
            Self::Renewed => 1,
            Self::AtLimit => 2,
            Self::Longer => 3,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8("lock")?;
        let known = Self::ALL.into_iter().find(|outcome| outcome.tag() == tag);
        known.ok_or(DecodeError::UnknownTag {
            what: "lock",
            tag: tag.into(),
        })
    }
}
