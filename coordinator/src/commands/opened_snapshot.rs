//! What the commands that read a snapshot begin with: the coordinator, the host's repository, the record, and
//! a reader of its chunks. And the one error that they end with.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use formats::keys::repository::MissingKeyError;
use formats::log::snapshot::Snapshot;

use crate::catalog::SnapshotRow;
use crate::catalog::selector::Selector;
use crate::commands::on_storage::{CommandError, find_snapshot, open_coordinator, select_snapshot};
use crate::config::Config;
use crate::coordinator::{Coordinator, HostRepository};
use crate::exit_code::ExitCode;
use crate::restore::error::RestoreError;
use crate::retention::lock::{RepositoryLock, RepositoryLockError};
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::content::ContentError;
use crate::snapshot::listing::{Listing, ListingError};
use crate::snapshot::shown::shown_path;

/// Why a command on a snapshot failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotCommandError {
    /// Before it came to the snapshot.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The keys in hand are not enough.
    #[error(transparent)]
    Key(#[from] MissingKeyError),
    /// The catalog lists a snapshot whose record it does not have.
    #[error(
        "the record of snapshot {id} is not in the catalog: remove the host's catalog file, it is made again from the log"
    )]
    NoRecord {
        /// The snapshot.
        id: String,
    },
    /// Asked for what changed since the snapshot before the first.
    #[error(
        "snapshot {id} is the first of its host that is left: there is none before it to compare it with"
    )]
    First {
        /// The snapshot.
        id: String,
    },
    /// Its content is elsewhere.
    #[error(
        "snapshot {id} is not kept at {read}, whose keep rules dropped it: read a destination that keeps it, which \
         `coordinator show` names"
    )]
    KeptElsewhere {
        /// The snapshot.
        id: String,
        /// The destinations that were to be read.
        read: String,
    },
    /// The listing.
    #[error("the snapshot's listing cannot be read")]
    Listing(#[from] ListingError),
    /// A chunk.
    #[error("the snapshot's content cannot be read")]
    Chunk(#[from] Arc<ChunkError>),
    /// A file's list of chunks.
    #[error("the file's content cannot be read")]
    Content(#[from] ContentError),
    /// The repository's lock.
    #[error(transparent)]
    Lock(#[from] RepositoryLockError),
    /// A restore.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A file of patterns.
    #[error("cannot read the patterns in {}", path.display())]
    PatternFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Asked to print what is no file.
    #[error(
        "{} is no regular file: use ls to list it, or restore",
        shown_path(path)
    )]
    NotAFile {
        /// The path.
        path: Vec<u8>,
    },
    /// Asked to print what was not readable when it was backed up.
    #[error(
        "the content of {} could not be read when it was backed up: look in another snapshot",
        shown_path(path)
    )]
    NotBackedUp {
        /// The path.
        path: Vec<u8>,
    },
    /// Bytes for a program, and no program to take them.
    #[error("stdout is a terminal: write `> FILE` behind the command, or `| PROGRAM`")]
    ToTerminal,
    /// Writing the answer failed.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

impl SnapshotCommandError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Command(error) => error.exit_code(),
            Self::Key(_) => ExitCode::WrongKey,
            Self::First { .. } | Self::KeptElsewhere { .. } => ExitCode::NotFound,
            Self::ToTerminal => ExitCode::Usage,
            Self::Lock(error) if error.is_held() => ExitCode::Locked,
            Self::Listing(error) => error.class().exit_code(),
            Self::Chunk(error) => error.class().exit_code(),
            Self::Content(error) => error.class().exit_code(),
            Self::Restore(RestoreError::NoSuchPath { .. }) => ExitCode::NotFound,
            Self::Restore(RestoreError::BadPath { .. } | RestoreError::Pattern(_)) => {
                ExitCode::Usage
            }
            Self::Restore(RestoreError::Cancelled) => ExitCode::Cancelled,
            Self::Restore(error) => error
                .class()
                .map_or(ExitCode::Error, |class| class.exit_code()),
            _ => ExitCode::Error,
        }
    }
}

