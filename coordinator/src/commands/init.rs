//! `init`: makes a coordinator's directory: configuration, state, keys, recovery kit, first destination.
//! Never overwrites anything.
//!
//! Everything is made in `DIR/.init` first and then moved into place, coordinator.toml last. So a
//! directory with coordinator.toml is whole, and what a crash left behind in one without it was never used:
//! the next `init` takes it back and begins anew.

pub mod report;
pub(in crate::commands) mod stage;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use formats::keys::bundle::PasswordCost;
use formats::keys::secret::RandomError;
use jiff::Timestamp;

use crate::commands::init::stage::{Staging, make_dir, stage};
use crate::keyring::KeyringError;
use crate::keyring::private_file::PrivateFileError;

pub use crate::commands::init::report::{AdminReport, InitReport};

/// The user that the daemon runs as.
pub const DAEMON_USER: &str = "daemon";
/// The user that holds the master key.
pub const ADMIN_USER: &str = "admin";

/// The configuration's file name: its presence means that a directory is set up.
pub const COORDINATOR_TOML: &str = "coordinator.toml";
/// The hosts' file name.
pub const HOSTS_TOML: &str = "hosts.toml";
pub(in crate::commands) const STATE: &str = "state";
pub(in crate::commands) const KEYS: &str = "keys";
/// The recovery kit, beside the configuration until a person moves it.
pub const RECOVERY_KIT: &str = "recovery-kit.txt";
const REPOSITORY: &str = "repository";
/// Everything that may end up in the directory, in the order it is moved there: the configuration last.
const PIECES: [&str; 6] = [
    STATE,
    KEYS,
    REPOSITORY,
    RECOVERY_KIT,
    HOSTS_TOML,
    COORDINATOR_TOML,
];

/// Why a directory could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It is set up already.
    #[error("{} exists: this directory is set up already; use it, or name another --dir", path.display())]
    SetUp {
        /// The file that says so.
        path: PathBuf,
    },
    /// Something is in the way.
    #[error("{} exists and is not overwritten: move it away, or name another place", path.display())]
    Occupied {
        /// What is there.
        path: PathBuf,
    },
    /// Another `init` is at it.
    #[error("another init is at work in {}: wait for it", dir.display())]
    InProgress {
        /// The directory.
        dir: PathBuf,
    },
    /// Others could change what is in it.
    #[error("{} has mode {mode:04o}, so others can write to it: run `chmod 700 {}`", dir.display(), dir.display())]
    OpenToOthers {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file or directory could not be made.
    #[error("could not {action} {}: check owner, mode and free space", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The destination could not be made.
    #[error("could not make the destination {}", path.display())]
    Destination {
        /// Where.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file was refused.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The keys could not be made.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Where everything goes; absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitPaths {
    /// The directory.
    pub dir: PathBuf,
    /// The state.
    pub state: PathBuf,
    /// The first destination.
    pub destination: PathBuf,
    /// The recovery kit.
    pub kit: PathBuf,
}

/// What an operator wants elsewhere than inside the directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Elsewhere<'a> {
    /// The state.
    pub state: Option<&'a Path>,
    /// The first destination.
    pub destination: Option<&'a Path>,
    /// The recovery kit.
    pub kit: Option<&'a Path>,
}

