//! The staging directory `DIR/.init`: where `init` makes everything before it moves it into place.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use formats::keys::bundle::{KeyBundle, Lock, PasswordCost, Role};
use formats::keys::secret::{FileKey, MasterKey};
use formats::object::UserName;
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::commands::init::{
    ADMIN_USER, AdminPassword, AdminReport, COORDINATOR_TOML, DAEMON_USER, HOSTS_TOML, InitError,
    InitOptions, KEYS, PIECES, RECOVERY_KIT, STATE, exists,
};
use crate::keyring::kit::{KitFacts, write_kit};
use crate::keyring::password::random_password;
use crate::keyring::private_file::create_private;
use crate::keyring::unlock::{create_key_file, read_password_file};
use crate::keyring::{KeyringError, bundle_path};

const STAGING: &str = ".init";
/// Made inside the staging directory when everything is in it; nothing was moved before.
const WHOLE: &str = "whole";

/// The staging directory, locked against a second `init`.
pub(in crate::commands) struct Staging {
    dir: PathBuf,
    staging: PathBuf,
    _lock: File,
}

impl Staging {
    /// Makes the directory, and the staging directory in it.
    pub(in crate::commands) fn begin(dir: &Path) -> Result<Self, InitError> {
        make_dir(dir, "create the directory")?;
        let mode = fs::metadata(dir)
            .map_err(|source| failed("look at", dir, source))?
            .mode();
        if mode & 0o022 != 0 {
            return Err(InitError::OpenToOthers {
                dir: dir.to_owned(),
                mode: mode & 0o7777,
            });
        }
        let staging = dir.join(STAGING);
        make_dir(&staging, "create the directory")?;
        let lock = File::open(&staging).map_err(|source| failed("open", &staging, source))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                staging,
                _lock: lock,
            }),
            Err(Errno::WOULDBLOCK) => Err(InitError::InProgress {
                dir: dir.to_owned(),
            }),
            Err(errno) => Err(failed("lock", &staging, errno.into())),
        }
    }

    /// Where a piece is made.
    pub(in crate::commands) fn path(&self, piece: &str) -> PathBuf {
        self.staging.join(piece)
    }

    /// Takes back what an `init` that died had moved already, and empties the staging directory.
    pub(in crate::commands) fn take_back(&self) -> Result<(), InitError> {
        for piece in self.marked_pieces()? {
            // Everything was here once, so a piece that is not here now was moved by that init.
            if exists(&self.path(piece))? {
                continue;
            }
            let moved = self.dir.join(piece);
            match fs::rename(&moved, self.path(piece)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|source| failed("take back", &moved, source))?,
            }
        }
        self.remove_pieces()
    }

    /// What an `init` that died was about to move: nothing, if it had not made everything yet.
    fn marked_pieces(&self) -> Result<Vec<&'static str>, InitError> {
        let mark = self.path(WHOLE);
        match fs::read_to_string(&mark) {
            Ok(text) => Ok(PIECES
                .into_iter()
                .filter(|piece| text.lines().any(|line| line == *piece))
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(failed("read", &mark, source)),
        }
    }

    /// Notes that everything is made and about to be moved.
    pub(in crate::commands) fn mark_whole(&self, pieces: &[&str]) -> Result<(), InitError> {
        let text = pieces.join("\n");
        Ok(create_private(&self.path(WHOLE), "mark", text.as_bytes())?)
    }

    /// Moves pieces into place, in this order, over nothing.
    pub(in crate::commands) fn move_into_place(&self, pieces: &[&str]) -> Result<(), InitError> {
        for piece in pieces {
            let (from, place) = (self.path(piece), self.dir.join(piece));
            rustix::fs::renameat_with(CWD, from, CWD, &place, RenameFlags::NOREPLACE)
                .map_err(|errno| failed("move into place", &place, errno.into()))?;
        }
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| failed("sync", &self.dir, source))
    }

    /// Removes the staging directory.
    pub(in crate::commands) fn finish(self) -> Result<(), InitError> {
        self.remove_pieces()?;
        fs::remove_dir(&self.staging).map_err(|source| failed("remove", &self.staging, source))
    }

    fn remove_pieces(&self) -> Result<(), InitError> {
        let failed = |source| failed("clear", &self.staging, source);
        // The mark goes last: while it is there, a piece that is missing counts as moved.
        let mut entries = fs::read_dir(&self.staging)
            .and_then(|entries| entries.collect::<io::Result<Vec<_>>>())
            .map_err(failed)?;
        entries.sort_by_key(|entry| entry.file_name() == WHOLE);
        for entry in entries {
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            if is_dir {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            } else {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Makes everything but the destination.
pub(super) fn stage(
    options: &InitOptions<'_>,
    staging: &Staging,
) -> Result<Option<AdminReport>, InitError> {
    let master = MasterKey::random()?;
    let keys = stage_daemon(staging, &master)?;
    let admin = stage_admin(options, &keys, &master)?;
    let hosts = staging.path(HOSTS_TOML);
    create_private(&hosts, "hosts file", options.hosts_toml.as_bytes())?;
    let config = staging.path(COORDINATOR_TOML);
    create_private(
        &config,
        "configuration",
        options.coordinator_toml.as_bytes(),
    )?;
    stage_kit(options, staging, &master)?;
    Ok(admin)
}

/// Makes the directories of state and keys, and the daemon's keys; says where those are.
pub(in crate::commands) fn stage_daemon(
    staging: &Staging,
    master: &MasterKey,
) -> Result<PathBuf, InitError> {
    let keys = stage_dirs(staging)?;
    let key = FileKey::random()?;
    create_key_file(&keys.join("daemon.key"), &key)?;
    store_bundle(&keys, master, Role::Data, DAEMON_USER, &Lock::File(&key))?;
    Ok(keys)
}

/// Makes the directories of state and keys, with the keys of a user that were made elsewhere.
pub(in crate::commands) fn stage_user(
    staging: &Staging,
    user: &UserName,
    key: &FileKey,
    sealed: &[u8],
) -> Result<(), InitError> {
    let keys = stage_dirs(staging)?;
    create_key_file(&keys.join(format!("{user}.key")), key)?;
    Ok(create_private(
        &bundle_path(&keys, user),
        "key bundle",
        sealed,
    )?)
}

fn stage_dirs(staging: &Staging) -> Result<PathBuf, InitError> {
    make_dir(&staging.path(STATE), "create the directory")?;
    let keys = staging.path(KEYS);
    make_dir(&keys, "create the directory")?;
    Ok(keys)
}

fn stage_admin(
    options: &InitOptions<'_>,
    keys: &Path,
    master: &MasterKey,
) -> Result<Option<AdminReport>, InitError> {
    let cost = options.password_cost;
    let store = |password: &[u8]| {
        let lock = Lock::Password(password, cost);
        store_bundle(keys, master, Role::Admin, ADMIN_USER, &lock)
    };
    let password = match options.admin {
        AdminPassword::NoAdmin => return Ok(None),
        AdminPassword::File(path) => {
            store(&read_password_file(path)?)?;
            None
        }
        AdminPassword::Random => {
            let password = random_password()?;
            store(password.expose().as_bytes())?;
            Some(password)
        }
    };
    Ok(Some(AdminReport {
        user: ADMIN_USER,
        password,
        memory_kib: cost.memory_kib,
        memory_reduced: cost.memory_kib < PasswordCost::DEFAULT.memory_kib,
    }))
}

fn store_bundle(
    keys: &Path,
    master: &MasterKey,
    role: Role,
    user: &'static str,
    lock: &Lock<'_>,
) -> Result<(), InitError> {
    let name: UserName = user
        .parse()
        .expect("daemon and admin are user names by their grammar");
    let sealed = KeyBundle::new(master, role)
        .seal(&name, lock)
        .map_err(KeyringError::Seal)?;
    let path = keys.join(format!("{user}.bundle"));
    Ok(create_private(&path, "key bundle", &sealed)?)
}

/// A kit that goes elsewhere is written there at once: it may be another filesystem. After a crash the next
/// `init` finds it and says so; it is of no use, but a kit is nothing to delete unasked.
fn stage_kit(
    options: &InitOptions<'_>,
    staging: &Staging,
    master: &MasterKey,
) -> Result<(), InitError> {
    let paths = options.paths;
    let facts = KitFacts {
        coordinator: options.coordinator,
        written: options.now,
        destinations: &[format!("file://{}", paths.destination.display())],
    };
    let path = if paths.kit_inside() {
        staging.path(RECOVERY_KIT)
    } else {
        paths.kit.clone()
    };
    Ok(write_kit(&path, &facts, master)?)
}

pub(super) fn make_dir(path: &Path, action: &'static str) -> Result<(), InitError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| failed(action, path, source))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> InitError {
    InitError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
