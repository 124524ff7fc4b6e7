//! The command line: what can be asked, and in which words. Only parses; `main` carries out.

pub mod audit;
pub mod daemon;
pub mod destination;
pub mod diff;
pub mod documents;
pub mod export;
pub mod hold;
pub mod host;
pub mod keys;
pub mod lease;
pub mod notify;
mod opens;
pub mod read_from;
pub mod recover;
pub mod rescue;
pub mod restore;
pub mod retention;
pub mod run;
pub mod scan;
pub mod setup;
pub mod snapshot;
pub mod token;
mod writes;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cli::audit::AuditCommand;
use crate::cli::daemon::{CancelArgs, DaemonArgs, HistoryArgs, ReloadArgs, StatusArgs};
use crate::cli::destination::DestinationCommand;
use crate::cli::diff::{ChangesArgs, DiffArgs};
use crate::cli::documents::{CompletionsArgs, ManArgs};
use crate::cli::export::ExportArgs;
use crate::cli::hold::HoldCommand;
use crate::cli::host::HostCommand;
use crate::cli::keys::KeyCommand;
use crate::cli::lease::LeaseCommand;
use crate::cli::notify::NotifyCommand;
use crate::cli::recover::RecoverArgs;
use crate::cli::rescue::RescueArgs;
use crate::cli::restore::RestoreArgs;
use crate::cli::retention::{ForgetArgs, PinCommand, PruneArgs, UndeleteArgs};
use crate::cli::run::{DemoArgs, RunArgs};
use crate::cli::scan::ScanArgs;
use crate::cli::setup::{ConfigCommand, InitArgs};
use crate::cli::snapshot::{CatArgs, LsArgs, ShowArgs, SnapshotsArgs, VerifyArgs};
use crate::cli::token::TokenCommand;

/// Where coordinator.toml is when nobody says.
pub const CONFIG_FILE_DEFAULT: &str = "/etc/coordinator/coordinator.toml";

const AFTER_HELP: &str = "\
A first backup:
  coordinator init --dir /etc/coordinator
  $EDITOR /etc/coordinator/hosts.toml          # add [host.web1]
  coordinator host trust web1
  coordinator run web1
  coordinator restore web1 latest --to /tmp/web1

Exit codes (any other means failure):
  0 done            1 failed           2 wrong command line
  3 finished, with warnings: some source data could not be read, or the run looks wrong
  10 no such host, snapshot or repository      11 another run, or another coordinator, is at it
  12 wrong key or password                     13 host key or machine is not the known one
  14 quota exceeded    15 stored data is damaged    130 interrupted";

/// Backs up hosts over SSH, verifies what arrived, and restores it.
///
/// Nothing is installed on a host: the coordinator connects, uploads a small agent for the one run, and
/// leaves nothing behind.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The coordinator.toml to use
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "COORDINATOR_CONFIG",
        default_value = CONFIG_FILE_DEFAULT
    )]
    pub config: PathBuf,
    /// Say more: -v steps, -vv every message
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print one JSON object on stdout, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// Never use colours, even on a terminal (also: NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create keys, configuration, state and the recovery kit in a new directory
    Init(InitArgs),
    /// Check, show or explain the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look for what is wrong, and for what is switched off: keys, state, destinations, clock, hosts
    #[command(after_help = "\
Changes nothing and stores nothing. Ends with 1 when something fails, and with
3 when there is only something to warn of.

Example:
  coordinator doctor --json")]
    Doctor,
    /// List hosts, pin their keys, try them out
    #[command(subcommand)]
    Host(HostCommand),
    /// Back up hosts now, verify what arrived, and commit snapshots
    Run(RunArgs),
    /// Back up every host when it is due, until a signal ends it
    Daemon(DaemonArgs),
    /// Have the daemon read its configuration again
    Reload(ReloadArgs),
    /// Stop a host's run in the daemon
    Cancel(CancelArgs),
    /// Show how each host is doing
    Status(StatusArgs),
    /// Show the last runs
    History(HistoryArgs),
    /// List snapshots, the newest last
    Snapshots(SnapshotsArgs),
    /// Show one snapshot: times, totals, problems
    Show(ShowArgs),
    /// List a directory of a snapshot
    Ls(LsArgs),
    /// Write a file of a snapshot to stdout
    Cat(CatArgs),
    /// Show what changed between two snapshots of a host
    Diff(DiffArgs),
    /// Show what changed from the snapshot before
    Changes(ChangesArgs),
    /// Restore a snapshot, or paths of it, into a directory
    Restore(RestoreArgs),
    /// Write a snapshot, or paths of it, as a tar stream to stdout
    Export(ExportArgs),
    /// Read snapshots back from the destination and check every byte
    Verify(VerifyArgs),
    /// Forget snapshots by the hosts' keep rules, and remove what nothing needs any more
    Prune(PruneArgs),
    /// Forget one snapshot
    Forget(ForgetArgs),
    /// Bring forgotten snapshots back
    Undelete(UndeleteArgs),
    /// Keep single snapshots whatever the keep rules say
    #[command(subcommand)]
    Pin(PinCommand),
    /// Show which hosts are on hold, so that nothing of them is dropped; add or end a hold
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Look at every destination for what is missing or damaged, and put it right
    Scan(ScanArgs),
    /// List destinations, try one out, fill one that was added later
    #[command(subcommand)]
    Destination(DestinationCommand),
    /// Print where logs end for a witness, check what a witness kept, reconcile
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show which coordinator writes to which repository, take over from one that is gone
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Make, list and take away tokens for health checks and metrics
    #[command(subcommand)]
    Token(TokenCommand),
    /// Try out who is told when something goes wrong
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Build a coordinator anew from the recovery kit, or a user's key file, and one destination
    Recover(RecoverArgs),
    /// Restore what can be restored from packs alone, without log or index
    Rescue(RescueArgs),
    /// Export or test the recovery kit, make keys that only read
    #[command(subcommand)]
    Key(KeyCommand),
    /// Try everything with a throwaway SSH server and repository; leaves nothing behind
    Demo(DemoArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Write the man pages into a directory
    Man(ManArgs),
}

#[cfg(test)]
mod tests;
