//! Arguments of `hold`.

use clap::{Args, Subcommand, ValueEnum};

use crate::catalog::state::holds::HoldKind;

/// `hold …`.
#[derive(Debug, Clone, Subcommand)]
pub enum HoldCommand {
    /// List hosts that are on hold, and why
    #[command(after_help = "\
Examples:
  coordinator hold ls
  coordinator hold ls web1 --all --json")]
    Ls(HoldLsArgs),
    /// Drop nothing of a host until somebody ends it
    #[command(after_help = "\
Examples:
  coordinator hold add web1 --reason \"looking into the break-in\"
  coordinator hold add web1 --kind legal --reason \"case 2026-117\"")]
    Add(HoldAddArgs),
    /// End a hold
    #[command(after_help = "\
After an anomaly: look first at what the runs since then brought. A snapshot of
an encrypted host counts like any other once the hold has ended, so forget it.

Examples:
  coordinator hold release web1
  coordinator hold release web1 7              # where it has several
  coordinator hold release '*'                 # after `recover`, of all hosts that have one")]
    Release(HoldReleaseArgs),
}

/// `hold ls`.
#[derive(Debug, Clone, Args)]
pub struct HoldLsArgs {
    /// Only this host
    pub host: Option<String>,
    /// Those that have ended, too
    #[arg(long)]
    pub all: bool,
}

/// `hold add`.
#[derive(Debug, Clone, Args)]
pub struct HoldAddArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// Whose hold it is
    #[arg(long, value_enum, default_value_t = PersonsHold::Manual)]
    pub kind: PersonsHold,
    /// Why, for people
    #[arg(long)]
    pub reason: String,
}

/// `hold release`.
#[derive(Debug, Clone, Args)]
pub struct HoldReleaseArgs {
    /// The host's name; or a glob such as 'web*', or @TAG, for all that are on hold
    #[arg(value_name = "HOST|GLOB|@TAG")]
    pub host: String,
    /// The hold's number, as `hold ls` shows it; needed where the host has several
    pub number: Option<u64>,
}

/// The kinds of holds that a person adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PersonsHold {
    /// Until it is ended
    Manual,
    /// Because of the law or a contract
    Legal,
}

impl PersonsHold {
    /// The kind.
    pub fn kind(self) -> HoldKind {
        match self {
            Self::Manual => HoldKind::Manual,
            Self::Legal => HoldKind::Legal,
        }
    }
}
