//! Arguments of `recover`.

use std::path::PathBuf;

use clap::Args;

/// `recover`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For a machine that has nothing but this program: makes DIR as `init` does, with keys
from the kit, finds every repository at the destination, checks its log from the first
record on, and builds catalog and index anew. Nothing is written to the destination.
A hosts.toml that is in DIR already is kept, and gives repositories their names;
without one, a hosts.toml with the hosts of the snapshots is written.

What a destination needs besides its URL is given with --set, as it would stand in
its table of coordinator.toml; `coordinator config example` shows every key.

Exit codes: 0 everything was read, 10 no repository is there, 12 none is of this kit,
15 something is damaged or missing there, and the rest was recovered.

Examples:
  coordinator recover --dir /etc/coordinator --kit kit.txt --destination file:///mnt/backup
  coordinator recover --dir /etc/coordinator --kit kit.txt --destination s3://bucket/prefix \\
    --set provider=aws --set region=eu-central-1 --set access_key_id=AKIA... --set secret_key_file=key
  coordinator recover --dir /etc/coordinator --kit kit.txt --destination sftp://u@nas/backup \\
    --set host_key=SHA256:... --set identity_file=id_ed25519")]
pub struct RecoverArgs {
    /// The directory to set up; coordinator.toml must not be there yet
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The recovery kit
    #[arg(long, value_name = "FILE")]
    pub kit: PathBuf,
    /// Where the backups are: file://, s3:// or sftp://
    #[arg(long, value_name = "URL")]
    pub destination: String,
    /// A key of the destination's table; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
