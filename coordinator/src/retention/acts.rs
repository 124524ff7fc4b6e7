//! Acts of retention that a person asks for by name: forgetting a snapshot, bringing forgotten ones back, pinning. Each is one
//! record of the log, noted as this coordinator's own before it is written.

use std::collections::{BTreeMap, BTreeSet};

use append_server::destination::DestinationName;
use formats::ids::{ActId, PackId, RecordId};
use formats::keys::secret::{RandomError, random};
use formats::limits::{ACT_PACKS_MAX, TEXT_BYTES_MAX};
use formats::log::record::Payload;
use formats::log::retention::{Act, Retention};
use formats::object::ObjectName;
use jiff::tz::TimeZone;

use crate::backup::error::RunError;
use crate::catalog::retention::{CondemnedRow, ForgottenRow};
use crate::catalog::selector::{Selector, select};
use crate::catalog::thinning::{ThinnedRow, is_dropped_at};
use crate::catalog::{Catalog, CatalogError, SnapshotRow};
use crate::clock::to_nanos;
use crate::config::host::Host;
use crate::coordinator::log::LogError;
use crate::coordinator::{Coordinator, HostRepository, OpenError};
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::index::IndexError;
use crate::repository::Repository;
use crate::repository::packs::pack_name;
use crate::retention::holds::why_held;
use crate::retention::lock::{RepositoryLock, RepositoryLockError};
use crate::retention::mark::{MarkError, Marker};
use crate::storage::error::StorageError;

/// Why an act was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Somebody is at it.
    #[error(transparent)]
    Lock(#[from] RepositoryLockError),
    /// The repository.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No such snapshot.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The append-server.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index, shared.
    #[error(transparent)]
    Shared(#[from] RunError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// It is pinned.
    #[error(
        "snapshot {snapshot} of {host} is pinned: `coordinator pin rm {host} {snapshot}` first"
    )]
    Pinned {
        /// The host.
        host: String,
        /// The snapshot.
        snapshot: String,
    },
    /// Its host is on hold.
    #[error(
        "{host} is on hold ({why}): nothing of it is dropped before `coordinator hold release {host}`"
    )]
    Held {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// It is among the last good ones.
    #[error(
        "snapshot {snapshot} is among the last {floor} verified ones of {host}, which are never dropped: lower keep_floor if it must go"
    )]
    Floor {
        /// The host.
        host: String,
        /// The snapshot.
        snapshot: String,
        /// How many.
        floor: u32,
    },
    /// Nothing to bring back.
    #[error(
        "no forgotten snapshot of {host} can be brought back: what they needed is removed, or none was forgotten"
    )]
    NothingForgotten {
        /// The host.
        host: String,
    },
    /// Gone.
    #[error(
        "snapshot {snapshot} of {host} cannot be brought back: packs that were condemned after it was forgotten are removed"
    )]
    Gone {
        /// The host.
        host: String,
        /// The snapshot.
        snapshot: String,
    },
    /// It came back with holes.
    #[error("snapshot {snapshot} is back, and not whole: `coordinator scan` tells more")]
    NotWhole {
        /// The snapshot.
        snapshot: String,
        /// Why.
        source: MarkError,
    },
    /// A chunk of it is missing.
    #[error(
        "snapshot {snapshot} is back, and {missing} chunks of its files are in no pack: `coordinator scan` tells more"
    )]
    Incomplete {
        /// The snapshot.
        snapshot: String,
        /// How many.
        missing: u64,
    },
}

impl ActError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lock(error) if error.is_held() => ExitCode::Locked,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            Self::Catalog(error) if error.is_not_found() => ExitCode::NotFound,
            Self::NothingForgotten { .. } | Self::Gone { .. } => ExitCode::NotFound,
            Self::NotWhole { .. } | Self::Incomplete { .. } => ExitCode::Integrity,
            _ => ExitCode::Error,
        }
    }
}

