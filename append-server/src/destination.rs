//! A destination: one configured place for objects. Every kind answers alike, and tells absent, full, passing
//! and lasting failures apart where it knows, so that no caller has to guess. Never overwrites, and never
//! answers "absent" for what it does not know.

pub mod bandwidth;
pub mod beneath;
pub mod contract;
pub mod faults;
pub mod late;
mod list_page;
pub mod local;
pub mod local_list;
pub mod local_put;
pub mod local_role_trial;
pub mod local_root;
pub mod memory;
pub mod s3;
pub mod sftp;
pub mod throttle;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::destinations::ConditionalWrites;
use formats::wire::upload::repairs::LockOutcome;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::examination::Finding;
use crate::fan_out::probes::Probes;
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::spool::SpooledObject;
use crate::ssh::escape::escape_for_log;

/// One place for objects. Futures may be dropped at any time: what they had begun ends by itself.
pub trait Destination: Send + Sync + fmt::Debug {
    /// Its name in the configuration.
    fn name(&self) -> &DestinationName;

    /// Stores an object unless one of that name is there. `Created` and `ExistsSame` mean durable. The
    /// create-only part is the storage's own primitive, never a check and then a write.
    fn put_if_absent(
        &self,
        key: ObjectKey,
        source: SpooledObject,
    ) -> BoxFuture<'_, Result<PutOutcome, DestinationError>>;

    /// Reads a part of an object. A range that begins past the end is [`DestinationError::PastEnd`].
    fn get_range(
        &self,
        key: ObjectKey,
        range: ByteRange,
    ) -> BoxFuture<'_, Result<ObjectRead, DestinationError>>;

    /// An object's bytes.
    fn head(&self, key: ObjectKey) -> BoxFuture<'_, Result<u64, DestinationError>>;

    /// Objects of one folder after a name, in byte order of names. What is not an object's name is left out.
    fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ObjectList, DestinationError>>;

    /// Removes an object.
    fn delete<'a>(
        &'a self,
        key: ObjectKey,
        grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>>;

    /// Forbids removing an object before this many seconds since 1970; refuses to where that is past the configured limit.
    fn extend_lock<'a>(
        &'a self,
        key: ObjectKey,
        until_unix_secs: u64,
        grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>>;

    /// Prolongs an object's lock to the configured time from `now_unix_secs` when less than half of that time is left, and
    /// never past the configured limit.
    fn renew_lock<'a>(
        &'a self,
        _key: ObjectKey,
        _now_unix_secs: u64,
        _grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<LockState, DestinationError>> {
        Box::pin(async {
            Err(DestinationError::Unsupported {
                destination: self.name().clone(),
                action: "lock objects",
            })
        })
    }

    /// Puts good bytes in the place of damaged ones, which are kept elsewhere; says where. The caller has made sure that
    /// those are damaged and these are good.
    fn replace_damaged<'a>(
        &'a self,
        key: ObjectKey,
        good: SpooledObject,
        grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<String, DestinationError>>;

    /// Ends uploads in parts that nobody completed and that were begun longer than so many seconds ago; says how many.
    fn abort_uploads<'a>(
        &'a self,
        _older_than_secs: u64,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<u64, DestinationError>> {
        Box::pin(async { Ok(0) })
    }

    /// The repositories that have something here, in no order.
    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepositoryId>, DestinationError>>;

    /// What there is to say about this kind of destination in particular, tried out with an object of the caller's own.
    fn findings(&self, _key: ObjectKey) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }

    /// Where to keep what is found out of conditional writes; for services that have such.
    fn keep_probes(&self, _probes: &Probes) {}

    /// What is known of its conditional writes, in this process or from an earlier one. Asks nobody.
    fn known_conditional_writes(&self) -> ConditionalWrites {
        ConditionalWrites::NoneNeeded
    }

    /// Bytes that can still be stored, where that is known.
    fn free_bytes(&self) -> BoxFuture<'_, Result<Option<u64>, DestinationError>>;
}

/// A destination's name in the configuration: 1 to 64 of `a-z 0-9 . _ -`, not beginning with a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationName(Arc<str>);

/// Text that cannot name a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a destination's name: use 1 to 64 of a-z 0-9 . _ -, not a dot first")]
pub struct ParseDestinationNameError {
    text: String,
}

impl FromStr for DestinationName {
    type Err = ParseDestinationNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let good =
            (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed);
        if good {
            Ok(Self(text.into()))
        } else {
            Err(ParseDestinationNameError {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object's full name on every destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// Whose object it is.
    pub repository: RepositoryId,
    /// Its name in the repository.
    pub name: ObjectName,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.repository, self.name)
    }
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It was not there, and is now, durably.
    Created,
    /// Exactly these bytes were there, and are durable.
    ExistsSame,
    /// Other bytes are there under this name. They stay.
    ExistsDifferent,
}

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Its first byte.
    pub start: u64,
    /// How many bytes; all that follow when not given. Cut at the object's end.
    pub bytes: Option<u64>,
}

