//! Reading, listing and creating objects.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use formats::ids::RepositoryId;
use formats::limits::{
    KEY_BUNDLE_BYTES_MAX, PACK_BYTES_MAX, RECORD_BYTES_MAX, SMALL_BODY_BYTES_MAX,
};
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::Stored;
use formats::wire::upload::objects::{OBJECT_PAGE_MAX, ObjectPage};
use formats::wire::upload::refusal::RefusalKind;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use crate::answer::{self, fan_out_kind, last, receive_kind, refused};
use crate::control::{Control, small};
use crate::destination::{
    ByteRange, DestinationError, DestinationName, ObjectKey, ObjectList, ObjectRead,
    ParseDestinationNameError, PutOutcome,
};
use crate::fan_out::FanOutError;
use crate::grants::{CommitGrant, ReadGrant};
use crate::receive::{BodyRules, receive};
use crate::spool::{Purpose, SpooledObject};

/// Where to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    destination: Option<String>,
}

/// `GET /v1/repositories/<repository>/<name>?destination=<name>`, whole or one range; from any destination without one.
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    _grant: ReadGrant,
    Path(path): Path<(String, String)>,
    Query(query): Query<ReadQuery>,
    headers: HeaderMap,
) -> Response {
    let parsed = parse_key(&path).and_then(|key| {
        let from = parse_destination(query.destination.as_deref())?;
        Ok((key, from, parse_range(&headers)?))
    });
    let (key, from, range) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return *refusal,
    };
    match control
        .fan_out
        .get_range(from.as_ref(), &key, range.unwrap_or(ByteRange::ALL))
        .await
    {
        Ok(read) => found(read, range),
        Err(error) => {
            let mut answer = answer::failed(&error, fan_out_kind(&error));
            if let FanOutError::Read(source) = &error
                && let DestinationError::PastEnd { total, .. } = **source
            {
                *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                set(&mut answer, CONTENT_RANGE, &format!("bytes */{total}"));
            }
            small(answer)
        }
    }
}

fn found(read: ObjectRead, range: Option<ByteRange>) -> Response {
    let mut answer = Response::new(Body::from_stream(read.body));
    set(&mut answer, CONTENT_LENGTH, &read.bytes.to_string());
    if let Some(range) = range {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let end = (range.start + read.bytes).saturating_sub(1);
        let value = format!("bytes {}-{end}/{}", range.start, read.total);
        set(&mut answer, CONTENT_RANGE, &value);
    }
    answer
}

fn set<B>(answer: &mut http::Response<B>, header: http::HeaderName, value: &str) {
    // Numbers and ASCII punctuation are always a header's value.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(header, value);
    }
}

/// `HEAD /v1/repositories/<repository>/<name>?destination=<name>`.
pub(super) async fn head(
    State(control): State<Arc<Control>>,
    _grant: ReadGrant,
    Path(path): Path<(String, String)>,
    Query(query): Query<ReadQuery>,
) -> Response {
    let parsed = parse_key(&path)
        .and_then(|key| Ok((key, parse_destination(query.destination.as_deref())?)));
    let (key, from) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return *refusal,
    };
    match control.fan_out.head(from.as_ref(), &key).await {
        Ok(bytes) => {
            let mut answer = Response::new(Body::empty());
            set(&mut answer, CONTENT_LENGTH, &bytes.to_string());
            answer
        }
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

/// A listing's query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    kind: String,
    after: Option<String>,
    destination: Option<String>,
}

