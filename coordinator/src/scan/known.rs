//! What scans know, for whoever watches over them: metrics and alerts.

use std::collections::BTreeMap;

use formats::ids::RepositoryId;
use jiff::{SignedDuration, Timestamp};

use crate::catalog::state::State;
use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::scan::ScanState;

/// What scans know of a repository at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// The repository's name: a host's, or a group's.
    pub repository: String,
    /// The destination.
    pub destination: String,
    /// For how long nothing there was left unread.
    pub unread: Option<SignedDuration>,
    /// How long the first lock to end lasts.
    pub lock_left: Option<SignedDuration>,
}

/// What scans know, of the repositories and destinations that are still there.
pub fn scanned(state: &State, current: &Coordinator) -> Result<Vec<Scanned>, DatabaseError> {
    let now = current.clock.now();
    let names: BTreeMap<RepositoryId, String> = state
        .repositories()?
        .into_iter()
        .map(|known| (known.repository, known.name))
        .collect();
    let scans = ScanState::open(&current.state_dir.scan_file())?;
    let since = |earlier: Timestamp, later: Timestamp| {
        later.duration_since(earlier).max(SignedDuration::ZERO)
    };
    let places = current.storage.destination_names();
    let known = scans.bounds()?.into_iter().filter_map(|bounds| {
        let mut places = places.iter();
        places.find(|place| place.to_string() == bounds.destination)?;
        Some(Scanned {
            repository: names.get(&bounds.repository)?.clone(),
            destination: bounds.destination,
            unread: bounds.read_since.map(|read| since(read, now)),
            lock_left: bounds.locked_until.map(|until| since(now, until)),
        })
    });
    Ok(known.collect())
}
