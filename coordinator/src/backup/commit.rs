//! Commits a snapshot: listing, index, the host's settings when they changed, log record, in this order. The record is the
//! one commit point; before it, nothing of the run is visible. Never deletes, never reorders.

use formats::ids::{PackId, RecordId, RunId};
use formats::log::record::Payload;
use formats::log::settings::HostSettings;
use formats::log::snapshot::{ChunkRef, Snapshot, SnapshotTotals};
use formats::wire::facts::HostFacts;

use crate::backup::carrier::Carrier;
use crate::backup::changes::Changes;
use crate::backup::conversation::{Conversation, Outcome, settle_meta};
use crate::backup::error::RunError;
use crate::backup::guard::{Brought, Guard};
use crate::backup::report::Warning;
use crate::backup::shared_index::{NewData, SharedIndex, Unrecorded};
use crate::catalog::Catalog;
use crate::clock::to_nanos;
use crate::coordinator::Coordinator;
use crate::repository::Repository;

/// Data packs whose tables are gathered into index pieces at a time.
const PACKS_AT_ONCE: usize = 16;

/// What the record says beside what the run found.
#[derive(Debug)]
pub struct CommitFacts {
    /// The host's name.
    pub host: String,
    /// The run.
    pub run: RunId,
    /// When it began, by our clock.
    pub started_nanos: i64,
    /// The snapshot it was compared with.
    pub parent: Option<RecordId>,
    /// The source paths.
    pub sources: Vec<Vec<u8>>,
    /// What the agent said of its host.
    pub facts: HostFacts,
    /// The agent's version and digest.
    pub agent: String,
}

/// What a commit writes to and with.
pub struct CommitTo<'a> {
    /// Who writes.
    pub coordinator: &'a Coordinator,
    /// The repository.
    pub repository: &'a Repository,
    /// The host's settings, for a coordinator that is built anew.
    pub settings: String,
    /// Where records are known locally.
    pub catalog: &'a mut Catalog,
    /// Where chunks are known locally.
    pub index: &'a SharedIndex,
    /// Who looks at it before it is committed.
    pub guard: &'a Guard<'a>,
    /// The parent, which it is compared with.
    pub compared_with: Option<&'a Snapshot>,
    /// What a person should know.
    pub warnings: &'a mut Vec<Warning>,
}

/// A committed snapshot.
#[derive(Debug)]
pub struct Committed {
    /// Its name.
    pub id: RecordId,
    /// Its place in the log.
    pub sequence: u64,
    /// Its record.
    pub snapshot: Snapshot,
    /// Why it looks wrong, if it does: its host is on hold.
    pub held: Option<String>,
    /// What changed since the parent; nothing where that was not counted.
    pub changes: Option<Changes>,
}

/// Commits what the conversation brought.
pub async fn commit(
    conversation: &mut Conversation,
    outcome: Outcome,
    facts: CommitFacts,
    mut to: CommitTo<'_>,
) -> Result<Committed, RunError> {
    if outcome.sources_missing >= facts.sources.len() as u64 {
        return Err(RunError::NothingFound);
    }
    let listing = conversation.listing.finish_listing().await?;
    // Every data pack is verified by now, so what the index object carries is what is marked as recorded.
    let data = to.index.unrecorded().await?.data;
    let index = write_index(conversation, to.index, &data).await?;
    conversation.listing.finish_packs().await?;
    settle_meta(conversation).await?; // Everything the record will name is durable and verified.
    let recorded = Unrecorded {
        data,
        meta: to.index.unrecorded().await?.meta,
    };

    let mut totals = listing.totals;
    totals.bytes_read = outcome.totals.bytes_read;
    totals.bytes_new = outcome.bytes_new;
    totals.bytes_stored = outcome.bytes_stored + conversation.listing.bytes_stored();
    totals.problems = outcome.problem_count;
    let counts = (totals, listing.data_bytes);
    let (held, changes) = examine(conversation, &outcome, counts, &facts, &mut to).await?;
    let snapshot = Snapshot {
        host: facts.host,
        run: facts.run,
        started_nanos: facts.started_nanos,
        committed_nanos: to_nanos(to.coordinator.clock.now()),
        parent: facts.parent,
        verified: true,
        sources: facts.sources,
        page_index: listing.page_index,
        index,
        meta_packs: recorded.meta.clone(),
        totals,
        problems: outcome.problems,
        names: outcome.names,
        facts: facts.facts,
        agent: facts.agent,
    };
    let index = to.index.clone();
    if index.lost_count().await? > conversation.lost_count {
        return Err(RunError::LostMeanwhile);
    }
    to.coordinator
        .state
        .lock()
        .await
        .run_commits(snapshot.run)?;
    let committed = write_record(snapshot, to).await?;
    index.mark_committed(committed.sequence, recorded).await?;
    Ok(Committed {
        held,
        changes,
        ..committed
    })
}