/// A snapshot, ready to be read.
#[derive(Debug)]
pub struct OpenedSnapshot {
    /// The coordinator; to be closed at the end.
    pub coordinator: Coordinator,
    /// Its row in the catalog.
    pub row: SnapshotRow,
    /// Its record.
    pub snapshot: Snapshot,
    /// Reads its chunks.
    pub chunks: ChunkReader,
    repository: HostRepository,
    // No prune takes away what is being read.
    _in_use: RepositoryLock,
}

impl OpenedSnapshot {
    /// Opens the snapshot of a host that is meant.
    pub async fn open(
        config: Config,
        host: &str,
        selector: &Selector,
        destination: Option<&str>,
    ) -> Result<Self, SnapshotCommandError> {
        let name = config.host(host).map_err(CommandError::from)?;
        let name = name.repository.to_string();
        let coordinator = open_coordinator(config, destination).await?;
        let locks = coordinator.state_dir.locks_dir();
        let in_use = RepositoryLock::share(&locks, &name).await?;
        let (opened, row) = find_snapshot(&coordinator, host, selector).await?;
        let snapshot = record_of(&opened, &row)?;
        let chunks = coordinator.chunk_reader(&opened)?;
        Ok(Self {
            coordinator,
            row,
            snapshot,
            chunks,
            repository: opened,
            _in_use: in_use,
        })
    }

    /// Refuses to read content where the snapshot is not kept.
    pub fn expect_kept(&self) -> Result<(), SnapshotCommandError> {
        let elsewhere = self
            .coordinator
            .is_kept_elsewhere(&self.repository, self.row.id);
        match elsewhere.map_err(CommandError::from)? {
            None => Ok(()),
            Some(read) => Err(SnapshotCommandError::KeptElsewhere {
                id: self.row.id.short(),
                read,
            }),
        }
    }

    /// Where the snapshot was dropped, while other destinations keep it.
    pub fn dropped_at(&self) -> Result<Vec<String>, SnapshotCommandError> {
        let dropped = self.repository.catalog.dropped_at(self.row.id);
        Ok(dropped.map_err(CommandError::from)?)
    }

    /// Another snapshot of the same host, and its listing.
    pub async fn another(
        &self,
        selector: &Selector,
    ) -> Result<(SnapshotRow, Listing), SnapshotCommandError> {
        let row = select_snapshot(&self.repository, &self.row.host, selector)?;
        self.with_listing(row).await
    }

    /// The host's snapshot before this one, and its listing.
    pub async fn previous(&self) -> Result<(SnapshotRow, Listing), SnapshotCommandError> {
        let rows = self.repository.catalog.snapshots(Some(&self.row.host));
        let rows = rows.map_err(CommandError::from)?.into_iter();
        let before = rows.take_while(|row| row.sequence < self.row.sequence);
        let row = before.last().ok_or_else(|| SnapshotCommandError::First {
            id: self.row.id.to_string(),
        })?;
        self.with_listing(row).await
    }

    async fn with_listing(
        &self,
        row: SnapshotRow,
    ) -> Result<(SnapshotRow, Listing), SnapshotCommandError> {
        let snapshot = record_of(&self.repository, &row)?;
        let listing = Listing::open(self.chunks.clone(), &snapshot.page_index).await?;
        Ok((row, listing))
    }

    /// Its listing.
    pub async fn listing(&self) -> Result<Listing, ListingError> {
        Listing::open(self.chunks.clone(), &self.snapshot.page_index).await
    }
}

fn record_of(
    repository: &HostRepository,
    row: &SnapshotRow,
) -> Result<Snapshot, SnapshotCommandError> {
    let snapshot = repository.catalog.snapshot(row.id);
    let snapshot = snapshot.map_err(CommandError::from)?;
    snapshot.ok_or_else(|| SnapshotCommandError::NoRecord {
        id: row.id.to_string(),
    })
}
