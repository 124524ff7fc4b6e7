//! Arguments of `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `audit …`.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Print where every log ends, for a witness outside of this machine
    #[command(after_help = "\
One line for each repository: its id, the number and the id of its last record, when
that was committed, and its name. A record's id stands for all records before it, so
whoever keeps these lines elsewhere can tell later whether history was changed, also
by the coordinator itself.

Example:
  coordinator audit head | mail -s heads witness@example.com")]
    Head,
    /// Check that history still has what `audit head` printed at some time
    #[command(after_help = "\
Exit codes: 0 every line still holds, 15 one does not.

Example:
  coordinator audit check heads.txt")]
    Check(AuditCheckArgs),
    /// Accept log records that this coordinator did not write, so that it may write again
    #[command(after_help = "\
A coordinator that was restored from an old copy of itself finds records in the log
that it knows nothing of, and refuses to back up to that repository: another one may
still be writing. When that is settled, this accepts what is there.

Example:
  coordinator audit reconcile web1")]
    Reconcile(AuditReconcileArgs),
}

/// `audit check`.
#[derive(Debug, Clone, Args)]
pub struct AuditCheckArgs {
    /// Lines of `audit head`; - for standard input
    pub file: PathBuf,
}

/// `audit reconcile`.
#[derive(Debug, Clone, Args)]
pub struct AuditReconcileArgs {
    /// The host's name in hosts.toml
    pub host: String,
}
