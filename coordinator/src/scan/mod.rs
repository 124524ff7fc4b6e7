//! `scan`: looks at every destination, object by object, and mends what another destination has whole. First names and
//! sizes, then bytes against digests, then whether snapshots have all they name. Never removes anything: what was damaged
//! is kept beside what took its place. A destination that does not answer never stops the others.

mod compare;
mod expected;
mod locks;
mod lost;
mod progress;
mod reread;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use append_server::destination::DestinationName;
use formats::ids::{PackId, RecordId, RepositoryId};
use formats::limits::RECORD_BYTES_MAX;
use formats::log::record::{RecordError, RecordPlace, SealedRecord};
use formats::object::ObjectName;
use formats::wire::upload::HealedObject;

use crate::catalog::CatalogError;
use crate::coordinator::{Coordinator, HostRepository, OpenError};
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::index::IndexError;
use crate::scan::expected::Expected;
use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::storage::error::StorageError;
use crate::storage::{ReadRange, StorageClient};
use crate::terminal::error_line;

pub use crate::scan::progress::ScanState;

/// What is said of an object that is not there.
const IS_MISSING: &str = "is missing";
/// The most problems of a destination that are told one by one.
const PROBLEMS_LISTED_MAX: usize = 20;

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

/// What was found at one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestinationScan {
    /// Its name.
    pub name: String,
    /// Objects that are there as they should be, as far as names and sizes tell.
    pub objects: u64,
    /// Objects that were read again.
    pub read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Objects that are not there.
    pub missing: u64,
    /// Objects that are not what was stored.
    pub damaged: u64,
    /// Objects that are on their way there.
    pub pending: u64,
    /// Objects there that nothing is known of: of runs that are under way, or died.
    pub unknown: u64,
    /// Objects that were put right.
    pub healed: u64,
    /// Locks that were prolonged.
    pub locks_renewed: u64,
    /// What was wrong, one line each; not all of it.
    pub problems: Vec<String>,
    /// Why it could not be scanned to the end.
    pub error: Option<String>,
}

impl DestinationScan {
    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_LISTED_MAX {
            self.problems.push(text);
        }
    }
}

/// What was found of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryScan {
    /// The host's name, or its group's.
    pub name: String,
    /// What is wrong with it as a whole, such as a log that no destination has whole.
    pub problems: Vec<String>,
    /// Each destination.
    pub destinations: Vec<DestinationScan>,
    /// Snapshots whose references were looked at.
    pub snapshots_checked: u64,
    /// Objects that no destination has whole.
    pub lost: Vec<String>,
    /// The files, and snapshots, that need them.
    pub lost_files: Vec<String>,
    /// How many of those there are.
    pub lost_file_count: u64,
    /// Why it could not be scanned to the end.
    pub error: Option<String>,
    /// Whether that is because of what is stored, as opposed to what did not answer.
    pub is_integrity: bool,
}

impl RepositoryScan {
    /// Whether something is not as it should be, and was not put right.
    pub fn is_damaged(&self) -> bool {
        let unhealed = |scan: &DestinationScan| scan.missing + scan.damaged > scan.healed;
        self.is_integrity
            || !self.problems.is_empty()
            || !self.lost.is_empty()
            || self.lost_file_count > 0
            || self.destinations.iter().any(unhealed)
    }

    /// Whether something was wrong that is right now.
    pub fn was_healed(&self) -> bool {
        self.destinations.iter().any(|scan| scan.healed > 0)
    }

    /// Whether a destination could not be scanned to its end.
    pub fn is_incomplete(&self) -> bool {
        self.error.is_some() || self.destinations.iter().any(|scan| scan.error.is_some())
    }
}

/// Objects that were found bad, and at which destinations.
type Bad = BTreeMap<ObjectName, HashSet<DestinationName>>;

