//! How each host is doing: its last good snapshot against what was promised, its last run, what comes next. From the state, the
//! configuration and the time alone: opens no repository and asks nobody, so it is quick and works while everything else does
//! not.

pub mod behind;
pub mod json;
pub mod severity;

use append_server::quantity::Span;
use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use formats::wire::upload::destinations::{DestinationState, Placed};
use jiff::{SignedDuration, Timestamp};

use crate::catalog::state::{Outcome, RunRow, State};
use crate::clock::from_nanos;
use crate::config::Config;
use crate::config::commit_setting::Commit;
use crate::config::host::Host;
use crate::daemon::records::record_of;
use crate::database::DatabaseError;
use crate::lock::holder;
use crate::repository::layout::StateDir;
use crate::schedule::outlook::{Outlook, outlook};
use crate::storage::destinations::problem_of;

/// Whether a host's last good snapshot is as young as was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// It is, or nothing was promised and there is one.
    Ok,
    /// It is older than `sla`.
    Late,
    /// There is none.
    Never,
}

impl Freshness {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Never => "never",
        }
    }
}

/// A host's last good snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoodSnapshot {
    /// Its name.
    pub id: RecordId,
    /// When it was committed.
    pub at: Timestamp,
    /// How long its run took.
    pub took: SignedDuration,
    /// Its counts.
    pub totals: SnapshotTotals,
}

/// A host's last run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// The run.
    pub run: RunId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// With what.
    pub outcome: Outcome,
    /// Why it failed.
    pub error: Option<String>,
}

/// What keeps a host's snapshots from being forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldShown {
    /// Of which kind.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// How one host is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// Its labels.
    pub tags: Vec<String>,
    /// Whether it is as fresh as was promised.
    pub freshness: Freshness,
    /// How old its last good snapshot may be.
    pub sla: Option<Span>,
    /// The last good snapshot.
    pub last_good: Option<GoodSnapshot>,
    /// The last run that ended.
    pub last_run: Option<LastRun>,
    /// Since when it is being backed up.
    pub running_since: Option<Timestamp>,
    /// When data of it was last read back and found whole: by its last good run, or by `verify`.
    pub verified: Option<Timestamp>,
    /// What keeps its snapshots.
    pub holds: Vec<HoldShown>,
    /// On how many destinations its objects must be.
    pub commit: Commit,
    /// When the daemon backs it up next; nothing without a schedule, and now when it is due.
    pub next_run: Option<Timestamp>,
}

impl HostStatus {
    /// How old the last good snapshot is.
    pub fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        let good = self.last_good.as_ref()?;
        Some(now.duration_since(good.at).max(SignedDuration::ZERO))
    }
}

/// How a destination is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationLag {
    /// Its name.
    pub destination: String,
    /// Objects that it does not have yet.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when the oldest of them waits.
    pub since: Option<Timestamp>,
    /// Why it takes nothing at present.
    pub problem: Option<String>,
    /// Whether it lacks what nobody brings before `destination sync`: something is kept there that was not for a time.
    pub not_filled: bool,
}

impl From<DestinationState> for DestinationLag {
    fn from(state: DestinationState) -> Self {
        let nanos = |secs: u64| {
            i64::try_from(secs)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000_000_000)
        };
        let problem = problem_of(&state);
        Self {
            destination: state.name,
            objects: state.objects_behind,
            bytes: state.bytes_behind,
            since: state.oldest_unix_secs.map(|secs| from_nanos(nanos(secs))),
            problem,
            not_filled: state.placed == Placed::Unfilled,
        }
    }
}

/// The hosts that are backed up, by name.
pub fn hosts_backed_up(config: &Config) -> impl Iterator<Item = &Host> {
    // A host without paths only serves others as a jump host.
    config.hosts.values().filter(|host| !host.paths.is_empty())
}

