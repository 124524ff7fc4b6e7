//! Arguments of `host`.

use std::ffi::OsString;

use clap::{Args, Subcommand};

/// `host …`.
#[derive(Debug, Clone, Subcommand)]
pub enum HostCommand {
    /// List the configured hosts
    #[command(after_help = "\
Examples:
  coordinator host ls
  coordinator host ls --tag prod --json")]
    Ls(HostLsArgs),
    /// Show a host's key fingerprint and pin it in hosts.toml
    #[command(after_help = "\
Connects, shows the fingerprint and asks. Compare it with what the host itself
says:
  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

Nothing else ever trusts a key by itself: a host that shows another key is
refused (exit code 13). Comments and formatting of hosts.toml are kept.

Examples:
  coordinator host trust web1
  coordinator host trust web1 --fingerprint SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y
  coordinator host trust web1 --yes            # on a network you trust, now")]
    Trust(HostTrustArgs),
    /// Try a backup up to the first byte: SSH, agent, tunnel, paths; stores nothing
    #[command(after_help = "\
Example:
  coordinator host test web1 -v")]
    Test(HostTestArgs),
    /// Let in the machine that answered in the host's place: it is the host from now on
    #[command(after_help = "\
A host is known by its machine-id, the number that its firmware has, and its root
filesystem, beside its SSH key. Where two of them changed, a run fails (exit code
13), nothing is committed, and the host is on hold; one alone is a warning. This
accepts what answered last, and ends the hold.

Example:
  coordinator host accept-identity web1")]
    AcceptIdentity(AcceptIdentityArgs),
    /// Show when a host is backed up next, and why then; or whether a path of it is backed up, and why
    #[command(after_help = "\
A path that ends with / is judged as a directory. Only the configuration is asked:
what a mark in a directory or another filesystem leaves out, the host alone knows.

Examples:
  coordinator host explain web1
  coordinator host explain web1 /var/cache/apt/")]
    Explain(HostExplainArgs),
}

/// `host accept-identity`.
#[derive(Debug, Clone, Args)]
pub struct AcceptIdentityArgs {
    /// The host's name in hosts.toml
    pub host: String,
}

/// `host ls`.
#[derive(Debug, Clone, Args)]
pub struct HostLsArgs {
    /// Only hosts with this tag; may be repeated, any of them counts
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
}

/// `host trust`.
#[derive(Debug, Clone, Args)]
pub struct HostTrustArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// Pin what the host shows without asking
    #[arg(long)]
    pub yes: bool,
    /// Pin only if the host shows this fingerprint
    #[arg(long, value_name = "SHA256:…", conflicts_with = "yes")]
    pub fingerprint: Option<String>,
}

/// `host explain`.
#[derive(Debug, Clone, Args)]
pub struct HostExplainArgs {
    /// The host's name in hosts.toml
    pub host: String,
    /// A path on the host; without it, its schedule is explained
    pub path: Option<OsString>,
}

/// `host test`.
#[derive(Debug, Clone, Args)]
pub struct HostTestArgs {
    /// The host's name in hosts.toml
    pub host: String,
}
