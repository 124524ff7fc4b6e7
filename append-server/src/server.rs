//! The server as a whole: opens the spool, listens on both sockets, ends gracefully. Used by the program and
//! inside the coordinator alike. Holds no state outside what it is given.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use formats::wire::upload::refusal::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer;
use crate::clock::SystemClock;
use crate::control::{self, Control};
use crate::destination::{ByteRange, DestinationName, ObjectKey, ObjectRead};
use crate::fan_out::{FanOut, FanOutError, FanOutPolicy, FanOutTools, Placement};
use crate::grants::{AdmittedPeer, AllowedUids, RunGrants};
use crate::ingest::{Ingest, IngestError};
use crate::io_faults::IoFaults;
use crate::limits::{CONNECTIONS_MAX, RUNS_MAX, SHUTDOWN_DEADLINE};
use crate::receive::Pace;
use crate::removals::{LEDGER_FILE, LedgerError, RemovalPolicy, Removals};
use crate::socket::{self, Reach, SocketError};
use crate::spool::{Spool, SpoolError, SpoolOptions};

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where the coordinator connects.
    pub control_socket: PathBuf,
    /// Where tunnels connect.
    pub ingest_socket: PathBuf,
    /// Users besides the server's own that may connect.
    pub allow_uids: Vec<u32>,
    /// The spool.
    pub spool: SpoolOptions,
    /// Where deliveries to destinations that nobody waits for are noted.
    pub queue: PathBuf,
    /// How packs that nothing needs are removed; noted beside the queue.
    pub removals: RemovalPolicy,
    /// On how many destinations an object must be before it is acknowledged.
    pub copies_min: usize,
    /// For how long a required destination that fails is tried again.
    pub patience: Duration,
    /// How slow an upload may be.
    pub pace: Pace,
    /// Which step of the spool fails, if any.
    pub spool_faults: IoFaults,
}

/// A server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Its destinations.
    #[error(transparent)]
    Destinations(#[from] FanOutError),
    /// Its list of removals.
    #[error(transparent)]
    Removals(#[from] LedgerError),
    /// Its sockets.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// A server; see [`AppendServer::start`].
#[derive(Debug)]
pub struct AppendServer;

/// A running server. Dropping it ends it without waiting.
#[derive(Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
    control_socket: PathBuf,
    ingest_socket: PathBuf,
    _ending: tokio_util::sync::DropGuard,
}

#[derive(Debug)]
struct Shared {
    ingest: Arc<Ingest>,
    fan_out: Arc<FanOut>,
    ending: CancellationToken,
    /// Cut what has not ended by itself.
    cutting: CancellationToken,
    tasks: TaskTracker,
}

/// The ingest side without a socket: what a tunnel brings into this very process is served as if it had come by
/// the socket, and ends with the server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IngestPort {
    shared: Arc<Shared>,
}

impl IngestPort {
    /// Serves one connection to its end: the peer's, the run's, or the server's.
    pub async fn serve<S>(&self, stream: S) -> Result<(), IngestError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = &self.shared;
        let serving = shared.ingest.serve(stream, &shared.ending);
        let served = shared.tasks.track_future(shared.until_cut(serving)).await;
        served.unwrap_or(Ok(()))
    }
}

/// Reads objects for this very process, without a socket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ObjectReader {
    shared: Arc<Shared>,
}

impl ObjectReader {
    /// A part of an object, or why not, as the control socket would say it.
    pub async fn get_range(
        &self,
        from: Option<&DestinationName>,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<ObjectRead, Refusal> {
        let read = self.shared.fan_out.get_range(from, key, range).await;
        read.map_err(|error| answer::refusal_of(&error))
    }
}

impl Shared {
    /// Serves until the end of the shutdown's deadline, if need be; objects being stored are tasks of their own.
    async fn until_cut<T>(&self, serving: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.cutting.cancelled() => None,
            served = serving => Some(served),
        }
    }
}

