//! A kit is written for the admin alone, and is proved against every repository there is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use append_server::fan_out::queue::placing::Keeping;
use bytes::Bytes;
use formats::keys::bundle::{KeyBundle, Lock, PasswordCost, Role};
use formats::keys::secret::{FileKey, MasterKey};
use formats::object::ObjectName;
use jiff::Timestamp;
use tempfile::TempDir;

use crate::catalog::state::State;
use crate::commands::key::{KeyCommandError, export_kit, verify_kit};
use crate::keyring::Keyring;
use crate::keyring::kit::KitFacts;
use crate::keyring::private_file::create_private;
use crate::keyring::unlock::{UnlockFrom, create_key_file};
use crate::repository::memory::MemoryStore;
use crate::repository::{RepositoryRequest, create_or_open};

const FACTS: KitFacts<'static> = KitFacts {
    coordinator: "backup1",
    written: Timestamp::UNIX_EPOCH,
    destinations: &[],
};

fn master() -> MasterKey {
    MasterKey::from_bytes([1; 32])
}

#[test]
fn a_kit_is_exported_with_the_admins_password_and_no_other() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let file_key = FileKey::from_bytes([2; 32]);
    create_key_file(&path("daemon.key"), &file_key).unwrap();
    let locks = [
        (
            Role::Admin,
            "admin",
            Lock::Password(b"right", PasswordCost::SMALL),
        ),
        (Role::Data, "daemon", Lock::File(&file_key)),
    ];
    for (role, user, lock) in locks {
        let sealed = KeyBundle::new(&master(), role)
            .seal(&user.parse().unwrap(), &lock)
            .unwrap();
        create_private(&path(user), "key bundle", &sealed).unwrap();
    }
    create_private(&path("right"), "password", b"right\n").unwrap();
    create_private(&path("wrong"), "password", b"wrong\n").unwrap();

    let daemon = UnlockFrom::KeyFile(path("daemon.key"));
    for (bundle, from) in [
        ("daemon", daemon.clone()),
        ("admin", UnlockFrom::PasswordFile(path("wrong"))),
    ] {
        let refused = export_kit(&path("kit"), &FACTS, &path(bundle), &from).unwrap_err();
        assert!(refused.is_wrong_key(), "{refused}");
        assert!(!path("kit").exists());
    }
    let right = UnlockFrom::PasswordFile(path("right"));
    export_kit(&path("kit"), &FACTS, &path("admin"), &right).unwrap();
    let daemon = Keyring::unlock(&path("daemon"), &daemon).unwrap();
    crate::keyring::kit::verify_kit(&path("kit"), &daemon).unwrap();
}

#[tokio::test]
async fn a_kit_is_proved_against_every_repository() {
    let dir = TempDir::new().unwrap();
    let kit = dir.path().join("kit");
    let facts = KitFacts { ..FACTS };
    crate::keyring::kit::write_kit(&kit, &facts, &master()).unwrap();
    let keyring = Keyring::from_master(&master(), "admin".parse().unwrap());
    let mut state = State::open(&dir.path().join("state.db")).unwrap();
    let store = MemoryStore::default();
    let mut made = Vec::new();
    for name in ["web1", "web2"] {
        let request = RepositoryRequest {
            name,
            keyring: &keyring,
            bundles: &[],
            now: Timestamp::UNIX_EPOCH,
            keeping: &Keeping::PLAIN,
        };
        made.push(create_or_open(&request, &store, &mut state).await.unwrap());
    }
    let known = state.repositories().unwrap();
    let proof = verify_kit(&kit, &keyring, &known, &store).await.unwrap();
    let names: Vec<&str> = proof
        .repositories
        .iter()
        .map(|proved| proved.name.as_str())
        .collect();
    assert_eq!(names, ["web1", "web2"]);
    let json = serde_json::to_value(&proof).unwrap();
    assert_eq!(
        json["repositories"][0]["repository"],
        made[0].id().to_string()
    );

    // A repository under another master key: the kit is of no use for it.
    let other = Keyring::from_master(&MasterKey::from_bytes([9; 32]), "admin".parse().unwrap());
    let (id, epoch) = (made[1].id(), made[1].config.epoch);
    let other_keys = other.repository(id, epoch);
    let mut config = made[1].config.clone();
    config.public = other_keys.public().unwrap();
    let sealed = Bytes::from(config.seal(&other_keys).unwrap());
    store.tamper(id, ObjectName::Config, sealed);
    let refused = verify_kit(&kit, &keyring, &known, &store)
        .await
        .unwrap_err();
    assert!(matches!(refused, KeyCommandError::Repository { .. }));
    assert!(refused.is_wrong_key());

    store.lose(id, ObjectName::Config);
    let lost = verify_kit(&kit, &keyring, &known, &store).await;
    assert!(matches!(lost, Err(KeyCommandError::Store { .. })));
}
