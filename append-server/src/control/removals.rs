//! What prune asks: condemning packs, taking that back, having removed what waited long enough, whether there is room, and storing
//! the packs that live frames were copied into.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use formats::ids::{PackId, RepositoryId};
use formats::limits::PACK_BYTES_MAX;
use formats::object::ObjectName;
use formats::wire::upload::Stored;
use formats::wire::upload::objects::{OBJECT_NAME_BYTES_MAX, OBJECT_PAGE_MAX, ObjectPage};
use formats::wire::upload::refusal::RefusalKind;
use formats::wire::upload::repairs::Queued;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;

use crate::answer::{self, fan_out_kind, last, receive_kind, refused};
use crate::control::{Control, small};
use crate::destination::{DestinationName, ObjectKey, PutOutcome};
use crate::grants::{MaintenanceGrant, RemovalGrant};
use crate::receive::{BodyRules, receive};
use crate::removals::{Proof, RemovalError};
use crate::spool::Purpose;

/// The most bytes of a page of packs.
const BODY_BYTES_MAX: u64 = OBJECT_PAGE_MAX * (OBJECT_NAME_BYTES_MAX + 12) + 16;

/// The log record that says so, and the destination that it is about, if it is about one alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofQuery {
    record: Option<u64>,
    digest: Option<String>,
    destination: Option<String>,
}

/// For how much room is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomQuery {
    bytes: u64,
}

/// How old an unfinished upload must be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadsQuery {
    older_than_secs: u64,
}

/// `POST /v1/removals/<repository>/condemn?record=<sequence>&digest=<hexadecimal>`.
pub(super) async fn condemn(
    State(control): State<Arc<Control>>,
    grant: RemovalGrant,
    Path(repository): Path<String>,
    Query(query): Query<ProofQuery>,
    body: Body,
) -> Response {
    let asked = read_request(&repository, &query, body).await;
    let asked = match asked {
        Ok(asked) => asked,
        Err(text) => return malformed(&text),
    };
    let (repository, packs) = (asked.repository, asked.packs);
    let Some(proof) = asked.proof else {
        return malformed("the record that condemns them is missing");
    };
    let (removals, fan_out) = (&control.removals, &control.fan_out);
    let noted = match &asked.destination {
        None => {
            removals
                .condemn(fan_out, repository, proof, &packs, grant)
                .await
        }
        Some(name) => {
            removals
                .condemn_at(fan_out, (name, repository), proof, &packs, grant)
                .await
        }
    };
    match noted {
        Ok(()) => {
            tracing::info!(%repository, record = proof.sequence, packs = packs.len(), "packs condemned");
            small(answer::done(StatusCode::NO_CONTENT))
        }
        Err(error) => refuse(&error),
    }
}

/// `POST /v1/removals/<repository>/spare`.
pub(super) async fn spare(
    State(control): State<Arc<Control>>,
    grant: RemovalGrant,
    Path(repository): Path<String>,
    Query(query): Query<ProofQuery>,
    body: Body,
) -> Response {
    let asked = match read_request(&repository, &query, body).await {
        Ok(asked) => asked,
        Err(text) => return malformed(&text),
    };
    let (removals, repository, packs) = (&control.removals, asked.repository, asked.packs);
    let spared = match &asked.destination {
        None => removals.spare(repository, &packs, grant),
        Some(name) => removals.spare_at(name, repository, &packs, grant),
    };
    match spared {
        Ok(()) => small(answer::done(StatusCode::NO_CONTENT)),
        Err(error) => refuse(&error),
    }
}

/// `POST /v1/removals/<repository>/sweep?record=<sequence>&digest=<hexadecimal>`.
pub(super) async fn sweep(
    State(control): State<Arc<Control>>,
    grant: RemovalGrant,
    Path(repository): Path<String>,
    Query(query): Query<ProofQuery>,
    body: Body,
) -> Response {
    let asked = match read_request(&repository, &query, body).await {
        Ok(asked) => asked,
        Err(text) => return malformed(&text),
    };
    let (repository, proof, packs) = (asked.repository, asked.proof, asked.packs);
    if proof.is_none() && (!packs.is_empty() || asked.destination.is_some()) {
        return malformed("the record that sweeps them is missing");
    }
    // What has begun is finished, whatever becomes of the connection.
    let sweeping = tokio::spawn(async move {
        let (removals, fan_out) = (&control.removals, &control.fan_out);
        match (asked.destination, proof) {
            (Some(name), Some(proof)) => {
                removals
                    .sweep_at(fan_out, (&name, repository), proof, &packs, grant)
                    .await
            }
            (_, proof) => {
                removals
                    .sweep(fan_out, repository, proof, &packs, grant)
                    .await
            }
        }
    });
    match sweeping.await.map_err(RemovalError::Cut).flatten() {
        Ok(report) => {
            tracing::info!(%repository, removed = report.removed, bytes = report.removed_bytes, "packs removed");
            small(answer::with_body(StatusCode::OK, report.encode()))
        }
        Err(error) => refuse(&error),
    }
}

