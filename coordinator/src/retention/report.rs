//! What a prune decided, did, or refused: shown by the command, told by the daemon.

use std::collections::BTreeMap;

use append_server::destination::DestinationName;
use formats::log::retention::CondemnedPack;
use formats::wire::upload::removals::RemovalReport;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::catalog::retention::CondemnedRow;
use crate::clock::{local, utc};
use crate::retention::condemn::Plan;
use crate::retention::kept_at::{KeepingPlace, Verdict, only_at};
use crate::retention::orphans::{Listed, Orphan};
use crate::retention::repack::Written;
use crate::retention::thin::{AtDestination, ThinPlan};

/// One snapshot and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedSnapshot {
    /// Its record.
    pub id: String,
    /// Its time, RFC 3339.
    pub time: String,
    /// Whether it is complete and verified, and so counts.
    pub counts: bool,
    /// Whether it is kept.
    pub kept: bool,
    /// Why.
    pub reasons: Vec<String>,
    /// At which destinations it is kept, where not at all of the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept_at: Vec<String>,
    /// For people.
    #[serde(skip)]
    pub local_time: String,
}

/// Packs and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Packs {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Packs {
    fn of(bytes: impl Iterator<Item = u64>) -> Self {
        bytes.fold(Self::default(), |all, bytes| Self {
            packs: all.packs + 1,
            bytes: all.bytes + bytes,
        })
    }
}

/// What still is to be removed at a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StillThere {
    /// Its name.
    pub destination: String,
    /// What.
    #[serde(flatten)]
    pub packs: Packs,
    /// Why, if it was tried.
    pub problem: Option<String>,
}

/// What a destination keeps that does not keep everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeptThere {
    /// Its name.
    pub destination: String,
    /// Its rules; nothing where the host's count.
    pub keep: Option<String>,
    /// The host's snapshots that are kept there.
    pub snapshots: u64,
    /// Those that are dropped there now, and kept elsewhere.
    pub dropped: u64,
    /// Data packs that nothing needs there any more, found now.
    pub dead: Packs,
    /// What is condemned there since earlier and stays for now.
    pub waiting: Packs,
    /// What is old enough to be removed there.
    pub ripe: Packs,
}

