//! Which commands add to a repository, or change what is done with it: keys that only read are of no use to them, and they
//! are refused before they begin.

use crate::cli::Command;
use crate::cli::audit::AuditCommand;
use crate::cli::destination::DestinationCommand;
use crate::cli::hold::HoldCommand;
use crate::cli::host::HostCommand;
use crate::cli::keys::KeyCommand;
use crate::cli::lease::LeaseCommand;
use crate::cli::retention::PinCommand;

impl Command {
    /// Whether it needs keys that can sign.
    pub fn writes(&self) -> bool {
        match self {
            Self::Run(_) | Self::Daemon(_) | Self::Forget(_) | Self::Undelete(_) => true,
            Self::Prune(args) => !args.dry_run && args.simulate.is_none(),
            Self::Pin(command) => !matches!(command, PinCommand::Ls(_)),
            Self::Hold(command) => !matches!(command, HoldCommand::Ls(_)),
            Self::Lease(command) => matches!(command, LeaseCommand::Take(_)),
            Self::Audit(command) => matches!(command, AuditCommand::Reconcile(_)),
            Self::Host(command) => matches!(command, HostCommand::AcceptIdentity(_)),
            Self::Key(command) => matches!(command, KeyCommand::Derive(_)),
            Self::Scan(args) => args.repair || args.extend_locks,
            Self::Destination(command) => matches!(
                command,
                DestinationCommand::Create(_) | DestinationCommand::Sync(_)
            ),
            Self::Init(_)
            | Self::Config(_)
            | Self::Doctor
            | Self::Reload(_)
            | Self::Cancel(_)
            | Self::Status(_)
            | Self::History(_)
            | Self::Snapshots(_)
            | Self::Show(_)
            | Self::Ls(_)
            | Self::Cat(_)
            | Self::Diff(_)
            | Self::Changes(_)
            | Self::Restore(_)
            | Self::Export(_)
            | Self::Verify(_)
            | Self::Token(_)
            | Self::Notify(_)
            | Self::Recover(_)
            | Self::Rescue(_)
            | Self::Demo(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}
