//! Which hosts a command means: names, globs such as `web*`, and `@tag`. Pure: reads the configuration alone.

use std::collections::BTreeMap;

use crate::commands::on_storage::CommandError;
use crate::config::Config;
use crate::config::exclude::compile;
use crate::config::host::Host;
use crate::status::hosts_backed_up;

/// Names that an error lists, at most.
const NAMES_LISTED: usize = 20;

/// Whether a word stands for as many hosts as there are, and not for one by its name.
pub fn is_pattern(word: &str) -> bool {
    word.starts_with('@') || word.contains(['*', '?', '[', '{'])
}

/// The hosts that are meant, each once, by name. Globs and tags mean hosts that are backed up; a name means any.
pub fn hosts_meant<'c>(
    words: &[String],
    config: &'c Config,
) -> Result<Vec<&'c Host>, CommandError> {
    let mut meant: BTreeMap<&str, &Host> = BTreeMap::new();
    for word in words {
        if !is_pattern(word) {
            let host = config.host(word)?;
            meant.insert(host.name.as_str(), host);
            continue;
        }
        let found = match word.strip_prefix('@') {
            Some(tag) => labelled(tag, config)?,
            None => matching(word, config)?,
        };
        meant.extend(found.into_iter().map(|host| (host.name.as_str(), host)));
    }
    Ok(meant.into_values().collect())
}

fn labelled<'c>(tag: &str, config: &'c Config) -> Result<Vec<&'c Host>, CommandError> {
    let found: Vec<&Host> = hosts_backed_up(config)
        .filter(|host| host.is_labelled(tag))
        .collect();
    match found.is_empty() {
        true => Err(CommandError::NoSuchTag {
            tag: tag.to_owned(),
        }),
        false => Ok(found),
    }
}

fn matching<'c>(glob: &str, config: &'c Config) -> Result<Vec<&'c Host>, CommandError> {
    let compiled = compile(glob).map_err(|source| CommandError::BadGlob {
        glob: glob.to_owned(),
        source,
    })?;
    let matcher = compiled.compile_matcher();
    let found: Vec<&Host> = hosts_backed_up(config)
        .filter(|host| matcher.is_match(host.name.as_str()))
        .collect();
    match found.is_empty() {
        true => Err(CommandError::NoneMatches {
            glob: glob.to_owned(),
            known: known(config),
        }),
        false => Ok(found),
    }
}

/// The hosts that there are, as far as they can be listed.
fn known(config: &Config) -> String {
    let mut names: Vec<&str> = hosts_backed_up(config)
        .map(|host| host.name.as_str())
        .collect();
    let others = names.len().saturating_sub(NAMES_LISTED);
    names.truncate(NAMES_LISTED);
    match (names.is_empty(), others) {
        (true, _) => "there are none yet".to_owned(),
        (false, 0) => format!("there are {}", names.join(", ")),
        (false, _) => format!("there are {} and {others} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
