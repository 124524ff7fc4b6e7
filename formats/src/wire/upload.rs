//! The append-server's HTTP/1.1 interface: paths, headers and small bodies that both sides use. Bodies that
//! are not objects are the canonical codec's too, so nothing here can be read in two ways.

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{PackId, RepositoryId, RunId};
use crate::keys::secret::RunToken;
use crate::limits::{PACK_BYTES_MAX, TEXT_BYTES_MAX};

/// Ingest socket: `PUT` a data pack; the body is the pack, the answer a [`Stored`].
pub const PATH_PACKS: &str = "/v1/packs";
/// Control socket: `POST` a [`OpenRun`] opens a run's grant; `DELETE /v1/runs/<run>` ends it.
pub const PATH_RUNS: &str = "/v1/runs";
/// Control socket: `GET`, `HEAD`, `PUT` of `/v1/repositories/<repository>/<object name>`, and
/// `GET /v1/repositories/<repository>?kind=<folder>&after=<name>` for a listing. With `destination=<name>` they read from
/// that destination alone.
pub const PATH_REPOSITORIES: &str = "/v1/repositories";

/// Control socket: `GET` answers [`DestinationStates`]; `POST /v1/destinations/<name>/sync?repository=<repository>` queues
/// what that destination lacks and answers [`Queued`]; `GET …/pending?repository=<repository>&after=<name>` lists what it
/// is still to get; `POST …/heal?repository=<repository>&object=<name>&digest=<hexadecimal>` answers [`HealedObject`];
/// `POST …/lock?repository=<repository>&object=<name>` answers [`LockedObject`].
pub const PATH_DESTINATIONS: &str = "/v1/destinations";

/// Control socket, for prune: `POST /v1/removals/<repository>/condemn` and `…/spare` and `…/sweep` with an [`ObjectPage`] of
/// packs, `record=<sequence>&digest=<hexadecimal>` naming the log record that says so; the last answers a
/// [`RemovalReport`]. `GET /v1/removals/<repository>/room?bytes=<bytes>` says whether so much can be copied;
/// `PUT /v1/removals/<repository>/<object name>` stores a data pack of copied frames.
pub const PATH_REMOVALS: &str = "/v1/removals";

/// An acknowledged object: durable on every required destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// BLAKE3 of its bytes.
    pub digest: PackId,
    /// Its bytes.
    pub bytes: u64,
    /// Whether exactly these bytes were there before.
    pub existed: bool,
}

impl Stored {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(self.digest.as_bytes());
        out.put_u64(self.bytes);
        out.put_flag(self.existed);
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let stored = Self {
            digest: PackId::read(&mut reader)?,
            bytes: reader.u64("bytes")?,
            existed: reader.flag("existed")?,
        };
        reader.finish("stored")?;
        Ok(stored)
    }
}

/// Opens one run's right to append data packs.
#[derive(Debug, Clone)]
pub struct OpenRun {
    /// The repository it may append to.
    pub repository: RepositoryId,
    /// The run.
    pub run: RunId,
    /// What the agent proves knowledge of.
    pub token: RunToken,
    /// The most bytes of all its packs.
    pub bytes_max: u64,
    /// The most packs.
    pub packs_max: u64,
    /// Seconds until the grant ends by itself.
    pub seconds_max: u64,
}

impl OpenRun {
    /// Its bytes. They hold a secret: the caller wipes them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(self.repository.as_bytes());
        out.put(self.run.as_bytes());
        out.put(self.token.expose());
        out.put_u64(self.bytes_max);
        out.put_u64(self.packs_max);
        out.put_u64(self.seconds_max);
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let open = Self {
            repository: RepositoryId::read(&mut reader)?,
            run: RunId::read(&mut reader)?,
            token: RunToken::from_bytes(reader.array("run token")?),
            bytes_max: reader.u64("bytes")?,
            packs_max: reader.u64("packs")?,
            seconds_max: reader.u64("seconds")?,
        };
        reader.finish("open run")?;
        Ok(open)
    }
}

