//! The option of all commands that read snapshots: from where.

use clap::Args;

/// `--destination`.
#[derive(Debug, Clone, Default, Args)]
pub struct ReadFromArgs {
    /// Read this destination alone [default: whichever can answer, and another when a copy is damaged]
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
}
