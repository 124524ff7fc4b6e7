//! Writing to a repository's log, and who may. A coordinator writes only where it holds the lease, the last one in the log,
//! and where every record is its own or was looked at by a person. Since a record is created once, at its place, a commit
//! meets whatever another coordinator wrote in the meantime, and looks again.

use std::time::Duration;

use formats::ids::{RecordId, RepositoryId};
use formats::limits::RECORD_BYTES_MAX;
use formats::log::lease::Lease;
use formats::log::record::{Payload, RecordError, RecordKind, RecordPlace, seal_record};
use formats::object::ObjectName;
use formats::wire::upload::destinations::{DestinationState, Placed};
use futures_util::future::join_all;

use crate::catalog::state::ForeignRecords;
use crate::catalog::sync::SyncError;
use crate::catalog::{Catalog, CatalogError};
use crate::clock::{from_nanos, to_nanos, utc};
use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::exit_code::ExitCode;
use crate::machine;
use crate::repository::Repository;
use crate::storage::destinations::not_filled;
use crate::storage::{ReadRange, StorageError};

/// How often a record gives way to one of another run of this coordinator that was faster.
const ATTEMPTS_MAX: u32 = 64;

/// How long a destination may take to show its newest record.
const COPY_DEADLINE: Duration = Duration::from_secs(10);

/// Why nothing was written to a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another coordinator's.
    #[error(
        "repository {repository} is leased to another coordinator, on {machine} since {since}: back up from there; or, when \
         that one is gone for good, take it over with `coordinator lease take {name}`"
    )]
    Leased {
        /// The repository.
        repository: RepositoryId,
        /// The host's or the group's name.
        name: String,
        /// Its machine.
        machine: String,
        /// Since when.
        since: String,
    },
    /// Perhaps another coordinator's: a record that these keys do not open.
    #[error(
        "log record {sequence} of repository {repository} is not this coordinator's, and these keys do not open it: another \
         coordinator may have taken the lease. When it is done there, take it back with `coordinator lease take {name}`"
    )]
    MaybeLeased {
        /// The repository.
        repository: RepositoryId,
        /// The host's or the group's name.
        name: String,
        /// The record.
        sequence: u64,
    },
    /// Packs may have been condemned since.
    #[error(
        "log record {sequence} of repository {repository} is an act of retention that came meanwhile and that these keys do not \
         open: what is built upon may be condemned. Run again"
    )]
    Overtaken {
        /// The repository.
        repository: RepositoryId,
        /// The record.
        sequence: u64,
    },
    /// Somebody else wrote.
    #[error(
        "repository {repository} has log records {first} to {last} that this coordinator did not write: it is an old copy of \
         itself, or another coordinator writes there. Look at them with `coordinator snapshots`, make sure that only \
         one coordinator writes, then allow it with `coordinator audit reconcile {name}`"
    )]
    Foreign {
        /// The repository.
        repository: RepositoryId,
        /// The host's or the group's name.
        name: String,
        /// The first such record.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A copy is not what it was.
    #[error(
        "destination {destination} does not have log record {sequence} of repository {repository}, which was stored there: it \
         was rolled back, forked, emptied, or is another one. Look at it with `coordinator scan --destination {destination}`, \
         and heal it with --repair"
    )]
    Copy {
        /// Which.
        destination: String,
        /// The repository.
        repository: RepositoryId,
        /// The record.
        sequence: u64,
    },
    /// Storage failed, or something that is no record stands at the place.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log that is there cannot be read.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The record could not be made.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state file failed.
    #[error(transparent)]
    State(#[from] DatabaseError),
}

impl LogError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Leased { .. } | Self::MaybeLeased { .. } => ExitCode::Locked,
            Self::Foreign { .. } | Self::Copy { .. } => ExitCode::Integrity,
            Self::Sync(error) if error.is_integrity() => ExitCode::Integrity,
            _ => ExitCode::Error,
        }
    }
}