impl InitPaths {
    /// The operator's choice, with the places inside `dir` for what was not chosen.
    pub fn resolve(dir: &Path, elsewhere: Elsewhere<'_>) -> Result<Self, InitError> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| InitError::Io {
                action: "find",
                path: path.to_owned(),
                source,
            })
        };
        let dir = absolute(dir)?;
        Ok(Self {
            state: absolute(elsewhere.state.unwrap_or(&dir.join(STATE)))?,
            destination: absolute(elsewhere.destination.unwrap_or(&dir.join(REPOSITORY)))?,
            kit: absolute(elsewhere.kit.unwrap_or(&dir.join(RECOVERY_KIT)))?,
            dir,
        })
    }

    fn state_inside(&self) -> bool {
        self.state == self.dir.join(STATE)
    }

    fn destination_inside(&self) -> bool {
        self.destination == self.dir.join(REPOSITORY)
    }

    fn kit_inside(&self) -> bool {
        self.kit == self.dir.join(RECOVERY_KIT)
    }

    /// What ends up in the directory, in the order it is moved there.
    fn pieces(&self) -> Vec<&'static str> {
        PIECES
            .into_iter()
            .filter(|piece| *piece != STATE || self.state_inside())
            .filter(|piece| *piece != REPOSITORY || self.destination_inside())
            .filter(|piece| *piece != RECOVERY_KIT || self.kit_inside())
            .collect()
    }
}

/// Who may administer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminPassword<'a> {
    /// No admin: the daemon's key file and the recovery kit are all there is.
    NoAdmin,
    /// A random password, shown once in the report.
    Random,
    /// The password in a private file.
    File(&'a Path),
}

/// What to set up.
#[derive(Debug, Clone, Copy)]
pub struct InitOptions<'a> {
    /// Where.
    pub paths: &'a InitPaths,
    /// The text of coordinator.toml, filled in for these paths.
    pub coordinator_toml: &'a str,
    /// The text of hosts.toml.
    pub hosts_toml: &'a str,
    /// Who may administer.
    pub admin: AdminPassword<'a>,
    /// What stretching the admin's password costs.
    pub password_cost: PasswordCost,
    /// This machine's name, for the kit.
    pub coordinator: &'a str,
    /// The time now.
    pub now: Timestamp,
}

/// Sets a directory up. `make_destination` makes a directory a destination; one that is a destination
/// already must be left as it is.
pub fn init<E>(
    options: &InitOptions<'_>,
    make_destination: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<InitReport, InitError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let paths = options.paths;
    refuse_set_up(paths)?;
    if !paths.state_inside() {
        make_dir(&paths.state, "create the directory")?;
    }
    let staging = Staging::begin(&paths.dir)?;
    // Again under the lock: another init may have finished in between.
    refuse_set_up(paths)?;
    staging.take_back()?;
    refuse_occupied(paths)?;
    let admin = stage(options, &staging)?;
    let destination = if paths.destination_inside() {
        staging.path(REPOSITORY)
    } else {
        paths.destination.clone()
    };
    make_destination(&destination).map_err(|source| InitError::Destination {
        path: paths.destination.clone(),
        source: source.into(),
    })?;
    let pieces = paths.pieces();
    staging.mark_whole(&pieces)?;
    staging.move_into_place(&pieces)?;
    staging.finish()?;
    Ok(InitReport {
        dir: paths.dir.clone(),
        config: paths.dir.join(COORDINATOR_TOML),
        hosts: paths.dir.join(HOSTS_TOML),
        destination: paths.destination.clone(),
        recovery_kit: paths.kit.clone(),
        admin,
    })
}

fn refuse_set_up(paths: &InitPaths) -> Result<(), InitError> {
    refuse_set_up_in(&paths.dir)
}

/// Refuses a directory that has a configuration.
pub(in crate::commands) fn refuse_set_up_in(dir: &Path) -> Result<(), InitError> {
    let path = dir.join(COORDINATOR_TOML);
    if exists(&path)? {
        return Err(InitError::SetUp { path });
    }
    Ok(())
}

fn refuse_occupied(paths: &InitPaths) -> Result<(), InitError> {
    let inside = paths.pieces();
    let inside = inside.iter().map(|piece| paths.dir.join(piece));
    for path in inside.chain([paths.kit.clone()]) {
        if exists(&path)? {
            return Err(InitError::Occupied { path });
        }
    }
    Ok(())
}

/// Whether there is anything at a path, a dangling link included.
pub(in crate::commands) fn exists(path: &Path) -> Result<bool, InitError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(InitError::Io {
            action: "look at",
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
