//! The right to append data packs: one run, one repository, so many bytes and packs, so long. Counted as bytes
//! arrive; what was counted is never given back, so that broken uploads cannot go on for ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use formats::ids::{RepositoryId, RunId};
use formats::keys::secret::RunToken;
use formats::wire::upload::OpenRun;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::grants::CommitGrant;
use crate::limits::{CONNECTIONS_PER_RUN_MAX, RUN_SECONDS_MAX, UPLOADS_PER_RUN_MAX};

/// The runs that are open.
#[derive(Debug)]
pub struct RunGrants {
    runs: Mutex<HashMap<RunId, Arc<Run>>>,
    runs_max: usize,
}

#[derive(Debug)]
struct Run {
    repository: RepositoryId,
    run: RunId,
    token: RunToken,
    bytes_max: u64,
    packs_max: u64,
    bytes_taken: AtomicU64,
    packs_taken: AtomicU64,
    /// More was sent than it may append.
    passed_limit: AtomicBool,
    deadline: Instant,
    revoked: CancellationToken,
    connections: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

/// Why a run was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenRunError {
    /// It is open.
    #[error("run {run} is open already")]
    AlreadyOpen {
        /// The run.
        run: RunId,
    },
    /// Too many are.
    #[error("{open} runs are open, which is the most; close one first")]
    TooMany {
        /// How many are open.
        open: usize,
    },
}

/// Why a grant does not allow something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It was closed, or its time is over.
    #[error("run {run} has ended")]
    Ended {
        /// The run.
        run: RunId,
    },
    /// Its bytes are used up.
    #[error("run {run} has used up its {bytes_max} bytes; raise the host's quota if that is right")]
    Bytes {
        /// The run.
        run: RunId,
        /// Its limit.
        bytes_max: u64,
    },
    /// Its packs are used up.
    #[error("run {run} has used up its {packs_max} packs; raise the host's quota if that is right")]
    Packs {
        /// The run.
        run: RunId,
        /// Its limit.
        packs_max: u64,
    },
    /// It has enough connections.
    #[error("run {run} has {connections} connections, which is the most")]
    Connections {
        /// The run.
        run: RunId,
        /// How many.
        connections: usize,
    },
}

/// What a run has appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunTotals {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Packs that were begun.
    pub packs: u64,
    /// More was sent than it might append, and refused.
    pub passed_limit: bool,
}

impl RunGrants {
    /// None open, at most so many.
    pub fn new(runs_max: usize) -> Self {
        Self {
            runs: Mutex::default(),
            runs_max,
        }
    }

