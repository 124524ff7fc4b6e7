//! Settings that keys which only add snapshots cannot carry out: refused when files are checked, where the bundle that is named
//! says its role.

use crate::config::Config;
use crate::config::error::ConfigError;
use crate::keyring::bundle_owner;

/// What is wrong with a configuration whose keys open nothing; nothing for other keys, and for a bundle that cannot be read.
pub(super) fn refused(config: &Config) -> Vec<ConfigError> {
    let owner = config.keys.bundle.as_deref().and_then(bundle_owner);
    let Some((user, _)) = owner.filter(|(_, role)| role.signs() && !role.opens()) else {
        return Vec::new();
    };
    let settings = [
        ("[prune] schedule", config.prune.schedule.is_some()),
        (
            "[scan] verify",
            config.scan.schedule.is_some() && config.scan.verify,
        ),
    ];
    let of_coordinator = settings.into_iter().filter(|(_, is_set)| *is_set);
    let of_hosts = config
        .hosts
        .values()
        .filter(|host| !host.safety.keep_deleted.is_empty());
    of_coordinator
        .map(|(setting, _)| ConfigError::NeedsOpening {
            place: config.file.display().to_string(),
            setting: setting.to_owned(),
            user: user.clone(),
        })
        .chain(of_hosts.map(|host| ConfigError::NeedsOpening {
            place: host.defined_at.to_string(),
            setting: format!("keep_deleted of host {}", host.name),
            user: user.clone(),
        }))
        .collect()
}
