//! `scan`: looks at every destination, object by object, and mends what another destination has whole. First names and
//! sizes, then bytes against digests, then whether snapshots have all they name. Never removes anything: what was damaged
//! is kept beside what took its place. A destination that does not answer never stops the others.

mod bad;
mod bounds;
mod compare;
mod expected;
pub mod known;
mod locks;
mod lost;
mod progress;
mod report;
mod reread;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use append_server::destination::DestinationName;
use formats::ids::{PackId, RepositoryId};
use formats::object::ObjectName;
use formats::wire::upload::destinations::Placed;
use jiff::Timestamp;

use crate::catalog::CatalogError;
use crate::coordinator::{Coordinator, HostRepository, OpenError};
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::index::IndexError;
use crate::retention::lock::{RepositoryLock, RepositoryLockError};
use crate::scan::expected::Expected;
use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::storage::StorageClient;
use crate::storage::error::StorageError;
use crate::terminal::error_line;

pub use crate::scan::progress::ScanState;
pub use crate::scan::report::{DestinationScan, RepositoryScan};

/// How much is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Names and sizes, and the last log record.
    Names,
    /// The packs that were stored since they were last read.
    New,
    /// This part of everything, from where the last scan stopped.
    Percent(u8),
    /// Everything, beginning where the last scan stopped.
    Whole,
}

/// What a scan does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanOptions {
    /// How much is read again.
    pub depth: Depth,
    /// Whether what is read is opened with the keys, too, and every chunk's id recomputed.
    pub verify: bool,
    /// Whether what is missing or damaged is put right.
    pub repair: bool,
    /// Whether locks are prolonged.
    pub extend_locks: bool,
    /// The most locks of each destination that are looked at.
    pub locks_max: Option<u64>,
    /// The most bytes that are read of each destination.
    pub budget_bytes: Option<u64>,
}

/// Why a scan of a repository could not be carried out at all.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The repository.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was read before.
    #[error(transparent)]
    Progress(#[from] DatabaseError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The append-server.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The repository's lock.
    #[error(transparent)]
    Lock(#[from] RepositoryLockError),
    /// A destination lists without an end.
    #[error(
        "destination {destination} lists more objects that nothing is known of than can be: it is not to be relied on"
    )]
    EndlessList {
        /// Which.
        destination: DestinationName,
    },
    /// A listing, for its files' names.
    #[error("could not look at what snapshots name")]
    Chunk(#[from] Arc<ChunkError>),
}

impl ScanError {
    /// Whether stored data is not what was stored.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Open(error) => error.exit_code() == ExitCode::Integrity,
            Self::Chunk(error) => error.class() == FailureClass::Integrity,
            _ => false,
        }
    }
}

/// Objects that were found bad, and at which destinations.
type Bad = BTreeMap<ObjectName, HashSet<DestinationName>>;

/// What every step of a scan works with.
struct Scan<'a> {
    coordinator: &'a Coordinator,
    began: Timestamp,
    repository: RepositoryId,
    opened: &'a HostRepository,
    expected: Expected,
    options: ScanOptions,
    state: &'a mut ScanState,
    bad: Bad,
    /// Of those, what was read and has other bytes than were stored.
    rotten: HashSet<ObjectName>,
    /// Objects that could not be read at some destination, and may be good there.
    unreadable: HashSet<ObjectName>,
    /// Packs that were lost, and that a destination lists.
    listed_again: BTreeMap<ObjectName, HashSet<DestinationName>>,
    /// What the destination that is being scanned is still to get.
    pending: HashSet<ObjectName>,
    /// Records of the log that were not known when the scan began, and where they are.
    unknown_records: Vec<(DestinationName, u64)>,
    lost: BTreeMap<ObjectName, PackId>,
    problems: Vec<String>,
}

