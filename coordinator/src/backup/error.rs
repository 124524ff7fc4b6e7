//! Why a run failed. Each says what was attempted and, where there is one, the remedy.

use std::time::Duration;

use append_server::ssh::error::SshError;
use append_server::ssh::escape::escape_cut;
use formats::ids::{ChunkId, PackId};
use formats::keys::repository::MissingKeyError;
use formats::keys::secret::RandomError;
use formats::listing::order::OrderError;
use formats::log::record::RecordError;
use formats::object::UserName;
use formats::pack::open::PackError;
use formats::seal::frame::FrameError;
use formats::seal::run_header::RunHeaderError;

use crate::agents::AgentError;
use crate::backup::control::{AgentGone, ControlError};
use crate::backup::hooks::HookError;
use crate::backup::login::{LoginError, ReachError};
use crate::backup::pending::PendingError;
use crate::backup::progress::Stop;
use crate::backup::state_copy::StateCopyError;
use crate::catalog::CatalogError;
use crate::coordinator::OpenError;
use crate::coordinator::log::LogError;
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::index::IndexError;
use crate::lock::LockError;
use crate::retention::lock::RepositoryLockError;
use crate::safety::path_rules::PathRulesError;
use crate::safety::quota::Scope;
use crate::snapshot::listing::ListingError;
use crate::ssh::deploy::DeployError;
use crate::ssh::exec::ExecError;
use crate::ssh::this_machine::ThisMachineError;
use crate::ssh::tunnel::TunnelError;
use crate::storage::StorageError;

/// Bytes that are told of a path or a text of a host's: journald takes lines of more than 48 KiB apart, and what follows would be
/// one of its own.
pub const TOLD_BYTES_MAX: usize = 4 << 10;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another run of this host holds its lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The repository is being pruned.
    #[error(transparent)]
    InUse(#[from] RepositoryLockError),
    /// Connecting failed.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A hook failed that the run cannot do without.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The agent could not be put on the host.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// A command on the host failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// No tunnel of the wanted kind.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The repository cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log may not be written to, or could not be.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The history of runs cannot be written.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The index cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Storage refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A scan beside the run found packs that nobody has, and the run may have built upon them.
    #[error(
        "a scan found packs lost while the run went on, which it may have built upon: run again"
    )]
    LostMeanwhile,
    /// What is gone from the host is in the parent's listing alone.
    #[error(
        "keep_deleted keeps what only the last snapshot's listing has, and the keys of user {user} do not open it: take keep_deleted \
         out of the host's table, or back it up with keys of role data"
    )]
    KeepsDeleted {
        /// Whose keys.
        user: UserName,
    },
    /// The parent snapshot's listing cannot be read.
    #[error("cannot read the parent snapshot; run with --full-read to do without its listing")]
    Parent(#[source] ListingError),
    /// The unlocked role lacks a key.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The run's keys could not be made.
    #[error(transparent)]
    RunHeader(#[from] RunHeaderError),
    /// A meta frame could not be sealed.
    #[error("cannot seal a piece of the listing")]
    Frame(#[from] FrameError),
    /// The log record could not be made.
    #[error("cannot make the snapshot's log record")]
    Record(#[from] RecordError),
    /// The conversation broke.
    #[error("{}", control_text(.stderr))]
    Control {
        /// What the agent wrote to its standard error.
        stderr: String,
        /// How.
        source: ControlError,
    },
    /// The agent ended without finishing.
    #[error("the agent ended before it was finished (connection cut, host rebooted, or the agent killed){}", said(.stderr))]
    AgentEnded {
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// The agent no longer reads.
    #[error(transparent)]
    AgentGone(#[from] AgentGone),
    /// The agent gave up.
    #[error("the agent gave up: {}", .text.escape_debug())]
    AgentAborted {
        /// Why, in its words.
        text: String,
    },
    /// The agent said nothing for too long.
    #[error("no progress from the agent for {} s", .waited.as_secs())]
    Stalled {
        /// How long.
        waited: Duration,
    },
    /// It took longer than its host allows.
    #[error("the run took longer than limits.run allows ({} s); what was verified stays, the next run goes on from it", .limit.as_secs())]
    TooLong {
        /// The limit.
        limit: Duration,
    },
    /// The host's configuration gives no connection.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The machine that this is gives no session.
    #[error("cannot start a session on this machine")]
    Here(#[source] ThisMachineError),
    /// The coordinator's own state.
    #[error("could not make the copy of the coordinator's state that is to be backed up")]
    StateCopy(#[from] StateCopyError),
    /// There is no agent for the host's machine.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The agent is of another version.
    #[error(
        "the agent speaks protocol {found}, this coordinator {known}; the agents directory is of another version"
    )]
    Protocol {
        /// The agent's.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// The agent's digest is not that of the file sent.
    #[error("the agent on the host is not the one that was sent: its digest is another")]
    AgentDigest,
    /// A message that does not belong there.
    #[error("the agent broke the conversation: {what}")]
    Unexpected {
        /// What came.
        what: &'static str,
    },
    /// Entries or details that do not fit.
    #[error(transparent)]
    Pending(#[from] PendingError),
    /// Entries out of order.
    #[error("the agent broke the listing's order")]
    Order(#[from] OrderError),
    /// Content that names a chunk nobody stored.
    #[error("the agent named chunk {id} as content, which is not stored and was never asked for")]
    UnknownChunk {
        /// The chunk.
        id: ChunkId,
    },
    /// Chunks that were asked for and never came.
    #[error("{count} chunks that the agent promised were never stored, such as {example}")]
    ChunksMissing {
        /// How many.
        count: usize,
        /// One of them.
        example: ChunkId,
    },
    /// The agent asks for chunks and does not store them.
    #[error("the agent has {limit} chunks promised and not stored")]
    TooManyPromised {
        /// The limit.
        limit: usize,
    },
    /// A pack's bytes are others than its name says.
    #[error("pack {pack} read back from storage has other bytes than its name says")]
    PackDigest {
        /// The pack.
        pack: PackId,
    },
    /// A pack does not verify.
    #[error("pack {pack} is bad and was quarantined")]
    BadPack {
        /// The pack.
        pack: PackId,
        /// Why.
        source: PackError,
    },
    /// An entry outside what was asked for.
    #[error("the agent sent {}, which is in no path of the configuration", escape_cut(.path, TOLD_BYTES_MAX))]
    NotAsked {
        /// The path.
        path: Vec<u8>,
    },
    /// A stream that the run is not to go on without.
    #[error(
        "stream {name} failed, and without it nothing is committed (`on_failure = \"fail\"`): {reason}"
    )]
    Stream {
        /// Its name.
        name: String,
        /// Why, escaped.
        reason: String,
    },
    /// The agent's own counts are not what arrived.
    #[error(
        "the agent counts {} entries and {} packs, but {} and {} arrived",
        .told.0, .told.1, .found.0, .found.1
    )]
    Totals {
        /// Entries and packs by the agent's count.
        told: (u64, u64),
        /// Entries and packs that arrived.
        found: (u64, u64),
    },
    /// A chunk of another length than the agent says.
    #[error("the agent says that chunk {id} has {told} bytes, and it has {found}")]
    ChunkLength {
        /// The chunk.
        id: ChunkId,
        /// What the agent says.
        told: u32,
        /// What it has.
        found: u32,
    },
    /// What `keep_deleted` keeps cannot be told from what has lost its place.
    #[error(
        "{directories} directories of the last snapshot that keep_deleted covers are no directories any more, too many to keep what was in the others: nothing was committed; see what happened on the host, and if it is right, set keep_deleted to fewer paths"
    )]
    TooMuchReplaced {
        /// How many, as far as they were counted.
        directories: usize,
    },
    /// The host has nothing to back up where it should.
    #[error("no source path of the configuration exists on the host; nothing was committed")]
    NothingFound,
    /// Another machine answered in the host's place.
    #[error(
        "another machine answered ({what}): nothing was committed; if it is the host all the same, `coordinator host accept-identity {host}`"
    )]
    OtherMachine {
        /// The host.
        host: String,
        /// What differs.
        what: String,
    },
    /// The exclude rules are too many or too long to be matched together.
    #[error(transparent)]
    ExcludeRules(#[from] PathRulesError),
    /// Something of the host is not covered, and its configuration says that this is a failure.
    #[error(
        "{count} filesystems or data directories of the host are not backed up, first {first}: add them to paths or to coverage_ignore"
    )]
    NotCovered {
        /// How many.
        count: usize,
        /// The first.
        first: String,
    },
    /// A hard limit is reached.
    #[error(
        "more than {} of {} ({}): the run was cut and nothing was committed; the last snapshot stays",
        .scope.key(), crate::terminal::size_text(*.limit), .scope.as_str()
    )]
    Quota {
        /// What is limited.
        scope: Scope,
        /// How much there is, as far as it was counted.
        used: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The run was stopped.
    #[error("the run was cancelled; what was verified stays, the next run goes on from it")]
    Cancelled,
    /// The host's window closed.
    #[error(
        "the host's window closed before the run was done; what was verified stays, the next run goes on from it"
    )]
    WindowClosed,
    /// The coordinator was told to end.
    #[error(
        "the coordinator was told to end before the run was done; what was verified stays, the next run goes on from it"
    )]
    Ending,
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!("; it said: {stderr}")
    }
}

