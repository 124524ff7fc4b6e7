//! What the destinations list: packs that nobody knows, because the run that wrote them died before it was verified, and packs
//! that were to be removed and are still there.

use std::collections::{BTreeMap, HashMap, HashSet};

use append_server::destination::DestinationName;
use formats::ids::PackId;
use formats::object::ObjectKind;
use formats::seal::run_header::Purpose;
use jiff::Timestamp;

use crate::catalog::retention::CondemnedRow;
use crate::coordinator::{Coordinator, HostRepository};
use crate::retention::error::PruneError;
use crate::retention::thin::AtDestination;
use crate::storage::error::StorageError;
use crate::terminal::error_line;

/// Packs that are asked of the index at a time.
const PACKS_AT_ONCE: usize = 1_000;

/// What is listed and not in the index.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Packs that nobody knows, and since when they are seen.
    pub(super) orphans: Vec<Orphan>,
    /// Packs that are swept, and still there.
    pub(super) leftovers: HashSet<PackId>,
    /// Why nothing may be removed: a destination that counts cannot be listed.
    pub(super) refused: Option<String>,
    /// Destinations that were not listed.
    pub(super) away: Vec<String>,
}

/// A pack that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) pack: PackId,
    pub(super) purpose: Purpose,
    pub(super) bytes: u64,
    pub(super) first_seen: Timestamp,
}

type Seen = BTreeMap<PackId, (Purpose, u64)>;

/// Lists every destination; notes what is still at one that was swept there alone. The caller has the repository for itself, so that no run is storing anything.
pub(super) async fn list(
    coordinator: &Coordinator,
    opened: &HostRepository,
    condemned: &[CondemnedRow],
    thinned: &mut BTreeMap<DestinationName, AtDestination>,
) -> Result<Listed, PruneError> {
    let mut listed = Listed::default();
    let mut seen = Seen::new();
    for state in coordinator.storage.destinations().await? {
        let Ok(name) = state.name.parse::<DestinationName>() else {
            continue;
        };
        let before = std::mem::take(&mut seen);
        let listing = list_one(coordinator, opened, &name, &mut seen).await;
        if let Some(at) = thinned.get_mut(&name) {
            let swept = at.rows.iter().filter(|row| row.swept.is_some());
            let there = swept.filter(|row| seen.contains_key(&row.pack));
            at.leftovers = there.map(|row| row.pack).collect();
        }
        seen.extend(before);
        match listing {
            Ok(()) => {}
            // An error is never "nothing there".
            Err(error) if state.required => {
                let text = format!(
                    "destination {name} cannot be listed: {}",
                    error_line(&error)
                );
                listed.refused = Some(text);
            }
            Err(error) => listed
                .away
                .push(format!("{name} cannot be listed: {}", error_line(&error))),
        }
    }
    let condemned: HashMap<PackId, bool> = condemned
        .iter()
        .map(|row| (row.pack.pack, row.swept.is_some()))
        .collect();
    let unknown = without_known(opened, seen).await?;
    let mut orphans = Vec::new();
    for (pack, (purpose, bytes)) in unknown {
        match condemned.get(&pack) {
            Some(true) => {
                listed.leftovers.insert(pack);
            }
            Some(false) => {}
            None => orphans.push((pack, purpose, bytes)),
        }
    }
    let names: Vec<_> = orphans
        .iter()
        .map(|(pack, purpose, _)| (*pack, *purpose))
        .collect();
    let now = coordinator.clock.now();
    let mut state = coordinator.state.lock().await;
    let since = state.see_orphans(opened.repository.id(), &names, now)?;
    listed.orphans = orphans
        .into_iter()
        .map(|(pack, purpose, bytes)| Orphan {
            pack,
            purpose,
            bytes,
            first_seen: since.get(&pack).copied().unwrap_or(now),
        })
        .collect();
    Ok(listed)
}

async fn list_one(
    coordinator: &Coordinator,
    opened: &HostRepository,
    name: &DestinationName,
    seen: &mut Seen,
) -> Result<(), StorageError> {
    let storage = coordinator.storage.at(name);
    for (kind, purpose) in [
        (ObjectKind::Pack, Purpose::Data),
        (ObjectKind::Meta, Purpose::Meta),
    ] {
        for (object, bytes) in storage.list(opened.repository.id(), kind).await? {
            if let Some(pack) = object.digest() {
                seen.entry(pack).or_insert((purpose, bytes));
            }
        }
    }
    Ok(())
}

/// Takes out what the index has, and what it gave up and may have again.
async fn without_known(opened: &HostRepository, mut seen: Seen) -> Result<Seen, PruneError> {
    let unknown = opened.index.with(move |index| {
        for pack in index.given_up()? {
            seen.remove(&pack);
        }
        let last = index.last_pack_row()?;
        let mut after = 0;
        loop {
            let page = index.packs_by_row(after, last, PACKS_AT_ONCE)?;
            let Some((row, _)) = page.last() else {
                return Ok(seen);
            };
            after = row.row;
            for (pack, _) in &page {
                seen.remove(&pack.pack);
            }
        }
    });
    Ok(unknown.await?)
}
