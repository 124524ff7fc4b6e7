//! Arguments of `run` and `demo`.

use std::path::PathBuf;

use clap::Args;

/// `run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Where the daemon runs, it is asked, so that its limits are kept; interrupting
this command then leaves the run alone, and `coordinator cancel` stops it.

A run that is interrupted leaves no snapshot and loses nothing: the next one
uploads only what is missing. Files that cannot be read are listed and
counted, and the exit code is then 3.

Examples:
  coordinator run web1
  coordinator run web1 --full-read -v
  coordinator run web1 --json | jq .snapshot
  coordinator run @prod db1 'web*'
  coordinator run --all --outside-window")]
pub struct RunArgs {
    /// Names of hosts in hosts.toml, globs such as 'web*', or @TAG for all hosts with that tag
    #[arg(value_name = "HOST|GLOB|@TAG", required_unless_present = "all")]
    pub hosts: Vec<String>,
    /// Every host
    #[arg(long, conflicts_with = "hosts")]
    pub all: bool,
    /// Before all runs that wait for their turn in the daemon
    #[arg(long)]
    pub now: bool,
    /// Also while the host's window is closed, and past its end
    #[arg(long)]
    pub outside_window: bool,
    /// Read every file, also those whose size, times and inode did not change
    #[arg(long)]
    pub full_read: bool,
}

/// `demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Needs no configuration. Starts an SSH server on loopback, backs up a sample
tree twice with changes in between, restores it, compares every byte, and
prints a short table.

Examples:
  coordinator demo
  coordinator demo --path /usr/share/doc")]
pub struct DemoArgs {
    /// Back up a copy of this directory instead of the sample tree
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Keep the temporary directory, and say where it is
    #[arg(long)]
    pub keep: bool,
    /// Use the embedded SSH server even where there is an sshd
    #[arg(long, hide = true)]
    pub embedded_sshd: bool,
}