    /// Opens a run.
    pub fn open(&self, request: &OpenRun, _grant: CommitGrant) -> Result<(), OpenRunError> {
        let now = Instant::now();
        let mut runs = self.runs();
        runs.retain(|_, run| {
            let over = run.deadline <= now;
            if over {
                run.revoked.cancel();
            }
            !over
        });
        if runs.contains_key(&request.run) {
            return Err(OpenRunError::AlreadyOpen { run: request.run });
        }
        if runs.len() >= self.runs_max {
            return Err(OpenRunError::TooMany { open: runs.len() });
        }
        let run = Run {
            repository: request.repository,
            run: request.run,
            token: request.token.clone(),
            bytes_max: request.bytes_max,
            packs_max: request.packs_max,
            bytes_taken: AtomicU64::new(0),
            packs_taken: AtomicU64::new(0),
            passed_limit: AtomicBool::new(false),
            deadline: now + Duration::from_secs(request.seconds_max.min(RUN_SECONDS_MAX)),
            revoked: CancellationToken::new(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_PER_RUN_MAX)),
            uploads: Arc::new(Semaphore::new(UPLOADS_PER_RUN_MAX as usize)),
        };
        runs.insert(request.run, Arc::new(run));
        Ok(())
    }

    /// Ends a run: its connections are cut, and when this returns `Some` nothing of it is on its way any
    /// more. `None` when no such run is open.
    pub async fn close(
        &self,
        run: RunId,
        deadline: Duration,
        _grant: CommitGrant,
    ) -> Option<RunTotals> {
        let run = self.runs().remove(&run)?;
        run.revoked.cancel();
        // Uploads hold a permit until their pack is stored everywhere or dropped.
        let quiet = run.uploads.acquire_many(UPLOADS_PER_RUN_MAX);
        if tokio::time::timeout(deadline, quiet).await.is_err() {
            tracing::warn!(run = %run.run, "an upload outlived its run's end");
        }
        Some(RunTotals {
            bytes: run.bytes_taken.load(Ordering::Acquire),
            packs: run.packs_taken.load(Ordering::Acquire),
            passed_limit: run.passed_limit.load(Ordering::Acquire),
        })
    }

    /// The token that a connection naming this run has to prove.
    pub(super) fn token(&self, run: RunId) -> Option<RunToken> {
        let run = self.runs().get(&run).cloned()?;
        run.check_alive().ok()?;
        Some(run.token.clone())
    }

    /// The grant of a connection that has proved it. Only the handshake calls this.
    pub(super) fn connect(&self, run: RunId) -> Result<AppendGrant, GrantError> {
        let state = self.runs().get(&run).cloned();
        let state = state.ok_or(GrantError::Ended { run })?;
        state.check_alive()?;
        let connection = Arc::clone(&state.connections)
            .try_acquire_owned()
            .map_err(|_| GrantError::Connections {
                run,
                connections: CONNECTIONS_PER_RUN_MAX,
            })?;
        Ok(AppendGrant {
            run: state,
            _connection: Arc::new(connection),
        })
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    fn check_alive(&self) -> Result<(), GrantError> {
        if self.revoked.is_cancelled() || self.deadline <= Instant::now() {
            return Err(GrantError::Ended { run: self.run });
        }
        Ok(())
    }
}

/// One connection's right to append.
#[derive(Debug, Clone)]
pub struct AppendGrant {
    run: Arc<Run>,
    _connection: Arc<OwnedSemaphorePermit>,
}

impl AppendGrant {
    /// Whose repository it appends to.
    pub fn repository(&self) -> RepositoryId {
        self.run.repository
    }

    /// Its run.
    pub fn run(&self) -> RunId {
        self.run.run
    }

    /// Ends when the grant does.
    pub async fn ended(&self) {
        tokio::select! {
            // Both only wait; losing either loses nothing.
            () = self.run.revoked.cancelled() => {}
            () = tokio::time::sleep_until(self.run.deadline) => {}
        }
    }

    /// Takes one pack from the grant, once there is a place for another upload.
    pub async fn begin_upload(&self) -> Result<UploadAllowance, GrantError> {
        let ended = GrantError::Ended { run: self.run.run };
        let place = Arc::clone(&self.run.uploads)
            .acquire_owned()
            .await
            .map_err(|_| ended)?;
        self.run.check_alive()?;
        let taken = take(&self.run.packs_taken, 1, self.run.packs_max);
        if !taken {
            return Err(GrantError::Packs {
                run: self.run.run,
                packs_max: self.run.packs_max,
            });
        }
        Ok(UploadAllowance {
            run: Arc::clone(&self.run),
            _place: place,
        })
    }
}

/// One upload under way. Closing the run waits until it is dropped.
#[derive(Debug)]
pub struct UploadAllowance {
    run: Arc<Run>,
    _place: OwnedSemaphorePermit,
}

impl UploadAllowance {
    /// Takes bytes that have arrived.
    pub fn take(&self, bytes: u64) -> Result<(), GrantError> {
        self.run.check_alive()?;
        if take(&self.run.bytes_taken, bytes, self.run.bytes_max) {
            Ok(())
        } else {
            self.run.passed_limit.store(true, Ordering::Release);
            Err(GrantError::Bytes {
                run: self.run.run,
                bytes_max: self.run.bytes_max,
            })
        }
    }

    /// Whether the pack may still be stored.
    pub fn check_alive(&self) -> Result<(), GrantError> {
        self.run.check_alive()
    }
}

/// Adds to a counter unless that passes its limit.
fn take(counter: &AtomicU64, amount: u64, limit: u64) -> bool {
    counter
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            taken
                .checked_add(amount)
                .filter(|together| *together <= limit)
        })
        .is_ok()
}
