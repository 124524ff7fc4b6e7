//! The second phase: what was condemned long enough ago, and is still needed by nothing, is removed. The record comes first, so
//! that nobody brings back what may be gone; then the append-server, which has a grace of its own.

use std::collections::{BTreeMap, HashSet};

use formats::ids::PackId;
use formats::limits::ACT_PACKS_MAX;
use formats::log::retention::Act;
use formats::object::ObjectName;
use formats::wire::upload::removals::RemovalReport;
use jiff::Timestamp;

use crate::catalog::retention::CondemnedRow;
use crate::config::prune_settings::PruneSettings;
use crate::coordinator::{Coordinator, HostRepository};
use crate::repository::packs::pack_name;
use crate::retention::acts::fresh_act;
use crate::retention::error::PruneError;

/// What is ripe: condemned for as long as the grace, within what one prune may remove; oldest first.
pub(super) fn ripe(
    condemned: &[CondemnedRow],
    settings: &PruneSettings,
    now: Timestamp,
) -> Vec<CondemnedRow> {
    let unswept = condemned.iter().filter(|row| row.swept.is_none());
    let aged = unswept.map(|row| (row, row.at, row.pack.bytes));
    ripe_of(aged, settings, now).into_iter().cloned().collect()
}

/// The same of anything that was condemned at a time and has bytes.
pub(super) fn ripe_of<'r, R>(
    condemned: impl Iterator<Item = (&'r R, Timestamp, u64)>,
    settings: &PruneSettings,
    now: Timestamp,
) -> Vec<&'r R> {
    let mut left = settings.delete_max.bytes();
    let most = usize::try_from(ACT_PACKS_MAX).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for (row, at, bytes) in condemned {
        let age = now.duration_since(at);
        if age.is_negative() || age.unsigned_abs() < settings.grace.duration() {
            continue;
        }
        if bytes > left || found.len() == most {
            break;
        }
        left -= bytes;
        found.push(row);
    }
    found
}

/// Adds what came of one sweep to what came of those before.
pub(super) fn add(all: &mut RemovalReport, one: &RemovalReport) {
    all.removed += one.removed;
    all.removed_bytes += one.removed_bytes;
    all.too_young += one.too_young;
    all.over_limit += one.over_limit;
}

/// Tells the append-server what is condemned. From the first time on, its own grace counts.
pub(super) async fn tell_condemned(
    coordinator: &Coordinator,
    opened: &HostRepository,
    leftovers: &HashSet<PackId>,
) -> Result<(), PruneError> {
    let mut by_record: BTreeMap<u64, Vec<(ObjectName, u64)>> = BTreeMap::new();
    for row in opened.catalog.condemned()? {
        if row.swept.is_none() || leftovers.contains(&row.pack.pack) {
            let name = pack_name(row.pack.pack, row.pack.purpose);
            let packs = by_record.entry(row.sequence).or_default();
            packs.push((name, row.pack.bytes));
        }
    }
    let repository = opened.repository.id();
    for (sequence, packs) in by_record {
        if let Some(record) = opened.catalog.record_id(sequence)? {
            let proof = (sequence, record);
            coordinator
                .storage
                .condemn(repository, proof, &packs)
                .await?;
        }
    }
    Ok(())
}

/// Sweeps what is ripe, what was swept before and is still listed, and what is due. The caller has marked everything that is
/// needed, has the repository for itself, and gives only packs that the index does not have.
pub(super) async fn sweep(
    coordinator: &Coordinator,
    opened: &mut HostRepository,
    ripe: &[CondemnedRow],
    leftovers: &HashSet<PackId>,
) -> Result<RemovalReport, PruneError> {
    let repository = opened.repository.id();
    let packs: Vec<PackId> = ripe.iter().map(|row| row.pack.pack).collect();
    let indexed = packs.clone();
    let known = opened.index.with(move |index| {
        let mut known = Vec::new();
        for pack in indexed {
            if index.holds_pack(pack)? {
                known.push(pack);
            }
        }
        Ok(known)
    });
    if let Some(pack) = known.await?.first() {
        return Err(PruneError::StillAnswered { pack: *pack });
    }
    if !packs.is_empty() {
        let act = Act::Sweep { packs };
        let HostRepository {
            repository,
            catalog,
            ..
        } = opened;
        coordinator
            .act(repository, catalog, fresh_act()?, act)
            .await?;
    }
    let new: HashSet<PackId> = ripe.iter().map(|row| row.pack.pack).collect();
    let mut by_record: BTreeMap<u64, Vec<(ObjectName, u64)>> = BTreeMap::new();
    for row in opened.catalog.condemned()? {
        let pack = row.pack.pack;
        if let Some(swept) = row.swept
            && (new.contains(&pack) || leftovers.contains(&pack))
        {
            let name = pack_name(pack, row.pack.purpose);
            by_record
                .entry(swept)
                .or_default()
                .push((name, row.pack.bytes));
        }
    }
    let mut report = RemovalReport::default();
    for (sequence, packs) in by_record {
        if let Some(record) = opened.catalog.record_id(sequence)? {
            let proof = (sequence, record);
            let swept = coordinator.storage.sweep(repository, proof, &packs).await?;
            add(&mut report, &swept);
        }
    }
    let due = coordinator.storage.sweep_due(repository).await?;
    report.removed += due.removed;
    report.removed_bytes += due.removed_bytes;
    report.waiting = due.waiting;
    Ok(report)
}
