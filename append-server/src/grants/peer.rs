//! The control socket's acceptor: who is at the other end, by the kernel's word.

use std::io;

use tokio::net::UnixStream;

/// Users that may use this server's sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedUids {
    uids: Vec<u32>,
}

impl AllowedUids {
    /// This process's own user, and these.
    pub fn own_and(others: &[u32]) -> Self {
        let mut uids = vec![rustix::process::geteuid().as_raw()];
        uids.extend_from_slice(others);
        Self { uids }
    }
}

/// A connection from somebody else.
#[derive(Debug, thiserror::Error)]
pub enum PeerRefused {
    /// Not an allowed user.
    #[error("user {uid} may not use this socket; add it to `allow_uids` if it should")]
    Uid {
        /// Who it is.
        uid: u32,
    },
    /// The kernel does not tell.
    #[error("could not ask the kernel who is connecting")]
    Unknown(#[source] io::Error),
}

/// A peer whose credentials were checked.
#[derive(Debug, Clone, Copy)]
pub struct AdmittedPeer {
    uid: u32,
}

/// The right to read and list objects.
#[derive(Debug, Clone, Copy)]
pub struct ReadGrant(());

/// The right to open and close runs and to create what completes a run: meta packs, log records, config, keys.
#[derive(Debug, Clone, Copy)]
pub struct CommitGrant(());

/// The right to put good bytes in the place of damaged ones, which are kept, and to prolong locks. Nothing that is good
/// can be lost by it.
#[derive(Debug, Clone, Copy)]
pub struct RepairGrant(());

/// The right to say where repositories are kept. Nothing that is stored is removed by it, and no destination that is waited for
/// is left out.
#[derive(Debug, Clone, Copy)]
pub struct PlacingGrant(());

impl PlacingGrant {
    /// For the process that holds the destinations open.
    pub fn of_this_process() -> Self {
        Self(())
    }
}

/// The right to condemn packs, and to have removed those that waited long enough. What may go, and when, is not its holder's
/// to say: see [`crate::removals`].
#[derive(Debug, Clone, Copy)]
pub struct RemovalGrant(());

impl RemovalGrant {
    /// For the process that holds the destinations open.
    pub fn of_this_process() -> Self {
        Self(())
    }
}

impl RepairGrant {
    /// For the process that holds the destination open, over that destination.
    pub fn of_this_process() -> Self {
        Self(())
    }
}

impl AdmittedPeer {
    /// Checks a connection's credentials.
    pub fn admit(stream: &UnixStream, allowed: &AllowedUids) -> Result<Self, PeerRefused> {
        let uid = stream.peer_cred().map_err(PeerRefused::Unknown)?.uid();
        if allowed.uids.contains(&uid) {
            Ok(Self { uid })
        } else {
            Err(PeerRefused::Uid { uid })
        }
    }

    /// Its user.
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// What it may read.
    pub fn read_grant(self) -> ReadGrant {
        ReadGrant(())
    }

    /// What it may commit.
    pub fn commit_grant(self) -> CommitGrant {
        CommitGrant(())
    }

    /// Where it may have repositories kept.
    pub fn placing_grant(self) -> PlacingGrant {
        PlacingGrant(())
    }

    /// What it may have removed.
    pub fn removal_grant(self) -> RemovalGrant {
        RemovalGrant(())
    }

    /// What it may repair.
    pub fn repair_grant(self) -> RepairGrant {
        RepairGrant(())
    }
}
