//! The append-server inside the coordinator's process, on sockets of its own: one code path with the server
//! that runs by itself. Never hands out anything but its sockets' client.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use append_server::claimed_dir::{ClaimError, ClaimedDir};
use append_server::destination::local::LocalDestination;
use append_server::destination::local_root::RootError;
use append_server::fan_out::queue::QUEUE_FILE;
use append_server::io_faults::IoFaults;
use append_server::limits::{
    PATIENCE_MAX, REMOVAL_DAILY_BYTES_DEFAULT, REMOVAL_GRACE_DEFAULT, RESERVE_BYTES_DEFAULT,
    SPOOL_BYTES_DEFAULT,
};
use append_server::places::{OpenError, Place, open_places};
use append_server::receive::Pace;
use append_server::removals::RemovalPolicy;
use append_server::server::{AppendServer, ServerHandle, ServerOptions, StartError};
use append_server::spool::SpoolOptions;

use crate::storage::client::StorageClient;
use crate::storage::ingest::Ingest;

/// How much the embedded server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedLimits {
    /// The most bytes of all uploads under way.
    pub spool_bytes_max: u64,
    /// What data packs leave free on every disk, for the log.
    pub reserve_bytes: u64,
    /// How long a request waits for destinations that it needs and that do not answer.
    pub patience: Duration,
    /// On how many destinations an object must be before it is acknowledged.
    pub copies_min: usize,
    /// How long condemned packs stay.
    pub grace: Duration,
    /// The most bytes that are removed in 24 hours.
    pub daily_bytes_max: u64,
}

impl Default for EmbeddedLimits {
    fn default() -> Self {
        Self {
            spool_bytes_max: SPOOL_BYTES_DEFAULT,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            patience: PATIENCE_MAX,
            copies_min: 1,
            grace: REMOVAL_GRACE_DEFAULT,
            daily_bytes_max: REMOVAL_DAILY_BYTES_DEFAULT,
        }
    }
}

/// What becomes of deliveries that are still to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueUse {
    /// They go on.
    Deliver,
    /// They wait: only some of the destinations are there.
    LeaveAlone,
}

/// The embedded server was not started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No directory for its sockets.
    #[error("could not make a directory for the append-server's sockets")]
    Sockets(#[from] ClaimError),
    /// A destination.
    #[error(transparent)]
    Destination(#[from] OpenError),
    /// The server.
    #[error("could not start the append-server")]
    Start(#[from] StartError),
}

/// A running embedded server.
#[derive(Debug)]
pub struct EmbeddedServer {
    handle: ServerHandle,
    // Dropped last: removes the sockets' directory.
    _sockets: ClaimedDir,
}

/// Makes a directory a destination's root; `init` does this, once.
pub fn create_destination(path: &Path) -> Result<(), RootError> {
    LocalDestination::create(path)
}

impl EmbeddedServer {
    /// Starts the server over these destinations, with its sockets under the state directory.
    pub async fn start(
        state_dir: &Path,
        places: &[Place],
        limits: EmbeddedLimits,
        queue: QueueUse,
    ) -> Result<Self, EmbeddedError> {
        let placements = open_places(places)?;
        let sockets = ClaimedDir::claim(state_dir, "sockets-")?;
        let options = ServerOptions {
            control_socket: sockets.path().join("control"),
            ingest_socket: sockets.path().join("ingest"),
            allow_uids: Vec::new(),
            spool: SpoolOptions {
                dir: spool_dir(state_dir, places),
                bytes_max: limits.spool_bytes_max,
                reserve_bytes: limits.reserve_bytes,
            },
            queue: match queue {
                QueueUse::Deliver => state_dir.join(QUEUE_FILE),
                QueueUse::LeaveAlone => sockets.path().join(QUEUE_FILE),
            },
            removals: RemovalPolicy {
                grace: limits.grace,
                daily_bytes_max: limits.daily_bytes_max,
                rules: places
                    .iter()
                    .map(|place| (place.name.clone(), place.removal))
                    .collect(),
            },
            copies_min: limits.copies_min,
            patience: limits.patience,
            pace: Pace::default(),
            spool_faults: IoFaults::none(),
        };
        Ok(Self {
            handle: AppendServer::start(options, placements).await?,
            _sockets: sockets,
        })
    }

    /// A client of its control socket, which reads objects without it.
    pub fn client(&self) -> StorageClient {
        StorageClient::embedded(self.handle.control_socket(), self.handle.object_reader())
    }

    /// Where a tunnel of another process would connect.
    pub fn ingest_socket(&self) -> &Path {
        self.handle.ingest_socket()
    }

    /// Where tunnels' connections go, without a socket in between.
    pub fn ingest(&self) -> Ingest {
        Ingest::Embedded(self.handle.ingest_port())
    }

    /// How many tunnel connections failed to prove themselves.
    pub fn handshakes_failed(&self) -> u64 {
        self.handle.handshakes_failed()
    }

    /// Ends the server; requests under way may finish within its deadline.
    pub async fn shutdown(self) {
        self.handle.shutdown(ServerHandle::SHUTDOWN_DEADLINE).await;
    }
}

/// Where objects can become a destination's by a link: in the state directory when that is on the file system of the
/// first required destination that is a directory, else beside that destination's objects.
fn spool_dir(state_dir: &Path, places: &[Place]) -> PathBuf {
    let device = |path: &Path| path.metadata().map(|facts| facts.dev()).ok();
    let required = places.iter().filter(|place| place.required);
    match required.filter_map(Place::local_path).next() {
        Some(path) if device(path) != device(state_dir) => path.join("spool"),
        _ => state_dir.join("spool"),
    }
}