/// The last look at what the run brought: an error keeps it out of the history. Gives why the host is on hold, if it is, and what
/// changed, if that was counted.
async fn examine(
    conversation: &mut Conversation,
    outcome: &Outcome,
    (totals, data_bytes): (SnapshotTotals, u64),
    facts: &CommitFacts,
    to: &mut CommitTo<'_>,
) -> Result<(Option<String>, Option<Changes>), RunError> {
    let comparing = conversation.parent.finish().await;
    let mut comparing = comparing.map_err(RunError::Parent)?;
    if let Some(found) = &mut comparing {
        found
            .counts
            .explain_less(conversation.new_chunks.explains_nothing());
    }
    let changes = comparing.as_ref().map(|found| found.changes.clone());
    let carrier = conversation.carrier.as_ref();
    let streams = conversation.streams.sizes();
    let brought = Brought {
        totals,
        data_bytes,
        carried: carrier.map_or(0, Carrier::files),
        lacks_kept: carrier.is_some_and(Carrier::is_damaged),
        problems: &outcome.problems,
        comparing,
        parent: to.compared_with,
        new: match to.compared_with {
            Some(parent) => new_data(parent, facts, to.coordinator, to.index).await?,
            None => NewData::default(),
        },
        streams: &streams,
        newly_excluded: conversation.parent.newly_excluded(),
    };
    let held = to.guard.examine(&brought, to.warnings).await?;
    Ok((held, changes))
}

/// What is new against the parent: what this run brought, and those runs of the host since the parent's that died or failed, or
/// one that is cut and run again would hide it. What other hosts of the repository brought is theirs.
async fn new_data(
    parent: &Snapshot,
    facts: &CommitFacts,
    coordinator: &Coordinator,
    index: &SharedIndex,
) -> Result<NewData, RunError> {
    let state = coordinator.state.lock().await;
    let runs = state.runs_since_snapshot(&facts.host, facts.run, parent.run)?;
    drop(state);
    index.new_data(runs).await
}

/// The tables of all data packs that no record names yet: this run's, and those of runs that died, whose
/// chunks this listing may use.
async fn write_index(
    conversation: &mut Conversation,
    index: &SharedIndex,
    data: &[PackId],
) -> Result<Vec<ChunkRef>, RunError> {
    let mut pieces = Vec::new();
    for some in data.chunks(PACKS_AT_ONCE) {
        for plain in index.index_pieces(some.to_vec()).await? {
            pieces.push(conversation.listing.store_index_piece(&plain).await?);
        }
    }
    Ok(pieces)
}

async fn write_record(snapshot: Snapshot, to: CommitTo<'_>) -> Result<Committed, RunError> {
    let host = snapshot.host.clone();
    if to.catalog.host_settings(&host)?.as_ref() != Some(&to.settings) {
        let settings = HostSettings {
            host,
            toml: to.settings,
        };
        to.coordinator
            .append(to.repository, to.catalog, &Payload::Settings(settings))
            .await?;
    }
    let payload = Payload::Snapshot(Box::new(snapshot.clone()));
    let (place, id) = to
        .coordinator
        .append(to.repository, to.catalog, &payload)
        .await?; // The snapshot is visible.
    Ok(Committed {
        id,
        sequence: place.sequence,
        snapshot,
        held: None,
        changes: None,
    })
}
