//! Arguments of `notify`.

use clap::{Args, Subcommand};

/// `notify …`.
#[derive(Debug, Clone, Subcommand)]
pub enum NotifyCommand {
    /// Send a message now, to see whether it arrives
    #[command(after_help = "\
Exit codes: 0 every target took it, 1 one did not.

Example:
  coordinator notify test ops")]
    Test(NotifyTestArgs),
}

/// `notify test`.
#[derive(Debug, Clone, Args)]
pub struct NotifyTestArgs {
    /// The target's name in coordinator.toml; without it, all of them
    pub target: Option<String>,
}
