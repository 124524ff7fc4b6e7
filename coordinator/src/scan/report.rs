//! What a scan found: of each destination, and of a repository as a whole.

use serde::Serialize;

use crate::events::Event;
use crate::events::what::What;

/// The most problems of a destination that are told one by one.
const PROBLEMS_LISTED_MAX: usize = 20;

/// What was found at one destination; also what `scan --json` prints of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DestinationScan {
    /// Its name.
    pub name: String,
    /// Whether the repository is not kept there, so that nothing was looked at.
    pub not_kept: bool,
    /// Objects that are there as they should be, as far as names and sizes tell.
    pub objects: u64,
    /// Objects that were read again.
    pub read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Objects that are not there.
    pub missing: u64,
    /// Objects that are not what was stored.
    pub damaged: u64,
    /// Objects that are on their way there.
    pub pending: u64,
    /// Objects there that nothing is known of: of runs that are under way, or died.
    pub unknown: u64,
    /// Objects that were put right.
    pub healed: u64,
    /// Locks that were looked at.
    pub locks_seen: u64,
    /// Locks that were prolonged.
    pub locks_renewed: u64,
    /// Locks that reach as far as `lock_max` allows, so that they were not prolonged any more, or by less.
    pub locks_at_limit: u64,
    /// Locks that are longer than this coordinator makes any.
    pub locks_longer: u64,
    /// Objects under a legal hold.
    pub locks_held: u64,
    /// Whether some locks are left for the next scan, which goes on there.
    pub locks_left: bool,
    /// What was wrong, one line each; not all of it.
    pub problems: Vec<String>,
    /// Why it could not be scanned to the end.
    pub error: Option<String>,
}

impl DestinationScan {
    pub(super) fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_LISTED_MAX {
            self.problems.push(text);
        }
    }
}

/// What was found of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryScan {
    /// The host's name, or its group's.
    pub name: String,
    /// What is wrong with it as a whole, such as a log that no destination has whole.
    pub problems: Vec<String>,
    /// Each destination.
    pub destinations: Vec<DestinationScan>,
    /// Snapshots whose references were looked at.
    pub snapshots_checked: u64,
    /// Objects that no destination has whole.
    pub lost: Vec<String>,
    /// Packs that were lost, and that a destination has again.
    pub found_again: Vec<String>,
    /// The files, and snapshots, that need them.
    pub lost_files: Vec<String>,
    /// How many of those there are.
    pub lost_file_count: u64,
    /// Why it could not be scanned to the end.
    pub error: Option<String>,
    /// Whether that is because of what is stored, as opposed to what did not answer.
    pub is_integrity: bool,
}

impl RepositoryScan {
    /// Whether something is not as it should be, and was not put right.
    pub fn is_damaged(&self) -> bool {
        let unhealed = |scan: &DestinationScan| scan.missing + scan.damaged > scan.healed;
        self.is_integrity
            || !self.problems.is_empty()
            || !self.lost.is_empty()
            || self.lost_file_count > 0
            || self.destinations.iter().any(unhealed)
    }

    /// What is to be told of it: nothing where it could not be scanned to its end and nothing is known to be wrong.
    pub fn events(&self) -> Vec<Event> {
        let of = |what| Event::of_host(&self.name, what);
        let unhealed =
            |scan: &DestinationScan| (scan.missing + scan.damaged).saturating_sub(scan.healed);
        let lost = self.lost.len() as u64;
        let mut events: Vec<Event> = self
            .destinations
            .iter()
            .filter(|scan| unhealed(scan) > 0)
            .map(|scan| {
                of(What::ScanDamage {
                    destination: Some(scan.name.clone()),
                    objects: unhealed(scan),
                    lost,
                })
            })
            .collect();
        if self.is_damaged() && events.is_empty() {
            events.push(of(What::ScanDamage {
                destination: None,
                objects: self.problems.len() as u64,
                lost,
            }));
        }
        if !self.is_damaged() && !self.is_incomplete() {
            let repaired = self.destinations.iter().map(|scan| scan.healed).sum();
            events.push(of(What::ScanClean { repaired }));
        }
        events
    }

    /// Whether something was wrong that is right now.
    pub fn was_healed(&self) -> bool {
        self.destinations.iter().any(|scan| scan.healed > 0)
    }

    /// Whether a destination could not be scanned to its end.
    pub fn is_incomplete(&self) -> bool {
        self.error.is_some() || self.destinations.iter().any(|scan| scan.error.is_some())
    }
}