/// What came of a prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// The host.
    pub host: String,
    /// Its repository's name.
    pub repository: String,
    /// Whether it was done, not only shown.
    pub executed: bool,
    /// Why nothing was done, though it was asked for.
    pub refused: Option<String>,
    /// Every snapshot of the host, oldest first.
    pub snapshots: Vec<PrunedSnapshot>,
    /// How many of them are forgotten.
    pub forgotten: u64,
    /// The destinations that keep others than the rest.
    pub destinations: Vec<KeptThere>,
    /// What nothing needs any more.
    pub dead: Packs,
    /// What is written anew without what is dead in it.
    pub repacked: Packs,
    /// Packs that nobody knows, left by runs that died.
    pub orphans: Packs,
    /// Of those, what is old enough to go.
    pub ripe_orphans: Packs,
    /// What was condemned just now.
    pub condemned: Packs,
    /// What was written for it.
    pub written: Packs,
    /// What is condemned since earlier and stays for now.
    pub waiting: Packs,
    /// What is old enough to be removed.
    pub ripe: Packs,
    /// Copies that were removed, at all destinations.
    pub removed: Packs,
    /// Packs whose removal the append-server put off: too young by its own clock, or more than it allows in a day.
    pub put_off: u64,
    /// What is still to be removed, by destination.
    pub still_there: Vec<StillThere>,
    /// Unfinished uploads that were ended.
    pub uploads_aborted: u64,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl PruneReport {
    pub(super) fn new(host: &str, repository: &str) -> Self {
        Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            ..Self::default()
        }
    }

    /// The first reason is the one that is told.
    pub(super) fn refuse(&mut self, why: String) {
        match &self.refused {
            None => self.refused = Some(why),
            Some(_) => self.notes.push(why),
        }
    }

    pub(super) fn decided(
        &mut self,
        verdicts: &[Verdict],
        places: &[KeepingPlace],
        zone: &TimeZone,
    ) {
        self.snapshots = verdicts
            .iter()
            .map(|verdict| PrunedSnapshot {
                id: verdict.candidate.id.to_string(),
                time: utc(verdict.candidate.at),
                counts: verdict.candidate.complete && verdict.candidate.verified,
                kept: verdict.is_kept(),
                reasons: verdict.reasons.clone(),
                kept_at: only_at(verdict, places),
                local_time: local(verdict.candidate.at, zone),
            })
            .collect();
        let kept = verdicts.iter().filter(|verdict| verdict.is_kept());
        let kept_count = kept.count() as u64;
        let there = places.iter().map(|place| KeptThere {
            destination: place.name.to_string(),
            keep: place
                .keep
                .filter(|_| place.has_own)
                .map(|keep| keep.to_string()),
            snapshots: count(verdicts, |verdict| verdict.at.contains(&place.name)),
            dropped: count(verdicts, |verdict| verdict.drops.contains(&place.name)),
            ..KeptThere::default()
        });
        self.destinations = there
            .filter(|there| there.keep.is_some() || there.snapshots < kept_count)
            .collect();
        let dropped = self.snapshots.iter().filter(|snapshot| !snapshot.kept);
        self.forgotten = dropped.count() as u64;
    }

    pub(super) fn planned(
        &mut self,
        plan: &Plan,
        listed: &Listed,
        ripe_orphans: &[Orphan],
        ripe: &[CondemnedRow],
        condemned: &[CondemnedRow],
    ) {
        self.dead = Packs::of(plan.dead.iter().map(|pack| pack.facts.bytes));
        self.repacked = Packs::of(plan.repack.iter().map(|pack| pack.facts.bytes));
        self.orphans = Packs::of(listed.orphans.iter().map(|orphan| orphan.bytes));
        self.ripe_orphans = Packs::of(ripe_orphans.iter().map(|orphan| orphan.bytes));
        self.ripe = Packs::of(ripe.iter().map(|row| row.pack.bytes));
        let waiting = condemned.iter().filter(|row| row.swept.is_none());
        self.waiting = Packs::of(waiting.map(|row| row.pack.bytes));
        if plan.young > 0 {
            self.notes.push(format!(
                "{} packs of runs that died wait for the next run to take them up",
                plan.young
            ));
        }
        if !listed.leftovers.is_empty() {
            self.notes.push(format!(
                "{} packs that were to be removed are still listed, and are removed again",
                listed.leftovers.len()
            ));
        }
    }

    pub(super) fn thinned(
        &mut self,
        plans: &[ThinPlan],
        thinned: &BTreeMap<DestinationName, AtDestination>,
    ) {
        for there in &mut self.destinations {
            let is_there = |name: &DestinationName| name.to_string() == there.destination;
            if let Some(plan) = plans.iter().find(|plan| is_there(&plan.destination)) {
                let condemned = plan.thinning.condemned.iter();
                there.dead = Packs::of(condemned.map(|pack| pack.bytes));
            }
            if let Some((_, at)) = thinned.iter().find(|(name, _)| is_there(name)) {
                let waiting = at.rows.iter().filter(|row| row.swept.is_none());
                there.waiting = Packs::of(waiting.map(|row| row.bytes));
                there.ripe = Packs::of(at.ripe.iter().map(|row| row.bytes));
            }
        }
    }

    pub(super) fn condemned(&mut self, condemned: &[CondemnedPack], written: &Written) {
        self.condemned = Packs::of(condemned.iter().map(|pack| pack.bytes));
        self.written = Packs {
            packs: (written.data.len() + written.meta.len()) as u64,
            bytes: written.bytes,
        };
    }

    pub(super) fn swept(&mut self, ripe: &[CondemnedRow], swept: RemovalReport) {
        self.ripe = Packs::of(ripe.iter().map(|row| row.pack.bytes));
        self.removed = Packs {
            packs: swept.removed,
            bytes: swept.removed_bytes,
        };
        self.put_off = swept.too_young + swept.over_limit;
        self.still_there = swept
            .waiting
            .into_iter()
            .map(|one| StillThere {
                destination: one.destination,
                packs: Packs {
                    packs: one.objects,
                    bytes: one.bytes,
                },
                problem: one.problem,
            })
            .collect();
    }
}

fn count(verdicts: &[Verdict], is_meant: impl Fn(&Verdict) -> bool) -> u64 {
    verdicts.iter().filter(|verdict| is_meant(verdict)).count() as u64
}
