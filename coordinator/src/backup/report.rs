//! What a run came to, for people and for `--json`. Counts and names only; never a secret.

use std::time::Duration;

use formats::ids::RecordId;
use formats::log::snapshot::SnapshotTotals;
use formats::wire::control::problem::Problem;

use crate::backup::changes::Changes;
use crate::backup::error::RunError;
use crate::catalog::state::Outcome;
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
    /// The CPU time that the agent has used, as it says; not that of the commands it ran.
    pub agent_cpu: Duration,
    /// What the run left on the host, against all care.
    pub left_behind: Vec<String>,
    /// What a person should know beside what could not be read.
    pub warnings: Vec<Warning>,
}

/// Something a person should know about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// What it is.
    pub text: String,
}

impl Warning {
    /// A warning.
    pub fn new(kind: WarningKind, text: String) -> Self {
        Self { kind, text }
    }
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// The machine is not quite the one it was.
    Identity,
    /// Something is not backed up.
    Coverage,
    /// A soft limit is passed.
    Quota,
    /// A hook failed.
    Hook,
}

impl WarningKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Coverage => "coverage",
            Self::Quota => "quota",
            Self::Hook => "hook",
        }
    }
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
    /// Why it looks wrong, if it does: its host is on hold.
    pub held: Option<String>,
    /// What changed since the parent; nothing without one, where its listing is damaged, or where every file was read.
    pub changes: Option<Changes>,
}

impl RunReport {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match &self.result {
            Err(error) => error.exit_code(),
            Ok(run) if self.outcome_of(run) == Outcome::Ok => ExitCode::Ok,
            Ok(_) => ExitCode::Warnings,
        }
    }

    /// What a committed run came to.
    pub fn outcome_of(&self, run: &CommittedRun) -> Outcome {
        let warnings = run.totals.problems > 0 || !self.warnings.is_empty();
        match &run.held {
            Some(_) => Outcome::Held,
            None if warnings || !self.left_behind.is_empty() => Outcome::Warnings,
            None => Outcome::Ok,
        }
    }
}
