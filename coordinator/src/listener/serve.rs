//! Listens, and bounds what every connection may take: its time, its headers, how many there are at once. One request a
//! connection; bodies are never read.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use append_server::socket::{self, Reach, SocketError};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::listener_settings::ListenAddress;
use crate::listener::answer::Answers;

/// The most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A request's headers are here by then.
const HEADERS_DEADLINE: Duration = Duration::from_secs(5);
/// A connection has ended by then.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(20);
/// The most bytes of a request's line and headers.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// The most headers.
const HEADERS_MAX: usize = 64;
/// How long one waits when a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The listener could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address.
    #[error(
        "could not listen on {address}: is another program there, or is it no address of this machine?"
    )]
    Tcp {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A socket.
    #[error(transparent)]
    Unix(#[from] SocketError),
}

/// A listener that is bound and serves nobody yet.
#[derive(Debug)]
pub enum Bound {
    /// On an address.
    Tcp(TcpListener),
    /// On a socket.
    Unix(UnixListener),
}

impl Bound {
    /// Binds to an address.
    pub async fn to(address: &ListenAddress) -> Result<Self, ListenError> {
        match address {
            ListenAddress::Tcp(address) => {
                let bound = TcpListener::bind(address).await;
                bound.map(Self::Tcp).map_err(|source| ListenError::Tcp {
                    address: address.to_string(),
                    source,
                })
            }
            // Tokens say who may ask, not the socket's mode: a proxy of another user connects to it.
            ListenAddress::Unix(path) => {
                Ok(Self::Unix(socket::listen(path, Reach::Everybody).await?))
            }
        }
    }

    /// Answers until `ending` is cancelled, and then waits for what is under way, which is bounded.
    pub async fn serve(self, answers: Arc<Answers>, ending: CancellationToken) {
        let tasks = TaskTracker::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Losing either arm is safe: what was not accepted waits, and the token stays cancelled.
            let accepted = tokio::select! {
                () = ending.cancelled() => break,
                accepted = self.accept(&room) => accepted,
            };
            match accepted {
                Ok((Accepted::Tcp(stream, from), permit)) => {
                    tasks.spawn(answer_one(stream, from, Arc::clone(&answers), permit));
                }
                Ok((Accepted::Unix(stream), permit)) => {
                    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
                    tasks.spawn(answer_one(stream, from, Arc::clone(&answers), permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> io::Result<(Accepted, OwnedSemaphorePermit)> {
        let permit = Arc::clone(room).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let accepted = match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Accepted::Tcp(stream, from.ip())
            }
            Self::Unix(listener) => Accepted::Unix(listener.accept().await?.0),
        };
        Ok((accepted, permit))
    }
}

enum Accepted {
    Tcp(tokio::net::TcpStream, IpAddr),
    Unix(tokio::net::UnixStream),
}

async fn answer_one<S>(stream: S, from: IpAddr, answers: Arc<Answers>, _room: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.answer(request, from).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADERS_DEADLINE)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false);
    let serving = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_DEADLINE, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, %from, "a connection ended early"),
        Err(_) => tracing::debug!(%from, "a connection that was too slow was cut"),
    }
}
