//! Plans and does what makes one destination keep less than others: of the data packs that stay in the repository, those go there
//! that no snapshot needs that is kept there. The same two phases and the same grace as everywhere. Whole packs alone: nothing is
//! written anew for it, and nothing but data packs goes, so that every destination lists every snapshot and finds every chunk.

use std::collections::{BTreeMap, HashSet};

use append_server::destination::DestinationName;
use formats::ids::{PackId, RecordId};
use formats::limits::{ACT_PACKS_MAX, ACT_SNAPSHOTS_MAX};
use formats::log::retention::{Act, Prune};
use formats::log::thinning::{ThinnedPack, Thinning};
use formats::object::ObjectName;
use formats::seal::run_header::Purpose;
use formats::wire::upload::removals::RemovalReport;

use crate::backup::shared_index::SharedIndex;
use crate::catalog::thinning::{Dropped, ThinnedRow, is_dropped_at};
use crate::config::Config;
use crate::config::host::Host;
use crate::config::placing::is_kept;
use crate::coordinator::{Coordinator, HostRepository};
use crate::index::LiveFrames;
use crate::retention::acts::fresh_act;
use crate::retention::brakes::shrunk;
use crate::retention::condemn::{Plan, each_pack};
use crate::retention::error::PruneError;
use crate::retention::kept_at::{KeepingPlace, Verdict};
use crate::retention::mark::Marker;
use crate::retention::prune::PruneOptions;
use crate::retention::report::PruneReport;
use crate::retention::sweep::{add, ripe_of};
use crate::snapshot::chunks::ChunkReader;
use crate::storage::removals::RecordProof;
use crate::terminal::error_line;

/// The destinations that a host is kept at, and what counts there.
pub fn places_of(config: &Config, host: &Host, dropped: &Dropped) -> Vec<KeepingPlace> {
    let places = config.destinations.iter();
    let kept = places.filter(|place| is_kept(place, host));
    kept.map(|place| {
        let own = config.destination_keep.get(&place.name).copied();
        let there = dropped.keys().copied();
        KeepingPlace {
            name: place.name.clone(),
            keep: own.or(host.keep),
            has_own: own.is_some(),
            may_drop: place.removal.allow_delete,
            dropped: there
                .filter(|id| is_dropped_at(dropped, id, &place.name))
                .collect(),
        }
    })
    .collect()
}

/// What one destination will not keep.
#[derive(Debug)]
pub(super) struct ThinPlan {
    pub(super) thinning: Thinning,
    pub(super) destination: DestinationName,
}

/// What is known of a repository when it is looked at destination by destination.
pub(super) struct Thinner<'a> {
    pub(super) opened: &'a HostRepository,
    pub(super) reader: &'a ChunkReader,
    pub(super) verdicts: &'a [Verdict],
    pub(super) dropped: &'a Dropped,
    /// What is not part of the history any more.
    pub(super) forgotten: &'a HashSet<RecordId>,
    /// What becomes of packs everywhere.
    pub(super) plan: &'a Plan,
}