impl Coordinator {
    /// Writes an act to the end of the log; gives its record. It is durable when this returns.
    pub(super) async fn act(
        &self,
        repository: &Repository,
        catalog: &mut Catalog,
        id: ActId,
        act: Act,
    ) -> Result<(u64, RecordId), LogError> {
        let now = self.clock.now();
        self.state.lock().await.note_act(id, now)?;
        let retention = Retention {
            id,
            at_nanos: to_nanos(now),
            act,
        };
        let payload = Payload::Retention(Box::new(retention));
        let (place, record) = self.append(repository, catalog, &payload).await?;
        Ok((place.sequence, record))
    }
}

/// A name for an act.
pub(super) fn fresh_act() -> Result<ActId, RandomError> {
    Ok(ActId(random()?))
}

/// Forgets one snapshot of a host, because a person says so.
pub async fn forget(
    coordinator: &Coordinator,
    host: &Host,
    selector: &Selector,
    zone: &TimeZone,
) -> Result<SnapshotRow, ActError> {
    let name = host.repository.to_string();
    let _acting = RepositoryLock::act(&coordinator.state_dir.locks_dir(), &name)?;
    let mut opened = coordinator.open_to_write(&name).await?;
    let host_name = host.name.to_string();
    let row = opened.catalog.resolve(Some(&host_name), selector, zone)?;
    let holds = coordinator.state.lock().await.holds(Some(&host_name))?;
    if let Some(why) = why_held(&holds, &host_name, zone) {
        return Err(ActError::Held {
            host: host_name,
            why,
        });
    }
    if opened
        .catalog
        .pinned()?
        .iter()
        .any(|pin| pin.snapshot == row.id)
    {
        return Err(ActError::Pinned {
            host: host_name,
            snapshot: row.id.short(),
        });
    }
    let rows = opened.catalog.snapshots(Some(&host_name))?;
    let floor = usize::try_from(host.keep_floor).unwrap_or(usize::MAX);
    let verified = rows.iter().rev().filter(|row| row.verified);
    if verified.take(floor).any(|good| good.id == row.id) {
        return Err(ActError::Floor {
            host: host_name,
            snapshot: row.id.short(),
            floor: host.keep_floor,
        });
    }
    let act = Act::Forget {
        by_person: true,
        snapshots: vec![row.id],
    };
    let HostRepository {
        repository,
        catalog,
        ..
    } = &mut opened;
    coordinator
        .act(repository, catalog, fresh_act()?, act)
        .await?;
    let snapshots = vec![row.id.to_string()];
    let what = What::SnapshotsForgotten { snapshots };
    coordinator.events.tell(Event::of_host(&host_name, what));
    Ok(row)
}

/// Pins a snapshot, or unpins it.
pub async fn pin(
    coordinator: &Coordinator,
    host: &Host,
    selector: &Selector,
    zone: &TimeZone,
    reason: Option<&str>,
) -> Result<SnapshotRow, ActError> {
    let name = host.repository.to_string();
    let _acting = RepositoryLock::act(&coordinator.state_dir.locks_dir(), &name)?;
    let mut opened = coordinator.open_to_write(&name).await?;
    let host_name = host.name.to_string();
    let row = opened.catalog.resolve(Some(&host_name), selector, zone)?;
    let text = reason.unwrap_or_default();
    let limit = usize::try_from(TEXT_BYTES_MAX).unwrap_or(usize::MAX);
    let end = text.floor_char_boundary(limit.min(text.len()));
    let act = Act::Pin {
        snapshot: row.id,
        pinned: reason.is_some(),
        reason: text[..end].to_owned(),
    };
    let HostRepository {
        repository,
        catalog,
        ..
    } = &mut opened;
    coordinator
        .act(repository, catalog, fresh_act()?, act)
        .await?;
    let snapshot = row.id.to_string();
    let what = match reason {
        Some(reason) => What::PinAdded {
            snapshot,
            reason: Some(reason.to_owned()),
        },
        None => What::PinRemoved { snapshot },
    };
    coordinator.events.tell(Event::of_host(&host_name, what));
    Ok(row)
}

