//! The control side: what the coordinator can reach, over a Unix socket that checks who is calling. Reads,
//! lists, opens and closes runs, and creates what completes a run. No route overwrites, and one alone deletes: packs that the
//! log condemned long ago (`removals`).

mod destinations;
mod objects;
mod placing;
mod removals;
mod repairs;
mod runs;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use formats::wire::placing::PATH_PLACING;
use formats::wire::upload::refusal::RefusalKind;
use formats::wire::upload::{PATH_DESTINATIONS, PATH_REMOVALS, PATH_REPOSITORIES, PATH_RUNS};
use http::Request;
use http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::answer::{self, SmallAnswer};
use crate::fan_out::FanOut;
use crate::grants::{
    AdmittedPeer, CommitGrant, PlacingGrant, ReadGrant, RemovalGrant, RepairGrant, RunGrants,
};
use crate::limits::{CONNECTION_BUFFER_BYTES, HEAD_BYTES_MAX, HEADERS_MAX, LAST_ANSWER_DEADLINE};
use crate::paced_stream::PacedStream;
use crate::receive::Pace;
use crate::removals::Removals;
use crate::spool::Spool;

/// What control needs.
#[derive(Debug)]
pub struct Control {
    grants: Arc<RunGrants>,
    spool: Arc<Spool>,
    fan_out: Arc<FanOut>,
    removals: Arc<Removals>,
    pace: Pace,
}

impl Control {
    /// Over these grants and destinations.
    pub fn new(
        grants: Arc<RunGrants>,
        spool: Arc<Spool>,
        fan_out: Arc<FanOut>,
        removals: Arc<Removals>,
        pace: Pace,
    ) -> Self {
        Self {
            grants,
            spool,
            fan_out,
            removals,
            pace,
        }
    }

    /// Its routes. A request gets nowhere without the grants that [`serve`] attaches.
    pub fn router(self: &Arc<Self>) -> Router {
        let object = get(objects::get).head(objects::head).put(objects::put);
        Router::new()
            .route(PATH_RUNS, post(runs::open))
            .route(&format!("{PATH_RUNS}/{{run}}"), delete(runs::close))
            .route(
                &format!("{PATH_REPOSITORIES}/{{repository}}"),
                get(objects::list),
            )
            .route(
                &format!("{PATH_REPOSITORIES}/{{repository}}/{{*name}}"),
                object,
            )
            .route(
                &format!("{PATH_REMOVALS}/{{repository}}/condemn"),
                post(removals::condemn),
            )
            .route(
                &format!("{PATH_REMOVALS}/{{repository}}/spare"),
                post(removals::spare),
            )
            .route(
                &format!("{PATH_REMOVALS}/{{repository}}/sweep"),
                post(removals::sweep),
            )
            .route(
                &format!("{PATH_REMOVALS}/{{repository}}/room"),
                get(removals::room),
            )
            .route(
                &format!("{PATH_REMOVALS}/{{repository}}/{{*name}}"),
                put(removals::put_moved),
            )
            .route(
                &format!("{PATH_DESTINATIONS}/{{name}}/uploads"),
                post(removals::abort_uploads),
            )
            .route(PATH_PLACING, post(placing::place))
            .route(PATH_DESTINATIONS, get(destinations::states))
            .route(
                &format!("{PATH_DESTINATIONS}/{{name}}/sync"),
                post(destinations::sync),
            )
            .route(
                &format!("{PATH_DESTINATIONS}/{{name}}/pending"),
                get(repairs::pending),
            )
            .route(
                &format!("{PATH_DESTINATIONS}/{{name}}/heal"),
                post(repairs::heal),
            )
            .route(
                &format!("{PATH_DESTINATIONS}/{{name}}/lock"),
                post(repairs::lock),
            )
            .fallback(async || small(answer::no_such_path()))
            .method_not_allowed_fallback(async || small(answer::no_such_method("GET, HEAD, PUT")))
            .with_state(Arc::clone(self))
    }
}

/// Serves one connection of an admitted peer to its end.
pub async fn serve<S>(
    router: Router,
    stream: S,
    peer: AdmittedPeer,
    ending: &CancellationToken,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, phase) = PacedStream::new(stream);
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        let in_request = phase.in_request();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.read_grant());
        request.extensions_mut().insert(peer.commit_grant());
        request.extensions_mut().insert(peer.repair_grant());
        request.extensions_mut().insert(peer.removal_grant());
        request.extensions_mut().insert(peer.placing_grant());
        async move {
            let answer = router.call(request).await;
            drop(in_request);
            answer
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None) // It would count idle time too; the paced stream does not.
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Losing the connection's arm here only pauses it; it goes on below.
        result = connection.as_mut() => return result,
        () = ending.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(LAST_ANSWER_DEADLINE, connection)
        .await
        .unwrap_or(Ok(()))
}

fn small(answer: SmallAnswer) -> Response {
    answer.map(Body::new)
}

fn not_granted() -> Response {
    small(answer::refused(
        RefusalKind::NotGranted,
        "this connection has no such right",
    ))
}

impl<S: Sync> FromRequestParts<S> for ReadGrant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        parts.extensions.get().copied().ok_or_else(not_granted)
    }
}

impl<S: Sync> FromRequestParts<S> for RepairGrant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        parts.extensions.get().copied().ok_or_else(not_granted)
    }
}

impl<S: Sync> FromRequestParts<S> for RemovalGrant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        parts.extensions.get().copied().ok_or_else(not_granted)
    }
}

impl<S: Sync> FromRequestParts<S> for CommitGrant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        parts.extensions.get().copied().ok_or_else(not_granted)
    }
}

impl<S: Sync> FromRequestParts<S> for PlacingGrant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        parts.extensions.get().copied().ok_or_else(not_granted)
    }
}
