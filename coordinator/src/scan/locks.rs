//! Prolongs the locks of everything that snapshots need. What nothing needs any more is let go. Looks at them page by page, for
//! no more of them than is asked for, and goes on where the last scan stopped.

use append_server::destination::DestinationName;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::repairs::{LockOutcome, LockedObject};
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::scan::expected::ExpectedObject;
use crate::scan::{DestinationScan, Scan, ScanError};
use crate::storage::error::StorageError;
use crate::terminal::error_line;

/// Locks that are looked at at once.
const LOCKS_AT_ONCE: usize = 16;
/// After so many failures the rest would fail alike.
const FAILURES_MAX: usize = 64;
/// In the order of names. Users' bundles are made anew when a password changes, and are never locked.
const LOCKED_KINDS: [ObjectKind; 4] = [
    ObjectKind::Config,
    ObjectKind::Pack,
    ObjectKind::Meta,
    ObjectKind::Log,
];

/// One round over all locks of a destination: from where the last scan stopped to the end, then from the beginning to there.
struct Round {
    /// The last object of the scan before, where this round ends.
    begun_after: Option<ObjectName>,
    /// The last object that was looked at.
    position: Option<ObjectName>,
    has_turned: bool,
    /// How many more may be looked at.
    left: u64,
    /// When the first lock ends of those that were looked at, in seconds since 1970.
    first_unix_secs: Option<u64>,
    failures: usize,
    failed: Option<StorageError>,
}

impl Scan<'_> {
    pub(super) async fn renew_locks(
        &mut self,
        destination: &DestinationName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        let places = &self.coordinator.config.destinations;
        let locks = places
            .iter()
            .find(|place| place.name == *destination)
            .is_none_or(append_server::places::Place::has_lock);
        if !locks {
            return Ok(());
        }
        let begun_after = self.state.lock_position(self.repository, destination)?;
        let first_unix_secs = match begun_after {
            Some(_) => self.state.first_lock_so_far(self.repository, destination)?,
            None => None,
        };
        let mut round = Round {
            first_unix_secs,
            has_turned: begun_after.is_none(),
            position: begun_after.clone(),
            begun_after,
            left: self.options.locks_max.unwrap_or(u64::MAX),
            failures: 0,
            failed: None,
        };
        loop {
            let page = self.next_locks(&mut round)?;
            let Some(last) = page.last().map(|object| object.name.clone()) else {
                break;
            };
            self.renew_page(destination, page, &mut round, here).await?;
            round.position = Some(last);
            let position = round.position.as_ref();
            self.state
                .note_lock_position(self.repository, destination, position)?;
            if round.left == 0 {
                break;
            }
        }
        here.locks_left = !self.next_locks(&mut round)?.is_empty();
        if !here.locks_left {
            self.state
                .note_lock_position(self.repository, destination, None)?;
        }
        // A lock that could not be looked at may be the first to end.
        let is_whole = !here.locks_left && round.failed.is_none();
        let first = round.first_unix_secs;
        self.state
            .note_first_lock(self.repository, destination, first, is_whole)?;
        // What could be prolonged was.
        round.failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The next objects of the round; none at its end.
    fn next_locks(&self, round: &mut Round) -> Result<Vec<ExpectedObject>, ScanError> {
        loop {
            let mut page = self.locked_after(round.position.as_ref())?;
            if page.is_empty() {
                if round.has_turned {
                    return Ok(page);
                }
                round.has_turned = true;
                round.position = None;
                continue;
            }
            if let Some(end) = round.begun_after.as_ref().filter(|_| round.has_turned) {
                page.retain(|object| object.name <= *end);
            }
            page.truncate(usize::try_from(round.left.max(1)).unwrap_or(usize::MAX));
            return Ok(page);
        }
    }

    /// A page of objects that have locks, after one, kind by kind.
    fn locked_after(&self, after: Option<&ObjectName>) -> Result<Vec<ExpectedObject>, ScanError> {
        let is_of = |kind: &ObjectKind| after.is_some_and(|name| name.kind() == *kind);
        let begun = LOCKED_KINDS.iter().position(is_of).unwrap_or(0);
        for (place, kind) in LOCKED_KINDS.into_iter().enumerate().skip(begun) {
            let page = match after {
                Some(after) if place == begun => self.expected.page(kind, Some(after))?,
                _ => self.expected.page(kind, None)?,
            };
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    async fn renew_page(
        &self,
        destination: &DestinationName,
        page: Vec<ExpectedObject>,
        round: &mut Round,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        let (storage, repository) = (&self.coordinator.storage, self.repository);
        let live = page.into_iter().filter(|object| {
            let places = self.bad.get(&object.name);
            let is_bad = places.is_some_and(|places| places.contains(destination));
            let is_thinned = self.expected.is_thinned(destination, &object.name);
            object.is_live && !is_bad && !is_thinned
        });
        let renewals = live.map(|object| async move {
            let renewed = storage.renew_lock(destination, repository, &object.name);
            (renewed.await, object.name)
        });
        let renewals: Vec<_> = renewals.collect();
        round.left = round.left.saturating_sub(renewals.len() as u64);
        let mut renewals = stream::iter(renewals).buffer_unordered(LOCKS_AT_ONCE);
        while let Some((renewed, name)) = renewals.next().await {
            match renewed {
                Ok(lock) => {
                    let first = round.first_unix_secs.unwrap_or(u64::MAX);
                    round.first_unix_secs = Some(first.min(lock.until_unix_secs));
                    count(lock, here);
                }
                Err(error) if error.is_absent() => {}
                Err(error) => {
                    here.problem(format!(
                        "the lock of {name} was not prolonged: {}",
                        error_line(&error)
                    ));
                    round.failures += 1;
                    if round.failures >= FAILURES_MAX {
                        return Err(error.into());
                    }
                    round.failed = Some(error);
                }
            }
        }
        Ok(())
    }
}

fn count(lock: LockedObject, here: &mut DestinationScan) {
    here.locks_seen += 1;
    here.locks_held += u64::from(lock.is_held);
    match lock.outcome {
        LockOutcome::Enough => {}
        LockOutcome::Renewed => here.locks_renewed += 1,
        LockOutcome::AtLimit => here.locks_at_limit += 1,
        LockOutcome::Longer => here.locks_longer += 1,
    }
}
