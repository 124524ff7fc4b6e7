//! Arguments of `recover`.

use std::path::PathBuf;

use clap::Args;
use formats::object::UserName;

/// `recover`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For a machine that has nothing but this program: makes DIR as `init` does, with keys
from the kit, finds every repository at the destination, checks its log from the first
record on, and builds catalog and index anew. Sealed keys of the admin and of machines that
only read are taken over from the repositories. Nothing is written to the destination.
A hosts.toml that is in DIR already is kept, and gives repositories their names;
without one, a hosts.toml with the hosts of the snapshots is written. Where hosts
are kept at destinations, --set name=NAME gives this one the name that it had. A list
with others, and a `commit` on more than one, become comments: the file as it was is
hosts.toml.before then.

With --user and --key-file in the place of the kit, DIR gets that user's keys and what
they allow: with those of `key derive`, everything is read and nothing is written. What is
backed up for the first time later is found by recovering once more, into a new directory.

What a destination needs besides its URL is given with --set, as it would stand in
its table of coordinator.toml; `coordinator config example` shows every key.

Exit codes: 0 everything was read, 10 no repository or user is there, 12 none is of these keys,
15 something is damaged or missing there, and the rest was recovered.

Examples:
  coordinator recover --dir /etc/coordinator --kit kit.txt --destination file:///mnt/backup
  coordinator recover --dir /etc/coordinator --kit kit.txt --destination s3://bucket/prefix \\
    --set provider=aws --set region=eu-central-1 --set access_key_id=AKIA... --set secret_key_file=key
  coordinator recover --dir /etc/coordinator --kit kit.txt --destination sftp://u@nas/backup \\
    --set host_key=SHA256:... --set identity_file=id_ed25519
  coordinator recover --dir /etc/coordinator --user vault --key-file vault.key --destination URL")]
pub struct RecoverArgs {
    /// The directory to set up; coordinator.toml must not be there yet
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The recovery kit
    #[arg(long, value_name = "FILE", required_unless_present = "user")]
    pub kit: Option<PathBuf>,
    /// Instead of the kit: a user whose sealed keys are in the repositories, as `key derive` puts them there
    #[arg(
        long,
        value_name = "USER",
        requires = "key_file",
        conflicts_with = "kit"
    )]
    pub user: Option<UserName>,
    /// That user's key file
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with = "kit")]
    pub key_file: Option<PathBuf>,
    /// Where the backups are: file://, s3:// or sftp://
    #[arg(long, value_name = "URL")]
    pub destination: String,
    /// A key of the destination's table; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
