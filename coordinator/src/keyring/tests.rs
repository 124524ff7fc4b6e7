//! Keys open with their own secret alone, secrets that others can read are refused, and a kit proves itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use formats::keys::bundle::{KeyBundle, Lock, PasswordCost, Role};
use formats::keys::kit::KitError;
use formats::keys::secret::{FileKey, MasterKey};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::keyring::kit::{KitFacts, read_kit, verify_kit, write_kit};
use crate::keyring::password::{cost_for_memory, random_password};
use crate::keyring::private_file::{PrivateFileError, create_private};
use crate::keyring::unlock::{UnlockFrom, create_key_file};
use crate::keyring::{Keyring, KeyringError, readers_bundles, refuse_readers_bundle};

struct Keys {
    dir: TempDir,
    master: MasterKey,
}

impl Keys {
    fn new() -> Self {
        let keys = Self {
            dir: TempDir::new().unwrap(),
            master: MasterKey::from_bytes([3; 32]),
        };
        let file = FileKey::from_bytes([4; 32]);
        create_key_file(&keys.path("daemon.key"), &file).unwrap();
        keys.seal("daemon", Role::Data, &Lock::File(&file));
        keys
    }

    fn seal(&self, user: &str, role: Role, lock: &Lock<'_>) {
        let sealed = KeyBundle::new(&self.master, role)
            .seal(&user.parse().unwrap(), lock)
            .unwrap();
        let path = self.path(&format!("{user}.bundle"));
        create_private(&path, "key bundle", &sealed).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        chmod(&path, 0o600);
        path
    }

    fn unlock(&self) -> Result<Keyring, KeyringError> {
        let key = UnlockFrom::KeyFile(self.path("daemon.key"));
        Keyring::unlock(&self.path("daemon.bundle"), &key)
    }

    fn kit(&self) -> PathBuf {
        let path = self.path("kit.txt");
        let facts = KitFacts {
            coordinator: "backup1",
            written: Timestamp::UNIX_EPOCH,
            destinations: &["file:///srv/backup".to_owned()],
        };
        write_kit(&path, &facts, &self.master).unwrap();
        path
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_daemons_bundle_opens_with_its_key_file() {
    let keys = Keys::new();
    let keyring = keys.unlock().unwrap();
    assert_eq!(keyring.user().as_str(), "daemon");
    assert_eq!(keyring.role(), Role::Data);
    assert!(matches!(
        keyring.master(),
        Err(KeyringError::NoMaster { role: Role::Data })
    ));
}

#[test]
fn keys_that_only_read_are_told_before_they_are_unlocked_and_go_into_new_repositories() {
    let keys = Keys::new();
    let file = FileKey::from_bytes([4; 32]);
    keys.seal("vault", Role::Read, &Lock::File(&file));
    keys.seal("list", Role::Log, &Lock::File(&file));
    fs::copy(keys.path("vault.bundle"), keys.path("copy.bundle")).unwrap();
    keys.write("note.bundle", "no bundle");
    fs::copy(keys.path("vault.bundle"), keys.path("open.bundle")).unwrap();
    chmod(&keys.path("open.bundle"), 0o644);
    let found = readers_bundles(keys.dir.path());
    let users: Vec<&str> = found.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["vault"]);

    keys.unlock().unwrap().may_write().unwrap();
    for (name, reads_only) in [
        ("daemon", false),
        ("vault", true),
        ("list", true),
        ("note", false),
    ] {
        let refused = refuse_readers_bundle(&keys.path(&format!("{name}.bundle")));
        assert_eq!(refused.is_err(), reads_only, "{name}");
        if let Err(error) = refused {
            assert!(
                error.is_wrong_key() && error.to_string().contains(name),
                "{error}"
            );
        }
    }
    let from = UnlockFrom::KeyFile(keys.path("daemon.key"));
    let vault = Keyring::unlock(&keys.path("vault.bundle"), &from).unwrap();
    assert!(matches!(
        vault.may_write(),
        Err(KeyringError::ReadOnly { .. })
    ));
    verify_kit(&keys.kit(), &vault).unwrap();
}

#[test]
fn a_bundle_or_key_that_others_can_read_is_refused_with_its_chmod() {
    for name in ["daemon.key", "daemon.bundle"] {
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let keys = Keys::new();
            chmod(&keys.path(name), mode);
            let text = keys.unlock().unwrap_err().to_string();
            let remedy = format!("chmod 600 {}", keys.path(name).display());
            assert!(text.contains(&remedy), "{text}");
        }
    }
}

