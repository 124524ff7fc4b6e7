//! `key derive`: makes keys that only read for a user of another machine, and puts them into every repository. Keys that any
//! repository has are taken from there. Keys that only add are made in `derive_ingest.rs`. Never overwrites a key or a bundle, never shows a key.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use formats::keys::bundle::{KeyBundle, Lock, Role, header};
use formats::keys::secret::{FileKey, MasterKey};
use formats::object::UserName;
use serde::Serialize;

use crate::catalog::state::KnownRepository;
use crate::cli::keys::{DeriveArgs, DerivedRole};
use crate::commands::init::{ADMIN_USER, DAEMON_USER};
use crate::commands::key::KeyCommandError;
use crate::commands::key::derive_ingest::{derive_ingest, write_ingest};
use crate::commands::on_storage::{CommandError, open_coordinator};
use crate::config::Config;
use crate::coordinator::{Coordinator, OpenError};
use crate::events::Event;
use crate::events::actor::user_name;
use crate::events::what::What;
use crate::keyring::private_file::{PrivateFileError, create_private};
use crate::keyring::unlock::{UnlockFrom, create_key_file};
use crate::keyring::{Keyring, KeyringError, bundle_path, kit, read_sealed_bundle};
use crate::repository::users::readers_bundle;
use crate::repository::{RepositoryError, add_user};

const BUNDLE: &str = "key bundle";

/// What was made; also what `key derive --json` prints.
#[derive(Debug, Serialize)]
pub struct DeriveReport {
    pub(super) user: String,
    pub(super) role: DerivedRole,
    pub(super) bundle: PathBuf,
    /// The new key file; nothing where the keys were there already.
    pub(super) key_file: Option<PathBuf>,
    /// Repositories that have the keys now; of role ingest, that they back up to.
    pub(super) repositories: u64,
    /// Those of them that did not before; of role ingest, that were made.
    pub(super) added: u64,
    #[serde(skip)]
    pub(super) url: String,
}

/// `key derive USER`.
pub async fn derive_command(
    args: &DeriveArgs,
    config: Config,
) -> Result<DeriveReport, CommandError> {
    let own = config.keys.bundle.clone().ok_or(OpenError::NoBundle)?;
    refuse_root(&own)?;
    let url = config.destinations.first().map(|place| place.url.clone());
    // Before a key is made: what fails here has made none.
    let coordinator = open_coordinator(config, None).await?;
    refuse_own(&coordinator, &args.user)?;
    if args.role == DerivedRole::Ingest {
        return derive_ingest(args, coordinator, &own).await;
    }
    let bundle = bundle_path(own.parent().unwrap_or(Path::new(".")), &args.user);
    let known = established(&coordinator).await?;
    let local = read_users(&args.user, Role::Read, &bundle)?;
    let is_here = local.is_some();
    let (sealed, key_file) = match one_bundle(&coordinator, &known, &args.user, local).await? {
        Some(_) if args.out.is_some() => {
            let user = args.user.clone();
            return Err(KeyCommandError::HasKeys { user }.into());
        }
        Some(sealed) => {
            if !is_here {
                create_private(&bundle, BUNDLE, &sealed)
                    .map_err(|error| KeyCommandError::from(KeyringError::from(error)))?;
            }
            (sealed, None)
        }
        None => {
            let (sealed, key_file) = derive_keys(args, &coordinator, &own, Role::Read, &bundle)?;
            // They read everything from now on, whatever becomes of the rest.
            tell(&coordinator, args, known.len() as u64);
            (sealed, Some(key_file))
        }
    };
    let mut added = 0;
    let stored = store(&coordinator, &known, &args.user, &sealed, &mut added).await;
    if key_file.is_none() && added > 0 {
        tell(&coordinator, args, added);
    }
    stored.map_err(OpenError::from)?;
    coordinator.close().await;
    Ok(DeriveReport {
        user: args.user.to_string(),
        role: args.role,
        bundle,
        key_file,
        repositories: known.len() as u64,
        added,
        url: url.unwrap_or_default(),
    })
}

/// What root makes beside another user's keys, that user could not read, and a backup that makes a repository reads it.
fn refuse_root(own: &Path) -> Result<(), KeyCommandError> {
    let owner = match own.metadata() {
        Ok(metadata) => metadata.uid(),
        Err(_) => return Ok(()), // Told by whoever opens it.
    };
    match rustix::process::geteuid().is_root() && owner != 0 {
        true => Err(KeyCommandError::NotOwner {
            bundle: own.to_owned(),
            owner: user_name(owner).unwrap_or_else(|| owner.to_string()),
        }),
        false => Ok(()),
    }
}

fn refuse_own(coordinator: &Coordinator, user: &UserName) -> Result<(), KeyCommandError> {
    let name = user.as_str();
    match user == coordinator.keyring.user() || [ADMIN_USER, DAEMON_USER].contains(&name) {
        true => Err(KeyCommandError::OwnUser { user: user.clone() }),
        false => Ok(()),
    }
}

pub(super) async fn established(
    coordinator: &Coordinator,
) -> Result<Vec<KnownRepository>, CommandError> {
    let known = coordinator.state.lock().await.repositories()?;
    Ok(known.into_iter().filter(|one| one.established).collect())
}

