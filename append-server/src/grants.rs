//! Who may do what, as types. A handler that needs a right takes the grant as a parameter, and only an
//! acceptor can make one: peer credentials give read and commit, a proof over the run's token gives append.
//! No grant is ever read from a request, and append never widens into anything else.

mod append;
pub mod handshake;
pub mod peer;

pub use append::{AppendGrant, GrantError, OpenRunError, RunGrants, RunTotals, UploadAllowance};
pub use peer::{
    AdmittedPeer, AllowedUids, CommitGrant, PeerRefused, PlacingGrant, ReadGrant, RemovalGrant,
    RepairGrant,
};

/// The right to delete and to set locks to any time. No request carries it: whoever opened the destination itself makes one,
/// this server only for a pack whose removal was allowed ([`crate::removals`]).
#[derive(Debug)]
pub struct MaintenanceGrant(());

impl MaintenanceGrant {
    /// For the process that holds the destination open, over that destination.
    pub fn of_this_process() -> Self {
        Self(())
    }
}
