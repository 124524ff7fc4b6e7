//! Prolongs the locks of everything that snapshots need. What nothing needs any more is let go.

use append_server::destination::DestinationName;
use formats::object::ObjectKind;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::scan::{DestinationScan, Scan, ScanError};
use crate::terminal::error_line;

/// Locks that are looked at at once.
const LOCKS_AT_ONCE: usize = 16;
/// After so many failures the rest would fail alike.
const FAILURES_MAX: usize = 64;

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
        let (storage, repository) = (&self.coordinator.storage, self.repository);
        // Users' bundles are made anew when a password changes, and are never locked.
        let kinds = [
            ObjectKind::Config,
            ObjectKind::Pack,
            ObjectKind::Meta,
            ObjectKind::Log,
        ];
        let (mut failures, mut failed) = (0, None);
        for kind in kinds {
            let mut after = None;
            loop {
                let page = self.expected.page(kind, after.as_ref())?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                let bad = &self.bad;
                let live = page.into_iter().filter(|object| {
                    let is_bad = bad
                        .get(&object.name)
                        .is_some_and(|places| places.contains(destination));
                    object.is_live && !is_bad
                });
                let renewals = live.map(|object| async move {
                    let renewed = storage.renew_lock(destination, repository, &object.name);
                    (renewed.await, object.name)
                });
                let renewals: Vec<_> = renewals.collect();
                let mut renewals = stream::iter(renewals).buffer_unordered(LOCKS_AT_ONCE);
                while let Some((renewed, name)) = renewals.next().await {
                    match renewed {
                        Ok(lock) => here.locks_renewed += u64::from(lock.renewed),
                        Err(error) if error.is_absent() => {}
                        Err(error) => {
                            here.problem(format!(
                                "the lock of {name} was not prolonged: {}",
                                error_line(&error)
                            ));
                            failures += 1;
                            if failures >= FAILURES_MAX {
                                return Err(error.into());
                            }
                            failed = Some(error);
                        }
                    }
                }
            }
        }
        // What could be prolonged was.
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}