/// Brings forgotten snapshots of a host back: the one that is meant, or all that can be. Everything that is condemned and not
/// removed is taken back with them; the next prune condemns again what nothing needs.
pub async fn undelete(
    coordinator: &Coordinator,
    host: &Host,
    selector: Option<&Selector>,
    zone: &TimeZone,
) -> Result<Vec<SnapshotRow>, ActError> {
    let name = host.repository.to_string();
    let locks = coordinator.state_dir.locks_dir();
    let _acting = RepositoryLock::act(&locks, &name)?;
    // A run that is under way would not know what came back, and note more of the log as followed than it did.
    let _alone = RepositoryLock::alone(&locks, &name)?;
    let mut opened = coordinator.open_to_write(&name).await?;
    let host_name = host.name.to_string();
    let condemned = opened.catalog.condemned()?;
    let thinned = opened.catalog.thinned()?;
    let places = coordinator.config.destinations.iter();
    let names: Vec<DestinationName> = places.map(|place| place.name.clone()).collect();
    let back = can_come_back(&opened.catalog, &host_name, &condemned, &names)?;
    let wanted = wanted(&back, selector, zone, &host_name)?;
    let unswept: Vec<&CondemnedRow> = condemned.iter().filter(|row| row.swept.is_none()).collect();
    let objects: Vec<_> = unswept
        .iter()
        .map(|row| (pack_name(row.pack.pack, row.pack.purpose), row.pack.bytes))
        .collect();
    // The server first: it refuses when a removal has begun, and then nothing is promised.
    coordinator
        .storage
        .spare(opened.repository.id(), &objects)
        .await?;
    let mut packs: Vec<PackId> = unswept.iter().map(|row| row.pack.pack).collect();
    packs.extend(spare_at(coordinator, &opened, &thinned).await?);
    write_undelete(coordinator, &mut opened, &packs, &wanted).await?;
    let snapshots = wanted.iter().map(|row| row.id.to_string()).collect();
    let what = What::SnapshotsUndeleted { snapshots };
    coordinator.events.tell(Event::of_host(&host_name, what));
    drop(opened);
    let opened = coordinator.open_named(&name).await?; // Takes the packs in again.
    check_whole(coordinator, &opened, &wanted).await?;
    Ok(wanted)
}

async fn write_undelete(
    coordinator: &Coordinator,
    opened: &mut HostRepository,
    packs: &[PackId],
    wanted: &[SnapshotRow],
) -> Result<(), ActError> {
    let HostRepository {
        repository,
        catalog,
        ..
    } = opened;
    let at_once = usize::try_from(ACT_PACKS_MAX).unwrap_or(usize::MAX);
    let groups: Vec<&[PackId]> = packs.chunks(at_once).collect();
    let (last, before) = match groups.split_last() {
        Some((last, before)) => (*last, before),
        None => (&[][..], &[][..]),
    };
    for packs in before {
        let act = Act::Undelete {
            snapshots: Vec::new(),
            packs: packs.to_vec(),
        };
        coordinator
            .act(repository, catalog, fresh_act()?, act)
            .await?;
    }
    let act = Act::Undelete {
        snapshots: wanted.iter().map(|row| row.id).collect(),
        packs: last.to_vec(),
    };
    coordinator
        .act(repository, catalog, fresh_act()?, act)
        .await?;
    Ok(())
}

