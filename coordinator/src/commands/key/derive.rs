//! `key derive`: makes keys that only read for a user of another machine, and puts them into every repository. Never makes keys
//! that sign, never overwrites a key or a bundle, never shows a key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use formats::keys::bundle::{KeyBundle, Lock, Role, header};
use formats::keys::secret::{FileKey, MasterKey};
use formats::object::UserName;
use serde::Serialize;

use crate::cli::keys::{DeriveArgs, DerivedRole};
use crate::commands::init::{ADMIN_USER, DAEMON_USER};
use crate::commands::key::KeyCommandError;
use crate::commands::on_storage::{CommandError, open_coordinator};
use crate::config::Config;
use crate::coordinator::{Coordinator, OpenError};
use crate::events::Event;
use crate::events::what::What;
use crate::keyring::private_file::create_private;
use crate::keyring::unlock::{UnlockFrom, create_key_file};
use crate::keyring::{Keyring, KeyringError, bundle_path, read_sealed_bundle};
use crate::repository::add_user;

/// What was made; also what `key derive --json` prints.
#[derive(Debug, Serialize)]
pub struct DeriveReport {
    user: String,
    role: DerivedRole,
    bundle: PathBuf,
    /// The new key file; nothing where the keys were there already.
    key_file: Option<PathBuf>,
    /// Repositories that have the keys now.
    repositories: u64,
    /// Those of them that did not before.
    added: u64,
    #[serde(skip)]
    url: String,
}

/// `key derive USER`.
pub async fn derive_command(
    args: &DeriveArgs,
    config: Config,
) -> Result<DeriveReport, CommandError> {
    let own = config.keys.bundle.clone().ok_or(OpenError::NoBundle)?;
    let url = config.destinations.first().map(|place| place.url.clone());
    // Before a key is made: what fails here has made none.
    let coordinator = open_coordinator(config, None).await?;
    refuse_own(&coordinator, &args.user)?;
    let bundle = bundle_path(own.parent().unwrap_or(Path::new(".")), &args.user);
    let key_file = match bundle.symlink_metadata() {
        Ok(_) => {
            refuse_other(args, &bundle)?;
            None
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let admin = Keyring::unlock(
                &own.with_file_name("admin.bundle"),
                &UnlockFrom::environment_or_prompt(),
            )
            .map_err(KeyCommandError::from)?;
            let master = admin.master().map_err(KeyCommandError::from)?;
            let key_file = args
                .out
                .clone()
                .unwrap_or_else(|| bundle.with_extension("key"));
            make_keys(&args.user, master, &bundle, &key_file)?;
            Some(key_file)
        }
        Err(source) => {
            return Err(KeyCommandError::Look {
                path: bundle,
                source,
            }
            .into());
        }
    };
    let (repositories, added) = store(&coordinator, args, &bundle).await?;
    coordinator.close().await;
    Ok(DeriveReport {
        user: args.user.to_string(),
        role: args.role,
        bundle,
        key_file,
        repositories,
        added,
        url: url.unwrap_or_default(),
    })
}

fn refuse_own(coordinator: &Coordinator, user: &UserName) -> Result<(), KeyCommandError> {
    let name = user.as_str();
    match user == coordinator.keyring.user() || [ADMIN_USER, DAEMON_USER].contains(&name) {
        true => Err(KeyCommandError::OwnUser { user: user.clone() }),
        false => Ok(()),
    }
}

/// What is there already must be what would be made.
fn refuse_other(args: &DeriveArgs, bundle: &Path) -> Result<(), KeyCommandError> {
    let sealed = read_sealed_bundle(bundle)?;
    match header::owner(&sealed) {
        Ok((user, Role::Read)) if user == args.user && args.out.is_none() => Ok(()),
        _ => Err(KeyCommandError::HasKeys {
            user: args.user.clone(),
            bundle: bundle.to_owned(),
        }),
    }
}

/// The key file first: a bundle that is there says that its key was given out.
fn make_keys(
    user: &UserName,
    master: &MasterKey,
    bundle: &Path,
    key_file: &Path,
) -> Result<(), KeyCommandError> {
    let key = FileKey::random().map_err(KeyringError::from)?;
    let sealed = KeyBundle::new(master, Role::Read)
        .seal(user, &Lock::File(&key))
        .map_err(KeyringError::Seal)?;
    create_key_file(key_file, &key)?;
    create_private(bundle, "key bundle", &sealed).map_err(KeyringError::from)?;
    Ok(())
}

/// Puts the keys into every repository: how many have them, and how many did not.
async fn store(
    coordinator: &Coordinator,
    args: &DeriveArgs,
    bundle: &Path,
) -> Result<(u64, u64), CommandError> {
    let sealed = read_sealed_bundle(bundle).map_err(KeyCommandError::from)?;
    let known = coordinator.state.lock().await.repositories()?;
    let (mut repositories, mut added) = (0, 0);
    for known in known.iter().filter(|known| known.established) {
        let storage = &coordinator.storage;
        let stored = add_user(&coordinator.keyring, storage, known, &args.user, &sealed).await;
        added += u64::from(stored.map_err(OpenError::from)?);
        repositories += 1;
    }
    coordinator.events.tell(Event::new(What::KeysDerived {
        user: args.user.to_string(),
        role: args.role.word().to_owned(),
        repositories: added,
    }));
    Ok((repositories, added))
}

impl fmt::Display for DeriveReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
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
