//! What stops a prune that would otherwise go on: anything that makes it unsure what is needed. Each says what to do.

use std::time::Duration;

use formats::ids::RecordId;
use formats::limits::RECORD_BYTES_MAX;
use formats::log::retention::Prune;
use formats::object::ObjectName;
use formats::wire::upload::destinations::{DestinationState, Placed};

use crate::catalog::CatalogError;
use crate::coordinator::{Coordinator, HostRepository};
use crate::retention::kept_at::Verdict;
use crate::retention::mark::Marked;
use crate::storage::ReadRange;
use crate::storage::destinations::not_filled;
use crate::storage::error::StorageError;
use crate::terminal::{count_text, size_text};

/// How long a destination may take to show the log's last record.
const RECORD_DEADLINE: Duration = Duration::from_secs(30);
/// With fewer snapshots left before, half of them is not many.
const SNAPSHOTS_MIN: u64 = 8;
/// With fewer bytes left before, half of them is not much.
const BYTES_MIN: u64 = 64 << 20;

/// What a person takes responsibility for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Force {
    /// Far less is left than after the last prune.
    pub shrink: bool,
    /// The clock.
    pub clock: bool,
}

/// Whether every destination has the log's last record; gives why not, and which could not be asked.
pub(super) async fn check_logs(
    coordinator: &Coordinator,
    opened: &HostRepository,
) -> Result<(Option<String>, Vec<String>), StorageOrCatalog> {
    let Some((sequence, known)) = opened.catalog.last()? else {
        return Ok((None, Vec::new()));
    };
    let mut away = Vec::new();
    let repository = opened.repository.id();
    for state in coordinator.storage.destinations_of(repository).await? {
        match look(&state) {
            Look::AtLog => {}
            Look::Nowhere => continue,
            Look::Away(why) => {
                away.push(why);
                continue;
            }
        }
        let Ok(name) = state.name.parse() else {
            continue;
        };
        let storage = coordinator.storage.at(&name);
        let object = ObjectName::Log(sequence);
        let read = storage.get(repository, &object, ReadRange::All, RECORD_BYTES_MAX);
        let found = match tokio::time::timeout(RECORD_DEADLINE, read).await {
            Ok(Ok(bytes)) => Some(RecordId(blake3::hash(&bytes).into())),
            // What it is still to get it will have, and nothing is removed there before.
            Ok(Err(error)) if error.is_absent() && state.objects_behind > 0 => {
                away.push(format!(
                    "{name} is behind by {} objects",
                    state.objects_behind
                ));
                continue;
            }
            Ok(Err(error)) if error.is_absent() => None,
            _ if state.required => {
                return Ok((
                    Some(format!(
                        "destination {name} does not show the log's last record"
                    )),
                    away,
                ));
            }
            _ => {
                away.push(format!("{name} does not answer"));
                continue;
            }
        };
        if found != Some(known) {
            let text = format!(
                "destination {name} does not have the log's last record: it was rolled back or forked; look at it with \
                 `coordinator scan --destination {name}`"
            );
            return Ok((Some(text), away));
        }
    }
    Ok((None, away))
}

/// Whether a destination's log is looked at.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    AtLog,
    /// It is not kept there, and nothing has to be.
    Nowhere,
    /// It has only a part of it, for this reason, and nothing is removed there meanwhile.
    Away(String),
}

fn look(state: &DestinationState) -> Look {
    match state.placed {
        Placed::Kept => Look::AtLog,
        Placed::LeftOut => Look::Nowhere,
        Placed::Unfilled => Look::Away(format!("{} is {}", state.name, not_filled(&state.name))),
    }
}

/// What asking destinations can fail with.
#[derive(Debug, thiserror::Error)]
pub enum StorageOrCatalog {
    /// The append-server.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Whether far less would be left than the last prune left.
pub(super) fn shrunk(last: Option<&Prune>, snapshots: u64, bytes: u64) -> Option<String> {
    let last = last?;
    if last.snapshots >= SNAPSHOTS_MIN && snapshots.saturating_mul(2) < last.snapshots {
        return Some(format!(
            "{} snapshots would be left, where the last prune left {}: if that is meant, say --force-shrink",
            count_text(snapshots),
            count_text(last.snapshots)
        ));
    }
    if last.bytes >= BYTES_MIN && bytes.saturating_mul(2) < last.bytes {
        return Some(format!(
            "{} would be left, where the last prune left {}: if that is meant, say --force-shrink",
            size_text(bytes),
            size_text(last.bytes)
        ));
    }
    None
}

/// Whether the destinations that have a snapshot are not among those that there are.
pub(super) fn nowhere(verdicts: &[Verdict]) -> Option<String> {
    let mut gone = verdicts.iter().filter(|verdict| verdict.is_nowhere);
    let first = gone.next()?;
    Some(format!(
        "{} snapshots, {} first, are kept only at destinations that this host is not kept at any more: put those back, or, when that          is meant, say --force-shrink, and those that the rules keep nowhere are forgotten",
        count_text(1 + gone.count() as u64),
        first.candidate.id.short()
    ))
}

/// Whether something that a snapshot names is in no pack.
pub(super) fn missing(marked: &Marked) -> Option<String> {
    let (chunk, snapshot) = marked.missing_named.first()?;
    Some(format!(
        "{} chunks that snapshots name are in no pack, {} of snapshot {} first: `coordinator scan --repair` may find them, and \
         where they are lost for good, forget the snapshot",
        count_text(marked.missing),
        chunk.short(),
        snapshot.short()
    ))
}

#[cfg(test)]
mod tests {
    use formats::log::retention::Prune;
    use formats::wire::upload::destinations::{ConditionalWrites, DestinationState, Placed};

    use super::{Look, look, shrunk};
    use crate::status::DestinationLag;

    #[test]
    fn what_is_not_filled_is_away_and_not_rolled_back() {
        let state = |placed| DestinationState {
            name: "nas".to_owned(),
            required: false,
            objects_behind: 0,
            bytes_behind: 0,
            oldest_unix_secs: None,
            problem: None,
            conditional_writes: ConditionalWrites::NoneNeeded,
            placed,
        };
        let remedy = "not filled: run `coordinator destination sync nas`";
        assert_eq!(look(&state(Placed::Kept)), Look::AtLog);
        assert_eq!(look(&state(Placed::LeftOut)), Look::Nowhere);
        assert_eq!(
            look(&state(Placed::Unfilled)),
            Look::Away(format!("nas is {remedy}"))
        );
        let problem = |placed| DestinationLag::from(state(placed)).problem;
        assert_eq!(problem(Placed::Unfilled).as_deref(), Some(remedy));
        assert_eq!(problem(Placed::LeftOut), None);
        let away = DestinationState {
            problem: Some("full".to_owned()),
            ..state(Placed::Unfilled)
        };
        assert_eq!(DestinationLag::from(away).problem.as_deref(), Some("full"));
    }

    #[test]
    fn half_of_what_was_left_is_the_limit() {
        let last = Prune {
            snapshots: 20,
            bytes: 10 << 30,
            ..Prune::default()
        };
        assert_eq!(shrunk(None, 0, 0), None);
        assert_eq!(shrunk(Some(&last), 10, 5 << 30), None);
        assert!(shrunk(Some(&last), 9, 5 << 30).is_some());
        assert!(shrunk(Some(&last), 10, (5 << 30) - 1).is_some());
        let small = Prune {
            snapshots: 7,
            bytes: 1 << 20,
            ..Prune::default()
        };
        assert_eq!(shrunk(Some(&small), 1, 1), None);
    }
}
