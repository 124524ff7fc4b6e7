//! `prune`: decides which snapshots of a host are kept, finds what nothing needs any more, and has it removed, in this order:
//! plan, show, forget, write anew, condemn; and, after the grace, sweep. Every step is one record of the log or nothing, so that a
//! prune that is cut short at any point is gone on with by the next one. Removes nothing itself.
//!
//! Exact about runs: it has the repository for itself ([`RepositoryLock`]) from before it marks until what it condemned is out
//! of the index, so that no run builds upon anything that it found dead.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;

use append_server::age_clock::Reading;
use append_server::destination::DestinationName;
use formats::ids::{PackId, RecordId};
use formats::limits::ACT_SNAPSHOTS_MAX;
use formats::log::retention::{Act, CondemnedPack, Prune};
use formats::seal::run_header::Purpose;
use jiff::Timestamp;

use crate::catalog::retention::CondemnedRow;
use crate::catalog::state::holds::Hold;
use crate::catalog::state::settled_clocks::SettledClock;
use crate::config::host::Host;
use crate::coordinator::{Coordinator, HostRepository};
use crate::events::Event;
use crate::events::what::What;
use crate::index::LiveFrames;
use crate::retention::acts::fresh_act;
use crate::retention::brakes::{self, Force};
use crate::retention::clock_doubt::{self, LogTimes, SILENCE_MAX, SeenClock};
use crate::retention::condemn::{self, Plan};
use crate::retention::decided::{decide_all, empty_rules};
use crate::retention::error::PruneError;
use crate::retention::holds::{holds_on, why_held};
use crate::retention::kept_at::{self, Verdict};
use crate::retention::lock::RepositoryLock;
use crate::retention::mark::{MarkError, Marked, Marker};
use crate::retention::orphans::{self, Listed, Orphan};
use crate::retention::repack::{Writer, Written};
use crate::retention::report::PruneReport;
use crate::retention::sweep;
use crate::retention::thin::{self, AtDestination, ThinPlan, Thinner, ripe_at};
use crate::storage::StorageError;
use crate::terminal::error_line;

/// What is asked of a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneOptions {
    /// Whether anything is done, or only shown.
    pub execute: bool,
    /// What a person takes responsibility for.
    pub force: Force,
}

/// What a prune found before it does anything.
struct Found {
    verdicts: Vec<Verdict>,
    thin: Vec<ThinPlan>,
    thinned: BTreeMap<DestinationName, AtDestination>,
    listed: Listed,
    live: LiveFrames,
    plan: Plan,
    orphans: Vec<Orphan>,
    ripe: Vec<CondemnedRow>,
    /// The holds, by number, that were seen when it was decided what goes.
    holds: Vec<u64>,
    marked_up_to: u64,
    snapshots_left: u64,
}

/// Prunes the repository of a host by that host's keep rules. The report says what was decided, done, or refused and why.
pub async fn prune_host(
    coordinator: &Coordinator,
    host: &Host,
    options: PruneOptions,
) -> Result<PruneReport, PruneError> {
    let name = host.repository.to_string();
    let mut report = PruneReport::new(&host.name.to_string(), &name);
    let locks = coordinator.state_dir.locks_dir();
    let _acting = RepositoryLock::act(&locks, &name)?;
    let _alone = options
        .execute
        .then(|| RepositoryLock::alone(&locks, &name))
        .transpose()?;
    let mut opened = match options.execute {
        true => coordinator.open_to_write(&name).await?,
        false => coordinator.open_named(&name).await?,
    };
    let found = look(coordinator, host, &opened, options, &mut report).await?;
    if let Some(found) = found.filter(|_| options.execute && report.refused.is_none()) {
        match held_since(coordinator, &opened, &found).await? {
            Some(host) => report.refuse(format!(
                "{host} was put on hold while this was looking: nothing was changed"
            )),
            None => {
                execute(coordinator, &mut opened, found, &mut report).await?;
                report.executed = true;
            }
        }
    }
    if options.execute {
        tell(coordinator, &report);
    }
    Ok(report)
}

/// A host that was put on hold after it was decided what goes.
async fn held_since(
    coordinator: &Coordinator,
    opened: &HostRepository,
    found: &Found,
) -> Result<Option<String>, PruneError> {
    let holds = holds_on(coordinator, opened).await?;
    let mut new = holds
        .into_iter()
        .filter(|hold| !found.holds.contains(&hold.number));
    Ok(new.next().map(|hold| hold.host))
}

