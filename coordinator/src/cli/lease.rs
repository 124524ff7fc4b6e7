//! Arguments of `lease`.

use clap::{Args, Subcommand};

/// `lease …`.
#[derive(Debug, Clone, Subcommand)]
pub enum LeaseCommand {
    /// List who writes to which repository
    Ls,
    /// Take over repositories from a coordinator that is gone for good
    #[command(after_help = "\
One coordinator at a time writes to a repository: the one that holds its lease, which
stands in the repository's log. The first run takes it. Another coordinator, built with
`recover` or from a copy of the state directory on another machine, can read and
restore everything, and refuses to back up with exit code 11 until it has taken over.
A run of the former holder that is under way then fails at its commit.

Example:
  coordinator lease take --all")]
    Take(LeaseTakeArgs),
}

/// `lease take`.
#[derive(Debug, Clone, Args)]
pub struct LeaseTakeArgs {
    /// Hosts whose repositories are taken over
    #[arg(value_name = "HOST", required_unless_present = "all")]
    pub hosts: Vec<String>,
    /// Every repository that this coordinator knows
    #[arg(long, conflicts_with = "hosts")]
    pub all: bool,
}
