//! Which hosts a command means: names, `@tag`, or all.

use std::collections::BTreeMap;

use crate::cli::run::RunArgs;
use crate::commands::on_storage::CommandError;
use crate::config::Config;
use crate::config::host::Host;
use crate::status::hosts_backed_up;

/// The hosts that are meant, each once, by name.
pub fn choose_hosts(args: &RunArgs, config: &Config) -> Result<Vec<Host>, CommandError> {
    let mut chosen = BTreeMap::new();
    if args.all {
        chosen.extend(hosts_backed_up(config).map(|host| (host.name.clone(), host)));
    }
    for word in &args.hosts {
        match word.strip_prefix('@') {
            Some(tag) => {
                let before = chosen.len();
                let tagged = hosts_backed_up(config).filter(|host| host.is_labelled(tag));
                chosen.extend(tagged.map(|host| (host.name.clone(), host)));
                if chosen.len() == before {
                    let tag = tag.to_owned();
                    return Err(CommandError::NoSuchTag { tag });
                }
            }
            None => {
                let host = config.host(word)?;
                chosen.insert(host.name.clone(), host);
            }
        }
    }
    for host in chosen.values() {
        if host.paths.is_empty() {
            return Err(CommandError::NoPaths {
                host: host.name.to_string(),
                file: host.defined_at.file.display().to_string(),
            });
        }
    }
    Ok(chosen.into_values().cloned().collect())
}