impl Coordinator {
    /// Writes a record to the end of the log. It is durable when this returns.
    pub async fn append(
        &self,
        repository: &Repository,
        catalog: &mut Catalog,
        payload: &Payload,
    ) -> Result<(RecordPlace, RecordId), LogError> {
        let id = repository.id();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let place = catalog.head()?;
            // After the place was read: what came before it is seen, and what comes after it takes it.
            refuse_unheeded(repository, catalog)?;
            let log = &repository.config.public.log;
            let (bytes, record) = seal_record(&place, payload, log, &repository.keys)?;
            // Whoever syncs this catalog meanwhile with keys that open no record knows it all the same.
            catalog.intend(&place, record, payload)?;
            let name = ObjectName::Log(place.sequence);
            let conflict = match self.storage.put(id, &name, bytes.into()).await {
                Ok(_) => {
                    catalog.append(&place, record, payload)?;
                    return Ok((place, record));
                }
                Err(error @ StorageError::Conflict { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            // Another run of this coordinator was faster, or another coordinator is at work.
            catalog.sync(&self.storage, &repository.keys).await?;
            if catalog.head()? == place || attempt == ATTEMPTS_MAX {
                return Err(conflict.into());
            }
            self.note_foreign(catalog, id, place.sequence - 1).await?;
            self.may_write(repository, catalog).await?;
        }
    }

    /// Takes the lease of a repository that nobody has written to; refuses when it may not be written to.
    pub(super) async fn hold_lease(
        &self,
        repository: &Repository,
        catalog: &mut Catalog,
    ) -> Result<(), LogError> {
        if self.may_write(repository, catalog).await? {
            return Ok(());
        }
        self.append(repository, catalog, &Payload::Lease(self.lease()))
            .await?;
        Ok(())
    }

    /// Takes the lease over, whoever has it; says who had it.
    pub async fn take_lease(
        &self,
        repository: &Repository,
        catalog: &mut Catalog,
    ) -> Result<Option<Lease>, LogError> {
        self.refuse_foreign(repository).await?;
        let before = catalog.lease()?;
        let is_own = before
            .as_ref()
            .is_some_and(|lease| lease.coordinator == self.id)
            && catalog.hidden_lease_at(u64::MAX)?.is_none();
        if !is_own {
            self.append(repository, catalog, &Payload::Lease(self.lease()))
                .await?;
        }
        Ok(before)
    }

    /// Looks at every destination whether it still has the newest record that is known. One that is behind has it yet to
    /// come, one that does not answer says nothing; a required one with another is refused, one that follows is told of.
    pub(super) async fn check_copies(
        &self,
        repository: &Repository,
        catalog: &Catalog,
    ) -> Result<(), LogError> {
        let Some((sequence, known)) = catalog.last()? else {
            return Ok(());
        };
        let mut states = self.storage.destinations_of(repository.id()).await?;
        states.retain(is_whole);
        if states.len() < 2 {
            return Ok(()); // The catalog has just read it there.
        }
        let looks = states
            .iter()
            .map(|state| self.has_record(state, repository.id(), sequence, known));
        for (state, is_there) in states.iter().zip(join_all(looks).await) {
            if is_there {
                continue;
            }
            let error = LogError::Copy {
                destination: state.name.clone(),
                repository: repository.id(),
                sequence,
            };
            if state.required {
                return Err(error);
            }
            tracing::error!(%error, "a destination is not what it was");
        }
        Ok(())
    }

    /// Whether a destination has a record, as far as it can be told now.
    async fn has_record(
        &self,
        state: &DestinationState,
        repository: RepositoryId,
        sequence: u64,
        known: RecordId,
    ) -> bool {
        let (0, Ok(destination)) = (state.objects_behind, state.name.parse()) else {
            return true;
        };
        let storage = self.storage.at(&destination);
        let name = ObjectName::Log(sequence);
        let read = storage.get(repository, &name, ReadRange::All, RECORD_BYTES_MAX);
        match tokio::time::timeout(COPY_DEADLINE, read).await {
            Ok(Ok(bytes)) => blake3::hash(&bytes).as_bytes() == known.as_bytes(),
            // A required one that lacks records is refused by the append-server, which says how to fill it.
            Ok(Err(error)) => !error.is_absent() || state.required,
            Err(_) => true,
        }
    }

    fn lease(&self) -> Lease {
        Lease {
            coordinator: self.id,
            machine: machine::name(),
            taken_nanos: to_nanos(self.clock.now()),
        }
    }

    /// Whether the lease is held, where it is nobody else's.
    async fn may_write(
        &self,
        repository: &Repository,
        catalog: &Catalog,
    ) -> Result<bool, LogError> {
        self.refuse_foreign(repository).await?;
        if let Some(sequence) = catalog.hidden_lease_at(u64::MAX)? {
            return Err(LogError::MaybeLeased {
                repository: repository.id(),
                name: repository.name.clone(),
                sequence,
            });
        }
        match catalog.lease()? {
            None => Ok(false),
            Some(lease) if lease.coordinator == self.id => Ok(true),
            Some(lease) => Err(LogError::Leased {
                repository: repository.id(),
                name: repository.name.clone(),
                machine: lease.machine,
                since: since(lease.taken_nanos),
            }),
        }
    }

    async fn refuse_foreign(&self, repository: &Repository) -> Result<(), LogError> {
        let id = repository.id();
        match self.state.lock().await.foreign(id)? {
            None => Ok(()),
            Some(records) => Err(LogError::Foreign {
                repository: id,
                name: repository.name.clone(),
                first: records.first,
                last: records.last,
            }),
        }
    }

    /// Notes snapshots and acts of retention after the record `before` that no run of this coordinator made, though it had the lease: it is an old
    /// copy of itself then, or not alone.
    pub(super) async fn note_foreign(
        &self,
        catalog: &Catalog,
        repository: RepositoryId,
        before: u64,
    ) -> Result<(), LogError> {
        let last = catalog.last()?.map_or(0, |(sequence, _)| sequence);
        if last == before {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        let mut found: Option<ForeignRecords> = None;
        for row in catalog.snapshots_after(before)? {
            if state.knows_run(row.run)? {
                continue;
            }
            let holder = catalog.lease_at(row.sequence)?;
            if holder.is_none_or(|lease| lease.coordinator == self.id) {
                let last = row.sequence;
                let first = found.map_or(last, |records| records.first);
                found = Some(ForeignRecords { first, last });
            }
        }
        for (sequence, act) in catalog.acts_after(before)? {
            let holder = catalog.lease_at(sequence)?;
            let is_ours = holder.is_none_or(|lease| lease.coordinator == self.id);
            if is_ours && !state.knows_act(act)? {
                found = Some(with_record(found, sequence));
            }
        }
        // What was made here is known without being opened.
        for (sequence, kind) in catalog.unread()? {
            if sequence <= before || kind == RecordKind::LeaseOrSettings {
                continue;
            }
            let holder = catalog.lease_at(sequence)?;
            let is_ours = holder.is_none_or(|lease| lease.coordinator == self.id)
                && catalog.hidden_lease_at(sequence)?.is_none();
            if is_ours {
                found = Some(with_record(found, sequence));
            }
        }
        if let Some(records) = found {
            state.note_foreign(repository, records, self.clock.now())?;
        }
        Ok(())
    }
}

fn with_record(found: Option<ForeignRecords>, sequence: u64) -> ForeignRecords {
    ForeignRecords {
        first: found.map_or(sequence, |records| records.first.min(sequence)),
        last: found.map_or(sequence, |records| records.last.max(sequence)),
    }
}

/// What a run built upon may have been condemned by an act that its keys do not open.
fn refuse_unheeded(repository: &Repository, catalog: &Catalog) -> Result<(), LogError> {
    match catalog.unheeded()? {
        None => Ok(()),
        Some(sequence) => Err(LogError::Overtaken {
            repository: repository.id(),
            sequence,
        }),
    }
}

/// Whether a destination is to have all of a log. One that is not filled is away, which a person is told.
fn is_whole(state: &DestinationState) -> bool {
    if state.placed == Placed::Unfilled {
        let problem = not_filled(&state.name);
        tracing::warn!(
            destination = state.name,
            problem,
            "its log is not looked at"
        );
    }
    state.placed == Placed::Kept
}

/// When a lease was taken, for people.
pub fn since(taken_nanos: i64) -> String {
    utc(from_nanos(taken_nanos))
}
