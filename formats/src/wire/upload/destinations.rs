//! How the destinations are doing: what each lacks, what keeps its names, whether a repository is kept there.

use crate::codec::{DecodeError, Put, Reader};

/// The most destinations.
pub const DESTINATIONS_MAX: u64 = 64;

/// The longest text about one.
pub(super) const DESTINATION_TEXT_BYTES_MAX: u64 = 2_048;

/// Every destination, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationStates(pub Vec<DestinationState>);

impl DestinationStates {
    /// Its bytes. Texts are cut to what a reader takes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let states = self
            .0
            .iter()
            .take(usize::try_from(DESTINATIONS_MAX).unwrap_or(usize::MAX));
        out.put_varint(states.len() as u64);
        for state in states {
            put_text(&mut out, &state.name);
            out.put_flag(state.required);
            out.put_varint(state.objects_behind);
            out.put_varint(state.bytes_behind);
            out.put_flag(state.oldest_unix_secs.is_some());
            if let Some(secs) = state.oldest_unix_secs {
                out.put_varint(secs);
            }
            out.put_flag(state.problem.is_some());
            if let Some(problem) = &state.problem {
                put_text(&mut out, problem);
            }
            state.conditional_writes.put(&mut out);
            out.put_u8(state.placed.tag());
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count("destinations", DESTINATIONS_MAX, 8)?;
        let mut states = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.text("destination", DESTINATION_TEXT_BYTES_MAX)?;
            let required = reader.flag("required")?;
            let objects_behind = reader.varint("objects behind")?;
            let bytes_behind = reader.varint("bytes behind")?;
            let oldest_unix_secs = match reader.flag("oldest")? {
                true => Some(reader.varint("oldest")?),
                false => None,
            };
            let problem = match reader.flag("problem")? {
                true => Some(reader.text("problem", DESTINATION_TEXT_BYTES_MAX)?),
                false => None,
            };
            states.push(DestinationState {
                name,
                required,
                objects_behind,
                bytes_behind,
                oldest_unix_secs,
                problem,
                conditional_writes: ConditionalWrites::read(&mut reader)?,
                placed: Placed::read(&mut reader)?,
            });
        }
        reader.finish("destinations")?;
        Ok(Self(states))
    }
}

/// How one destination is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationState {
    /// Its name in the configuration.
    pub name: String,
    /// Whether nothing is acknowledged without it.
    pub required: bool,
    /// Objects that it does not have yet.
    pub objects_behind: u64,
    /// Their bytes.
    pub bytes_behind: u64,
    /// Since when the oldest of them waits, in seconds since 1970.
    pub oldest_unix_secs: Option<u64>,
    /// Why it does not take anything at present.
    pub problem: Option<String>,
    /// What keeps its names from being given twice.
    pub conditional_writes: ConditionalWrites,
    /// Whether the repository that was asked about is kept there; of none, whether each is that is to be.
    pub placed: Placed,
}

/// Whether a destination has a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It has it, or will without anybody's doing.
    Kept,
    /// It is not kept there.
    LeftOut,
    /// It is to be kept there, and was not for a time: it lacks what nobody brings before it is filled.
    Unfilled,
}

impl Placed {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Kept, Self::LeftOut, Self::Unfilled];

    fn tag(self) -> u8 {
        match self {
            Self::Kept => 0,
            Self::LeftOut => 1,
            Self::Unfilled => 2,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8("placed")?;
        let mut all = Self::ALL.into_iter();
        all.find(|placed| placed.tag() == tag)
            .ok_or(DecodeError::UnknownTag {
                what: "placed",
                tag: tag.into(),
            })
    }
}

/// What a destination does with conditional writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// This kind of destination creates names in a way of its own.
    NoneNeeded,
    /// Nothing was put there yet.
    NotTried,
    /// The configuration goes without them.
    Off,
    /// Real puts showed it.
    Tried {
        /// What they showed.
        found: TriedWrites,
        /// When, in seconds since 1970.
        at_unix_secs: u64,
    },
}

impl ConditionalWrites {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::NoneNeeded => out.put_u8(0),
            Self::NotTried => out.put_u8(1),
            Self::Off => out.put_u8(2),
            Self::Tried {
                found,
                at_unix_secs,
            } => {
                out.put_u8(found.tag());
                out.put_varint(at_unix_secs);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8("conditional writes")?;
        match tag {
            0 => return Ok(Self::NoneNeeded),
            1 => return Ok(Self::NotTried),
            2 => return Ok(Self::Off),
            _ => {}
        }
        let found = TriedWrites::ALL
            .into_iter()
            .find(|found| found.tag() == tag)
            .ok_or(DecodeError::UnknownTag {
                what: "conditional writes",
                tag: tag.into(),
            })?;
        Ok(Self::Tried {
            found,
            at_unix_secs: reader.varint("conditional writes")?,
        })
    }
}

/// What real puts showed of a service's conditional writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriedWrites {
    /// A second put of a name fails.
    Enforced,
    /// It succeeds, as if nothing had been asked.
    Ignored,
    /// The service does not take the header at all.
    Refused,
}

impl TriedWrites {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Enforced, Self::Ignored, Self::Refused];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }

    fn tag(self) -> u8 {
        match self {
            Self::Enforced => 3,
            Self::Ignored => 4,
            Self::Refused => 5,
        }
    }
}

/// A text about a destination, cut to what a reader takes, at a character's boundary.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes_max = usize::try_from(DESTINATION_TEXT_BYTES_MAX).unwrap_or(usize::MAX);
    let end = text.floor_char_boundary(bytes_max.min(text.len()));
    out.put_prefixed(text.get(..end).unwrap_or_default().as_bytes());
}
