//! How much of what its repository holds a host has brought, which is what its `quota` bounds. What several hosts have counts for
//! the one that brought it first; what is nobody's any more, or was put together anew by a prune, counts for each of them.

use std::collections::HashSet;

use formats::ids::RunId;

use crate::backup::error::RunError;
use crate::config::host::Host;
use crate::coordinator::{Coordinator, HostRepository};

/// Bytes of the packs that the host's runs stored, those that died included; of all packs where no other host writes to the
/// repository.
pub async fn stored_bytes(
    coordinator: &Coordinator,
    host: &Host,
    opened: &HostRepository,
) -> Result<u64, RunError> {
    let by_run = opened
        .index
        .with(|index| index.stored_bytes_by_run())
        .await?;
    let others = others(coordinator, host);
    let mut foreign = HashSet::new();
    for other in &others {
        foreign.extend(opened.catalog.runs_of(other)?);
    }
    if !others.is_empty() {
        let own: HashSet<RunId> = opened
            .catalog
            .runs_of(host.name.as_str())?
            .into_iter()
            .collect();
        let state = coordinator.state.lock().await;
        for (run, _) in &by_run {
            // One that died is in no record.
            let is_known = own.contains(run) || foreign.contains(run);
            let row = match is_known {
                true => None,
                false => state.run(*run)?,
            };
            if row.is_some_and(|row| others.contains(&row.host)) {
                foreign.insert(*run);
            }
        }
    }
    let own = by_run.into_iter().filter(|(run, _)| !foreign.contains(run));
    Ok(own.fold(0, |sum: u64, (_, bytes): (RunId, u64)| {
        sum.saturating_add(bytes)
    }))
}

/// The names of the other hosts that write to the host's repository.
fn others(coordinator: &Coordinator, host: &Host) -> HashSet<String> {
    let hosts = coordinator.config.hosts.values();
    hosts
        .filter(|other| other.repository == host.repository && other.name != host.name)
        .map(|other| other.name.to_string())
        .collect()
}
