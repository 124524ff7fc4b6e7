//! Shell completions and man pages, both made from the command line's own definition.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;

/// `completions SHELL`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coordinator completions bash > /etc/bash_completion.d/coordinator
  coordinator completions fish > ~/.config/fish/completions/coordinator.fish")]
pub struct CompletionsArgs {
    /// The shell to write them for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `man DIR`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  coordinator man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// An existing directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Writes the completions of one shell.
pub fn write_completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator would panic on a closed pipe, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coordinator", &mut script);
    out.write_all(&script)
}

/// Writes one man page for each command.
pub fn write_man_pages(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
}
