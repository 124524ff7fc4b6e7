//! Arguments of the commands that read snapshots: `snapshots`, `show`, `ls`, `cat`, `verify`.

use std::ffi::OsString;

use clap::Args;

use crate::catalog::selector::Selector;

/// `snapshots`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coordinator snapshots
  coordinator snapshots web1 --json")]
pub struct SnapshotsArgs {
    /// Only this host
    pub host: Option<String>,
    /// Read this destination alone [default: whichever can answer, and another when a copy is damaged]
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
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
    /// Read this destination alone [default: whichever can answer, and another when a copy is damaged]
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
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
    /// Read this destination alone [default: whichever can answer, and another when a copy is damaged]
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
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
    /// Read this destination alone [default: whichever can answer, and another when a copy is damaged]
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
}

/// `verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads everything a snapshot needs from the destination, opens it and
recomputes its keyed hashes. Damage ends with exit code 15 and names what is
affected.

Examples:
  coordinator verify web1
  coordinator verify web1 latest")]
pub struct VerifyArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// Only this snapshot [default: all]
    #[arg(value_name = "SNAP")]
    pub snapshot: Option<Selector>,
    /// Read this destination alone [default: whichever can answer, and another when a copy is damaged]
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
}