fn tell_forgotten(coordinator: &Coordinator, report: &PruneReport) {
    let dropped = report.snapshots.iter().filter(|snapshot| !snapshot.kept);
    let snapshots: Vec<String> = dropped.map(|snapshot| snapshot.id.clone()).collect();
    if !snapshots.is_empty() {
        let what = What::SnapshotsForgotten { snapshots };
        coordinator.events.tell(Event::of_host(&report.host, what));
    }
}

/// Tells what was done, or refused.
fn tell(coordinator: &Coordinator, report: &PruneReport) {
    let what = match &report.refused {
        Some(reason) => What::PruneRefused {
            reason: reason.clone(),
        },
        None => What::PruneDone {
            snapshots: report.forgotten,
            bytes: report.removed.bytes,
        },
    };
    coordinator.events.tell(Event::of_host(&report.host, what));
}

/// Everything that only looks. Nothing where a brake holds before the plan is made.
async fn look(
    coordinator: &Coordinator,
    host: &Host,
    opened: &HostRepository,
    options: PruneOptions,
    report: &mut PruneReport,
) -> Result<Option<Found>, PruneError> {
    let now = coordinator.clock.now();
    let holds = holds_on(coordinator, opened).await?;
    let decided = decide_all(coordinator, host, opened, &holds)?;
    decided.tell(coordinator, options, report);
    let (verdicts, places) = (&decided.verdicts, &decided.places);
    if !may_begin(coordinator, host, opened, options, report).await? {
        return Ok(None);
    }
    let condemned = opened.catalog.condemned()?;
    let mut thinned = ripe_at(coordinator, opened, !holds.is_empty())?;
    let listed = orphans::list(coordinator, opened, &condemned, &mut thinned).await?;
    report.notes.extend(listed.away.iter().cloned());
    if let Some(refused) = &listed.refused {
        report.refuse(refused.clone());
    }
    let forgotten = kept_at::forgotten(verdicts);
    let marked = match mark(coordinator, opened, &forgotten).await {
        Ok(marked) => marked,
        Err(PruneOrMark::Mark(error)) => {
            let why = error_line(&error);
            report.refuse(format!("what snapshots need is not known: {why}"));
            return Ok(None);
        }
        Err(PruneOrMark::Prune(error)) => return Err(error),
    };
    if let Some(missing) = brakes::missing(&marked) {
        report.refuse(missing);
    }
    let settings = &coordinator.config.prune;
    let reader = coordinator.chunk_reader(opened)?;
    let snapshots_left = marked.snapshots;
    let (mut plan, live) =
        condemn::plan(&opened.index, &reader, marked.live, settings, now).await?;
    keep_for_want_of_room(coordinator, opened, &mut plan, report).await;
    let ripe_orphans = ripe_orphans(&listed, settings.grace.duration(), now);
    let ripe = ripe(&condemned, &holds, coordinator, report);
    if !options.force.shrink {
        refuse_shrunk(opened, snapshots_left, &plan, report)?;
    }
    report.planned(&plan, &listed, &ripe_orphans, &ripe, &condemned);
    let thinner = Thinner {
        opened,
        reader: &reader,
        verdicts,
        dropped: &decided.dropped,
        forgotten: &forgotten,
        plan: &plan,
    };
    let thin = thinner.plan(places, &mut thinned, options, report).await?;
    report.thinned(&thin, &thinned);
    Ok(Some(Found {
        verdicts: decided.verdicts,
        thin,
        thinned,
        listed,
        live,
        plan,
        orphans: ripe_orphans,
        ripe,
        holds: holds.iter().map(|hold| hold.number).collect(),
        marked_up_to: opened.catalog.last()?.map_or(0, |(sequence, _)| sequence),
        snapshots_left,
    }))
}

fn refuse_shrunk(
    opened: &HostRepository,
    snapshots_left: u64,
    plan: &Plan,
    report: &mut PruneReport,
) -> Result<(), PruneError> {
    let last = opened.catalog.last_prune()?;
    let last = last.as_ref().map(|row| &row.prune);
    if let Some(shrunk) = brakes::shrunk(last, snapshots_left, plan.bytes) {
        report.refuse(shrunk);
    }
    Ok(())
}

