//! What became more on a host, and what the shares of a run are of. What was stored before explains nothing and makes no share less,
//! however often a host repeats it; nor does what was added a few runs ago, for it may have been added to make them less.

use crate::safety::anomaly::Figures;

/// What shares are of has been there for so many good runs, or since a person accepted a run.
const LASTING_RUNS: usize = 7;

/// How the bytes of runs are counted that are compared with each other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counting {
    WithoutHoles,
    WithHoles,
}

impl Counting {
    /// Without holes, once none of the runs is of the version that counted them.
    pub(super) fn of(now: &Figures, past: &[Figures]) -> Self {
        let mut runs = past.iter().chain([now]);
        match runs.all(|run| run.bytes_with_holes.is_some()) {
            true => Self::WithoutHoles,
            false => Self::WithHoles,
        }
    }

    /// A run's bytes.
    pub(super) fn bytes(self, run: &Figures) -> u64 {
        match self {
            Self::WithoutHoles => run.bytes,
            Self::WithHoles => run.bytes_with_holes.unwrap_or(run.bytes),
        }
    }
}

/// What became more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    /// New data that added files and growth explain.
    pub(super) explained: u64,
    now: u64,
}

impl Growth {
    pub(super) fn of(now: &Figures, past: &[Figures], counting: Counting) -> Self {
        let before = past.first().map_or(0, |last| counting.bytes(last));
        let bytes = counting.bytes(now);
        let grown = bytes.saturating_sub(before);
        let added = now.compared.added_bytes;
        let explained = match now.compared.grown_bytes {
            Some(by_new) => grown.min(by_new.saturating_add(added)).max(added),
            None => grown.max(added),
        };
        Self {
            explained,
            now: bytes,
        }
    }

    /// The bytes that shares are of: so many before, and what is explained of more.
    pub(super) fn whole(&self, before: u64) -> u64 {
        self.now.min(before.saturating_add(self.explained))
    }
}

/// How much of a host has been there for some runs; what was not asked for in all of them does not count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lasting {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Lasting {
    /// The least of the last runs, of which so many are not older than the last one that a person accepted.
    pub(super) fn of(now: &Figures, past: &[Figures], counting: Counting, accepted: usize) -> Self {
        let runs = past.get(..accepted.min(LASTING_RUNS)).unwrap_or(past);
        let is_comparable = |run: &&Figures| run.rules == now.rules;
        let runs = || past.iter().take(1).chain(runs.iter().filter(is_comparable));
        Self {
            files: runs().map(|run| run.files).min().unwrap_or_default(),
            bytes: runs()
                .map(|run| counting.bytes(run))
                .min()
                .unwrap_or_default(),
        }
    }
}
