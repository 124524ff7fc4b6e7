//! Reads what is known of a host's snapshots, and what counts at the destinations that it is kept at, and has it decided what becomes of
//! each.

use std::collections::HashMap;

use append_server::destination::DestinationName;
use formats::ids::RecordId;
use formats::log::snapshot::Snapshot;
use formats::wire::control::problem::ProblemKind;

use crate::catalog::SnapshotRow;
use crate::catalog::state::holds::Hold;
use crate::catalog::thinning::Dropped;
use crate::config::host::Host;
use crate::config::placing::is_kept;
use crate::coordinator::{Coordinator, HostRepository};
use crate::retention::brakes;
use crate::retention::decide::{Candidate, Policy};
use crate::retention::error::PruneError;
use crate::retention::holds::why_held;
use crate::retention::keep::Keep;
use crate::retention::kept_at::{KeepingPlace, Verdict, decide_at};
use crate::retention::prune::PruneOptions;
use crate::retention::report::PruneReport;
use crate::retention::thin::places_of;

/// A destination of the host with rules that keep nothing.
pub(super) fn empty_rules<'a>(
    coordinator: &'a Coordinator,
    host: &Host,
) -> Option<&'a DestinationName> {
    let config = &coordinator.config;
    let kept = config
        .destinations
        .iter()
        .filter(|place| is_kept(place, host));
    let mut names = kept.map(|place| &place.name);
    names.find(|name| {
        config
            .destination_keep
            .get(*name)
            .is_some_and(Keep::is_empty)
    })
}

/// What becomes of a host's snapshots, and what that was decided by.
pub(super) struct Decided {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) places: Vec<KeepingPlace>,
    pub(super) dropped: Dropped,
}

impl Decided {
    pub(super) fn tell(
        &self,
        coordinator: &Coordinator,
        options: PruneOptions,
        report: &mut PruneReport,
    ) {
        let zone = coordinator.config.prune.timezone.zone();
        report.decided(&self.verdicts, &self.places, zone);
        let nowhere = brakes::nowhere(&self.verdicts);
        if let Some(nowhere) = nowhere.filter(|_| !options.force.shrink) {
            report.refuse(nowhere);
        }
    }
}

pub(super) fn decide_all(
    coordinator: &Coordinator,
    host: &Host,
    opened: &HostRepository,
    holds: &[Hold],
) -> Result<Decided, PruneError> {
    let rows = opened.catalog.snapshots(Some(&host.name.to_string()))?;
    let mut candidates = Vec::with_capacity(rows.len());
    for row in rows {
        let snapshot = opened.catalog.snapshot(row.id)?;
        candidates.push(candidate(&row, snapshot.as_ref()));
    }
    let pinned: HashMap<RecordId, String> = opened
        .catalog
        .pinned()?
        .into_iter()
        .map(|pin| (pin.snapshot, pin.reason))
        .collect();
    let zone = coordinator.config.prune.timezone.zone();
    let held = why_held(holds, host.name.as_str(), zone);
    let policy = Policy {
        keep: host.keep,
        floor: host.keep_floor,
        zone,
        now: coordinator.clock.now(),
        pinned: &pinned,
        held: held.as_deref(),
    };
    let dropped = opened.catalog.dropped()?;
    let places = places_of(&coordinator.config, host, &dropped);
    Ok(Decided {
        verdicts: decide_at(&candidates, &policy, &places),
        places,
        dropped,
    })
}

/// Complete: every source was found, and there is something in it.
fn candidate(row: &SnapshotRow, snapshot: Option<&Snapshot>) -> Candidate {
    let totals = &row.totals;
    let entries = totals.files.max(totals.directories).max(totals.others);
    let lacks_source = snapshot.is_none_or(|snapshot| {
        let mut problems = snapshot.problems.iter();
        problems.any(|problem| problem.kind == ProblemKind::SourceMissing)
    });
    Candidate {
        id: row.id,
        at: row.started,
        complete: entries > 0 && !lacks_source,
        verified: row.verified,
    }
}
