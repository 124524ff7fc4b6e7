//! What a rescue found: also what `rescue --json` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::exit_code::ExitCode;
use crate::rescue::opening::RefusalKind;
use crate::restore::summary::{RestoreOutcome, RestoreSummary};

/// What was found, and what came of it.
#[derive(Debug, Serialize)]
pub struct RescueReport {
    /// Where.
    pub place: String,
    /// Whose packs.
    pub repository: String,
    /// Its packs.
    pub packs: PacksReport,
    /// What of its listings survives.
    pub pages: PagesReport,
    /// The log's last snapshot, where it can be restored as it was.
    pub intact: Option<IntactSnapshot>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Counts and problems; of a list, what would be restored.
    #[serde(flatten)]
    pub summary: RestoreSummary,
    /// How long it took.
    pub seconds: f64,
}

/// The packs that are there.
#[derive(Debug, Default, Serialize)]
pub struct PacksReport {
    /// All of them.
    pub found: u64,
    /// Those that opened.
    pub opened: u64,
    /// Those that did not; the first ones.
    pub refused: Vec<RefusedPack>,
    /// All that did not.
    pub refused_count: u64,
    /// All that did not, by reason.
    pub refused_kinds: BTreeMap<RefusalKind, u64>,
    /// Data packs that surviving index pieces name and that are not there, though no prune removed them; not known of files
    /// under other names.
    pub known_missing: Option<u64>,
    /// Data packs that surviving index pieces name and that prune removed, as a whole log tells.
    pub pruned: Option<u64>,
    /// Data packs that are there and that no surviving index piece names: a run that failed left them, or the meta
    /// packs of their run are gone, and with them perhaps the names of files.
    pub unnamed: Option<u64>,
}

/// A pack that does not open.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedPack {
    /// Its name in the repository, or its path.
    pub pack: String,
    /// What kind of reason.
    pub kind: RefusalKind,
    /// The reason, for people.
    pub text: String,
}

/// What of the listings survives.
#[derive(Debug, Default, Serialize)]
pub struct PagesReport {
    /// Pages whose entries were taken.
    pub read: u64,
    /// Pages, lists of pages and index pieces that are there and damaged.
    pub damaged: u64,
    /// Pages that surviving lists name and that are not there.
    pub known_missing: u64,
    /// Entries in all pages, of all snapshots.
    pub entries: u64,
    /// Files that only forgotten snapshots had and that prune took something of: they are left out, and nothing is wrong.
    pub pruned: u64,
}

/// A snapshot that can still be restored as it was.
#[derive(Debug, Clone, Serialize)]
pub struct IntactSnapshot {
    /// Its host.
    pub host: String,
    /// When it was committed.
    pub time: String,
    /// Its place in the log.
    pub seq: u64,
}

impl RescueReport {
    /// The number to end with: something stored is damaged or known to be missing, something was not restored as it
    /// was or may be missing, or everything that was found is there.
    pub fn exit_code(&self) -> ExitCode {
        let is_damaged = self.summary.found_damage()
            || self.packs.refused_count > 0
            || self.pages.damaged > 0
            || self.pages.known_missing > 0;
        match self.summary.outcome {
            _ if is_damaged => ExitCode::Integrity,
            RestoreOutcome::Failed => ExitCode::Error,
            RestoreOutcome::Warnings => ExitCode::Warnings,
            RestoreOutcome::Ok if self.packs.unnamed.is_some_and(|unnamed| unnamed > 0) => {
                ExitCode::Warnings
            }
            RestoreOutcome::Ok => ExitCode::Ok,
        }
    }
}
