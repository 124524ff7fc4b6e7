//! Which configuration is in force. Another one is taken as a whole or not at all.

use std::path::Path;

use crate::config::Config;
use crate::config::error::ConfigErrors;

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] ConfigErrors),
    /// It changes what is only read when the daemon starts.
    #[error(
        "{what} changed, which takes effect when the daemon is started again; nothing was changed now"
    )]
    NeedsRestart {
        /// What.
        what: String,
    },
}

/// Reads the configuration again, if it, and the keys that it names, can take the place of those in force.
pub fn read_again(file: &Path, in_force: &Config) -> Result<Config, ReloadError> {
    let config = Config::load(file)?;
    config.check_files()?;
    let changed = [
        ("state_dir", config.state_dir != in_force.state_dir),
        (
            "[[destination]]",
            config.destinations != in_force.destinations,
        ),
        ("[keys]", config.keys != in_force.keys),
        (
            "[append_server]",
            config.append_server != in_force.append_server,
        ),
        ("[log]", config.log != in_force.log),
        (
            "spool, reserve, patience or min_copies of [limits]",
            append_server_limits(&config) != append_server_limits(in_force),
        ),
        (
            "grace or delete_max of [prune]",
            (config.prune.grace, config.prune.delete_max)
                != (in_force.prune.grace, in_force.prune.delete_max),
        ),
    ];
    let changed: Vec<&str> = changed
        .into_iter()
        .filter_map(|(what, changed)| changed.then_some(what))
        .collect();
    match changed.is_empty() {
        true => Ok(config),
        false => Err(ReloadError::NeedsRestart {
            what: changed.join(" and "),
        }),
    }
}

/// The limits that the embedded append-server was started with.
fn append_server_limits(config: &Config) -> impl PartialEq + use<> {
    let limits = config.limits;
    (
        limits.spool,
        limits.reserve,
        limits.patience,
        limits.min_copies,
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::path::Path;

    use super::{ReloadError, read_again};
    use crate::config::Config;
    use crate::config::revision::ConfigRevision;

    fn write(dir: &Path, destination: &str, schedule: &str) {
        fs::write(
            dir.join("coordinator.toml"),
            format!("state_dir = \".\"\n[[destination]]\nname = \"d\"\nurl = \"file:///srv/{destination}\"\n"),
        )
        .unwrap();
        fs::write(
            dir.join("hosts.toml"),
            format!("[host.web1]\naddress = \"web1\"\nuser = \"root\"\nuse_agent = true\npaths = [\"/\"]\nschedule = \"{schedule}\"\n"),
        )
        .unwrap();
    }

    #[test]
    fn hosts_are_taken_and_what_needs_a_start_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("coordinator.toml");
        write(dir.path(), "a", "daily");
        let first = Config::load(&file).unwrap();
        assert_eq!(
            ConfigRevision::of(&first),
            ConfigRevision::of(&read_again(&file, &first).unwrap())
        );
        write(dir.path(), "a", "weekly");
        let second = read_again(&file, &first).unwrap();
        assert_ne!(ConfigRevision::of(&first), ConfigRevision::of(&second));
        write(dir.path(), "b", "weekly");
        let error = read_again(&file, &second).unwrap_err();
        assert!(matches!(&error, ReloadError::NeedsRestart { what } if what == "[[destination]]"));
        write(dir.path(), "a", "never ever");
        let error = read_again(&file, &second).unwrap_err();
        assert!(error.to_string().contains("is no schedule"), "{error}");
    }
}