/// Whether anything may be looked for at all: rules, an index without gaps. Also what stops a prune later.
async fn may_begin(
    coordinator: &Coordinator,
    host: &Host,
    opened: &HostRepository,
    options: PruneOptions,
    report: &mut PruneReport,
) -> Result<bool, PruneError> {
    if host.keep.is_none_or(|keep| keep.is_empty()) {
        report.refuse(format!(
            "host {} has no keep rules, or none that keeps anything: set keep in {}",
            host.name,
            host.defined_at.file.display()
        ));
        return Ok(false);
    }
    if let Some(name) = empty_rules(coordinator, host) {
        report.refuse(format!(
            "destination {name} has a keep that keeps nothing: write what it keeps in {}, or leave it out",
            coordinator.config.file.display()
        ));
        return Ok(false);
    }
    let now = coordinator.clock.now();
    if let Some(doubt) = clock_doubt(coordinator, opened, now, options).await? {
        report.refuse(format!(
            "{doubt}; when the clock is right now, say --force-clock"
        ));
    }
    let (behind, away) = brakes::check_logs(coordinator, opened).await?;
    report.notes.extend(away);
    if let Some(behind) = behind {
        report.refuse(behind);
    }
    if opened.index.with(|index| Ok(index.has_gap())).await? {
        report.refuse(
            "the index lacks packs that could not be read: `coordinator scan` tells more"
                .to_owned(),
        );
        return Ok(false);
    }
    Ok(true)
}

async fn clock_doubt(
    coordinator: &Coordinator,
    opened: &HostRepository,
    now: Timestamp,
    options: PruneOptions,
) -> Result<Option<clock_doubt::ClockDoubt>, PruneError> {
    let reading = Reading::now(u64::try_from(now.as_second()).unwrap_or(0));
    let repository = opened.repository.id();
    let mut state = coordinator.state.lock().await;
    // What a person has settled is not asked again: the log keeps the times of a clock that was wrong for ever.
    let settled = state.settled_clock(repository)?;
    let after = settled.map_or(0, |settled| settled.sequence);
    let at = settled.map(|settled| settled.at);
    let log = LogTimes {
        latest: opened.catalog.latest_time_after(after)?.max(at),
        leap: opened.catalog.last_leap_after((after, at), SILENCE_MAX)?,
    };
    let before = state.clock_seen()?;
    let doubt = clock_doubt::doubt(now, log, before.as_ref(), &reading);
    let settles = options.force.clock && options.execute;
    if doubt.is_none() || settles {
        state.note_clock(&SeenClock::after(before.as_ref(), reading))?;
    }
    if doubt.is_some() && settles {
        let sequence = opened.catalog.last()?.map_or(0, |(sequence, _)| sequence);
        let settled = SettledClock { sequence, at: now };
        state.settle_clock(repository, settled)?;
    }
    Ok(doubt.filter(|_| !options.force.clock))
}

enum PruneOrMark {
    Prune(PruneError),
    Mark(MarkError),
}

impl<E: Into<PruneError>> From<E> for PruneOrMark {
    fn from(error: E) -> Self {
        Self::Prune(error.into())
    }
}

/// Marks what the snapshots need that are left, of all hosts of the repository.
async fn mark(
    coordinator: &Coordinator,
    opened: &HostRepository,
    forgotten: &HashSet<RecordId>,
) -> Result<Marked, PruneOrMark> {
    let reader = coordinator.chunk_reader(opened)?;
    let mut marker = Marker::new(&reader, &opened.index);
    // The newest first: what they share is where readers look for it.
    for row in opened.catalog.snapshots(None)?.into_iter().rev() {
        if forgotten.contains(&row.id) {
            continue;
        }
        if let Some(snapshot) = opened.catalog.snapshot(row.id)? {
            let marking = marker.snapshot(row.id, &snapshot).await;
            marking.map_err(PruneOrMark::Mark)?;
        }
    }
    Ok(marker.finish())
}

/// What may be removed: nothing while a host of the repository is on hold. What is condemned may be what a forgotten snapshot of
/// it needs to be brought back.
fn ripe(
    condemned: &[CondemnedRow],
    holds: &[Hold],
    coordinator: &Coordinator,
    report: &mut PruneReport,
) -> Vec<CondemnedRow> {
    let settings = &coordinator.config.prune;
    let Some(first) = holds.first() else {
        return sweep::ripe(condemned, settings, coordinator.clock.now());
    };
    let zone = settings.timezone.zone();
    let why = why_held(holds, &first.host, zone).unwrap_or_default();
    report.notes.push(format!(
        "nothing is removed while {} is on hold ({why}): `coordinator hold release {}` when that is settled",
        first.host, first.host
    ));
    Vec::new()
}