/// Why a request was refused: the body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// What was attempted, and the remedy.
    pub text: String,
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

/// A listing's page: names in byte order, each with its bytes; ask again after the last while `more`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectPage {
    /// Names (without the repository) and sizes.
    pub objects: Vec<(String, u64)>,
    /// Whether there are more.
    pub more: bool,
}

/// The most objects in a listing's page.
pub const OBJECT_PAGE_MAX: u64 = 1_000;
/// The longest object name.
pub const OBJECT_NAME_BYTES_MAX: u64 = 128;

impl ObjectPage {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_flag(self.more);
        out.put_varint(self.objects.len() as u64);
        for (name, bytes) in &self.objects {
            out.put_prefixed(name.as_bytes());
            out.put_varint(*bytes);
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let more = reader.flag("more")?;
        let count = reader.count("objects", OBJECT_PAGE_MAX, 2)?;
        let mut objects: Vec<(String, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.text("object name", OBJECT_NAME_BYTES_MAX)?;
            if objects.last().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::NotCanonical { what: "objects" });
            }
            objects.push((name, reader.varint("object bytes")?));
        }
        reader.finish("objects")?;
        Ok(Self { objects, more })
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

/// Every destination, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationStates(pub Vec<DestinationState>);

/// The most destinations.
pub const DESTINATIONS_MAX: u64 = 64;
/// The longest text about one.
const DESTINATION_TEXT_BYTES_MAX: u64 = 2_048;

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

fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes_max = usize::try_from(DESTINATION_TEXT_BYTES_MAX).unwrap_or(usize::MAX);
    let end = text.floor_char_boundary(bytes_max.min(text.len()));
    out.put_prefixed(text.get(..end).unwrap_or_default().as_bytes());
}

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

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemovalReport {
    /// Copies that were removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs whose time has not come.
    pub too_young: u64,
    /// Packs that are for another day.
    pub over_limit: u64,
    /// What is still to be removed, by destination.
    pub waiting: Vec<RemovalsWaiting>,
}

/// What is still to be removed at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalsWaiting {
    /// Its name.
    pub destination: String,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why one of them was not removed, if it was tried.
    pub problem: Option<String>,
}

impl RemovalReport {
    /// Its bytes. Texts are cut to what a reader takes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in [
            self.removed,
            self.removed_bytes,
            self.too_young,
            self.over_limit,
        ] {
            out.put_varint(field);
        }
        let limit = usize::try_from(DESTINATIONS_MAX).unwrap_or(usize::MAX);
        let waiting = self.waiting.iter().take(limit);
        out.put_varint(waiting.len() as u64);
        for one in waiting {
            put_text(&mut out, &one.destination);
            out.put_varint(one.objects);
            out.put_varint(one.bytes);
            out.put_flag(one.problem.is_some());
            if let Some(problem) = &one.problem {
                put_text(&mut out, problem);
            }
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut report = Self {
            removed: reader.varint("removed")?,
            removed_bytes: reader.varint("removed bytes")?,
            too_young: reader.varint("too young")?,
            over_limit: reader.varint("over limit")?,
            waiting: Vec::new(),
        };
        let count = reader.count("waiting", DESTINATIONS_MAX, 4)?;
        for _ in 0..count {
            report.waiting.push(RemovalsWaiting {
                destination: reader.text("destination", DESTINATION_TEXT_BYTES_MAX)?,
                objects: reader.varint("objects")?,
                bytes: reader.varint("bytes")?,
                problem: match reader.flag("problem")? {
                    true => Some(reader.text("problem", DESTINATION_TEXT_BYTES_MAX)?),
                    false => None,
                },
            });
        }
        reader.finish("removal report")?;
        Ok(report)
    }
}

/// Whether a pack of this size can be one.
pub fn pack_size_is_possible(bytes: u64) -> bool {
    (1..=PACK_BYTES_MAX).contains(&bytes)
}