/// `GET /v1/repositories/<repository>?kind=<folder>&after=<name>&destination=<name>`.
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    _grant: ReadGrant,
    Path(repository): Path<String>,
    Query(query): Query<ListQuery>,
) -> Response {
    let malformed = |text: String| small(refused(RefusalKind::Malformed, text));
    let repository: RepositoryId = match repository.parse() {
        Ok(repository) => repository,
        Err(error) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    let kind = ObjectKind::ALL
        .into_iter()
        .find(|kind| kind.folder() == query.kind);
    let Some(kind) = kind else {
        return malformed(format!("{:?} is not a folder of objects", query.kind));
    };
    let after = match query.after.as_deref().map(str::parse::<ObjectName>) {
        None => None,
        Some(Ok(name)) if name.kind() == kind => Some(name),
        Some(Ok(name)) => return malformed(format!("{name} is not in {}", kind.folder())),
        Some(Err(error)) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    let from = match parse_destination(query.destination.as_deref()) {
        Ok(from) => from,
        Err(refusal) => return *refusal,
    };
    let limit = usize::try_from(OBJECT_PAGE_MAX).unwrap_or(usize::MAX);
    let list = control
        .fan_out
        .list(from.as_ref(), repository, kind, after, limit);
    page(list.await)
}

/// A page of names as an answer.
pub(super) fn page(list: Result<ObjectList, FanOutError>) -> Response {
    match list {
        Ok(list) => {
            let page = ObjectPage {
                objects: list
                    .objects
                    .into_iter()
                    .map(|(name, bytes)| (name.to_string(), bytes))
                    .collect(),
                more: list.more,
            };
            small(answer::with_body(StatusCode::OK, page.encode()))
        }
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

fn parse_destination(text: Option<&str>) -> Result<Option<DestinationName>, Box<Response>> {
    text.map(str::parse)
        .transpose()
        .map_err(|error: ParseDestinationNameError| {
            Box::new(small(refused(RefusalKind::Malformed, error.to_string())))
        })
}

/// `PUT /v1/repositories/<repository>/<name>`: creates, never replaces.
pub(super) async fn put(
    State(control): State<Arc<Control>>,
    grant: CommitGrant,
    Path(path): Path<(String, String)>,
    body: Body,
) -> Response {
    let key = match parse_key(&path) {
        Ok(key) => key,
        Err(refusal) => return *refusal,
    };
    let Some(bytes_max) = bytes_max(&key.name) else {
        let text = "data packs come by a run's tunnel only";
        return small(last(refused(RefusalKind::NotGranted, text)));
    };
    let rules = BodyRules {
        bytes_max,
        purpose: Purpose::Commit,
        pace: control.pace,
    };
    let spooled = match receive(&control.spool, body, rules, |_| Ok(())).await {
        Ok(spooled) => spooled,
        Err(error) => return small(last(answer::failed(&error, receive_kind(&error)))),
    };
    // What has begun is finished, whatever becomes of the connection.
    let storing = tokio::spawn(async move { store(&control, &key, spooled, grant).await });
    match storing.await {
        Ok(answer) => answer,
        Err(error) => small(answer::failed(&error, RefusalKind::Storage)),
    }
}

async fn store(
    control: &Control,
    key: &ObjectKey,
    spooled: SpooledObject,
    _grant: CommitGrant,
) -> Response {
    let (digest, bytes) = (spooled.digest(), spooled.bytes());
    if let ObjectName::Meta(named) = &key.name
        && *named != digest
    {
        let text = format!("{key} is named {named} and its bytes have the digest {digest}");
        return small(refused(RefusalKind::Malformed, text));
    }
    match control.fan_out.put(key, spooled).await {
        Ok(outcome) => small(answer::stored(Stored {
            digest,
            bytes,
            existed: outcome == PutOutcome::ExistsSame,
        })),
        Err(error) => {
            tracing::warn!(object = %key, error = &error as &dyn std::error::Error, "an object was not stored");
            small(answer::failed(&error, fan_out_kind(&error)))
        }
    }
}

/// The most bytes of an object that may be created here.
fn bytes_max(name: &ObjectName) -> Option<u64> {
    match name {
        ObjectName::Pack(_) => None,
        ObjectName::Meta(_) => Some(PACK_BYTES_MAX),
        ObjectName::Log(_) => Some(RECORD_BYTES_MAX),
        ObjectName::Keys(_) => Some(KEY_BUNDLE_BYTES_MAX),
        ObjectName::Config => Some(SMALL_BODY_BYTES_MAX as u64),
    }
}

fn parse_key((repository, name): &(String, String)) -> Result<ObjectKey, Box<Response>> {
    let malformed = |error: &dyn std::error::Error| {
        Box::new(small(refused(RefusalKind::Malformed, error.to_string())))
    };
    Ok(ObjectKey {
        repository: repository.parse().map_err(|error| malformed(&error))?,
        name: name.parse().map_err(|error| malformed(&error))?,
    })
}

/// One range, `bytes=<first>-` or `bytes=<first>-<last>`; nothing else is taken for "the whole object".
fn parse_range(headers: &HeaderMap) -> Result<Option<ByteRange>, Box<Response>> {
    let Some(value) = headers.get(RANGE) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| {
        let (first, end) = text.strip_prefix("bytes=")?.split_once('-')?;
        let start: u64 = first.parse().ok()?;
        let bytes = match end {
            "" => None,
            end => Some(
                end.parse::<u64>()
                    .ok()?
                    .checked_sub(start)?
                    .checked_add(1)?,
            ),
        };
        Some(ByteRange { start, bytes })
    });
    match parsed {
        Some(range) => Ok(Some(range)),
        None => Err(Box::new(small(refused(
            RefusalKind::Malformed,
            "a range is `bytes=<first>-<last>` or `bytes=<first>-`",
        )))),
    }
}
