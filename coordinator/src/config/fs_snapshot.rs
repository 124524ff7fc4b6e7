//! `fs_snapshot` of hosts.toml: whether a host is read from snapshots of its filesystems. Never takes one.

use std::str::FromStr;

use formats::wire::start;

/// What is read instead of a host's filesystems as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FsSnapshot {
    /// Nothing: each file as it is when its turn comes.
    #[default]
    None,
    /// Snapshots of Btrfs, taken before the walk and removed after it.
    Btrfs,
    /// The same of logical volumes of LVM.
    Lvm,
}

impl FsSnapshot {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Btrfs => "btrfs",
            Self::Lvm => "lvm",
        }
    }

    /// The same as the agent is told.
    pub fn order(self) -> start::FsSnapshot {
        match self {
            Self::None => start::FsSnapshot::None,
            Self::Btrfs => start::FsSnapshot::Btrfs,
            Self::Lvm => start::FsSnapshot::Lvm,
        }
    }
}

/// Why a text is no such word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseFsSnapshotError {
    /// A kind that is known and not there.
    #[error(
        "snapshots of ZFS are not supported: use a hook that runs `zfs snapshot` and mounts the snapshot before the run, back up that mount, and remove it with a `finally` hook"
    )]
    Zfs,
    /// Anything else.
    #[error("{text:?} is no kind of snapshot: write \"btrfs\", \"lvm\", or \"none\"")]
    Unknown {
        /// The refused text.
        text: String,
    },
}

impl FromStr for FsSnapshot {
    type Err = ParseFsSnapshotError;

    fn from_str(text: &str) -> Result<Self, ParseFsSnapshotError> {
        match text {
            "none" => Ok(Self::None),
            "btrfs" => Ok(Self::Btrfs),
            "lvm" => Ok(Self::Lvm),
            "zfs" => Err(ParseFsSnapshotError::Zfs),
            _ => Err(ParseFsSnapshotError::Unknown {
                text: text.to_owned(),
            }),
        }
    }
}
