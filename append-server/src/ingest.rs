//! The ingest side: what an agent can reach. A handshake, then `PUT /v1/packs` and nothing else. Nothing here
//! reads, lists, names, overwrites or deletes an object.

mod failure_log;
mod packs;

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::fan_out::FanOut;
use crate::grants::handshake::{HandshakeError, prove};
use crate::grants::{AppendGrant, RunGrants};
use crate::ingest::failure_log::FailureLog;
use crate::limits::{
    CONNECTION_BUFFER_BYTES, HANDSHAKE_DEADLINE, HANDSHAKE_PENALTY, HANDSHAKES_MAX, HEAD_BYTES_MAX,
    HEADERS_MAX, LAST_ANSWER_DEADLINE,
};
use crate::paced_stream::PacedStream;
use crate::receive::Pace;
use crate::spool::Spool;

/// What ingest needs.
#[derive(Debug)]
pub struct Ingest {
    grants: Arc<RunGrants>,
    spool: Arc<Spool>,
    fan_out: Arc<FanOut>,
    pace: Pace,
    handshakes: Semaphore,
    failures: FailureLog,
}

/// An ingest connection ended other than by its peer's or the server's wish.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It did not prove itself.
    #[error("the handshake failed")]
    Handshake(#[from] HandshakeError),
    /// It broke or did not speak HTTP.
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
}

impl Ingest {
    /// Over these grants and destinations.
    pub fn new(
        grants: Arc<RunGrants>,
        spool: Arc<Spool>,
        fan_out: Arc<FanOut>,
        pace: Pace,
    ) -> Self {
        Self {
            grants,
            spool,
            fan_out,
            pace,
            handshakes: Semaphore::new(HANDSHAKES_MAX),
            failures: FailureLog::default(),
        }
    }

    /// How many handshakes have failed.
    pub fn handshakes_failed(&self) -> u64 {
        self.failures.total()
    }

    /// Serves one connection to its end: the peer's, the run's, or the server's.
    pub async fn serve<S>(
        self: &Arc<Self>,
        mut stream: S,
        ending: &CancellationToken,
    ) -> Result<(), IngestError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let grant = match self.admit(&mut stream, ending).await {
            Ok(Some(grant)) => grant,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.serve_http(stream, grant, ending).await
    }

    /// The handshake, within its deadline, with a bound on how many run at a time. Nothing when the server
    /// ends first.
    async fn admit<S>(
        &self,
        stream: &mut S,
        ending: &CancellationToken,
    ) -> Result<Option<AppendGrant>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let attempt = timeout(HANDSHAKE_DEADLINE, async {
            let place = self.handshakes.acquire().await;
            (prove(stream, &self.grants).await, place)
        });
        let (result, place) = tokio::select! {
            // The connection is dropped in either case; half a handshake is worth nothing.
            () = ending.cancelled() => return Ok(None),
            attempt = attempt => match attempt {
                Ok((result, place)) => (result, place.ok()),
                Err(_) => (Err(HandshakeError::Deadline), None),
            },
        };
        match result {
            Ok(grant) => Ok(Some(grant)),
            Err(error) => {
                self.failures.failed(&error);
                if place.is_some() {
                    tokio::select! {
                        // Only waits.
                        () = ending.cancelled() => {}
                        () = sleep(HANDSHAKE_PENALTY) => {}
                    }
                }
                Err(error)
            }
        }
    }

    async fn serve_http<S>(
        self: &Arc<Self>,
        stream: S,
        grant: AppendGrant,
        ending: &CancellationToken,
    ) -> Result<(), IngestError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, phase) = PacedStream::new(stream);
        let service = service_fn(|request| {
            let (ingest, grant) = (Arc::clone(self), grant.clone());
            let in_request = phase.in_request();
            async move {
                let answer = packs::answer(&ingest, request, &grant).await;
                drop(in_request);
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None) // It would count idle time too; the paced stream does not.
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(CONNECTION_BUFFER_BYTES)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            // Losing the connection's arm here only pauses it; it goes on below.
            result = connection.as_mut() => return Ok(result?),
            () = ending.cancelled() => {}
            () = grant.ended() => {}
        }
        // A request under way may still be answered; an idle connection ends at once.
        connection.as_mut().graceful_shutdown();
        match timeout(LAST_ANSWER_DEADLINE, connection).await {
            Ok(result) => Ok(result?),
            Err(_) => Ok(()),
        }
    }
}
