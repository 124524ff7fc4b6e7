//! Snapshots that earlier runs of a repository have left, such as when the host went down. Never removes what another
//! repository's run has taken, what is in use, or what is no snapshot.

use std::collections::BTreeSet;

use formats::ids::RepositoryId;

use crate::fs_snapshot::lvm::commands;
use crate::fs_snapshot::lvm::error::LvmError;
use crate::fs_snapshot::lvm::volume::is_snapshot_name;
use crate::fs_snapshot::program::ProgramError;

/// Removes those in these volume groups; gives what it could not remove.
pub fn remove_leftovers<'a>(
    groups: impl Iterator<Item = &'a str>,
    repository: RepositoryId,
) -> Vec<LvmError> {
    let mut left = Vec::new();
    for group in groups.collect::<BTreeSet<_>>() {
        if let Err(source) = remove_in(group, repository, &mut left) {
            let group = group.to_owned();
            left.push(LvmError::LookForLeftovers { group, source });
        }
    }
    left
}

fn remove_in(
    group: &str,
    repository: RepositoryId,
    left: &mut Vec<LvmError>,
) -> Result<(), ProgramError> {
    for found in commands::all(group)? {
        let volume = found.volume;
        // What is open is of a run that goes on, or that somebody looks at.
        if !is_snapshot_name(&volume.name, repository) || found.attributes.is_open() {
            continue;
        }
        if !found.attributes.is_snapshot() || found.origin.is_empty() {
            left.push(LvmError::Strange { volume });
            continue;
        }
        if let Err(source) = commands::remove(&volume) {
            // Its guard may have been at it.
            let mut remaining = commands::all(group)?.into_iter();
            if remaining.any(|other| other.volume == volume) {
                left.push(LvmError::Leftover { volume, source });
            }
        }
    }
    Ok(())
}
