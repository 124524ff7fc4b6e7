//! Arguments of `init` and `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `init`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Writes into DIR: coordinator.toml and hosts.toml (commented), state/, keys/,
and recovery-kit.txt. Whoever has the recovery kit can read every backup, and
without it and without the passwords nobody can: move it off this machine, and
test it with `coordinator key verify-kit`. An existing configuration is never
overwritten.

Examples:
  coordinator init --dir /etc/coordinator
  coordinator init --dir ~/capstan --destination /mnt/backup --no-users
  coordinator init --dir /etc/coordinator --state-dir /var/lib/coordinator \\
    --socket-dir /run/append-server --destination /srv/backup")]
pub struct InitArgs {
    /// The directory to create everything in; may exist
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Where to store backups [default: DIR/repository]
    #[arg(long, value_name = "DIR")]
    pub destination: Option<PathBuf>,
    /// Where to keep the state [default: DIR/state]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Use the append-server that runs by itself and has its sockets there; it makes the destination, not this
    #[arg(long, value_name = "DIR", requires = "destination")]
    pub socket_dir: Option<PathBuf>,
    /// Where to write the recovery kit [default: DIR/recovery-kit.txt]
    #[arg(long, value_name = "FILE")]
    pub kit: Option<PathBuf>,
    /// Create no admin user and ask for no password: the daemon's key file and the recovery kit alone
    #[arg(long)]
    pub no_users: bool,
    /// Read the admin's password from a file (mode 0600) instead of asking for it
    #[arg(long, value_name = "FILE", conflicts_with = "no_users")]
    pub admin_password_file: Option<PathBuf>,
}

/// `config …`; everything works offline and changes nothing.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Read all configuration files and report every error with file and line
    #[command(after_help = "\
Opens no connection and changes nothing, so that it can run in CI. Private
keys and secrets are checked too: they must exist and be readable by their
owner alone; --no-files leaves that out.

Examples:
  coordinator config check
  coordinator -c etc/coordinator.toml config check --no-files")]
    Check(ConfigCheckArgs),
    /// Print the merged configuration and where each value comes from
    #[command(after_help = "\
Examples:
  coordinator config show
  coordinator config show web1 --json")]
    Show(ConfigShowArgs),
    /// Print what changed in the files since the daemon applied them
    #[command(after_help = "\
Compares every effective value, with all inheritance done, and not the texts.
The daemon writes down what it applies, when it starts and when it reloads.

Examples:
  coordinator config diff
  coordinator config diff --exit-code || coordinator reload")]
    Diff(ConfigDiffArgs),
    /// Print a JSON Schema (draft 2020-12), by which editors check and complete a file
    #[command(after_help = "\
An editor with a TOML language server such as Taplo takes it from the first
line of the file:  #:schema ./hosts.schema.json

Example:
  coordinator config schema hosts > hosts.schema.json")]
    Schema(ConfigSchemaArgs),
    /// Print a sample file with every key, its default and its meaning
    #[command(after_help = "\
Example:
  coordinator config example hosts > hosts.toml")]
    Example(ConfigExampleArgs),
}

/// `config check`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfigCheckArgs {
    /// Do not look at the key files that the configuration names
    #[arg(long)]
    pub no_files: bool,
}

/// `config show`.
#[derive(Debug, Clone, Args)]
pub struct ConfigShowArgs {
    /// Only this host
    pub host: Option<String>,
}

/// `config diff`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfigDiffArgs {
    /// End with 1 when there is a change
    #[arg(long)]
    pub exit_code: bool,
}

/// `config schema`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfigSchemaArgs {
    /// Of which file
    #[arg(value_enum)]
    pub file: SchemaFile,
}

/// A file that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaFile {
    /// coordinator.toml
    Coordinator,
    /// hosts.toml and hosts.d/*.toml
    Hosts,
}

/// `config example`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfigExampleArgs {
    /// Which file
    #[arg(value_enum, default_value_t = SampleFile::Coordinator)]
    pub file: SampleFile,
}

/// A sample file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SampleFile {
    /// coordinator.toml
    Coordinator,
    /// hosts.toml
    Hosts,
    /// append-server.toml
    AppendServer,
}
