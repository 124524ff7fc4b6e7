//! How bad a host's status is, in one word: for health checks, figures and alerts alike. Pure.

use crate::catalog::state::Outcome;
use crate::status::{Freshness, HostStatus};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// All is well.
    Ok,
    /// Somebody should look: the promise is kept, and something went wrong, or waits for a person.
    Warning,
    /// There is no snapshot that is as young as was promised.
    Critical,
}

impl Severity {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// How bad a host's status is.
pub fn severity(status: &HostStatus) -> Severity {
    if status.freshness != Freshness::Ok {
        return Severity::Critical;
    }
    let went_wrong = |outcome| !matches!(outcome, Outcome::Ok | Outcome::Skipped);
    let last = status.last_run.as_ref();
    match last.is_some_and(|run| went_wrong(run.outcome)) || !status.holds.is_empty() {
        true => Severity::Warning,
        false => Severity::Ok,
    }
}