fn ripe_orphans(listed: &Listed, grace: std::time::Duration, now: Timestamp) -> Vec<Orphan> {
    let ripe = listed.orphans.iter().filter(|orphan| {
        let age = now.duration_since(orphan.first_seen);
        !age.is_negative() && age.unsigned_abs() >= grace
    });
    ripe.take(condemn::ORPHANS_MAX).cloned().collect()
}

/// What was planned is done. The caller has the repository for itself.
async fn execute(
    coordinator: &Coordinator,
    opened: &mut HostRepository,
    found: Found,
    report: &mut PruneReport,
) -> Result<(), PruneError> {
    write_forgets(coordinator, opened, &found.verdicts).await?;
    tell_forgotten(coordinator, report);
    let Found {
        listed,
        live,
        plan,
        orphans,
        ripe,
        marked_up_to,
        snapshots_left,
        thin,
        thinned,
        ..
    } = found;
    let facts = Prune {
        marked: marked_up_to,
        snapshots: snapshots_left,
        ..Prune::default()
    };
    // What goes at one destination may be there a second time in a pack that no record names yet.
    let thins = thin.iter().any(|plan| !plan.thinning.condemned.is_empty());
    let all = (plan, live, orphans);
    condemn_all(coordinator, opened, all, (facts, thins), report).await?;
    thin::condemn_at(coordinator, opened, thin).await?;
    sweep::tell_condemned(coordinator, opened, &listed.leftovers).await?;
    thin::tell_condemned_at(coordinator, opened, |row| {
        let mut there = thinned.iter();
        let at = there.find(|(name, _)| name.to_string() == row.destination);
        at.map_or(row.swept.is_none(), |(_, at)| at.is_told(row))
    })
    .await?;
    // A hold that came meanwhile stops what is due from earlier prunes, too.
    if holds_on(coordinator, opened).await?.is_empty() {
        let at = thin::sweep_at(coordinator, opened, &thinned).await?;
        let mut swept = sweep::sweep(coordinator, opened, &ripe, &listed.leftovers).await?;
        sweep::add(&mut swept, &at);
        report.swept(&ripe, swept);
    }
    let older = coordinator.config.prune.abort_uploads_after.duration();
    for name in coordinator.storage.destination_names() {
        match coordinator.storage.abort_uploads(name, older).await {
            Ok(count) => report.uploads_aborted += count,
            Err(error) => report.notes.push(format!(
                "unfinished uploads to {name} were not ended: {}",
                error_line(&error)
            )),
        }
    }
    Ok(())
}

async fn write_forgets(
    coordinator: &Coordinator,
    opened: &mut HostRepository,
    verdicts: &[Verdict],
) -> Result<(), PruneError> {
    let HostRepository {
        repository,
        catalog,
        ..
    } = opened;
    let dropped = verdicts.iter().filter(|verdict| !verdict.is_kept());
    let dropped: Vec<RecordId> = dropped.map(|verdict| verdict.candidate.id).collect();
    let at_once = usize::try_from(ACT_SNAPSHOTS_MAX).unwrap_or(usize::MAX);
    for snapshots in dropped.chunks(at_once) {
        let act = Act::Forget {
            by_person: false,
            snapshots: snapshots.to_vec(),
        };
        coordinator
            .act(repository, catalog, fresh_act()?, act)
            .await?;
    }
    Ok(())
}

