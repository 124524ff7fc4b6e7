//! The configuration: coordinator.toml, hosts.toml and hosts.d/*.toml, checked as they are read. Never
//! changes anything, except that `pin` writes trusted host keys into a hosts file.
//!
//! [`Config::load`] is pure in its files' texts: it opens no key, resolves no name, and creates
//! nothing. Secrets are only named here; [`SecretFile`] refuses them, whenever they are read, while
//! other users can read them.

pub mod address;
mod bandwidth_settings;
pub mod commit_setting;
pub mod coordinator_file;
pub mod cpu_limit;
pub mod difference;
pub mod error;
pub mod exclude;
pub mod fs_snapshot;
pub mod hook_settings;
pub mod host;
pub mod hosts_file;
pub mod io_priority;
mod layers;
pub mod listener_settings;
pub mod login_fields;
pub mod name;
pub mod notify_settings;
mod origin;
pub mod path;
pub mod pin;
pub mod placing;
pub mod prune_settings;
pub mod raw;
pub mod replace_file;
pub mod revision;
pub mod safety_settings;
pub mod sample;
pub mod scan_settings;
pub mod schema;
pub mod secret_file;
mod secret_keys;
mod settings;
pub mod show;
pub mod source_text;
pub mod stream_settings;
pub mod suggestion;
pub mod table_keys;
pub mod table_setting;
pub mod timing_settings;
mod write_role;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use append_server::destination::DestinationName;
use append_server::places::Place;
use serde_json::{Map, Value};

use crate::config::coordinator_file::{
    AppendServer, CoordinatorLimits, Keys, Log, Unlock, read_coordinator,
};
use crate::config::error::{ConfigErrors, ErrorList};
use crate::config::host::Host;
use crate::config::hosts_file::read_hosts;
use crate::config::listener_settings::ListenAddress;
use crate::config::name::HostName;
use crate::config::notify_settings::NotifySettings;
use crate::config::placing::KnownPlaces;
use crate::config::prune_settings::PruneSettings;
use crate::config::scan_settings::ScanSettings;
use crate::config::secret_file::SecretFile;
use crate::config::source_text::SourceText;
use crate::repository::layout::StateDir;
use crate::retention::keep::Keep;

/// Everything the files say, resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// coordinator.toml.
    pub file: PathBuf,
    /// The main hosts file.
    pub hosts_file: PathBuf,
    /// Where index, catalog, locks and sockets live.
    pub state_dir: PathBuf,
    /// Where objects are stored; at least one is required.
    pub destinations: Vec<Place>,
    /// The daemon's keys.
    pub keys: Keys,
    /// Bounds of the coordinator's own use.
    pub limits: CoordinatorLimits,
    /// How packs that nothing needs are removed.
    pub prune: PruneSettings,
    /// The scans that the daemon makes of its own accord.
    pub scan: ScanSettings,
    /// Agents for architectures that are not built in, one file each, named by `uname -m`.
    pub agents_dir: Option<PathBuf>,
    /// Which append-server takes the data in.
    pub append_server: AppendServer,
    /// How logs are written.
    pub log: Log,
    /// Where health and metrics are asked for.
    pub listener: Option<ListenAddress>,
    /// Who is told of what.
    pub notify: NotifySettings,
    /// What the tables of the destinations say, in the same order, without secrets.
    destination_keys: Vec<Map<String, Value>>,
    /// The keep rules of destinations that have their own.
    pub destination_keep: BTreeMap<DestinationName, Keep>,
    /// The hosts.
    pub hosts: BTreeMap<HostName, Host>,
}

/// Whether there must be the destinations that hosts files name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListedDestinations {
    Checked,
    NotChecked,
}

impl Config {
    /// Reads coordinator.toml at `path` and the hosts files it names.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::read(path, ListedDestinations::Checked)
    }

    /// The same for a recovery, which has one destination, whatever hosts files name that were there before.
    pub fn load_for_recovery(path: &Path) -> Result<Self, ConfigErrors> {
        Self::read(path, ListedDestinations::NotChecked)
    }

    fn read(path: &Path, listed: ListedDestinations) -> Result<Self, ConfigErrors> {
        let source = SourceText::read(path)?;
        let mut errors = ErrorList::default();
        let Some(file) = read_coordinator(&source, &mut errors) else {
            // Without a hosts file's name there is nothing more to look at.
            return Err(errors.into_errors());
        };
        // Names would be unknown that are only refused.
        let is_checked = listed == ListedDestinations::Checked;
        let known = (is_checked && errors.count() == 0).then_some(KnownPlaces {
            places: &file.destinations,
            copies_min: file.limits.min_copies,
        });
        let mut hosts = read_hosts(&file.hosts_file, known, &mut errors);
        let copy = StateDir::new(&file.state_dir).copy_dir();
        // A source is absolute, however the configuration was named.
        let copy = std::path::absolute(&copy).unwrap_or(copy);
        for host in hosts.values_mut().filter(|host| host.local) {
            // A directory whose name is no text was refused.
            host.paths.extend(copy.to_string_lossy().parse().ok());
        }
        errors.finish(Self {
            file: path.to_owned(),
            hosts_file: file.hosts_file,
            state_dir: file.state_dir,
            destinations: file.destinations,
            destination_keys: file.destination_keys,
            destination_keep: file.destination_keep,
            keys: file.keys,
            limits: file.limits,
            prune: file.prune,
            scan: file.scan,
            agents_dir: file.agents_dir,
            append_server: file.append_server,
            log: file.log,
            listener: file.listener,
            notify: file.notify,
            hosts,
        })
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Result<&Host, UnknownHost> {
        self.hosts.get(name).ok_or_else(|| {
            let names = self.hosts.keys().map(HostName::as_str);
            UnknownHost {
                name: name.to_owned(),
                hosts_file: self.hosts_file.clone(),
                nearest: suggestion::nearest(name, names).map(str::to_owned),
            }
        })
    }

    /// Refuses secrets, of the keys and of every host, that are missing or open to other users.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let of_keys = match &self.keys.unlock {
            Unlock::KeyFile(file) | Unlock::PasswordFile(file) => Some(file),
            Unlock::Key(_) | Unlock::Password(_) | Unlock::Prompt => None,
        };
        let mut errors = ErrorList::default();
        // One key usually serves many hosts.
        let mut seen = BTreeSet::new();
        let of_hosts = self.hosts.values().flat_map(Host::secret_files);
        for file in of_keys.into_iter().chain(of_hosts) {
            if !seen.insert(SecretFile::path(file)) {
                continue;
            }
            if let Err(error) = file.check() {
                errors.push(|| error.into());
            }
        }
        for error in write_role::refused(self) {
            errors.push(|| error);
        }
        errors.finish(())
    }
}

/// A host name that the configuration does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no host {name:?} in {}{}", hosts_file.display(), remedy(nearest.as_deref()))]
pub struct UnknownHost {
    /// What was asked for.
    pub name: String,
    /// Where hosts are defined.
    pub hosts_file: PathBuf,
    /// A host whose name is close.
    pub nearest: Option<String>,
}

fn remedy(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!(": did you mean {name:?}?"),
        None => ": `coordinator host ls` lists the ones there are".to_owned(),
    }
}

#[cfg(test)]
mod tests;
