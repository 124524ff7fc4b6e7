//! Arguments of `daemon`, `reload`, `cancel`, `status` and `history`.

use clap::Args;

/// `daemon`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Runs in the foreground and logs to stderr, as systemd wants it. SIGTERM and
SIGINT end it: runs are stopped in an orderly way, and go on from what they
stored when the daemon is started again. SIGHUP, or `coordinator reload`, has it
read its configuration again; one that is wrong changes nothing.

Example:
  coordinator -c /etc/coordinator/coordinator.toml daemon")]
pub struct DaemonArgs {}

/// `reload`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The new configuration is taken as a whole, or not at all: then it says what is
wrong, and the one before stays in force. Runs that go on keep theirs.

Example:
  coordinator config check && coordinator reload")]
pub struct ReloadArgs {}

/// `cancel`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
What was verified stays, and the next run goes on from it. A run that commits
its snapshot already is let do so.

Example:
  coordinator cancel web1")]
pub struct CancelArgs {
    /// The host's name in hosts.toml
    pub host: String,
}

/// `status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A host is late when its last good snapshot is older than its `sla`. \"behind\" is what
destinations lack of its repository, its newest snapshot included, or \"not filled\" where
one needs `destination sync`; ? when nobody can be asked and no queue is there.

Examples:
  coordinator status
  coordinator status 'web*' @db
  coordinator status --check > /dev/null || echo somebody should look
  coordinator status web1 --json")]
pub struct StatusArgs {
    /// Only these hosts: names, globs such as 'web*', or @TAG [default: all]
    #[arg(value_name = "HOST|GLOB|@TAG")]
    pub hosts: Vec<String>,
    /// End with exit code 1 when a host is late or was never backed up
    #[arg(long)]
    pub check: bool,
}

/// `history`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coordinator history
  coordinator history web1 --count 50 --json")]
pub struct HistoryArgs {
    /// Only this host
    pub host: Option<String>,
    /// So many runs of each host, the last ones
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub count: u32,
}