/// Writes anew what must be, then the one record that condemns, then takes what it condemned out of the index.
async fn condemn_all(
    coordinator: &Coordinator,
    opened: &mut HostRepository,
    (mut plan, live, orphans): (Plan, LiveFrames, Vec<Orphan>),
    (facts, thins): (Prune, bool),
    report: &mut PruneReport,
) -> Result<(), PruneError> {
    let must_record = thins && !plan.again.is_empty();
    if plan.dead.is_empty() && plan.repack.is_empty() && orphans.is_empty() && !must_record {
        return Ok(());
    }
    let act = fresh_act()?;
    let reader = coordinator.chunk_reader(opened)?;
    let writer = Writer {
        coordinator,
        opened,
        reader: &reader,
        act,
    };
    let mut written = write_anew(&writer, &mut plan, live, report).await?;
    let writes_none = written.sources.is_empty();
    if plan.dead.is_empty() && writes_none && orphans.is_empty() && !must_record {
        return Ok(());
    }
    let (again, unrecorded_meta) = tables_again(opened, &plan).await?;
    let tables: Vec<PackId> = written.data.iter().chain(&again).copied().collect();
    writer.write_index(&tables, &mut written).await?;
    let condemned = condemned(&plan, &written, &orphans);
    let mut meta_packs = written.meta.clone();
    meta_packs.extend(&unrecorded_meta);
    report.condemned(&condemned, &written);
    let gone: Vec<PackId> = condemned.iter().map(|pack| pack.pack).collect();
    let prune = Prune {
        packs: plan.packs + (written.data.len() + written.meta.len()) as u64,
        bytes: plan.bytes + written.bytes,
        index: written.index.clone(),
        meta_packs: meta_packs.clone(),
        condemned,
        ..facts
    };
    let HostRepository {
        repository,
        catalog,
        index,
        ..
    } = opened;
    let recorded = coordinator
        .act(repository, catalog, act, Act::Prune(prune))
        .await?; // From here on nothing may be built upon what is condemned.
    let (sequence, _) = recorded;
    let new: Vec<PackId> = tables.iter().chain(&meta_packs).copied().collect();
    index
        .with(move |index| {
            index.retire(&gone, sequence)?;
            index.recorded_again(sequence, &new)?;
            index.mark_committed(sequence, &[])
        })
        .await?;
    Ok(())
}

/// Leaves out what would be written anew, unless there is room for all of it: copies that end for want of room are rubbish for as
/// long as anything that is condemned.
async fn keep_for_want_of_room(
    coordinator: &Coordinator,
    opened: &HostRepository,
    plan: &mut Plan,
    report: &mut PruneReport,
) {
    let bytes = plan.bytes_written_anew();
    if bytes == 0 {
        return;
    }
    let repository = opened.repository.id();
    let room = coordinator.storage.check_room(repository, bytes).await;
    // Where nobody says, it shows when it is written.
    if let Err(error @ StorageError::NoSpace { .. }) = room {
        plan_without_copies(plan, &error, report);
    }
}

fn plan_without_copies(plan: &mut Plan, error: &(dyn Error + 'static), report: &mut PruneReport) {
    plan.keep_what_was_to_be_written_anew();
    report.notes.push(format!(
        "nothing is written anew before there is room for it: {}",
        error_line(error)
    ));
}

/// Copies what must be; where the room for that is gone meanwhile, what is dead makes some without it.
async fn write_anew(
    writer: &Writer<'_>,
    plan: &mut Plan,
    live: LiveFrames,
    report: &mut PruneReport,
) -> Result<Written, PruneError> {
    let mut written = Written::default();
    match writer.copy(&plan.repack, live, &mut written).await {
        Ok(()) => Ok(written),
        Err(error) if error.is_no_space() => {
            plan_without_copies(plan, &error, report);
            // What could be written is in no record, as after a prune that was cut short.
            Ok(Written::default())
        }
        Err(error) => Err(error),
    }
}

/// Of the packs whose tables must be written anew: data packs, and meta packs that a record has only to name.
async fn tables_again(
    opened: &HostRepository,
    plan: &Plan,
) -> Result<(Vec<PackId>, Vec<PackId>), PruneError> {
    let wanted: Vec<PackId> = plan.again.iter().copied().collect();
    let found = opened.index.with(move |index| {
        let mut found = (Vec::new(), Vec::new());
        for pack in wanted {
            match index.purpose_of(pack)? {
                Some(Purpose::Data) => found.0.push(pack),
                Some(Purpose::Meta) => found.1.push(pack),
                None => {}
            }
        }
        Ok(found)
    });
    Ok(found.await?)
}

fn condemned(plan: &Plan, written: &Written, orphans: &[Orphan]) -> Vec<CondemnedPack> {
    let known = plan.dead.iter().chain(&written.sources);
    let known = known.map(|pack| CondemnedPack {
        pack: pack.facts.pack,
        purpose: pack.facts.purpose,
        bytes: pack.facts.bytes,
    });
    let orphans = orphans.iter().map(|orphan| CondemnedPack {
        pack: orphan.pack,
        purpose: orphan.purpose,
        // A list may say anything; the record's limit holds.
        bytes: orphan.bytes.min(formats::limits::PACK_BYTES_MAX),
    });
    let mut all: Vec<CondemnedPack> = known.chain(orphans).collect();
    all.sort_unstable_by_key(|pack| pack.pack);
    all.dedup_by_key(|pack| pack.pack);
    all
}