/// Takes back what is condemned at single destinations and not swept there; gives it.
async fn spare_at(
    coordinator: &Coordinator,
    opened: &HostRepository,
    thinned: &[ThinnedRow],
) -> Result<Vec<PackId>, ActError> {
    let unswept = thinned.iter().filter(|row| row.swept.is_none());
    let mut by_name: BTreeMap<&str, Vec<(ObjectName, u64)>> = BTreeMap::new();
    for row in unswept {
        let packs = by_name.entry(&row.destination).or_default();
        packs.push((ObjectName::Pack(row.pack), row.bytes));
    }
    let repository = opened.repository.id();
    for (name, packs) in &by_name {
        // One that is not configured now, too: it may be again.
        if let Ok(name) = name.parse::<DestinationName>() {
            let storage = &coordinator.storage;
            storage.spare_at(&name, repository, packs).await?;
        }
    }
    let packs: BTreeSet<PackId> = by_name
        .values()
        .flatten()
        .filter_map(|(name, _)| name.digest())
        .collect();
    Ok(packs.into_iter().collect())
}

/// What a snapshot needs was condemned after it was forgotten, if at all: while nothing of that is swept, it is all there.
fn is_there(row: &ForgottenRow, condemned: &[CondemnedRow]) -> bool {
    let mut later = condemned.iter().filter(|pack| pack.sequence > row.sequence);
    later.all(|pack| pack.swept.is_none())
}

/// Snapshots that are forgotten, or dropped at one of these destinations, each with whether that can be undone at one of them.
pub(super) fn can_come_back(
    catalog: &Catalog,
    host: &str,
    condemned: &[CondemnedRow],
    destinations: &[DestinationName],
) -> Result<Vec<(SnapshotRow, bool)>, CatalogError> {
    let mut back = Vec::new();
    for row in catalog.forgotten(Some(host))? {
        let mut is_whole = false;
        for name in destinations {
            is_whole |= catalog.would_be_whole_at(row.snapshot.id, Some(row.sequence), name)?;
        }
        let is_there = is_whole && is_there(&row, condemned);
        back.push((row.snapshot, is_there));
    }
    let dropped = catalog.dropped()?;
    for row in catalog.snapshots(Some(host))? {
        let (mut is_dropped, mut is_whole) = (false, false);
        for name in destinations {
            if is_dropped_at(&dropped, &row.id, name) {
                is_dropped = true;
                is_whole |= catalog.would_be_whole_at(row.id, None, name)?;
            }
        }
        if is_dropped {
            back.push((row, is_whole));
        }
    }
    Ok(back)
}

fn wanted(
    back: &[(SnapshotRow, bool)],
    selector: Option<&Selector>,
    zone: &TimeZone,
    host: &str,
) -> Result<Vec<SnapshotRow>, ActError> {
    let Some(selector) = selector else {
        let there = back.iter().filter(|(_, is_there)| *is_there);
        let there: Vec<SnapshotRow> = there.map(|(row, _)| row.clone()).collect();
        return match there.is_empty() {
            true => Err(ActError::NothingForgotten {
                host: host.to_owned(),
            }),
            false => Ok(there),
        };
    };
    let rows: Vec<SnapshotRow> = back.iter().map(|(row, _)| row.clone()).collect();
    let meant = select(&rows, Some(host), selector, zone)?;
    let there = back
        .iter()
        .any(|(row, is_there)| row.id == meant.id && *is_there);
    match there {
        true => Ok(vec![meant.clone()]),
        false => Err(ActError::Gone {
            host: host.to_owned(),
            snapshot: meant.id.short(),
        }),
    }
}

async fn check_whole(
    coordinator: &Coordinator,
    opened: &HostRepository,
    rows: &[SnapshotRow],
) -> Result<(), ActError> {
    let reader = coordinator.chunk_reader(opened).map_err(OpenError::from)?;
    for row in rows {
        let Some(snapshot) = opened.catalog.snapshot(row.id)? else {
            continue;
        };
        let mut marker = Marker::new(&reader, &opened.index);
        let walked = marker.snapshot(row.id, &snapshot).await;
        walked.map_err(|source| ActError::NotWhole {
            snapshot: row.id.short(),
            source,
        })?;
        let missing = marker.finish().missing;
        if missing > 0 {
            return Err(ActError::Incomplete {
                snapshot: row.id.short(),
                missing,
            });
        }
    }
    Ok(())
}
