//! Arguments of `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use formats::object::UserName;
use serde::Serialize;

/// `key …`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Write the recovery kit again; asks for the admin's password
    #[command(after_help = "\
Whoever has the kit can read every backup: keep it off this machine, on paper
or in a safe.

Example:
  coordinator key export-kit /media/usb/recovery-kit.txt")]
    ExportKit(ExportKitArgs),
    /// Prove that a recovery kit opens the repository
    #[command(after_help = "\
Example:
  coordinator key verify-kit /media/usb/recovery-kit.txt")]
    VerifyKit(VerifyKitArgs),
    /// Make keys for a machine that only restores or verifies, or that only backs up; asks for the admin's password, or takes the kit
    #[command(after_help = "\
Of role restore or verify the keys open everything there is and will be, and cannot sign, so that no snapshot, hold
or prune is made with them. To verify is to open, so that both roles have the same keys.
They cannot be taken back: whoever had the key file can read what is backed up from then on.

USER's sealed keys go into every repository, and into each that is made later. Run again, it
puts them where they are missing, and makes no new ones: keys that any repository has are
taken from there, which needs neither password nor kit. Only the key file has to be brought
to the other machine, which then needs nothing of this one:

  coordinator key derive vault --role restore --out /media/usb/vault.key
  coordinator recover --dir /etc/coordinator --user vault --key-file vault.key --destination URL

Of role ingest the keys back up, and open nothing that is stored: whoever takes the machine can
add snapshots, and read none. They cannot make a repository, so one is made here for every host
that has none, and the first run of a host that is added later is done with the full keys. The
sealed keys stay beside the coordinator's own: name them in [keys] of coordinator.toml, and take
the other keys off the machine.

  coordinator key derive ingest --role ingest
")]
    Derive(DeriveArgs),
}

/// `key derive`.
#[derive(Debug, Clone, Args)]
pub struct DeriveArgs {
    /// The new user's name
    pub user: UserName,
    /// What the machine is for
    #[arg(long, value_enum)]
    pub role: DerivedRole,
    /// The key file to create (mode 0600), never over an existing one [default: USER.key beside the coordinator's keys]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The recovery kit, in the place of the admin's bundle and password
    #[arg(long, value_name = "FILE")]
    pub kit: Option<PathBuf>,
}

/// What derived keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DerivedRole {
    /// A machine that restores
    Restore,
    /// A machine that verifies: the same keys, for to verify is to open
    Verify,
    /// A machine that backs up and reads nothing back
    Ingest,
}

impl DerivedRole {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Ingest => "ingest",
        }
    }
}

/// `key export-kit`.
#[derive(Debug, Clone, Args)]
pub struct ExportKitArgs {
    /// The file to create (mode 0600); an existing one is never overwritten
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `key verify-kit`.
#[derive(Debug, Clone, Args)]
pub struct VerifyKitArgs {
    /// The recovery kit
    pub kit: PathBuf,
}
