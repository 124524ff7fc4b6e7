//! How destinations are doing, and filling one that came later.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use formats::ids::RepositoryId;
use formats::wire::upload::destinations::{DestinationState, DestinationStates};
use formats::wire::upload::refusal::RefusalKind;
use http::StatusCode;
use serde::Deserialize;

use crate::answer::{self, fan_out_kind};
use crate::control::{Control, small};
use crate::destination::DestinationName;
use crate::grants::{CommitGrant, ReadGrant};

/// Of what it is asked how far destinations are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatesQuery {
    repository: Option<String>,
}

/// `GET /v1/destinations?repository=<repository>`.
pub(super) async fn states(
    State(control): State<Arc<Control>>,
    _grant: ReadGrant,
    Query(query): Query<StatesQuery>,
) -> Response {
    let repository: Option<RepositoryId> = match query.repository.map(|id| id.parse()).transpose() {
        Ok(repository) => repository,
        Err(error) => {
            return small(answer::refused(RefusalKind::Malformed, error.to_string()));
        }
    };
    match control.fan_out.status_of(repository) {
        Ok(states) => {
            let states = states.into_iter().map(|state| DestinationState {
                name: state.name.to_string(),
                required: state.required,
                objects_behind: state.lag.objects,
                bytes_behind: state.lag.bytes,
                oldest_unix_secs: state.lag.oldest_unix_secs,
                problem: state.problem,
                conditional_writes: state.conditional_writes,
                placed: state.placed,
            });
            let body = DestinationStates(states.collect()).encode();
            small(answer::with_body(StatusCode::OK, body))
        }
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

/// What to fill a destination with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncQuery {
    repository: String,
}

/// `POST /v1/destinations/<name>/sync?repository=<repository>`.
pub(super) async fn sync(
    State(control): State<Arc<Control>>,
    _grant: CommitGrant,
    Path(name): Path<String>,
    Query(query): Query<SyncQuery>,
) -> Response {
    let malformed = |error: &dyn std::error::Error| {
        small(answer::refused(RefusalKind::Malformed, error.to_string()))
    };
    let name: DestinationName = match name.parse() {
        Ok(name) => name,
        Err(error) => return malformed(&error),
    };
    let repository: RepositoryId = match query.repository.parse() {
        Ok(repository) => repository,
        Err(error) => return malformed(&error),
    };
    let swept = match control.removals.swept(repository, &name) {
        Ok(swept) => swept,
        Err(error) => return small(answer::failed(&error, RefusalKind::Storage)),
    };
    let queued = control.fan_out.queue_missing_but(repository, &name, &swept);
    match queued.await {
        Ok(queued) => small(answer::with_body(StatusCode::OK, queued.encode())),
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}