impl Thinner<'_> {
    /// Plans for every destination that keeps less, as far as it is sure what is needed there.
    pub(super) async fn plan(
        &self,
        places: &[KeepingPlace],
        thinned: &mut BTreeMap<DestinationName, AtDestination>,
        options: PruneOptions,
        report: &mut PruneReport,
    ) -> Result<Vec<ThinPlan>, PruneError> {
        let mut plans = Vec::new();
        if let Some(snapshot) = self.nowhere(places)? {
            report.notes.push(format!(
                "nothing is dropped at single destinations while snapshot {} is at none of them",
                snapshot.short()
            ));
            return Ok(plans);
        }
        for place in places.iter().filter(|place| place.may_drop) {
            match self.plan_one(place).await? {
                Ok(Some(plan)) => {
                    let shrunk = check_left(self.opened, &plan)?;
                    if let Some(shrunk) = shrunk.filter(|_| !options.force.shrink) {
                        report.refuse(shrunk);
                    }
                    plans.push(plan);
                }
                Ok(None) => {}
                Err(why) => {
                    // What is condemned there may be what they need.
                    if let Some(at) = thinned.get_mut(&place.name) {
                        at.ripe.clear();
                    }
                    report.notes.push(format!(
                        "nothing is dropped or removed at {} alone: what snapshots need there is not known: {why}",
                        place.name
                    ));
                }
            }
        }
        Ok(plans)
    }

    /// A snapshot of any host that none of the destinations has.
    fn nowhere(&self, places: &[KeepingPlace]) -> Result<Option<RecordId>, PruneError> {
        let rows = self.opened.catalog.snapshots(None)?;
        let mut listed = rows.iter().filter(|row| !self.forgotten.contains(&row.id));
        let gone = listed.find(|row| {
            let mut places = places.iter();
            places.all(|place| is_dropped_at(self.dropped, &row.id, &place.name))
        });
        Ok(gone.map(|row| row.id))
    }

    async fn plan_one(
        &self,
        place: &KeepingPlace,
    ) -> Result<Result<Option<ThinPlan>, String>, PruneError> {
        let most = usize::try_from(ACT_SNAPSHOTS_MAX).unwrap_or(usize::MAX);
        let verdicts = self.verdicts.iter();
        let drops = verdicts.filter(|verdict| verdict.drops.contains(&place.name));
        let drops: Vec<RecordId> = drops
            .map(|verdict| verdict.candidate.id)
            .take(most)
            .collect();
        let gone: HashSet<RecordId> = drops.iter().copied().collect();
        let rows = self.opened.catalog.snapshots(None)?;
        let listed = rows.iter().filter(|row| !self.forgotten.contains(&row.id));
        let (left, dropped): (Vec<_>, Vec<_>) = listed.partition(|row| {
            !gone.contains(&row.id) && !is_dropped_at(self.dropped, &row.id, &place.name)
        });
        let thinned = self.opened.catalog.thinned_at(&place.name)?;
        if dropped.is_empty() && thinned.is_empty() {
            return Ok(Ok(None)); // It keeps everything that there is.
        }
        let mut marker = Marker::new(self.reader, &self.opened.index).where_not(thinned.clone());
        for row in left.iter().rev() {
            if let Some(snapshot) = self.opened.catalog.snapshot(row.id)?
                && let Err(error) = marker.snapshot(row.id, &snapshot).await
            {
                return Ok(Err(error_line(&error)));
            }
        }
        let marked = marker.finish();
        if let Some((chunk, snapshot)) = marked.missing_named.first() {
            return Ok(Err(format!(
                "chunk {} of snapshot {} is in no pack there",
                chunk.short(),
                snapshot.short()
            )));
        }
        if dropped.is_empty() {
            return Ok(Ok(None)); // What is condemned there is needed by nothing.
        }
        let mut thinning = Thinning {
            destination: place.name.to_string(),
            snapshots: left.len() as u64,
            dropped: drops,
            ..Thinning::default()
        };
        let index = &self.opened.index;
        choose(index, self.plan, &thinned, marked.live, &mut thinning).await?;
        let destination = place.name.clone();
        Ok(Ok(Some(ThinPlan {
            thinning,
            destination,
        })))
    }
}

/// Of the data packs that stay in the repository because something needs them, those that nothing needs where only these frames
/// are needed.
pub(super) async fn choose(
    index: &SharedIndex,
    plan: &Plan,
    thinned: &HashSet<PackId>,
    live: LiveFrames,
    thinning: &mut Thinning,
) -> Result<(), PruneError> {
    let most = usize::try_from(ACT_PACKS_MAX).unwrap_or(usize::MAX);
    let looked = each_pack(index, live, |found| {
        let pack = found.facts.pack;
        if found.facts.purpose == Purpose::Meta || thinned.contains(&pack) {
            return;
        }
        // What nothing needs anywhere goes everywhere, now or later.
        if found.live_bytes == 0 && !plan.needed.contains(&pack) {
            return;
        }
        if found.live_bytes > 0 || !found.in_record || thinning.condemned.len() == most {
            thinning.packs += 1;
            thinning.bytes += found.facts.bytes;
            return;
        }
        thinning.condemned.push(ThinnedPack {
            pack,
            bytes: found.facts.bytes,
        });
    });
    looked.await.map(drop)
}

/// Whether far less would be left at a destination than the last time.
fn check_left(opened: &HostRepository, plan: &ThinPlan) -> Result<Option<String>, PruneError> {
    let last = opened.catalog.left_at(&plan.destination)?;
    let last = last.map(|left| Prune {
        snapshots: left.snapshots,
        bytes: left.bytes,
        ..Prune::default()
    });
    let (snapshots, bytes) = (plan.thinning.snapshots, plan.thinning.bytes);
    let why = shrunk(last.as_ref(), snapshots, bytes);
    Ok(why.map(|why| format!("at {}: {why}", plan.destination)))
}

/// Writes the record that drops and condemns, then takes what it condemns out of what runs build upon.
pub(super) async fn condemn_at(
    coordinator: &Coordinator,
    opened: &mut HostRepository,
    plans: Vec<ThinPlan>,
) -> Result<(), PruneError> {
    for ThinPlan { thinning, .. } in plans {
        if thinning.dropped.is_empty() && thinning.condemned.is_empty() {
            continue;
        }
        let packs: Vec<PackId> = thinning.condemned.iter().map(|one| one.pack).collect();
        let HostRepository {
            repository,
            catalog,
            index,
            ..
        } = opened;
        let recorded = coordinator
            .act(repository, catalog, fresh_act()?, Act::Thin(thinning))
            .await?; // From here on nothing may be built upon what is condemned there.
        let (sequence, _) = recorded;
        index
            .with(move |index| {
                index.thin(&packs, sequence)?;
                index.mark_committed(sequence, &[])
            })
            .await?;
    }
    Ok(())
}