impl AppendServer {
    /// Starts serving.
    pub async fn start(
        options: ServerOptions,
        destinations: Vec<Placement>,
    ) -> Result<ServerHandle, StartError> {
        let spool = Spool::open(&options.spool, options.spool_faults.clone())?;
        let ledger = options.queue.with_file_name(LEDGER_FILE);
        let removals = Arc::new(Removals::open(&ledger, options.removals)?);
        let tools = FanOutTools {
            queue: options.queue,
            spool: Arc::clone(&spool),
            clock: Arc::new(SystemClock),
        };
        let policy = FanOutPolicy {
            reserve_bytes: options.spool.reserve_bytes,
            copies_min: options.copies_min,
            patience: options.patience,
        };
        let fan_out = Arc::new(FanOut::start(destinations, policy, &tools)?);
        let grants = Arc::new(RunGrants::new(RUNS_MAX));
        let ingest = Arc::new(Ingest::new(
            Arc::clone(&grants),
            Arc::clone(&spool),
            Arc::clone(&fan_out),
            options.pace,
        ));
        let control = Arc::new(Control::new(
            grants,
            spool,
            Arc::clone(&fan_out),
            removals,
            options.pace,
        ));
        let reach = if options.allow_uids.is_empty() {
            Reach::Owner
        } else {
            Reach::Everybody
        };
        let control_listener = socket::listen(&options.control_socket, reach).await?;
        let ingest_listener = socket::listen(&options.ingest_socket, reach).await?;

        let ending = CancellationToken::new();
        let shared = Arc::new(Shared {
            ingest,
            fan_out,
            ending: ending.clone(),
            cutting: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let allowed = AllowedUids::own_and(&options.allow_uids);
        let serve_control = serve_control_connections(
            Arc::clone(&shared),
            control_listener,
            allowed.clone(),
            control.router(),
        );
        shared.tasks.spawn(serve_control);
        let serve_ingest = serve_ingest_connections(Arc::clone(&shared), ingest_listener, allowed);
        shared.tasks.spawn(serve_ingest);
        Ok(ServerHandle {
            shared,
            control_socket: options.control_socket,
            ingest_socket: options.ingest_socket,
            _ending: ending.drop_guard(),
        })
    }
}

impl ServerHandle {
    /// Where the coordinator connects.
    pub fn control_socket(&self) -> &Path {
        &self.control_socket
    }

    /// Where tunnels connect.
    pub fn ingest_socket(&self) -> &Path {
        &self.ingest_socket
    }

    /// How many ingest handshakes have failed.
    pub fn handshakes_failed(&self) -> u64 {
        self.shared.ingest.handshakes_failed()
    }

    /// A way to the ingest side for connections that this process has already.
    pub fn ingest_port(&self) -> IngestPort {
        IngestPort {
            shared: Arc::clone(&self.shared),
        }
    }

    /// A way to read objects for this process.
    pub fn object_reader(&self) -> ObjectReader {
        ObjectReader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Ends: no new connections, requests under way may finish within the deadline, sockets are removed.
    pub async fn shutdown(self, deadline: Duration) {
        self.shared.ending.cancel();
        for path in [&self.control_socket, &self.ingest_socket] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "removing a socket");
            }
        }
        self.shared.tasks.close();
        let quiet = async {
            self.shared.tasks.wait().await;
            self.shared.fan_out.drain(deadline).await;
        };
        if tokio::time::timeout(deadline, quiet).await.is_err() {
            tracing::warn!("connections were cut at the end of the deadline");
            self.shared.cutting.cancel();
        }
    }

    /// The deadline that programs use.
    pub const SHUTDOWN_DEADLINE: Duration = SHUTDOWN_DEADLINE;
}

async fn serve_control_connections(
    shared: Arc<Shared>,
    listener: UnixListener,
    allowed: AllowedUids,
    router: Router,
) {
    accept(&shared, listener, &allowed, |stream, peer| {
        let (router, ending) = (router.clone(), shared.ending.clone());
        async move {
            if let Err(error) = control::serve(router, stream, peer, &ending).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a control connection failed"
                );
            }
        }
    })
    .await;
}

async fn serve_ingest_connections(
    shared: Arc<Shared>,
    listener: UnixListener,
    allowed: AllowedUids,
) {
    accept(&shared, listener, &allowed, |stream, _peer| {
        let (ingest, ending) = (Arc::clone(&shared.ingest), shared.ending.clone());
        async move {
            if let Err(error) = ingest.serve(stream, &ending).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "an ingest connection failed"
                );
            }
        }
    })
    .await;
}

/// Accepts until the server ends; each connection is a task of its own, and at most so many.
async fn accept<F, Fut>(
    shared: &Arc<Shared>,
    listener: UnixListener,
    allowed: &AllowedUids,
    serve: F,
) where
    F: Fn(UnixStream, AdmittedPeer) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            // `accept` may be dropped while it waits: no connection is lost.
            () = shared.ending.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for one: it passes, and must not spin until then.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = match AdmittedPeer::admit(&stream, allowed) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a connection was refused"
                );
                continue;
            }
        };
        let (serving, cut_by) = (serve(stream, peer), Arc::clone(shared));
        shared.tasks.spawn(async move {
            let _place = place;
            cut_by.until_cut(serving).await
        });
    }
}
