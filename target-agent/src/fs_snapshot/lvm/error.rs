//! Why a host is not read from snapshots of logical volumes.

use std::io;

use crate::fs_snapshot::guard::GuardError;
use crate::fs_snapshot::lvm::volume::Volume;
use crate::fs_snapshot::program::ProgramError;

/// Why there is no snapshot of a logical volume, or none that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// A volume cannot be looked at.
    #[error("look at the logical volume {volume}")]
    Look {
        /// Which.
        volume: Volume,
        /// Why.
        source: ProgramError,
    },
    /// A volume group cannot be looked at.
    #[error("look for snapshots of earlier runs in the volume group {group}")]
    LookForLeftovers {
        /// Which.
        group: String,
        /// Why.
        source: ProgramError,
    },
    /// There is too little room.
    #[error(
        "the volume group of {volume} has {free_mib} MiB free, of which its snapshot could have {share_mib}, and that needs {least_mib} at least: leave more of the group free, or use thin volumes, whose snapshots need none"
    )]
    NoRoom {
        /// The volume.
        volume: Volume,
        /// What is free in its group.
        free_mib: u64,
        /// What the snapshot could have.
        share_mib: u64,
        /// What it needs.
        least_mib: u64,
    },
    /// What removes the snapshots.
    #[error("guard the snapshots")]
    Guard(#[from] GuardError),
    /// A snapshot.
    #[error("take a snapshot of the logical volume {volume}")]
    Take {
        /// Of what.
        volume: Volume,
        /// Why.
        source: ProgramError,
    },
    /// A snapshot's filesystem.
    #[error("mount the snapshot of the logical volume {volume}")]
    Mount {
        /// Of what.
        volume: Volume,
        /// Why.
        source: io::Error,
    },
    /// More was written to the volume than the snapshot holds.
    #[error(
        "the snapshot of {volume} overflowed, so what was read of it is not complete: more was written to the volume during the run than there was room for; leave more of the volume group free, set snapshot_autoextend_threshold in the host's lvm.conf, or run when less is written"
    )]
    Overflowed {
        /// Of what.
        volume: Volume,
    },
    /// Something else is wrong with it.
    #[error(
        "the snapshot of {volume} cannot be trusted: LVM says `{attributes}` of it (lvs -o lv_attr)"
    )]
    Unsound {
        /// Of what.
        volume: Volume,
        /// LVM's letters.
        attributes: String,
    },
    /// A leftover is none.
    #[error(
        "{volume} is named like a snapshot of this host's earlier runs and is none: look at it, and remove it"
    )]
    Strange {
        /// Which.
        volume: Volume,
    },
    /// A leftover stays.
    #[error("remove {volume}, a snapshot of an earlier run")]
    Leftover {
        /// Which.
        volume: Volume,
        /// Why.
        source: ProgramError,
    },
    /// A snapshot of this run stays.
    #[error("remove the snapshots of logical volumes")]
    Remains(#[source] GuardError),
}
