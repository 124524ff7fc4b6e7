//! Which commands open what is stored: keys that only add snapshots are of no use to them, and they are refused before they begin.

use crate::cli::Command;
use crate::cli::keys::KeyCommand;
use crate::cli::retention::PinCommand;

impl Command {
    /// Whether it needs keys that open packs or the log.
    pub fn opens(&self) -> bool {
        match self {
            Self::Show(_)
            | Self::Ls(_)
            | Self::Cat(_)
            | Self::Diff(_)
            | Self::Restore(_)
            | Self::Export(_)
            | Self::Verify(_)
            | Self::Prune(_)
            | Self::Forget(_)
            | Self::Undelete(_) => true,
            Self::Pin(command) => !matches!(command, PinCommand::Ls(_)),
            Self::Scan(args) => args.verify,
            Self::Key(command) => matches!(command, KeyCommand::Derive(_)),
            Self::Run(_)
            | Self::Daemon(_)
            | Self::Hold(_)
            | Self::Lease(_)
            | Self::Audit(_)
            | Self::Host(_)
            | Self::Destination(_)
            | Self::Init(_)
            | Self::Config(_)
            | Self::Doctor
            | Self::Reload(_)
            | Self::Cancel(_)
            | Self::Status(_)
            | Self::History(_)
            | Self::Snapshots(_)
            | Self::Changes(_)
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
