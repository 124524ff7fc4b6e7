//! Opening and closing runs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use formats::ids::RunId;
use formats::limits::SMALL_BODY_BYTES_MAX;
use formats::wire::upload::OpenRun;
use formats::wire::upload::refusal::RefusalKind;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};

use crate::answer::{self, fan_out_kind, open_run_kind};
use crate::control::{Control, small};
use crate::grants::CommitGrant;
use crate::limits::CLOSE_RUN_DEADLINE;

/// `POST /v1/runs`.
pub(super) async fn open(
    State(control): State<Arc<Control>>,
    grant: CommitGrant,
    body: Body,
) -> Response {
    let bytes = match Limited::new(body, SMALL_BODY_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return small(answer::refused(RefusalKind::Malformed, error.to_string())),
    };
    let request = match OpenRun::decode(&bytes) {
        Ok(request) => request,
        Err(error) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    // What a run would end with is known now already.
    if let Err(error) = control.fan_out.ready_for(request.repository).await {
        return small(answer::failed(&error, fan_out_kind(&error)));
    }
    match control.grants.open(&request, grant) {
        Ok(()) => {
            let (run, repository) = (request.run, request.repository);
            tracing::info!(%run, %repository, bytes_max = request.bytes_max, "run opened");
            small(answer::done(StatusCode::CREATED))
        }
        Err(error) => small(answer::failed(&error, open_run_kind(&error))),
    }
}

/// `DELETE /v1/runs/<run>`.
pub(super) async fn close(
    State(control): State<Arc<Control>>,
    grant: CommitGrant,
    Path(run): Path<String>,
) -> Response {
    let run: RunId = match run.parse() {
        Ok(run) => run,
        Err(error) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    let closed = control.grants.close(run, CLOSE_RUN_DEADLINE, grant).await;
    match closed {
        Some(totals) => {
            tracing::info!(%run, bytes = totals.bytes, packs = totals.packs, "run closed");
            match totals.passed_limit {
                true => small(answer::refused(
                    RefusalKind::Quota,
                    format!("run {run} is closed; it was cut because it sent more than it may"),
                )),
                false => small(answer::done(StatusCode::NO_CONTENT)),
            }
        }
        None => small(answer::refused(
            RefusalKind::Absent,
            format!("run {run} is not open"),
        )),
    }
}