/// The user's bundle of a role beside the coordinator's own; nothing where there is none.
pub(super) fn read_users(
    user: &UserName,
    role: Role,
    bundle: &Path,
) -> Result<Option<Vec<u8>>, KeyCommandError> {
    match bundle.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(KeyCommandError::Look {
                path: bundle.to_owned(),
                source,
            });
        }
    }
    let sealed = read_sealed_bundle(bundle)?;
    match header::owner(&sealed) {
        Ok(found) if found == (user.clone(), role) => Ok(Some(sealed.to_vec())),
        _ => Err(KeyCommandError::OtherBundle {
            user: user.clone(),
            bundle: bundle.to_owned(),
        }),
    }
}

/// The one bundle that the user has, here or in repositories; nothing where there is none. Refuses a second one: keys that are
/// made beside it would be of no use where it is.
async fn one_bundle(
    coordinator: &Coordinator,
    known: &[KnownRepository],
    user: &UserName,
    local: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, CommandError> {
    let mut one = local;
    for known in known {
        let found = readers_bundle(&coordinator.keyring, &coordinator.storage, known, user);
        let found = found.await.map_err(OpenError::from)?;
        if let (Some(one), Some(found)) = (&one, &found)
            && one != found
        {
            let other = RepositoryError::OtherUser {
                name: known.name.clone(),
                repository: known.repository,
                user: user.clone(),
            };
            return Err(OpenError::from(other).into());
        }
        one = one.or(found);
    }
    Ok(one)
}

/// Makes a user's keys of the master key, which the admin's bundle beside the coordinator's own or the kit has: the sealed ones, and
/// where the file is that unlocks them.
pub(super) fn derive_keys(
    args: &DeriveArgs,
    coordinator: &Coordinator,
    own: &Path,
    role: Role,
    bundle: &Path,
) -> Result<(Vec<u8>, PathBuf), KeyCommandError> {
    let admin = unlock_master(args, coordinator, &own.with_file_name("admin.bundle"))?;
    let key_file = args.out.clone();
    let key_file = key_file.unwrap_or_else(|| bundle.with_extension("key"));
    let sealed = make_keys(&args.user, admin.master()?, role, bundle, &key_file)?;
    Ok((sealed, key_file))
}

/// Keys with the master key, which must be the one that the coordinator's own keys come from.
fn unlock_master(
    args: &DeriveArgs,
    coordinator: &Coordinator,
    bundle: &Path,
) -> Result<Keyring, KeyCommandError> {
    if let Some(kit) = &args.kit {
        return Ok(kit::verify_kit(kit, &coordinator.keyring)?);
    }
    let bundle = bundle.to_owned();
    if !bundle.exists() {
        return Err(KeyCommandError::NoAdmin { bundle });
    }
    let admin = Keyring::unlock(&bundle, &UnlockFrom::environment_or_prompt())?;
    match kit::derives(admin.master()?, &coordinator.keyring) {
        true => Ok(admin),
        false => Err(KeyCommandError::OtherAdmin { bundle }),
    }
}

/// The key file first: a bundle that is there says that its key was given out.
fn make_keys(
    user: &UserName,
    master: &MasterKey,
    role: Role,
    bundle: &Path,
    key_file: &Path,
) -> Result<Vec<u8>, KeyCommandError> {
    let key = FileKey::random().map_err(KeyringError::from)?;
    let sealed = KeyBundle::new(master, role)
        .seal(user, &Lock::File(&key))
        .map_err(KeyringError::Seal)?;
    match create_key_file(key_file, &key) {
        Err(KeyringError::File(PrivateFileError::Exists { path })) => {
            return Err(KeyCommandError::KeyFile {
                user: user.clone(),
                path,
            });
        }
        made => made?,
    }
    create_private(bundle, BUNDLE, &sealed).map_err(KeyringError::from)?;
    Ok(sealed)
}

/// Durable when this returns, as far as the audit log can be written.
pub(super) fn tell(coordinator: &Coordinator, args: &DeriveArgs, repositories: u64) {
    coordinator.events.tell(Event::new(What::KeysDerived {
        user: args.user.to_string(),
        role: args.role.word().to_owned(),
        repositories,
    }));
    coordinator.recorder.flush();
}

/// Puts the keys into every repository, and counts those that did not have them, also when one fails.
async fn store(
    coordinator: &Coordinator,
    known: &[KnownRepository],
    user: &UserName,
    sealed: &[u8],
    added: &mut u64,
) -> Result<(), RepositoryError> {
    for known in known {
        let (keyring, storage) = (&coordinator.keyring, &coordinator.storage);
        *added += u64::from(add_user(keyring, storage, known, user, sealed).await?);
    }
    Ok(())
}

impl fmt::Display for DeriveReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.role == DerivedRole::Ingest {
            return write_ingest(self, out);
        }
        let (user, bundle) = (&self.user, self.bundle.display());
        let Some(key_file) = &self.key_file else {
            return writeln!(
                out,
                "User {user} has keys already ({bundle}): they were missing in {} of {} repositories, and are in all now",
                self.added, self.repositories
            );
        };
        writeln!(
            out,
            "Keys of user {user}, which read everything and sign nothing:\n  \
             key file   {}\n  \
             sealed     {bundle}, and in {} repositories\n\n\
             Whoever has the key file can read every backup. Move it to the machine that reads, mode 0600, then there\n  \
             coordinator recover --dir DIR --user {user} --key-file FILE --destination {}",
            key_file.display(),
            self.repositories,
            self.url
        )
    }
}
