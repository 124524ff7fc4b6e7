//! Arguments of `rescue`.

use std::path::PathBuf;

use clap::Args;
use formats::ids::RepositoryId;

use crate::cli::restore::{Overwrite, RestoreWhat};

/// `rescue`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For the day when a destination has lost its log, its config, or part of its packs, and
no other destination is whole. Where the log is, `recover` and `restore` are the better
way: they bring back one snapshot as it was. A rescue needs the kit and packs, and
nothing else. It opens every pack by itself, reads whatever pages of listings are in
them, and restores what it finds there:

  - Packs do not say which snapshot an entry was of. For each path the entry with the
    newest ctime is restored, so deleted files come back, and hosts that share a
    repository come back as one tree.
  - A path that was a directory and is something else in its newest entry is restored
    as the newer; what is older below it is left out and counted.
  - A file of which a chunk is missing or damaged is left out and named, never restored
    in part. A directory whose own entry is lost is made with mode 0700.
  - Owners are restored by number: names are in the log.

DIR must be empty or missing, unless --overwrite says what to do with files that are
there. A destination's URL and --set are those of `recover`. A
plain path instead of a URL is a directory of pack files, whatever their names are.
Nothing is written to either. Some 250 bytes for each chunk and entry are written to a
working directory, which goes at the end.

Exit codes: 0 everything found was restored, 3 all of it but some attribute or some
older object, or there are data packs that no listing's run is known of, 10 no pack is
there or not of that repository, 12 none opens with this kit, 15 something is damaged
or missing there, and the rest was restored.

Examples:
  coordinator rescue --kit kit.txt --destination file:///mnt/backup --list
  coordinator rescue --kit kit.txt --destination /mnt/carved --to /srv/rescued --problems lost.ndjson
  coordinator rescue --kit kit.txt --destination s3://bucket/prefix --set provider=aws \\
    --set region=eu-central-1 --set access_key_id=AKIA... --set secret_key_file=key \\
    --to /srv/rescued --include /home")]
pub struct RescueArgs {
    /// The recovery kit
    #[arg(long, value_name = "FILE")]
    pub kit: PathBuf,
    /// Where the packs are: file://, s3:// or sftp://, or a directory of pack files
    #[arg(long, value_name = "URL")]
    pub destination: String,
    /// A key of the destination's table; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The directory to restore into
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    pub to: Option<PathBuf>,
    /// Allow DIR to hold files, and say which of them are replaced; a rescue that was interrupted goes on with
    /// if-changed
    #[arg(long, value_enum, value_name = "WHEN", requires = "to")]
    pub overwrite: Option<Overwrite>,
    /// Show what could be restored, as far as packs are there, and restore nothing
    #[arg(short = 'n', long, visible_alias = "dry-run", conflicts_with = "to")]
    pub list: bool,
    /// The repository, 32 digits, where there are several
    #[arg(long, value_name = "ID")]
    pub repository: Option<RepositoryId>,
    /// The generation of the repository's keys
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub epoch: u32,
    /// What is left out.
    #[command(flatten)]
    pub what: RestoreWhat,
    /// Write every object that was not restored as it was into a new file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub problems: Option<PathBuf>,
    /// Where the working directory is made [default: beside DIR; for --list the system's directory for such]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
}