/// Scans one repository at these destinations.
pub async fn scan_repository(
    coordinator: &Coordinator,
    name: &str,
    destinations: &[DestinationName],
    options: ScanOptions,
    state: &mut ScanState,
) -> Result<Option<RepositoryScan>, ScanError> {
    let began = coordinator.clock.now();
    let Some((opened, problems)) = coordinator.find_damaged(name).await? else {
        return Ok(None);
    };
    let left_out = left_out(coordinator, opened.repository.id()).await?;
    let expected = Expected::of(coordinator, &opened, &left_out).await?;
    let mut found = RepositoryScan {
        name: name.to_owned(),
        problems,
        ..RepositoryScan::default()
    };
    let differing = expected.differing.iter().map(|name| {
        format!("{name} differs between destinations, or cannot be read at one, and nobody here knows which is right")
    });
    let differing: Vec<String> = differing.collect();
    let mut scan = Scan {
        coordinator,
        began,
        repository: opened.repository.id(),
        opened: &opened,
        expected,
        options,
        state,
        bad: Bad::new(),
        rotten: HashSet::new(),
        unreadable: HashSet::new(),
        listed_again: BTreeMap::new(),
        pending: HashSet::new(),
        unknown_records: Vec::new(),
        lost: BTreeMap::new(),
        problems: differing,
    };
    for destination in destinations {
        let here = scan.look_at(destination, left_out.contains(destination));
        found.destinations.push(here.await?);
    }
    let looked = async {
        scan.find_lost().await;
        if options.repair {
            // A place that is taken away while a prune looks where things are would make it see them dead.
            let locks = coordinator.state_dir.locks_dir();
            let _in_use = RepositoryLock::share(&locks, name).await?;
            scan.give_up_lost()?;
            found.found_again = scan.find_again().await?;
        }
        scan.check_references(&mut found).await
    };
    // What was found so far is told all the same.
    if let Err(error) = looked.await {
        found.error = Some(error_line(&error));
    }
    found.lost = scan.lost.keys().map(ToString::to_string).collect();
    let (unknown, problems) = (scan.unknown_records, scan.problems);
    if !unknown.is_empty() || (!found.problems.is_empty() && found.was_healed()) {
        look_again(coordinator, name, unknown, &mut found).await?;
    }
    found.problems.extend(problems);
    Ok(Some(found))
}

/// The destinations that a repository is not kept at: nothing is missing there, and what they have says nothing.
async fn left_out(
    coordinator: &Coordinator,
    repository: RepositoryId,
) -> Result<HashSet<DestinationName>, ScanError> {
    let states = coordinator.storage.destinations_of(repository).await?;
    let left_out = states
        .into_iter()
        .filter(|state| state.placed == Placed::LeftOut);
    Ok(left_out
        .filter_map(|state| state.name.parse().ok())
        .collect())
}

/// What was wrong with the whole may have gone with what was healed, and a record that was unknown may be a run's that
/// ended meanwhile.
async fn look_again(
    coordinator: &Coordinator,
    name: &str,
    unknown: Vec<(DestinationName, u64)>,
    found: &mut RepositoryScan,
) -> Result<(), ScanError> {
    let Some((opened, problems)) = coordinator.find_damaged(name).await? else {
        return Ok(());
    };
    found.problems = problems;
    let last = opened.catalog.last()?.map_or(0, |(sequence, _)| sequence);
    for (destination, sequence) in unknown {
        if sequence > last {
            found.problems.push(format!(
                "the log at {destination} goes on to record {sequence}, and this coordinator knows {last}: another one \
                 writes to it, or this one is an old copy of itself"
            ));
        }
    }
    Ok(())
}

impl Scan<'_> {
    /// What is found at a destination. Nothing is looked for where the repository is not kept.
    async fn look_at(
        &mut self,
        destination: &DestinationName,
        not_kept: bool,
    ) -> Result<DestinationScan, ScanError> {
        let mut here = DestinationScan {
            name: destination.to_string(),
            not_kept,
            ..DestinationScan::default()
        };
        if not_kept {
            self.state
                .forget_destination(self.repository, destination)?;
            return Ok(here);
        }
        match self.destination(destination, &mut here).await {
            Err(error @ (ScanError::Storage(_) | ScanError::EndlessList { .. })) => {
                here.error = Some(error_line(&error));
            }
            done => done?,
        }
        Ok(here)
    }

    async fn destination(
        &mut self,
        destination: &DestinationName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        self.compare(destination, here).await?;
        self.reread(destination, here).await?;
        if self.options.extend_locks {
            self.renew_locks(destination, here).await?;
        }
        Ok(())
    }

    fn storage_at(&self, destination: &DestinationName) -> StorageClient {
        self.coordinator.storage.at(destination)
    }
}