#[test]
fn what_is_missing_or_no_key_is_named_and_never_shown() {
    let keys = Keys::new();
    fs::remove_file(keys.path("daemon.key")).unwrap();
    let missing = keys.unlock().unwrap_err();
    assert!(!missing.is_wrong_key());
    assert!(
        missing.to_string().contains("is missing: put it back"),
        "{missing}"
    );

    let secret = "ab".repeat(31);
    keys.write("daemon.key", &secret);
    let bad = keys.unlock().unwrap_err();
    assert!(matches!(bad, KeyringError::BadKeyFile { .. }));
    assert!(!format!("{bad} {bad:?}").contains("abab"));

    fs::remove_file(keys.path("daemon.bundle")).unwrap();
    let missing = keys.unlock().unwrap_err().to_string();
    assert!(missing.contains("coordinator init"), "{missing}");

    fs::create_dir(keys.path("daemon.bundle")).unwrap();
    assert!(matches!(
        keys.unlock(),
        Err(KeyringError::File(PrivateFileError::NotOne { .. }))
    ));
}

#[test]
fn a_wrong_key_file_or_password_is_a_wrong_key_and_a_damaged_bundle_is_not() {
    let keys = Keys::new();
    fs::remove_file(keys.path("daemon.key")).unwrap();
    create_key_file(&keys.path("daemon.key"), &FileKey::from_bytes([9; 32])).unwrap();
    assert!(keys.unlock().unwrap_err().is_wrong_key());

    keys.seal(
        "admin",
        Role::Admin,
        &Lock::Password(b"right password", PasswordCost::SMALL),
    );
    let unlock = |file: &str, text: &str| {
        let from = UnlockFrom::PasswordFile(keys.write(file, text));
        Keyring::unlock(&keys.path("admin.bundle"), &from)
    };
    let admin = unlock("right", "right password\n").unwrap();
    assert_eq!(admin.master().unwrap().expose(), keys.master.expose());
    assert!(
        unlock("wrong", "right password \n")
            .unwrap_err()
            .is_wrong_key()
    );
    assert!(matches!(
        unlock("empty", "\n"),
        Err(KeyringError::EmptyPassword { .. })
    ));
    let other = UnlockFrom::KeyFile(keys.path("daemon.key"));
    let other = Keyring::unlock(&keys.path("admin.bundle"), &other).unwrap_err();
    assert!(other.is_wrong_key(), "{other}");

    fs::write(keys.path("admin.bundle"), b"nothing").unwrap();
    let damaged = unlock("again", "right password").unwrap_err();
    assert!(matches!(damaged, KeyringError::Bundle { .. }));
}

#[test]
fn a_kit_is_private_tells_what_it_is_and_proves_itself() {
    let keys = Keys::new();
    let kit = keys.kit();
    assert_eq!(fs::metadata(&kit).unwrap().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&kit).unwrap();
    for part in [
        "backup1",
        "1970-01-01T00:00:00Z",
        "file:///srv/backup",
        "verify-kit",
    ] {
        assert!(text.contains(part), "{part}");
    }
    verify_kit(&kit, &keys.unlock().unwrap()).unwrap();
    assert_eq!(read_kit(&kit).unwrap().expose(), keys.master.expose());
}

#[test]
fn a_kit_with_a_mistyped_digit_names_the_line_and_another_kit_is_a_wrong_key() {
    let keys = Keys::new();
    let keyring = keys.unlock().unwrap();
    let text = fs::read_to_string(keys.kit()).unwrap();
    let mistyped = text.replace("master key 2: 0303", "master key 2: 0308");
    assert_ne!(mistyped, text);
    let path = keys.write("typed.txt", &mistyped);
    let wrong = verify_kit(&path, &keyring).unwrap_err();
    assert!(
        matches!(
            wrong,
            KeyringError::Kit {
                source: KitError::LineWrong { line: 2 },
                ..
            }
        ),
        "{wrong}"
    );

    let mut other = Keys::new();
    other.master = MasterKey::from_bytes([8; 32]);
    let other = verify_kit(&other.kit(), &keyring).unwrap_err();
    assert!(other.is_wrong_key(), "{other}");
}

#[test]
fn a_kit_is_not_overwritten_and_not_read_while_others_can_read_it() {
    let keys = Keys::new();
    let kit = keys.kit();
    let facts = KitFacts {
        coordinator: "backup1",
        written: Timestamp::UNIX_EPOCH,
        destinations: &[],
    };
    let exists = write_kit(&kit, &facts, &keys.master).unwrap_err();
    assert!(matches!(
        exists,
        KeyringError::File(PrivateFileError::Exists { .. })
    ));
    chmod(&kit, 0o644);
    let open = verify_kit(&kit, &keys.unlock().unwrap()).unwrap_err();
    assert!(open.to_string().contains("chmod 600"), "{open}");
}

#[test]
fn random_passwords_are_long_differ_and_are_not_printed_by_debug() {
    let (one, other) = (random_password().unwrap(), random_password().unwrap());
    assert_eq!(one.expose().len(), 29);
    assert_ne!(one.expose(), other.expose());
    assert!(!format!("{one:?}").contains(one.expose()));
}

#[test]
fn a_machine_short_of_memory_gets_the_small_cost() {
    const GIB: u64 = 1 << 20;
    assert_eq!(cost_for_memory(Some(8 * GIB)), PasswordCost::DEFAULT);
    assert_eq!(cost_for_memory(Some(GIB)), PasswordCost::SMALL);
    assert_eq!(cost_for_memory(None), PasswordCost::SMALL);
}
