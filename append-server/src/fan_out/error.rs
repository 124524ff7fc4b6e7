//! Why an object was not stored everywhere it must be, or could not be read.

use std::time::Duration;

use formats::ids::{PackId, RepositoryId};

use crate::destination::{DestinationError, DestinationName, ObjectKey};
use crate::fan_out::copies::CopiesAsked;
use crate::fan_out::queue::QueueError;
use crate::spool::SpoolError;

/// A fan-out did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FanOutError {
    /// No destination is required, so nothing could ever be acknowledged.
    #[error("no destination is required; configure at least one with `required = true`")]
    NothingRequired,
    /// More copies are asked for than there are destinations.
    #[error(
        "min_copies = {copies_min} asks for more copies than there are destinations ({destinations}); add one, or ask for fewer"
    )]
    TooManyCopies {
        /// What is asked for.
        copies_min: usize,
        /// How many there are.
        destinations: usize,
    },
    /// Other bytes have this name.
    #[error(
        "{key} is on destination {destination} with other bytes, which stay; look at both writers"
    )]
    Conflict {
        /// What.
        key: ObjectKey,
        /// Where.
        destination: DestinationName,
    },
    /// Some required destination does not have it.
    #[error("{key} is on {stored} of {required} required destinations")]
    TooFewReplicas {
        /// What.
        key: ObjectKey,
        /// One that does not have it.
        missing: DestinationName,
        /// How many have it.
        stored: usize,
        /// How many are needed.
        required: usize,
        /// The first failure.
        source: Box<DestinationError>,
    },
    /// An earlier object is not where it must be, and nothing may follow it before it is.
    #[error(
        "{key} was stored by halves when its writer was cut short, and nothing follows it before it is everywhere"
    )]
    StoredByHalves {
        /// What.
        key: ObjectKey,
        /// Why it is not everywhere yet.
        source: Box<FanOutError>,
    },
    /// Too few destinations have it in all.
    #[error("{key} is on {stored} destinations after {} seconds, and {asked}; behind are: {behind}", waited.as_secs())]
    TooFewCopies {
        /// What.
        key: ObjectKey,
        /// How many have it.
        stored: usize,
        /// How many are needed.
        asked: CopiesAsked,
        /// For how long they were waited for.
        waited: Duration,
        /// The others, and what is wrong with them.
        behind: Box<str>,
    },
    /// The reserve for the log would be used up.
    #[error(
        "destination {destination} has {free_bytes} bytes free and keeps {reserve_bytes} for the log; free space there"
    )]
    ReserveReached {
        /// Where.
        destination: DestinationName,
        /// What is free.
        free_bytes: u64,
        /// What is kept.
        reserve_bytes: u64,
    },
    /// What is asked for would use up the reserve.
    #[error(
        "destination {destination} has {free_bytes} bytes free, keeps {reserve_bytes} of them for the log, and lacks room for \
         {asked_bytes} more; free space there"
    )]
    NoRoom {
        /// Where.
        destination: DestinationName,
        /// What is free.
        free_bytes: u64,
        /// What is kept.
        reserve_bytes: u64,
        /// What room is asked for.
        asked_bytes: u64,
    },
    /// A read failed.
    #[error("no destination could answer")]
    Read(#[source] Box<DestinationError>),
    /// No such destination.
    #[error("there is no destination {name}")]
    NoSuchDestination {
        /// The name.
        name: DestinationName,
    },
    /// No destination has the object as it was stored.
    #[error("no other destination has a good copy of {key}")]
    NoGoodCopy {
        /// What.
        key: ObjectKey,
    },
    /// A name that is a digest, asked for with another one.
    #[error("{key} is named by its digest, and {digest} is another")]
    OtherDigest {
        /// What.
        key: ObjectKey,
        /// What was asked for.
        digest: PackId,
    },
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A destination that is to be filled is the only one.
    #[error("there is no other destination that {name} could be filled from")]
    OnlyDestination {
        /// The name.
        name: DestinationName,
    },
    /// A destination did not say what it has.
    #[error(
        "could not see whether every destination has what the others have of repository {repository}"
    )]
    NotSeen {
        /// Of what.
        repository: RepositoryId,
        /// Why.
        source: Box<DestinationError>,
    },
    /// A destination that copies are counted on was added later, or lost something.
    #[error(
        "destination {name} lacks {objects} log records, key bundles or configs of repository {repository}, and what they name: run `coordinator destination sync {name}`"
    )]
    Lacks {
        /// Which.
        name: DestinationName,
        /// How many of these it lacks.
        objects: usize,
        /// Of what.
        repository: RepositoryId,
    },
    /// A destination that is waited for is still being filled.
    #[error(
        "destination {name} still lacks {objects} objects of repository {repository}: run `coordinator destination sync {name}`, or wait until `coordinator destination ls` says that it has everything"
    )]
    RequiredIsBehind {
        /// Which.
        name: DestinationName,
        /// What it lacks.
        objects: u64,
        /// Of what.
        repository: RepositoryId,
    },
    /// More copies are asked for than there are destinations that a repository is kept at.
    #[error(
        "{asked} asks for more copies than there are destinations that the repository is kept at \
         ({destinations}): name more of them in `destinations`, or ask for fewer"
    )]
    KeptAtTooFew {
        /// What is asked for.
        asked: CopiesAsked,
        /// How many there are.
        destinations: usize,
    },
    /// A destination was left out of a repository for a time.
    #[error(
        "repository {repository} was not kept at destination {name} for a time: run `coordinator destination sync {name}`"
    )]
    Unfilled {
        /// Which.
        name: DestinationName,
        /// Of what.
        repository: RepositoryId,
    },
    /// A repository is not kept at a destination.
    #[error("repository {repository} is not kept at destination {name}")]
    LeftOut {
        /// Which.
        name: DestinationName,
        /// Of what.
        repository: RepositoryId,
    },
    /// The server ends.
    #[error("cut short")]
    Cut(#[source] tokio::task::JoinError),
    /// The queue of deliveries.
    #[error(transparent)]
    Queue(#[from] QueueError),
}
