//! From the command line to a running daemon, and from the signal to its orderly end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use append_server::service_manager::ServiceManager;
use append_server::socket::{Reach, SocketError, listen};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, utc};
use crate::config::Config;
use crate::config::revision::{AppliedError, record_applied};
use crate::coordinator::{Coordinator, OpenError};
use crate::daemon::control::{Asked, answer_all};
use crate::daemon::dead_runs::note_the_dead;
use crate::daemon::handle::DaemonHandle;
use crate::daemon::health::Health;
use crate::daemon::lock::{DaemonLock, DaemonLockError};
use crate::daemon::serve::{Daemon, Inputs};
use crate::daemon::services::{self, Parts};
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::actor::Actor;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::repository::layout::StateDir;

/// How long services may take to end.
const SERVICES_END_MAX: Duration = Duration::from_secs(10);

/// Why the daemon did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// There is one already.
    #[error(transparent)]
    Lock(#[from] DaemonLockError),
    /// Keys, state or append-server.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The record of the configuration that is in force.
    #[error(transparent)]
    Applied(#[from] AppliedError),
    /// Its control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Signals.
    #[error("could not wait for signals")]
    Signals(#[source] io::Error),
}

impl DaemonError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lock(DaemonLockError::Runs { .. }) => ExitCode::Locked,
            Self::Open(error) => error.exit_code(),
            _ => ExitCode::Error,
        }
    }
}

/// The signals that the daemon heeds.
#[derive(Debug)]
pub struct Signals {
    /// Read the configuration again.
    pub hangup: Signal,
    /// End.
    pub end: EndSignals,
}

/// The signals that end the daemon; a second one ends it at once.
#[derive(Debug)]
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            end: EndSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
        })
    }
}

impl EndSignals {
    /// Waits until the daemon is to end.
    pub async fn wait(&mut self) {
        // Losing either arm is safe: the daemon ends by the other one.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs the daemon until a signal ends it.
pub async fn run_daemon(
    file: &Path,
    config: Config,
    clock: Arc<dyn Clock>,
) -> Result<ExitCode, DaemonError> {
    // Before anything that takes long: a signal meanwhile is not lost.
    let mut signals = Signals::catch().map_err(DaemonError::Signals)?;
    let manager = ServiceManager::from_environment();
    let state_dir = StateDir::new(&config.state_dir);
    let _lock = DaemonLock::take(&state_dir.daemon_lock())?;
    let mut opened = Coordinator::open(config.clone(), Arc::clone(&clock)).await?;
    opened.events = opened.events.acting_as(Actor::Daemon);
    let died = note_the_dead(&opened).await?;

    let (handle, orders) = DaemonHandle::new();
    let current = Arc::new(opened.with_config(config));
    let (publish, coordinator) = watch::channel(Arc::clone(&current));
    let stop = CancellationToken::new();
    let health = Health::new(Instant::now());
    let parts = Parts {
        coordinator,
        events: opened.events.clone(),
        daemon: handle.clone(),
        health: health.clone(),
        stop: stop.clone(),
    };
    let running = services::start(&parts);
    // Now that whoever tells people listens.
    died.into_iter().for_each(|event| opened.events.tell(event));
    let socket = state_dir.daemon_socket();
    let listener = listen(&socket, Reach::Owner).await?;
    let asked = Asked {
        daemon: handle,
        coordinator: parts.coordinator.clone(),
    };
    let answering = tokio::spawn(answer_all(listener, asked, stop.clone()));

    let revision = record_applied(&current.config, clock.now())?.full();
    opened.events.tell(Event::new(What::DaemonStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: Some(revision.clone()),
    }));
    tracing::info!(revision, since = utc(clock.now()), "the daemon began");
    let inputs = Inputs {
        file: file.to_owned(),
        revision,
        orders,
        publish,
        health,
    };
    let mut daemon = Daemon::new(current, inputs, manager).await?;
    let served = daemon.serve(&mut signals).await;
    opened.events.tell(Event::new(What::DaemonStopped {}));

    stop.cancel();
    drop((daemon, parts));
    end_services(running).await;
    if let Err(error) = answering.await {
        tracing::error!(%error, "the control socket's task");
    }
    if let Err(error) = std::fs::remove_file(&socket) {
        tracing::debug!(%error, "the control socket stays");
    }
    opened.close().await;
    served?;
    tracing::info!("the daemon ended");
    Ok(ExitCode::Ok)
}

async fn end_services(mut services: JoinSet<()>) {
    let all = async {
        while let Some(ended) = services.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a service failed");
            }
        }
    };
    if tokio::time::timeout(SERVICES_END_MAX, all).await.is_err() {
        tracing::warn!("a service did not end in time");
        services.abort_all();
    }
}
