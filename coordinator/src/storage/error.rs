//! Why storage did not do what was asked, with the object and the remedy.

use std::fmt;
use std::time::Duration;

use append_server::socket::SocketError;
use formats::codec::DecodeError;
use formats::ids::{RepositoryId, RunId};
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::refusal::{Refusal, RefusalKind};

/// What a request was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An object.
    Object(RepositoryId, ObjectName),
    /// A folder's list.
    Folder(RepositoryId, ObjectKind),
    /// A run's grant.
    Run(RunId),
    /// What of a repository is removed.
    Repository(RepositoryId),
    /// The destinations.
    Destinations,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(repository, name) => write!(f, "object {repository}/{name}"),
            Self::Folder(repository, kind) => {
                write!(f, "the list of {repository}/{}", kind.folder())
            }
            Self::Run(run) => write!(f, "run {run}"),
            Self::Repository(repository) => write!(f, "removals of repository {repository}"),
            Self::Destinations => f.write_str("the destinations"),
        }
    }
}

/// A request to storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The server cannot be reached.
    #[error("could not reach the append-server; is it running, and is this its user?")]
    Connect(#[from] SocketError),
    /// The connection broke. What was asked may or may not have been done.
    #[error("the connection to the append-server broke at {subject}; run again")]
    Http {
        /// What was asked for.
        subject: Subject,
        /// What broke.
        source: hyper::Error,
    },
    /// No answer came.
    #[error("the append-server did not answer for {subject} within {} seconds", deadline.as_secs())]
    Deadline {
        /// What was asked for.
        subject: Subject,
        /// How long was waited.
        deadline: Duration,
    },
    /// It is certainly not there.
    #[error("{subject} is not in storage")]
    Absent {
        /// What was asked for.
        subject: Subject,
    },
    /// Something else has its name.
    #[error("{subject} exists with other bytes, which stay: {text}")]
    Conflict {
        /// What was asked for.
        subject: Subject,
        /// What the server said.
        text: String,
    },
    /// A limit is used up.
    #[error("{subject} is over a limit: {text}")]
    Quota {
        /// What was asked for.
        subject: Subject,
        /// What the server said.
        text: String,
    },
    /// A disk is full.
    #[error("no space for {subject}: {text}")]
    NoSpace {
        /// What was asked for.
        subject: Subject,
        /// What the server said.
        text: String,
    },
    /// The server does not allow it.
    #[error("the append-server refused {subject}: {text}")]
    Refused {
        /// What was asked for.
        subject: Subject,
        /// Which kind of refusal.
        kind: RefusalKind,
        /// What the server said.
        text: String,
    },
    /// Storage failed; whether it was done is not known.
    #[error("storage failed at {subject}: {text}")]
    Failed {
        /// What was asked for.
        subject: Subject,
        /// What the server said.
        text: String,
    },
    /// More bytes came than the object can have.
    #[error("{subject} is larger than the {bytes_max} bytes it can have; check the destination")]
    TooLong {
        /// What was asked for.
        subject: Subject,
        /// Its limit.
        bytes_max: u64,
    },
    /// The answer has another length, order or digest than it must have.
    #[error("the append-server's answer for {subject} is wrong: {what}")]
    WrongAnswer {
        /// What was asked for.
        subject: Subject,
        /// What is wrong.
        what: &'static str,
    },
    /// The answer cannot be read.
    #[error("the append-server's answer for {subject} cannot be read; is it of the same version?")]
    Decode {
        /// What was asked for.
        subject: Subject,
        /// Why.
        source: DecodeError,
    },
}

impl StorageError {
    /// Whether the object is certainly not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    pub(super) fn from_refusal(subject: Subject, refusal: Refusal) -> Self {
        let Refusal { kind, text } = refusal;
        match kind {
            RefusalKind::Absent => Self::Absent { subject },
            RefusalKind::Conflict => Self::Conflict { subject, text },
            RefusalKind::Quota => Self::Quota { subject, text },
            RefusalKind::NoSpace => Self::NoSpace { subject, text },
            RefusalKind::Storage => Self::Failed { subject, text },
            RefusalKind::Malformed | RefusalKind::NotGranted => Self::Refused {
                subject,
                kind,
                text,
            },
        }
    }
}