fn control_text(stderr: &str) -> String {
    format!("the conversation with the agent broke{}", said(stderr))
}

impl From<Stop> for RunError {
    fn from(why: Stop) -> Self {
        match why {
            Stop::Cancelled => Self::Cancelled,
            Stop::WindowClosed => Self::WindowClosed,
            Stop::Ending => Self::Ending,
        }
    }
}

impl From<ReachError> for RunError {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Login(error) => error.into(),
            ReachError::Ssh(error) => error.into(),
            ReachError::Here(error) => Self::Here(error),
        }
    }
}

impl RunError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lock(LockError::Locked { .. }) => ExitCode::Locked,
            Self::InUse(error) if error.is_held() => ExitCode::Locked,
            Self::Ssh(error) if error.is_host_key_mismatch() => ExitCode::HostKeyMismatch,
            Self::Ssh(SshError::HostKeyNotPinned { .. }) => ExitCode::HostKeyMismatch,
            Self::OtherMachine { .. } => ExitCode::HostKeyMismatch,
            Self::Quota { .. } | Self::Storage(StorageError::Quota { .. }) => ExitCode::Quota,
            Self::PackDigest { .. } | Self::BadPack { .. } | Self::UnknownChunk { .. } => {
                ExitCode::Integrity
            }
            Self::ChunksMissing { .. } | Self::ChunkLength { .. } => ExitCode::Integrity,
            Self::MissingKey(_) | Self::KeepsDeleted { .. } => ExitCode::WrongKey,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            Self::Cancelled | Self::Ending => ExitCode::Cancelled,
            _ => ExitCode::Error,
        }
    }
}
