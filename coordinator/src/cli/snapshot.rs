//! Arguments of the commands that read snapshots: `snapshots`, `show`, `ls`, `cat`, `verify`.

use std::ffi::OsString;

use clap::Args;

use crate::catalog::selector::Selector;
use crate::cli::read_from::ReadFromArgs;

/// `snapshots`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coordinator snapshots
  coordinator snapshots web1 --json")]
pub struct SnapshotsArgs {
    /// Only this host
    pub host: Option<String>,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}

/// `show`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coordinator show web1 latest
  coordinator show web1 1f3a9c04 --json")]
pub struct ShowArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}

/// `ls`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coordinator ls web1 latest
  coordinator ls web1 latest /etc -l
  coordinator ls web1 latest~1 /srv/www --recursive")]
pub struct LsArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// The directory or file, as it was on the host
    #[arg(default_value = "/")]
    pub path: OsString,
    /// Show type, mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// Show everything below
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Print numeric user and group ids
    #[arg(long)]
    pub numeric_ids: bool,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}

/// `cat`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  coordinator cat web1 latest /etc/fstab")]
pub struct CatArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// The file, as it was on the host
    pub path: OsString,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}

/// `verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads everything a snapshot needs from the destination, opens it and
recomputes its keyed hashes. Damage ends with exit code 15 and names what is
affected. With a glob or a tag, --json prints a list of what is printed for one host.

Examples:
  coordinator verify web1
  coordinator verify web1 latest
  coordinator verify 'web*' latest")]
pub struct VerifyArgs {
    /// The host's name in hosts.toml, a glob such as 'web*', or @TAG
    #[arg(value_name = "HOST|GLOB|@TAG")]
    pub host: String,
    /// Only this snapshot [default: all]
    #[arg(value_name = "SNAP")]
    pub snapshot: Option<Selector>,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}
