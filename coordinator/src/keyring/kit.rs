//! The recovery kit: a printable text with the master key in it, and everything a person needs who has
//! nothing else. Written once, mode 0600, never over an existing file.

use std::path::Path;

use formats::keys::bundle::{KeyBundle, Role};
use formats::keys::certificate::CertifierKey;
use formats::keys::derive::Use;
use formats::keys::kit;
use formats::keys::secret::MasterKey;
use jiff::Timestamp;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::clock;
use crate::keyring::private_file::{Kind, create_private, read_private};
use crate::keyring::{Keyring, KeyringError};

const KIT: Kind = Kind {
    what: "recovery kit",
    remedy: "name the right file, or write a new one with `coordinator key export-kit`",
};

/// What a kit says beside the key.
#[derive(Debug, Clone, Copy)]
pub struct KitFacts<'a> {
    /// Whose kit it is: the coordinator's machine.
    pub coordinator: &'a str,
    /// When it was written.
    pub written: Timestamp,
    /// Where the backups are.
    pub destinations: &'a [String],
}

/// Writes a kit.
pub fn write_kit(
    path: &Path,
    facts: &KitFacts<'_>,
    master: &MasterKey,
) -> Result<(), KeyringError> {
    Ok(create_private(
        path,
        KIT.what,
        text(facts, master).as_bytes(),
    )?)
}

/// A kit's text.
pub fn text(facts: &KitFacts<'_>, master: &MasterKey) -> Zeroizing<String> {
    let destinations: String = facts
        .destinations
        .iter()
        .map(|url| format!("    {}\n", url.escape_default()))
        .collect();
    let key = kit::write(master);
    Zeroizing::new(format!(
        "\
CAPSTAN RECOVERY KIT

Coordinator: {coordinator}
Written:     {written}

Whoever holds this page can read every backup of this coordinator. Without it, and without
the passwords and key files, nobody can: there is no other way in. Print it, or copy it to a
medium that is kept elsewhere, then delete the file from the backup machine. Prove that the
copy is good with

    coordinator key verify-kit COPY

THE KEY

Four lines; a mistyped digit is found by its line's check.

{key}
WHERE THE BACKUPS ARE

{destinations}
A directory there has one folder for each repository, with config, keys, packs, meta and log.
Any one destination is enough.

TO RESTORE WITHOUT THIS COORDINATOR

1. On any Linux machine, get a `coordinator` program that lists the command `recover` in
   `coordinator --help`.
2. Type or copy this page into a file; only the four key lines matter. chmod 600 it.
3. coordinator recover --dir NEWDIR --kit THIS_FILE --destination URL
   builds a coordinator anew from the kit and one destination.
4. coordinator -c NEWDIR/coordinator.toml snapshots HOST
   coordinator -c NEWDIR/coordinator.toml restore HOST latest --to OUT
5. Where the log is lost too, or only some packs are left:
   coordinator rescue --kit THIS_FILE --destination URL --to OUT
",
        coordinator = facts.coordinator.escape_default(),
        written = clock::utc(facts.written),
        key = key.as_str(),
    ))
}

/// The master key of a kit.
pub fn read_kit(path: &Path) -> Result<MasterKey, KeyringError> {
    let bytes = read_private(path, KIT)?;
    // Words around the key may be in any encoding; the key's lines are ASCII.
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    kit::read(&text).map_err(|source| KeyringError::Kit {
        path: path.to_owned(),
        source,
    })
}

/// Proves that a kit's key derives the keys at hand, every one of them; gives the kit's own keyring.
pub fn verify_kit(path: &Path, keyring: &Keyring) -> Result<Keyring, KeyringError> {
    let master = read_kit(path)?;
    match derives(&master, keyring) {
        true => Ok(Keyring::from_master(&master, keyring.user().clone())),
        false => Err(KeyringError::OtherKit {
            path: path.to_owned(),
        }),
    }
}

/// Whether a master key derives the keys at hand, every one of them.
pub fn derives(master: &MasterKey, keyring: &Keyring) -> bool {
    let derived = KeyBundle::new(master, Role::Admin);
    let held = keyring.bundle();
    let same = Use::ALL
        .into_iter()
        .filter_map(|use_| held.root(use_).map(|root| (use_, root)))
        .all(|(use_, root)| match derived.root(use_) {
            Some(from_kit) => bool::from(from_kit.expose().ct_eq(root.expose())),
            None => false,
        });
    let certifies = held.certifier().is_none_or(|certifier| {
        derived
            .root(Use::Signing)
            .is_some_and(|signing| CertifierKey::of(&signing) == certifier)
    });
    same && certifies
}