impl ByteRange {
    /// The whole object.
    pub const ALL: Self = Self {
        start: 0,
        bytes: None,
    };

    /// The bytes this range has in an object of `total`; nothing when it begins past the end.
    pub fn bytes_in(self, total: u64) -> Option<u64> {
        let rest = total.checked_sub(self.start)?;
        if rest == 0 && self.start > 0 {
            return None;
        }
        Some(self.bytes.unwrap_or(rest).min(rest))
    }
}

/// An object's bytes on their way.
pub struct ObjectRead {
    /// The whole object's bytes.
    pub total: u64,
    /// The bytes that `body` brings.
    pub bytes: u64,
    /// The bytes themselves. It ends with an error when it cannot bring all of them.
    pub body: BoxStream<'static, Result<Bytes, DestinationError>>,
}

/// How long an object is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockState {
    /// Until when nobody may remove it.
    pub until_unix_secs: u64,
    /// What was done about that, or why nothing was.
    pub outcome: LockOutcome,
    /// Whether it is held besides, until a person lifts that.
    pub is_held: bool,
}

/// The folder of a repository where damaged objects are kept that good ones took the place of; no kind of object has it.
pub(crate) const DAMAGED_FOLDER: &str = "damaged";

/// What a damaged object is called where it is kept: its name without slashes, and a number that no other has.
pub(crate) fn damaged_name(key: &ObjectKey) -> Result<String, formats::keys::secret::RandomError> {
    let random: [u8; 8] = formats::keys::secret::random()?;
    let flat = key.name.to_string().replace('/', "-");
    Ok(format!("{flat}.{}", formats::ids::to_hex(&random)))
}

/// A page of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectList {
    /// Names and sizes, in byte order of names.
    pub objects: Vec<(ObjectName, u64)>,
    /// Whether more follow.
    pub more: bool,
}

/// What a backend's own library said.
pub type BackendError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The most characters of a backend's own words that are repeated.
const PEER_WORDS_MAX: usize = 200;

/// What a backend far away wrote, fit for a log.
pub(crate) fn peer_words(text: &str) -> String {
    let words: String = text.chars().take(PEER_WORDS_MAX).collect();
    escape_for_log(words.as_bytes())
}

/// A destination did not do what was asked. The variant is the backend's judgement; nobody else guesses.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// It certainly has no such object.
    #[error("{key} is not on destination {destination}")]
    Absent {
        /// Where.
        destination: DestinationName,
        /// What.
        key: ObjectKey,
    },
    /// A range that begins past the end.
    #[error("{key} on destination {destination} has {total} bytes and the range begins past them")]
    PastEnd {
        /// Where.
        destination: DestinationName,
        /// What.
        key: ObjectKey,
        /// The object's bytes.
        total: u64,
    },
    /// It is full.
    #[error(
        "destination {destination} is full: could not {action} {subject}; free space there or raise its quota"
    )]
    NoSpace {
        /// Where.
        destination: DestinationName,
        /// What was attempted.
        action: &'static str,
        /// On what.
        subject: String,
        /// What the backend said.
        source: BackendError,
    },
    /// It may work when tried again.
    #[error("could not {action} {subject} on destination {destination}; it may pass by itself")]
    Retryable {
        /// Where.
        destination: DestinationName,
        /// What was attempted.
        action: &'static str,
        /// On what.
        subject: String,
        /// What the backend said.
        source: BackendError,
    },
    /// Somebody must act before it can work.
    #[error(
        "could not {action} {subject} on destination {destination}; look at its storage and permissions"
    )]
    Permanent {
        /// Where.
        destination: DestinationName,
        /// What was attempted.
        action: &'static str,
        /// On what.
        subject: String,
        /// What the backend said.
        source: BackendError,
    },
    /// A lock forbids it; nothing is wrong.
    #[error("{key} on destination {destination} is locked until {until}")]
    Locked {
        /// Where.
        destination: DestinationName,
        /// What.
        key: ObjectKey,
        /// Until when.
        until: String,
    },
    /// This kind of destination has no such thing.
    #[error("destination {destination} cannot {action}")]
    Unsupported {
        /// Where.
        destination: DestinationName,
        /// What was asked.
        action: &'static str,
    },
}

/// How long a failure lasts, in a backend's judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Until somebody makes room.
    Full,
    /// It may pass by itself.
    Passes,
    /// Until somebody acts.
    Lasts,
}

impl DestinationError {
    /// A backend's failure, by its own judgement of it.
    pub(crate) fn judged(
        outlook: Outlook,
        destination: DestinationName,
        action: &'static str,
        subject: String,
        source: BackendError,
    ) -> Self {
        match outlook {
            Outlook::Full => Self::NoSpace {
                destination,
                action,
                subject,
                source,
            },
            Outlook::Passes => Self::Retryable {
                destination,
                action,
                subject,
                source,
            },
            Outlook::Lasts => Self::Permanent {
                destination,
                action,
                subject,
                source,
            },
        }
    }

    /// Whether the object is certainly not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Whether it is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Retryable { .. })
    }
}
