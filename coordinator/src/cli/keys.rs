//! Arguments of `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
