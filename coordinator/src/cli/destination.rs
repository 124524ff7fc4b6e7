//! Arguments of `destination`.

use clap::{Args, Subcommand};

/// `destination …`.
#[derive(Debug, Clone, Subcommand)]
pub enum DestinationCommand {
    /// List destinations, and what each is behind by
    #[command(after_help = "\
Example:
  coordinator destination ls --json")]
    Ls,
    /// Make a directory, here or on an SFTP server, a new destination; it must be empty or missing
    #[command(after_help = "\
Nothing makes a destination by itself: a disk that is not mounted must not be
taken for an empty one. A bucket is made with the provider's own tools.

Example:
  coordinator destination create nas")]
    Create(DestinationCreateArgs),
    /// Try out what works at a destination, what is refused, and what should be
    #[command(after_help = "\
Stores, reads, overwrites and removes small objects of its own, and looks at what
the service says of versions, locks and rules that remove objects. Objects that
may not be removed stay; they are a few bytes each.

Exit codes: 0 backups can be stored there, 1 something keeps them from it or would
remove them.

Example:
  coordinator destination test s3-eu")]
    Test(DestinationTestArgs),
    /// Fill a destination with what it lacks, and wait until it has everything
    #[command(after_help = "\
For a destination with `required = false` that was added later, or was away for
longer than its queue reaches back. What was begun goes on by itself, also after
an interruption; a second call shows how far it is.

Example:
  coordinator destination sync s3-eu")]
    Sync(DestinationSyncArgs),
}

/// `destination create`.
#[derive(Debug, Clone, Args)]
pub struct DestinationCreateArgs {
    /// The destination's name in coordinator.toml
    pub name: String,
}

/// `destination test`.
#[derive(Debug, Clone, Args)]
pub struct DestinationTestArgs {
    /// The destination's name in coordinator.toml
    pub name: String,
}

/// `destination sync`.
#[derive(Debug, Clone, Args)]
pub struct DestinationSyncArgs {
    /// The destination's name in coordinator.toml
    pub name: String,
}