/// How every host is doing, by name.
pub fn fleet_status(
    state: &State,
    config: &Config,
    now: Timestamp,
) -> Result<Vec<HostStatus>, DatabaseError> {
    let state_dir = StateDir::new(&config.state_dir);
    hosts_backed_up(config)
        .map(|host| host_status(state, &state_dir, host, now))
        .collect()
}

/// How one host is doing.
pub fn host_status(
    state: &State,
    state_dir: &StateDir,
    host: &Host,
    now: Timestamp,
) -> Result<HostStatus, DatabaseError> {
    let name = host.name.as_str();
    let runs = state.runs(name, 2)?;
    let running_since = runs
        .iter()
        .find(|run| run.finished.is_none() && is_under_way(state_dir, run))
        .map(|run| run.started);
    let good = state.last_good(name)?;
    let last_good = match &good {
        Some((run, result)) => Some(GoodSnapshot {
            id: result.snapshot,
            at: result.committed,
            took: took(state, *run)?,
            totals: result.totals,
        }),
        None => None,
    };
    let read_back = good.filter(|(_, result)| result.verified);
    let read_back = read_back.map(|(_, result)| result.committed);
    let since = state.schedule_seen(name)?.unwrap_or(now);
    let record = record_of(state, name, since, now)?;
    let next_run = match outlook(name, &host.timing, &record, Some(now), now) {
        Outlook::Idle => None,
        Outlook::Waits { until, .. } => Some(until),
        Outlook::Due { .. } => Some(now),
        Outlook::Missed { occasion } => host.timing.next(name, occasion).map(|next| next.begins),
    };
    Ok(HostStatus {
        host: name.to_owned(),
        tags: host
            .tags
            .iter()
            .map(|tag| tag.as_str().to_owned())
            .collect(),
        freshness: freshness(last_good.map(|good| good.at), host.timing.sla, now),
        sla: host.timing.sla,
        last_good,
        last_run: runs.into_iter().find_map(ended),
        running_since,
        verified: read_back.max(state.verified_at(name)?),
        holds: holds_of(state, name)?,
        commit: host.commit,
        next_run,
    })
}

fn holds_of(state: &State, host: &str) -> Result<Vec<HoldShown>, DatabaseError> {
    let holds = state.holds(Some(host))?.into_iter();
    let shown = holds.map(|hold| HoldShown {
        kind: hold.kind.to_string(),
        reason: hold.reason,
        since: hold.since,
    });
    Ok(shown.collect())
}

/// Whether a snapshot of that age keeps what was promised. One that is as far in the future, by a clock that was ahead, says
/// nothing.
pub fn freshness(good: Option<Timestamp>, sla: Option<Span>, now: Timestamp) -> Freshness {
    let Some(good) = good else {
        return Freshness::Never;
    };
    let bound = sla.and_then(|sla| SignedDuration::try_from(sla.duration()).ok());
    match bound.is_some_and(|bound| now.duration_since(good).abs() > bound) {
        true => Freshness::Late,
        false => Freshness::Ok,
    }
}

fn took(state: &State, run: RunId) -> Result<SignedDuration, DatabaseError> {
    let row = state.run(run)?;
    let took = row.and_then(|row| {
        let (finished, _) = row.finished?;
        Some(finished.duration_since(row.started))
    });
    Ok(took.unwrap_or_default())
}

fn ended(row: RunRow) -> Option<LastRun> {
    let (finished, outcome) = row.finished?;
    Some(LastRun {
        run: row.run,
        started: row.started,
        finished,
        outcome,
        error: row.error,
    })
}

/// A run that has no end in the history goes on only while the process lives that holds its lock.
fn is_under_way(state_dir: &StateDir, run: &RunRow) -> bool {
    let holder = holder(&state_dir.hosts_dir(), &run.host);
    let alive = |pid: u32| std::path::Path::new("/proc").join(pid.to_string()).exists();
    holder.run == Some(run.run) && holder.pid.is_some_and(alive)
}

#[cfg(test)]
mod tests;