/// What every step of a scan works with.
struct Scan<'a> {
    coordinator: &'a Coordinator,
    repository: RepositoryId,
    opened: &'a HostRepository,
    expected: Expected,
    options: ScanOptions,
    state: &'a mut ScanState,
    bad: Bad,
    /// Of those, what was read and has other bytes than were stored.
    rotten: HashSet<ObjectName>,
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
    let Some((opened, problems)) = coordinator.find_damaged(name).await? else {
        return Ok(None);
    };
    let expected = Expected::of(coordinator, &opened).await?;
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
        repository: opened.repository.id(),
        opened: &opened,
        expected,
        options,
        state,
        bad: Bad::new(),
        rotten: HashSet::new(),
        pending: HashSet::new(),
        unknown_records: Vec::new(),
        lost: BTreeMap::new(),
        problems: differing,
    };
    for destination in destinations {
        let mut here = DestinationScan {
            name: destination.to_string(),
            ..DestinationScan::default()
        };
        match scan.destination(destination, &mut here).await {
            Err(error @ (ScanError::Storage(_) | ScanError::EndlessList { .. })) => {
                here.error = Some(error_line(&error));
            }
            done => done?,
        }
        found.destinations.push(here);
    }
    let looked = async {
        scan.find_lost().await;
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

    /// Notes an object that is not there, or is not what it should be, and puts it right where that is asked for.
    async fn found_bad(
        &mut self,
        destination: &DestinationName,
        name: &ObjectName,
        what: &str,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        let places = self.bad.entry(name.clone()).or_default();
        if !places.insert(destination.clone()) {
            return Ok(()); // Told before, by another step.
        }
        let Some(digest) = self.expected.digest(name) else {
            here.problem(format!("{name} {what}, and nobody knows what it should be"));
            return Ok(());
        };
        if !self.options.repair {
            here.problem(format!("{name} {what}"));
            return Ok(());
        }
        if let Some(reason) = self.must_stay(destination, name, what).await {
            here.problem(format!("{name} {what}, and stays so: {reason}"));
            return Ok(());
        }
        let storage = &self.coordinator.storage;
        let healed = storage
            .heal(destination, self.repository, name, digest)
            .await;
        match healed {
            Ok(HealedObject::Good) => {
                here.healed += 1;
                here.problem(format!(
                    "{name} {what}, and was good when it was looked at again: what this destination answers cannot be \
                     relied on"
                ));
            }
            Ok(HealedObject::Pending) => {
                here.healed += 1;
                here.problem(format!("{name} {what}, and is on its way"));
            }
            Ok(HealedObject::Stored { from }) => {
                here.healed += 1;
                here.problem(format!("{name} {what}: copied from {from}"));
            }
            Ok(HealedObject::Replaced { from, kept }) => {
                here.healed += 1;
                here.problem(format!(
                    "{name} {what}: replaced from {from}; the damaged bytes are kept as {kept}"
                ));
            }
            Err(error) => {
                here.problem(format!(
                    "{name} {what}, and stays so: {}",
                    error_line(&error)
                ));
                return Ok(());
            }
        }
        if let Some(places) = self.bad.get_mut(name) {
            places.remove(destination);
        }
        Ok(())
    }

    /// Why an object must not be replaced, though it is not what it should be.
    async fn must_stay(
        &mut self,
        destination: &DestinationName,
        name: &ObjectName,
        what: &str,
    ) -> Option<String> {
        match name {
            ObjectName::Keys(_) if what != IS_MISSING && !self.expected.is_trusted(name) => {
                Some("nobody here knows which copy of it is right".to_owned())
            }
            ObjectName::Log(sequence) if what != IS_MISSING => {
                let is_ours = self.is_record_of_ours(destination, *sequence).await;
                is_ours.then(|| {
                    self.problems.push(format!(
                        "the log at {destination} was forked: its record {sequence} is signed by this repository's key \
                         and is another than the one that is known"
                    ));
                    "it is another record of this repository's own, and there are two histories".to_owned()
                })
            }
            _ => None,
        }
    }

    /// Whether a record that is not the known one was signed for this very place: then it is no damage.
    async fn is_record_of_ours(&self, destination: &DestinationName, sequence: u64) -> bool {
        let name = ObjectName::Log(sequence);
        let storage = self.storage_at(destination);
        let read = storage.get(self.repository, &name, ReadRange::All, RECORD_BYTES_MAX);
        let (Ok(bytes), Ok(verifying)) = (read.await, self.opened.repository.keys.verifying())
        else {
            return false;
        };
        let place = RecordPlace {
            repository: self.repository,
            epoch: self.opened.repository.config.epoch,
            sequence,
            previous: RecordId([0; 32]),
        };
        let checked = SealedRecord::check(&bytes, &verifying, &place);
        matches!(checked, Ok(_) | Err(RecordError::Chain { .. }))
    }
}
