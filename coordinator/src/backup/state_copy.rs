//! The copy of the coordinator's own state that is backed up with its machine: `state.db` as of one moment, the audit log, and
//! the configuration. Never keys, which are not to be where backups are, and no index or catalog: `recover` makes those anew.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::audit::{AuditLogError, audit_files};
use crate::catalog::state::State;
use crate::config::Config;
use crate::config::error::ConfigError;
use crate::config::host::Host;
use crate::config::hosts_file::{HOSTS_DIRECTORY, files_beside};
use crate::database::DatabaseError;
use crate::repository::layout::{STATE_FILE, StateDir};
use crate::safety::path_rules::PathRulesError;
use crate::safety::path_verdict::{PathVerdict, judge};

/// What the configuration's directory is called in the copy.
const CONFIGURATION: &str = "configuration";
/// What the audit log's is called.
const AUDIT: &str = "audit";

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum StateCopyError {
    /// The state.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// The files of hosts.
    #[error(transparent)]
    Hosts(#[from] ConfigError),
    /// A file.
    #[error("could not {action} {}: check free space, owner and mode", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The copy would not be backed up.
    #[error(
        "exclude rule {rule:?} leaves out the copy of the coordinator's state in {}: add \"!{}/**\" to the host's exclude",
        path.display(),
        path.display()
    )]
    Excluded {
        /// The rule.
        rule: String,
        /// The copy's directory.
        path: PathBuf,
    },
    /// No path of the host leads to it.
    #[error(
        "the copy of the coordinator's state in {} cannot be backed up: name the configuration by its absolute path (--config)",
        path.display()
    )]
    NoSource {
        /// The copy's directory.
        path: PathBuf,
    },
    /// The exclude rules.
    #[error(transparent)]
    ExcludeRules(#[from] PathRulesError),
    /// It did not end by itself.
    #[error("copying the state was cut off")]
    CutOff(#[from] tokio::task::JoinError),
}

/// Makes the copy anew, where the host is the machine that this is. Its last one stays until the new one is whole.
pub async fn copy_state(config: &Config, host: &Host) -> Result<(), StateCopyError> {
    if !host.local {
        return Ok(());
    }
    let state = StateDir::new(&config.state_dir);
    let copy = state.copy_dir();
    refuse_left_out(host, &std::path::absolute(&copy).unwrap_or(copy))?;
    let files = Files::of(config)?;
    let copying = move || {
        let made = make(&state, &files);
        if made.is_err() {
            // It may have filled the disk that the state is on; what went wrong first is what is told.
            remove(&state.copy_dir().with_extension("new")).ok();
        }
        made
    };
    tokio::task::spawn_blocking(copying).await?
}

fn refuse_left_out(host: &Host, copy: &Path) -> Result<(), StateCopyError> {
    let file = copy.join(STATE_FILE);
    let file = file.as_os_str().as_encoded_bytes();
    let path = file.strip_prefix(b"/").unwrap_or(file);
    match judge(&host.paths, &host.exclude, path, false)? {
        PathVerdict::Excluded { rule, .. } => Err(StateCopyError::Excluded {
            rule: rule.as_str().to_owned(),
            path: copy.to_owned(),
        }),
        PathVerdict::Included { .. } => Ok(()),
        PathVerdict::Outside | PathVerdict::OnTheWay { .. } => {
            let path = copy.to_owned();
            Err(StateCopyError::NoSource { path })
        }
    }
}

/// The files of the configuration.
struct Files {
    own: Vec<PathBuf>,
    beside: Vec<PathBuf>,
}

impl Files {
    fn of(config: &Config) -> Result<Self, StateCopyError> {
        Ok(Self {
            own: vec![config.file.clone(), config.hosts_file.clone()],
            beside: files_beside(&config.hosts_file)?,
        })
    }
}

fn make(state: &StateDir, files: &Files) -> Result<(), StateCopyError> {
    let copy = state.copy_dir();
    let new = copy.with_extension("new");
    remove(&new)?;
    create(&new)?;
    State::open(&state.state_file())?.copy_to(&new.join(STATE_FILE))?;
    let audit = new.join(AUDIT);
    create(&audit)?;
    for file in audit_files(&state.audit_dir())? {
        copy_into(&file.path, &audit)?;
    }
    let configuration = new.join(CONFIGURATION);
    create(&configuration)?;
    for file in &files.own {
        copy_into(file, &configuration)?;
    }
    let beside = configuration.join(HOSTS_DIRECTORY);
    create(&beside)?;
    for file in &files.beside {
        copy_into(file, &beside)?;
    }
    remove(&copy)?;
    fs::rename(&new, &copy).map_err(failed("rename", &new))
}

fn create(path: &Path) -> Result<(), StateCopyError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(failed("create", path))
}

fn remove(path: &Path) -> Result<(), StateCopyError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// With the mode that it has; the directory is its owner's alone.
fn copy_into(file: &Path, directory: &Path) -> Result<(), StateCopyError> {
    let to = directory.join(file.file_name().unwrap_or_default());
    fs::copy(file, to).map_err(failed("copy", file))?;
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateCopyError {
    let path = path.to_owned();
    move |source| StateCopyError::File {
        action,
        path,
        source,
    }
}
