//! `restore` and `verify` as the demo uses them: the same functions as the commands'.

use std::path::Path;
use std::sync::Arc;

use crate::catalog::selector::Selector;
use crate::clock::Clock;
use crate::commands::on_storage::find_snapshot;
use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::demo::error::DemoError;
use crate::restore::options::RestoreOptions;
use crate::restore::run::{RestoreContext, restore};
use crate::restore::summary::RestoreSummary;
use crate::snapshot::listing::Listing;
use crate::snapshot::verification::{VerifiedSnapshot, verify};

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Bytes read back.
    pub bytes: u64,
    /// Whether nothing was wrong.
    pub sound: bool,
}

/// Restores the newest snapshot into a directory.
pub async fn restore_latest(
    config: &Config,
    host: &str,
    to: &Path,
    clock: Arc<dyn Clock>,
) -> Result<RestoreSummary, DemoError> {
    let step = "restore";
    let coordinator = Coordinator::open(config.clone(), clock)
        .await
        .map_err(DemoError::step(step))?;
    let (opened, row) = find_snapshot(&coordinator, host, &Selector::Latest { back: 0 })
        .await
        .map_err(DemoError::step(step))?;
    let snapshot = opened.catalog.snapshot(row.id);
    let snapshot = snapshot
        .map_err(DemoError::step(step))?
        .ok_or_else(|| DemoError::step(step)("the newest snapshot has no record"))?;
    let reader = coordinator
        .chunk_reader(&opened)
        .map_err(DemoError::step(step))?;
    let listing = Listing::open(reader, &snapshot.page_index)
        .await
        .map_err(DemoError::step(step))?;
    let options = RestoreOptions::everything_to(to.to_owned(), snapshot.names);
    let summary = restore(listing, options, RestoreContext::default())
        .await
        .map_err(DemoError::step(step))?;
    coordinator.close().await;
    Ok(summary)
}

/// Reads all snapshots back.
pub async fn verify_all(
    config: &Config,
    host: &str,
    clock: Arc<dyn Clock>,
) -> Result<Verified, DemoError> {
    let step = "verify";
    let coordinator = Coordinator::open(config.clone(), clock)
        .await
        .map_err(DemoError::step(step))?;
    let (opened, newest) = find_snapshot(&coordinator, host, &Selector::Latest { back: 0 })
        .await
        .map_err(DemoError::step(step))?;
    let rows = opened.catalog.snapshots(Some(&newest.host));
    let mut snapshots = Vec::new();
    for row in rows.map_err(DemoError::step(step))? {
        let snapshot = opened.catalog.snapshot(row.id);
        if let Some(snapshot) = snapshot.map_err(DemoError::step(step))? {
            snapshots.push(VerifiedSnapshot {
                id: row.id,
                snapshot,
            });
        }
    }
    let reader = coordinator
        .chunk_reader(&opened)
        .map_err(DemoError::step(step))?;
    let found = verify(&reader, &snapshots)
        .await
        .map_err(DemoError::step(step))?;
    coordinator.close().await;
    Ok(Verified {
        bytes: found.bytes,
        sound: found.error_count == 0,
    })
}
