//! Which hosts `run` means: names, globs, `@tag`, or all.

use crate::cli::run::RunArgs;
use crate::commands::hosts_meant::hosts_meant;
use crate::commands::on_storage::CommandError;
use crate::config::Config;
use crate::config::host::Host;
use crate::status::hosts_backed_up;

/// The hosts that are meant, each once, by name.
pub fn choose_hosts(args: &RunArgs, config: &Config) -> Result<Vec<Host>, CommandError> {
    let chosen: Vec<&Host> = match args.all {
        true => hosts_backed_up(config).collect(),
        false => hosts_meant(&args.hosts, config)?,
    };
    for host in &chosen {
        if host.paths.is_empty() {
            return Err(CommandError::NoPaths {
                host: host.name.to_string(),
                file: host.defined_at.file.display().to_string(),
            });
        }
    }
    Ok(chosen.into_iter().cloned().collect())
}
