//! What a restore did and could not do: counted as it happens, from several threads. Nothing that was not
//! restored goes uncounted; the list of problems is short, their number is honest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::snapshot::shown::shown_path;

/// The most problems that are listed one by one.
pub const PROBLEMS_LISTED_MAX: usize = 20;

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// Stored data is damaged or missing: the object was not restored.
    Damaged,
    /// The object was not restored, because it would not be safe, or something is in the way.
    Refused,
    /// The object could not be written or its data not be read.
    Other,
    /// Its content was not readable when it was backed up: there is nothing to restore.
    Unreadable,
    /// Restored, but not with all of its metadata.
    Metadata,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path, absolute and escaped.
    pub path: String,
    /// What kind.
    pub kind: ProblemKind,
    /// The cause, for people; escaped.
    pub text: String,
}

/// How a restore ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RestoreOutcome {
    /// Everything asked for was restored, with all of its metadata.
    Ok,
    /// Everything was restored that the snapshot has and that is safe; some metadata or object was not.
    Warnings,
    /// Some object was not restored, because of damage or because it could not be written.
    Failed,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreSummary {
    /// How it ended.
    pub outcome: RestoreOutcome,
    /// Objects restored that are not directories.
    pub files: u64,
    /// Directories restored, the ones that were there included.
    pub directories: u64,
    /// Bytes of content written; each was checked against its keyed id.
    pub bytes: u64,
    /// Objects left as they were, by the overwrite policy.
    pub skipped: u64,
    /// Objects left out by an option, such as devices.
    pub left_out: u64,
    /// The first problems.
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
    /// All problems by kind.
    #[serde(skip)]
    pub problem_kinds: BTreeMap<ProblemKind, u64>,
}

impl RestoreSummary {
    /// Whether stored data was found damaged.
    pub fn found_damage(&self) -> bool {
        self.problem_kinds.contains_key(&ProblemKind::Damaged)
    }
}

/// Takes every problem as it happens, those too that the summary does not list.
pub trait ProblemSink: Send + Sync + std::fmt::Debug {
    /// Takes one.
    fn problem(&self, problem: &Problem);
}

/// Counts while it happens.
#[derive(Debug, Default)]
pub struct Tally {
    /// Objects restored that are not directories.
    pub files: AtomicU64,
    /// Directories restored.
    pub directories: AtomicU64,
    /// Bytes of content written.
    pub bytes: AtomicU64,
    /// Objects left as they were.
    pub skipped: AtomicU64,
    /// Objects left out by an option.
    pub left_out: AtomicU64,
    problems: Mutex<Problems>,
    sink: Option<Arc<dyn ProblemSink>>,
}

#[derive(Debug, Default)]
struct Problems {
    listed: Vec<Problem>,
    kinds: BTreeMap<ProblemKind, u64>,
}

impl Tally {
    /// A tally that hands every problem on.
    pub fn telling(sink: Option<Arc<dyn ProblemSink>>) -> Self {
        Self {
            sink,
            ..Self::default()
        }
    }

    /// Counts one more.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a problem, and lists it if it is among the first. `path` is a listing's.
    pub fn problem(&self, path: &[u8], kind: ProblemKind, text: String) {
        let path = shown_path(path);
        tracing::warn!(path, ?kind, cause = text, "not restored as it was");
        let problem = Problem { path, kind, text };
        if let Some(sink) = &self.sink {
            sink.problem(&problem);
        }
        let mut problems = self.lock();
        *problems.kinds.entry(kind).or_default() += 1;
        if problems.listed.len() < PROBLEMS_LISTED_MAX {
            problems.listed.push(problem);
        }
    }

    /// The summary so far.
    pub fn summary(&self) -> RestoreSummary {
        let problems = self.lock();
        let kinds = problems.kinds.clone();
        let any = |kind| kinds.contains_key(&kind);
        let outcome = if any(ProblemKind::Damaged) || any(ProblemKind::Other) {
            RestoreOutcome::Failed
        } else if kinds.is_empty() {
            RestoreOutcome::Ok
        } else {
            RestoreOutcome::Warnings
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RestoreSummary {
            outcome,
            files: read(&self.files),
            directories: read(&self.directories),
            bytes: read(&self.bytes),
            skipped: read(&self.skipped),
            left_out: read(&self.left_out),
            problems: problems.listed.clone(),
            problem_count: kinds.values().sum(),
            problem_kinds: kinds,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Problems> {
        // Counts are whole at every step; a panic elsewhere does not make them wrong.
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