/// What is condemned at destinations that there are, and what is old enough to go, by destination.
pub(super) fn ripe_at(
    coordinator: &Coordinator,
    opened: &HostRepository,
    is_on_hold: bool,
) -> Result<BTreeMap<DestinationName, AtDestination>, PruneError> {
    let now = coordinator.clock.now();
    let settings = &coordinator.config.prune;
    let mut found: BTreeMap<DestinationName, AtDestination> = BTreeMap::new();
    for row in opened.catalog.thinned()? {
        if let Some(name) = configured(coordinator, &row.destination) {
            found.entry(name).or_default().rows.push(row);
        }
    }
    for at in found.values_mut() {
        if !is_on_hold {
            let rows = at.rows.iter().filter(|row| row.swept.is_none());
            let aged = rows.map(|row| (row, row.at, row.bytes));
            at.ripe = ripe_of(aged, settings, now).into_iter().cloned().collect();
        }
    }
    Ok(found)
}

/// What is condemned at one destination.
#[derive(Debug, Default)]
pub(super) struct AtDestination {
    /// All of it.
    pub(super) rows: Vec<ThinnedRow>,
    /// What is old enough to go.
    pub(super) ripe: Vec<ThinnedRow>,
    /// What was to be removed there and is still listed there.
    pub(super) leftovers: HashSet<PackId>,
}

impl AtDestination {
    /// Whether the append-server is to know of it: what is still to go there.
    pub(super) fn is_told(&self, row: &ThinnedRow) -> bool {
        row.swept.is_none() || self.leftovers.contains(&row.pack)
    }
}

/// A destination of the configuration by the name that the log has.
pub fn configured(coordinator: &Coordinator, name: &str) -> Option<DestinationName> {
    let mut places = coordinator.config.destinations.iter();
    let place = places.find(|place| place.name.to_string() == name)?;
    Some(place.name.clone())
}

/// Tells the append-server what is condemned at single destinations, of these. From the first time on, its own grace counts.
pub async fn tell_condemned_at(
    coordinator: &Coordinator,
    opened: &HostRepository,
    is_told: impl Fn(&ThinnedRow) -> bool,
) -> Result<(), PruneError> {
    let mut by_record: BTreeMap<(DestinationName, u64), Vec<(ObjectName, u64)>> = BTreeMap::new();
    for row in opened.catalog.thinned()?.into_iter().filter(is_told) {
        if let Some(name) = configured(coordinator, &row.destination) {
            let packs = by_record.entry((name, row.sequence)).or_default();
            packs.push((ObjectName::Pack(row.pack), row.bytes));
        }
    }
    let repository = opened.repository.id();
    for ((name, sequence), packs) in by_record {
        if let Some(proof) = proof_of(opened, sequence)? {
            let storage = &coordinator.storage;
            storage.condemn_at(&name, repository, proof, &packs).await?;
        }
    }
    Ok(())
}

/// Sweeps what is ripe at single destinations, and what was swept there before and is still listed there.
pub(super) async fn sweep_at(
    coordinator: &Coordinator,
    opened: &mut HostRepository,
    found: &BTreeMap<DestinationName, AtDestination>,
) -> Result<RemovalReport, PruneError> {
    let mut report = RemovalReport::default();
    for (name, at) in found {
        let packs: Vec<PackId> = at.ripe.iter().map(|row| row.pack).collect();
        let asked = packs.clone();
        let answered = opened.index.with(move |index| index.first_answered(&asked));
        if let Some(pack) = answered.await? {
            return Err(PruneError::StillAnswered { pack });
        }
        let mut by_record: BTreeMap<u64, Vec<(ObjectName, u64)>> = BTreeMap::new();
        if !packs.is_empty() {
            let act = Act::SweepAt {
                destination: name.to_string(),
                packs,
            };
            let HostRepository {
                repository,
                catalog,
                ..
            } = opened;
            let (sequence, _) = coordinator
                .act(repository, catalog, fresh_act()?, act)
                .await?;
            let ripe = at.ripe.iter();
            let packs = ripe.map(|row| (ObjectName::Pack(row.pack), row.bytes));
            by_record.insert(sequence, packs.collect());
        }
        for row in at
            .rows
            .iter()
            .filter(|row| at.leftovers.contains(&row.pack))
        {
            if let Some(swept) = row.swept {
                let packs = by_record.entry(swept).or_default();
                packs.push((ObjectName::Pack(row.pack), row.bytes));
            }
        }
        for (sequence, packs) in by_record {
            if let Some(proof) = proof_of(opened, sequence)? {
                let repository = opened.repository.id();
                let storage = &coordinator.storage;
                let swept = storage.sweep_at(name, repository, proof, &packs).await?;
                add(&mut report, &swept);
            }
        }
    }
    Ok(report)
}

fn proof_of(opened: &HostRepository, sequence: u64) -> Result<Option<RecordProof>, PruneError> {
    let record = opened.catalog.record_id(sequence)?;
    Ok(record.map(|record| (sequence, record)))
}

#[cfg(test)]
mod tests;