/// `GET /v1/removals/<repository>/room?bytes=<bytes>`: whether so much can be written anew.
pub(super) async fn room(
    State(control): State<Arc<Control>>,
    _grant: RemovalGrant,
    Query(query): Query<RoomQuery>,
) -> Response {
    match control.fan_out.check_room(query.bytes).await {
        Ok(()) => small(answer::done(StatusCode::NO_CONTENT)),
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

/// `PUT /v1/removals/<repository>/<object name>`: a data pack whose frames were copied from others.
pub(super) async fn put_moved(
    State(control): State<Arc<Control>>,
    _grant: RemovalGrant,
    Path((repository, name)): Path<(String, String)>,
    body: Body,
) -> Response {
    let key = match (repository.parse(), name.parse()) {
        (Ok(repository), Ok(name @ ObjectName::Pack(_))) => ObjectKey { repository, name },
        _ => return malformed("only data packs are stored here"),
    };
    let rules = BodyRules {
        bytes_max: PACK_BYTES_MAX,
        // What is written anew must leave the log its room as much as what is new.
        purpose: Purpose::Data,
        pace: control.pace,
    };
    if let Err(error) = control.fan_out.check_reserve().await {
        return small(last(answer::failed(&error, fan_out_kind(&error))));
    }
    let spooled = match receive(&control.spool, body, rules, |_| Ok(())).await {
        Ok(spooled) => spooled,
        Err(error) => return small(last(answer::failed(&error, receive_kind(&error)))),
    };
    if key.name.digest() != Some(spooled.digest()) {
        return malformed("its name is not the digest of its bytes");
    }
    let (digest, bytes) = (spooled.digest(), spooled.bytes());
    match control.fan_out.put(&key, spooled).await {
        Ok(outcome) => small(answer::stored(Stored {
            digest,
            bytes,
            existed: outcome == PutOutcome::ExistsSame,
        })),
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

/// `POST /v1/destinations/<name>/uploads?older_than_secs=<seconds>`: ends uploads that nobody completed.
pub(super) async fn abort_uploads(
    State(control): State<Arc<Control>>,
    _grant: RemovalGrant,
    Path(name): Path<String>,
    Query(query): Query<UploadsQuery>,
) -> Response {
    let name: DestinationName = match name.parse() {
        Ok(name) => name,
        Err(error) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    if !control.removals.allows(&name) {
        return small(answer::with_body(
            StatusCode::OK,
            Queued::default().encode(),
        ));
    }
    let grant = MaintenanceGrant::of_this_process();
    let aborted = control
        .fan_out
        .abort_uploads(&name, query.older_than_secs, &grant);
    match aborted.await {
        Ok(objects) => {
            let body = Queued { objects, bytes: 0 }.encode();
            small(answer::with_body(StatusCode::OK, body))
        }
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

struct Asked {
    repository: RepositoryId,
    proof: Option<Proof>,
    packs: Vec<(ObjectName, u64)>,
    destination: Option<DestinationName>,
}

async fn read_request(repository: &str, query: &ProofQuery, body: Body) -> Result<Asked, String> {
    let repository: RepositoryId = parsed(repository)?;
    let proof = match (query.record, &query.digest) {
        (Some(sequence), Some(digest)) => Some(Proof {
            sequence,
            digest: parsed::<PackId>(digest)?,
        }),
        (None, None) => None,
        _ => return Err("a record is named by its place and its digest".to_owned()),
    };
    let limit = usize::try_from(BODY_BYTES_MAX).unwrap_or(usize::MAX);
    let bytes = Limited::new(body, limit).collect().await;
    let bytes = bytes.map_err(|error| error.to_string())?.to_bytes();
    let page = match bytes.is_empty() {
        true => ObjectPage::default(),
        false => ObjectPage::decode(&bytes).map_err(|error| error.to_string())?,
    };
    let packs = page.objects.iter();
    let packs = packs.map(|(name, bytes)| Ok::<_, String>((parsed(name)?, *bytes)));
    let destination = query.destination.as_deref().map(parsed);
    Ok(Asked {
        repository,
        proof,
        packs: packs.collect::<Result<_, _>>()?,
        destination: destination.transpose()?,
    })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn malformed(text: &str) -> Response {
    small(last(refused(RefusalKind::Malformed, text)))
}

fn refuse(error: &RemovalError) -> Response {
    let kind = match error {
        RemovalError::NoPack { .. } | RemovalError::NoDataPack { .. } => RefusalKind::NotGranted,
        RemovalError::NoProof { source, .. } => fan_out_kind(source),
        RemovalError::NotCondemned { .. }
        | RemovalError::OtherProof { .. }
        | RemovalError::Swept { .. } => RefusalKind::Conflict,
        RemovalError::Ledger(_) | RemovalError::FanOut(_) | RemovalError::Cut(_) => {
            RefusalKind::Storage
        }
    };
    small(answer::failed(error, kind))
}
