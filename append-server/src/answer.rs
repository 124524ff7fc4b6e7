//! Answers, in the one form that both sides read: a success's bytes, or a refusal with its kind and text. The
//! only place where this server's errors become statuses.

use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use formats::wire::upload::Stored;
use formats::wire::upload::refusal::{Refusal, RefusalKind};
use http::header::{ALLOW, CONNECTION};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::destination::DestinationError;
use crate::fan_out::FanOutError;
use crate::grants::{GrantError, OpenRunError};
use crate::receive::ReceiveError;
use crate::spool::SpoolError;

/// An answer whose body is at hand.
pub type SmallAnswer = Response<Full<Bytes>>;

/// An empty success.
pub fn done(status: StatusCode) -> SmallAnswer {
    with_body(status, Bytes::new())
}

/// A success with bytes.
pub fn with_body(status: StatusCode, body: impl Into<Bytes>) -> SmallAnswer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

/// An object is stored: 201 when it was not there, 200 when it was.
pub fn stored(stored: Stored) -> SmallAnswer {
    let status = if stored.existed {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    with_body(status, stored.encode())
}

/// A refusal.
pub fn refused(kind: RefusalKind, text: impl Into<String>) -> SmallAnswer {
    let refusal = Refusal {
        kind,
        text: text.into(),
    };
    let status = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with_body(status, refusal.encode())
}

/// What a caller of this process is told where another gets an answer.
pub fn refusal_of(error: &FanOutError) -> Refusal {
    Refusal {
        kind: fan_out_kind(error),
        text: chain(error),
    }
}

/// A refusal because of an error, with all of its sources in the text.
pub fn failed(error: &(dyn Error + 'static), kind: RefusalKind) -> SmallAnswer {
    refused(kind, chain(error))
}

/// 404 for a path that this interface does not have.
pub fn no_such_path() -> SmallAnswer {
    refused(RefusalKind::Absent, "this interface has no such path")
}

/// 405 for a method that a path does not have.
pub fn no_such_method(allowed: &'static str) -> SmallAnswer {
    let mut answer = refused(
        RefusalKind::Malformed,
        "this path has no such method and nothing here overwrites",
    );
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Says that the connection ends with this answer: part of a body may still be on its way.
pub fn last(mut answer: SmallAnswer) -> SmallAnswer {
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// What a failure to take a body is answered with.
pub fn receive_kind(error: &ReceiveError) -> RefusalKind {
    match error {
        ReceiveError::TooLong { .. } => RefusalKind::Quota,
        ReceiveError::Empty | ReceiveError::TooSlow { .. } | ReceiveError::Cut(_) => {
            RefusalKind::Malformed
        }
        ReceiveError::Grant(error) => grant_kind(*error),
        ReceiveError::Spool(SpoolError::NoSpace { .. } | SpoolError::ReserveReached { .. }) => {
            RefusalKind::NoSpace
        }
        ReceiveError::Spool(_) => RefusalKind::Storage,
    }
}

/// What a grant's refusal is answered with.
pub fn grant_kind(error: GrantError) -> RefusalKind {
    match error {
        GrantError::Ended { .. } | GrantError::Connections { .. } => RefusalKind::NotGranted,
        GrantError::Bytes { .. } | GrantError::Packs { .. } => RefusalKind::Quota,
    }
}

/// What a destination's failure is answered with.
pub fn fan_out_kind(error: &FanOutError) -> RefusalKind {
    match error {
        FanOutError::Conflict { .. } => RefusalKind::Conflict,
        FanOutError::ReserveReached { .. } | FanOutError::NoRoom { .. } => RefusalKind::NoSpace,
        FanOutError::TooFewReplicas { source, .. } if source.is_no_space() => RefusalKind::NoSpace,
        FanOutError::Read(source) if source.is_absent() => RefusalKind::Absent,
        FanOutError::Read(source) if matches!(**source, DestinationError::PastEnd { .. }) => {
            RefusalKind::Malformed
        }
        FanOutError::OnlyDestination { .. }
        | FanOutError::NoSuchDestination { .. }
        | FanOutError::KeptAtTooFew { .. }
        | FanOutError::OtherDigest { .. } => RefusalKind::Malformed,
        FanOutError::LeftOut { .. } => RefusalKind::NotGranted,
        FanOutError::TooFewReplicas { .. }
        | FanOutError::StoredByHalves { .. }
        | FanOutError::TooFewCopies { .. }
        | FanOutError::TooManyCopies { .. }
        | FanOutError::Lacks { .. }
        | FanOutError::Unfilled { .. }
        | FanOutError::NotSeen { .. }
        | FanOutError::RequiredIsBehind { .. }
        | FanOutError::Cut(_)
        | FanOutError::Queue(_)
        | FanOutError::NoGoodCopy { .. }
        | FanOutError::Spool(_)
        | FanOutError::Read(_)
        | FanOutError::NothingRequired => RefusalKind::Storage,
    }
}

/// What a run that cannot be opened is answered with.
pub fn open_run_kind(error: &OpenRunError) -> RefusalKind {
    match error {
        OpenRunError::AlreadyOpen { .. } => RefusalKind::Conflict,
        OpenRunError::TooMany { .. } => RefusalKind::Quota,
    }
}

/// An error and its sources as one text.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let before = text.len();
        let part = error.to_string();
        if !text.ends_with(&part) {
            write!(text, ": {part}").unwrap_or_else(|_| text.truncate(before));
        }
        source = error.source();
    }
    text
}
