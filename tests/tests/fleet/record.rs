//! What the coordinator says afterwards, and what must be true of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::shapes::{SnapshotLine, exit};
use tests::world::World;

use crate::{PARALLEL, SHARED_KEY};

/// Runs of one host that are looked at.
const RUNS_MAX: &str = "5000";

/// What `status --json` prints.
#[derive(Debug, Deserialize)]
pub struct Status {
    daemon: Option<Live>,
    hosts: Vec<HostStatus>,
}

#[derive(Debug, Deserialize)]
struct Live {
    pid: u32,
}

/// A host in it.
#[derive(Debug, Deserialize)]
pub struct HostStatus {
    host: String,
    /// `ok`, `late` or `never`.
    pub freshness: String,
    last_run: Option<LastRun>,
}

#[derive(Debug, Deserialize)]
struct LastRun {
    outcome: String,
}

impl Status {
    /// The daemon that answered.
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(|daemon| daemon.pid)
    }

    /// A host.
    pub fn host(&self, name: &str) -> Result<&HostStatus> {
        let mut hosts = self.hosts.iter();
        hosts.find(|host| host.host == name).context("a host")
    }
}

impl HostStatus {
    /// How its last run ended.
    pub fn last_outcome(&self) -> Option<&str> {
        self.last_run.as_ref().map(|run| run.outcome.as_str())
    }
}

/// One element of `history --json`.
#[derive(Debug, Deserialize)]
pub struct Run {
    host: String,
    started: String,
    finished: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
}

/// One element of `hold ls --json`.
#[derive(Debug, Deserialize)]
pub struct Hold {
    /// The host.
    pub host: String,
    /// Its kind.
    pub kind: String,
    /// Why.
    pub reason: String,
}

/// The status of all hosts.
pub fn status(world: &World) -> Result<Status> {
    let finished = world.coordinator(&["status", "--json"])?;
    finished.expect_code(exit::OK)?.json()
}

/// All runs of all hosts, in the order in which they began.
pub fn history(world: &World) -> Result<Vec<Run>> {
    let finished = world.coordinator(&["history", "--count", RUNS_MAX, "--json"])?;
    finished.expect_code(exit::OK)?.json()
}

/// All holds that stand.
pub fn holds(world: &World) -> Result<Vec<Hold>> {
    let finished = world.coordinator(&["hold", "ls", "--json"])?;
    finished.expect_code(exit::OK)?.json()
}

/// A host's snapshots.
pub fn snapshots(world: &World, host: &str) -> Result<Vec<SnapshotLine>> {
    let finished = world.coordinator(&["snapshots", host, "--json"])?;
    finished.expect_code(exit::OK)?.json()
}

/// Never more runs at once than may be, never two of one host, never two of those that share a key.
pub fn expect_limits(runs: &[Run]) -> Result<()> {
    for (index, run) in runs.iter().enumerate() {
        // What died has no end of its own; the next daemon noted one later than it was.
        let beside: Vec<&Run> = runs[..index]
            .iter()
            .filter(|earlier| earlier.outcome.as_deref() != Some("died"))
            .filter(|earlier| {
                let ended = earlier.finished.as_deref();
                ended.is_none_or(|ended| ended > run.started.as_str())
            })
            .collect();
        ensure!(beside.len() < PARALLEL, "{run:?} beside {beside:?}");
        let shares = |host: &str| SHARED_KEY.contains(&host);
        let against = beside
            .iter()
            .find(|other| other.host == run.host || (shares(&other.host) && shares(&run.host)));
        ensure!(against.is_none(), "{run:?} beside {against:?}");
    }
    Ok(())
}

/// Every occasion of a host came to one snapshot at most, and every snapshot is of an occasion.
pub fn expect_once(world: &World, host: &str) -> Result<()> {
    let state = world.coordinator_dir().join("state/state.db");
    let state = rusqlite::Connection::open(state)?;
    let mut results: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows = state.prepare("SELECT result, attempts FROM occasions WHERE host = ?1")?;
    let rows = rows.query_map([host], |row| {
        Ok((row.get::<_, Option<String>>(0)?, row.get::<_, u32>(1)?))
    })?;
    for row in rows {
        let (result, attempts) = row?;
        // The first one and one retry.
        ensure!(
            attempts <= 2,
            "{host}: {attempts} attempts for one occasion"
        );
        *results.entry(result.unwrap_or_default()).or_default() += 1;
    }
    let committed: usize = ["ok", "warnings", "held"]
        .iter()
        .filter_map(|word| results.get(*word))
        .sum();
    let good = history(world)?
        .iter()
        .filter(|run| run.host == host)
        .filter(|run| matches!(run.outcome.as_deref(), Some("ok" | "warnings" | "held")))
        .count();
    let taken = snapshots(world, host)?.len();
    ensure!(
        good == committed && taken == committed,
        "{host}: {good} good runs and {taken} snapshots for {committed} good occasions: {results:?}"
    );
    Ok(())
}
