//! Arguments of `restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::catalog::selector::Selector;
use crate::cli::read_from::ReadFromArgs;

/// `restore`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
DIR must be empty or missing, unless --overwrite says what to do with files
that are there. Paths are restored with their full name below DIR. As root
everything comes back: owners, devices, setuid bits, extended attributes; as
another user what that user may create, and the rest is counted.

Examples:
  coordinator restore web1 latest --to /tmp/web1
  coordinator restore web1 latest --to /tmp/web1 /etc /srv/www
  coordinator restore web1 latest~3 --to /tmp/web1 --include '*.conf' --dry-run
  coordinator restore web1 2026-11-20 --to /srv/restore --overwrite if-changed")]
pub struct RestoreArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// latest, latest~2, the beginning of an id, 2026-11-20, or before:2026-11-20
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// What to restore, as it was on the host [default: everything]
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// The directory to restore into
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Allow DIR to hold files, and say which of them are replaced
    #[arg(long, value_enum, value_name = "WHEN")]
    pub overwrite: Option<Overwrite>,
    /// What is left out.
    #[command(flatten)]
    pub what: RestoreWhat,
    /// Read --exclude globs from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// Show what would be restored, and write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Restore owners by number, not by name
    #[arg(long, conflicts_with = "no_owner")]
    pub numeric_ids: bool,
    /// From where it is read.
    #[command(flatten)]
    pub from: ReadFromArgs,
}

/// What is restored of a tree, and of each object.
#[derive(Debug, Clone, Args)]
pub struct RestoreWhat {
    /// Restore only what matches; may be repeated, same globs as `exclude` in hosts.toml
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave out what matches; may be repeated, the last match wins
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Do not restore owners and groups
    #[arg(long)]
    pub no_owner: bool,
    /// Do not create device nodes
    #[arg(long)]
    pub no_devices: bool,
    /// Clear setuid and setgid bits and leave out file capabilities
    #[arg(long)]
    pub no_setuid: bool,
    /// Do not restore extended attributes and ACLs
    #[arg(long)]
    pub no_xattrs: bool,
}

/// Which existing files are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overwrite {
    /// Every file
    Always,
    /// Files whose size or modification time differs
    IfChanged,
    /// Files that are older than the snapshot's
    IfNewer,
    /// No file: only missing ones are restored
    Never,
}
