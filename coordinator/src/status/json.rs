//! Status as JSON, the same wherever it is given out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::utc;
use crate::config::commit_setting::Commit;
use crate::status::{DestinationLag, HostStatus};

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostStatusJson {
    /// Its name.
    pub host: String,
    /// Its labels.
    pub tags: Vec<String>,
    /// `ok`, `late` or `never`.
    pub freshness: &'static str,
    /// The age of the last good snapshot in seconds.
    pub age_secs: Option<i64>,
    /// How old it may be, in seconds.
    pub sla_secs: Option<u64>,
    /// The last good snapshot.
    pub last_good: Option<GoodSnapshotJson>,
    /// The last run that ended.
    pub last_run: Option<LastRunJson>,
    /// Since when it is being backed up.
    pub running_since: Option<String>,
    /// When data of it was last read back and found whole.
    pub verified: Option<String>,
    /// What keeps its snapshots.
    pub holds: Vec<HoldJson>,
    /// On how many destinations its objects must be, as in hosts.toml.
    pub commit: Commit,
    /// When it is backed up next.
    pub next_run: Option<String>,
    /// Destinations that lack something of its repository; left out when nobody can say, or was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Vec<DestinationJson>>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GoodSnapshotJson {
    /// Its full name.
    pub id: String,
    /// When it was committed.
    pub time: String,
    /// How long its run took.
    pub duration_secs: i64,
    /// Files.
    pub files: u64,
    /// Bytes of the whole snapshot.
    pub bytes: u64,
    /// Bytes that were new.
    pub new_bytes: u64,
    /// Things that could not be read.
    pub problems: u64,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRunJson {
    /// The run.
    pub run: String,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// With what.
    pub outcome: &'static str,
    /// Why it failed.
    pub error: Option<String>,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldJson {
    /// Of which kind.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: String,
}

/// A destination; also what the daemon says of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationJson {
    /// Its name.
    pub destination: String,
    /// Objects that it lacks.
    pub objects_behind: u64,
    /// Their bytes.
    pub bytes_behind: u64,
    /// Since when the oldest waits.
    pub since: Option<String>,
    /// Why it takes nothing at present.
    pub problem: Option<String>,
    /// Whether it lacks what nobody brings before `destination sync`.
    #[serde(default)]
    pub not_filled: bool,
}

impl HostStatusJson {
    /// A host's status at a time.
    pub fn of(status: &HostStatus, now: Timestamp) -> Self {
        let last_good = status.last_good.map(|good| GoodSnapshotJson {
            id: good.id.to_string(),
            time: utc(good.at),
            duration_secs: good.took.as_secs(),
            files: good.totals.files,
            bytes: good.totals.bytes,
            new_bytes: good.totals.bytes_new,
            problems: good.totals.problems,
        });
        let last_run = status.last_run.as_ref().map(|run| LastRunJson {
            run: run.run.to_string(),
            started: utc(run.started),
            finished: utc(run.finished),
            outcome: run.outcome.as_str(),
            error: run.error.clone(),
        });
        let holds = status.holds.iter().map(|hold| HoldJson {
            kind: hold.kind.clone(),
            reason: hold.reason.clone(),
            since: utc(hold.since),
        });
        Self {
            host: status.host.clone(),
            tags: status.tags.clone(),
            freshness: status.freshness.as_str(),
            age_secs: status.age(now).map(|age| age.as_secs()),
            sla_secs: status.sla.map(|sla| sla.duration().as_secs()),
            last_good,
            last_run,
            running_since: status.running_since.map(utc),
            verified: status.verified.map(utc),
            holds: holds.collect(),
            commit: status.commit,
            next_run: status.next_run.map(utc),
            behind: None,
        }
    }

    /// The same with what destinations lack of it.
    #[must_use]
    pub fn with_behind(self, behind: Option<Vec<DestinationJson>>) -> Self {
        Self { behind, ..self }
    }
}

impl From<&DestinationLag> for DestinationJson {
    fn from(lag: &DestinationLag) -> Self {
        Self {
            destination: lag.destination.clone(),
            objects_behind: lag.objects,
            bytes_behind: lag.bytes,
            since: lag.since.map(utc),
            problem: lag.problem.clone(),
            not_filled: lag.not_filled,
        }
    }
}
