//! What a run came to, for people and for `--json`. Counts and names only; never a secret.

use std::time::Duration;

use formats::ids::RecordId;
use formats::log::snapshot::SnapshotTotals;
use formats::wire::control::Problem;

use crate::backup::error::RunError;
use crate::exit_code::ExitCode;

/// How a run ended.
#[derive(Debug)]
pub struct RunReport {
    /// The host.
    pub host: String,
    /// What was committed, or why nothing was.
    pub result: Result<CommittedRun, RunError>,
    /// How long it took.
    pub duration: Duration,
    /// What carried the packs: `unix`, `tcp` or `stdio`.
    pub transport: Option<&'static str>,
    /// The agent's peak resident memory in bytes.
    pub agent_memory: u64,
    /// What the run left on the host, against all care.
    pub left_behind: Vec<String>,
}

/// A committed run.
#[derive(Debug)]
pub struct CommittedRun {
    /// The snapshot's name.
    pub id: RecordId,
    /// Its place in the log.
    pub sequence: u64,
    /// When it was committed, nanoseconds since 1970.
    pub committed_nanos: i64,
    /// Its counts.
    pub totals: SnapshotTotals,
    /// The first problems.
    pub problems: Vec<Problem>,
}

impl RunReport {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match &self.result {
            Err(error) => error.exit_code(),
            Ok(run) if run.totals.problems > 0 || !self.left_behind.is_empty() => {
                ExitCode::Warnings
            }
            Ok(_) => ExitCode::Ok,
        }
    }
}
