//! A repository is made once, whatever dies in between, and opened only as what it was made.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use append_server::fan_out::queue::placing::Keeping;
use bytes::Bytes;
use formats::config::ConfigError;
use formats::ids::RepositoryId;
use formats::keys::bundle::{KeyBundle, Lock, Role};
use formats::keys::secret::{FileKey, MasterKey};
use formats::object::{ObjectKind, ObjectName, UserName};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::catalog::state::State;
use crate::keyring::Keyring;
use crate::keyring::private_file::create_private;
use crate::keyring::unlock::{UnlockFrom, create_key_file};
use crate::repository::layout::StateDir;
use crate::repository::memory::MemoryStore;
use crate::repository::store::{ObjectStore, Put, StoreError};
use crate::repository::users::{UsersBundle, readers_bundle, users_bundles};
use crate::repository::{
    Repository, RepositoryError, RepositoryRequest, add_user, create_or_open, open,
};

/// Storage that fails after so many puts, each time before or after doing it.
struct Failing<'a> {
    store: &'a MemoryStore,
    puts_left: AtomicU32,
    done_before_failing: bool,
}

impl ObjectStore for Failing<'_> {
    async fn get(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        self.store.get(repository, name, bytes_max).await
    }

    async fn put_new(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes: Bytes,
    ) -> Result<Put, StoreError> {
        let left = self.puts_left.load(Ordering::SeqCst);
        if left > 0 {
            self.puts_left.store(left - 1, Ordering::SeqCst);
            return self.store.put_new(repository, name, bytes).await;
        }
        if self.done_before_failing {
            self.store.put_new(repository, name, bytes).await?;
        }
        Err(StoreError::Failed {
            action: "put",
            key: name.key(repository),
            source: Box::new(io::Error::other("the connection is gone")),
        })
    }

    async fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
    ) -> Result<Vec<ObjectName>, StoreError> {
        self.store.list(repository, kind).await
    }
}

struct SetUp {
    dir: TempDir,
    state: State,
    store: MemoryStore,
    keyring: Keyring,
    bundles: Vec<(UserName, Bytes)>,
}

impl SetUp {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self {
            state: State::open(&dir.path().join("state.db")).unwrap(),
            dir,
            store: MemoryStore::default(),
            keyring: keyring(1),
            bundles: vec![
                ("admin".parse().unwrap(), Bytes::from_static(b"sealed a")),
                ("daemon".parse().unwrap(), Bytes::from_static(b"sealed d")),
            ],
        }
    }

    async fn open(&mut self, name: &str) -> Result<Repository, RepositoryError> {
        let request = RepositoryRequest {
            name,
            keyring: &self.keyring,
            bundles: &self.bundles,
            now: Timestamp::UNIX_EPOCH,
            keeping: &Keeping::PLAIN,
        };
        create_or_open(&request, &self.store, &mut self.state).await
    }

    async fn find(&mut self, name: &str) -> Result<Option<Repository>, RepositoryError> {
        let request = RepositoryRequest {
            name,
            keyring: &self.keyring,
            bundles: &self.bundles,
            now: Timestamp::UNIX_EPOCH,
            keeping: &Keeping::PLAIN,
        };
        open(&request, &self.store, &self.state).await
    }

    async fn open_failing(&mut self, puts: u32, done_before_failing: bool) -> RepositoryError {
        let store = Failing {
            store: &self.store,
            puts_left: AtomicU32::new(puts),
            done_before_failing,
        };
        let request = RepositoryRequest {
            name: "web1",
            keyring: &self.keyring,
            bundles: &self.bundles,
            now: Timestamp::UNIX_EPOCH,
            keeping: &Keeping::PLAIN,
        };
        let opened = create_or_open(&request, &store, &mut self.state).await;
        opened.unwrap_err()
    }
}

fn keyring(master: u8) -> Keyring {
    Keyring::from_master(
        &MasterKey::from_bytes([master; 32]),
        "admin".parse().unwrap(),
    )
}

#[tokio::test]
async fn the_first_run_makes_the_repository_and_later_ones_open_it() {
    let mut set_up = SetUp::new();
    assert!(set_up.find("web1").await.unwrap().is_none());
    let made = set_up.open("web1").await.unwrap();
    assert!(made.created);
    let found = set_up.find("web1").await.unwrap().unwrap();
    assert_eq!(found.id(), made.id());
    let opened = set_up.open("web1").await.unwrap();
    assert!(!opened.created);
    assert_eq!(
        (opened.id(), opened.config),
        (made.id(), made.config.clone())
    );
    let id = made.id();
    let expected = ["config", "keys/admin", "keys/daemon"].map(|name| format!("{id}/{name}"));
    assert_eq!(set_up.store.keys(), expected);

    let other = set_up.open("web2").await.unwrap();
    assert_ne!(other.id(), id);

    let state_dir = StateDir::new(set_up.dir.path());
    made.open_index(&state_dir).unwrap();
    let catalog = made.open_catalog(&state_dir).unwrap();
    assert_eq!(catalog.head().unwrap().sequence, 1);
}

#[tokio::test]
async fn a_crash_between_any_two_steps_is_mended_by_the_next_run() {
    for puts in 0..3 {
        for done_before_failing in [false, true] {
            let mut set_up = SetUp::new();
            let failed = set_up.open_failing(puts, done_before_failing).await;
            assert!(matches!(failed, RepositoryError::Store { .. }));
            assert!(set_up.find("web1").await.unwrap().is_none());
            let made = set_up.open("web1").await.unwrap();
            // One repository, whole, and no remains of another.
            assert_eq!(set_up.store.keys().len(), 3, "{puts} {done_before_failing}");
            let opened = set_up.open("web1").await.unwrap();
            assert_eq!(opened.id(), made.id());
        }
    }
}

#[tokio::test]
async fn a_bundle_that_changed_after_a_crash_gets_a_repository_of_its_own() {
    let mut set_up = SetUp::new();
    set_up.open_failing(2, false).await;
    let half_made = set_up.state.repository("web1").unwrap().unwrap();
    set_up.bundles[0].1 = Bytes::from_static(b"sealed anew");
    let made = set_up.open("web1").await.unwrap();
    assert_ne!(made.id(), half_made.repository);
    let stored = set_up
        .store
        .get(made.id(), &"keys/admin".parse().unwrap(), 100)
        .await;
    assert_eq!(stored.unwrap(), "sealed anew");
}

#[tokio::test]
async fn a_lost_config_is_never_made_again() {
    let mut set_up = SetUp::new();
    let made = set_up.open("web1").await.unwrap();
    set_up.store.lose(made.id(), ObjectName::Config);
    let lost = set_up.open("web1").await.unwrap_err();
    assert!(matches!(lost, RepositoryError::Lost { .. }), "{lost}");
    assert_eq!(set_up.store.keys().len(), 2);
}

#[tokio::test]
async fn an_altered_swapped_or_foreign_config_is_refused() {
    let mut set_up = SetUp::new();
    let web1 = set_up.open("web1").await.unwrap();
    let web2 = set_up.open("web2").await.unwrap();
    let config = |id| set_up.store.get(id, &ObjectName::Config, 1 << 20);
    let (own, others) = (config(web1.id()).await, config(web2.id()).await);
    let mut altered = own.unwrap().to_vec();
    altered[100] ^= 1;
    let good = config(web1.id()).await.unwrap();
    for bad in [altered, others.unwrap().to_vec(), vec![0; 10]] {
        set_up.store.tamper(web1.id(), ObjectName::Config, bad);
        let refused = set_up.open("web1").await.unwrap_err();
        assert!(matches!(refused, RepositoryError::Config { .. }));
    }
    set_up.store.tamper(web1.id(), ObjectName::Config, good);
    set_up.keyring = keyring(2);
    let refused = set_up.open("web1").await.unwrap_err();
    assert!(refused.is_wrong_key(), "{refused}");
    assert!(matches!(
        refused,
        RepositoryError::Config {
            source: ConfigError::OtherKey,
            ..
        }
    ));
}

#[tokio::test]
async fn a_config_with_swapped_public_keys_is_refused_even_when_it_is_signed() {
    let mut set_up = SetUp::new();
    let made = set_up.open("web1").await.unwrap();
    let mut config = made.config.clone();
    let foreign = keyring(2).repository(made.id(), config.epoch);
    config.public.data = foreign.public().unwrap().data;
    let signed = config.seal(&made.keys).unwrap();
    set_up.store.tamper(made.id(), ObjectName::Config, signed);
    let refused = set_up.open("web1").await.unwrap_err();
    assert!(
        matches!(refused, RepositoryError::OtherKeys { .. }),
        "{refused}"
    );
}

/// A reader under a master key, and its sealed bundle.
fn reader(dir: &TempDir, master: u8) -> (Keyring, Bytes) {
    let key = FileKey::from_bytes([5; 32]);
    let path = |name: &str| dir.path().join(format!("{master}-{name}"));
    let sealed = KeyBundle::new(&MasterKey::from_bytes([master; 32]), Role::Read)
        .seal(&"vault".parse().unwrap(), &Lock::File(&key))
        .unwrap();
    create_key_file(&path("key"), &key).unwrap();
    create_private(&path("bundle"), "key bundle", &sealed).unwrap();
    let from = UnlockFrom::KeyFile(path("key"));
    let keyring = Keyring::unlock(&path("bundle"), &from).unwrap();
    (keyring, Bytes::from(sealed))
}

#[tokio::test]
async fn a_reader_opens_what_was_there_and_what_is_made_later_and_makes_nothing() {
    let mut set_up = SetUp::new();
    let user: UserName = "vault".parse().unwrap();
    let before = set_up.open("web1").await.unwrap();
    let (keyring, sealed) = reader(&set_up.dir, 1);
    let known = set_up.state.repository("web1").unwrap().unwrap();
    let add = |sealed: Bytes| {
        let (set_up, known, user) = (&set_up, &known, &user);
        async move { add_user(&set_up.keyring, &set_up.store, known, user, &sealed).await }
    };
    assert!(add(sealed.clone()).await.unwrap());
    assert!(!add(sealed.clone()).await.unwrap());
    let taken = add(reader(&TempDir::new().unwrap(), 1).1)
        .await
        .unwrap_err();
    assert!(
        matches!(taken, RepositoryError::OtherUser { .. }),
        "{taken}"
    );

    set_up.bundles.push((user, sealed));
    let later = set_up.open("web2").await.unwrap();
    let admin = std::mem::replace(&mut set_up.keyring, keyring);
    for (name, made) in [("web1", &before), ("web2", &later)] {
        let found = set_up.find(name).await.unwrap().unwrap();
        assert_eq!(found.config, made.config);
        assert_eq!(found.keys.public().unwrap(), made.keys.public().unwrap());
        assert!(found.keys.sign(b"a record").is_err());
    }
    let stored = set_up.store.keys().len();
    let refused = set_up.open("web3").await.unwrap_err();
    assert!(refused.is_wrong_key(), "{refused}");
    assert_eq!(set_up.store.keys().len(), stored);

    set_up.keyring = admin;
    assert!(set_up.find("web2").await.unwrap().is_some());
}

#[tokio::test]
async fn a_reader_believes_no_config_that_its_certificate_does_not_vouch_for() {
    let mut set_up = SetUp::new();
    let (keyring, sealed) = reader(&set_up.dir, 1);
    let user: UserName = "vault".parse().unwrap();
    set_up.bundles = vec![(user.clone(), sealed.clone())];
    let made = set_up.open("web1").await.unwrap();
    let other = set_up.open("web2").await.unwrap();
    set_up.keyring = keyring;
    assert!(set_up.find("web1").await.unwrap().is_some());
    let own = ObjectName::Keys(user.clone());
    let good = set_up.store.get(made.id(), &own, 4096).await.unwrap();

    // Signed anew by a thief who knows every public key, and certified by the thief.
    let thief = self::keyring(2);
    let keys = thief.repository(made.id(), made.config.epoch);
    let mut forged = made.config.clone();
    forged.public.verifying = keys.verifying().unwrap();
    let config = set_up.store.get(made.id(), &ObjectName::Config, 1 << 20);
    let config = config.await.unwrap();
    let forged = forged.seal(&keys).unwrap();
    set_up.store.tamper(made.id(), ObjectName::Config, forged);
    let thiefs = thief.stored_bundle(&sealed, &keys);
    let others = set_up.store.get(other.id(), &own, 4096).await.unwrap();
    for bundle in [good.clone(), thiefs.into(), others.clone()] {
        set_up.store.tamper(made.id(), own.clone(), bundle);
        let refused = set_up.find("web1").await.unwrap_err();
        assert!(
            matches!(
                refused,
                RepositoryError::NotCertified {
                    source: Some(_),
                    ..
                }
            ),
            "{refused}"
        );
    }

    // The right config without the certificate, or with another repository's.
    set_up.store.tamper(made.id(), ObjectName::Config, config);
    for bundle in [sealed, others] {
        set_up.store.tamper(made.id(), own.clone(), bundle);
        let refused = set_up.find("web1").await.unwrap_err();
        assert!(refused.is_wrong_key(), "{refused}");
    }
    set_up.store.lose(made.id(), own.clone());
    let refused = set_up.find("web1").await.unwrap_err().to_string();
    assert!(refused.contains("key derive vault"), "{refused}");
    set_up.store.tamper(made.id(), own, good);
    assert!(set_up.find("web1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_users_keys_are_taken_from_a_repository_only_as_they_were_put_there() {
    let mut set_up = SetUp::new();
    let (_, sealed) = reader(&set_up.dir, 1);
    let user: UserName = "vault".parse().unwrap();
    let made = set_up.open("web1").await.unwrap();
    let known = set_up.state.repository("web1").unwrap().unwrap();
    let (keyring, store) = (&set_up.keyring, &set_up.store);
    let find = || readers_bundle(keyring, store, &known, &user);
    assert_eq!(find().await.unwrap(), None);
    add_user(keyring, store, &known, &user, &sealed)
        .await
        .unwrap();
    // Without the certificate, as the user's file has it.
    assert_eq!(find().await.unwrap().unwrap(), sealed);
    let all = users_bundles(keyring, store, &known).await.unwrap();
    let expected = UsersBundle {
        user: user.clone(),
        role: Role::Read,
        sealed: sealed.to_vec(),
    };
    // What `SetUp` puts there for others is no bundle.
    assert_eq!(all, [expected]);

    let own = ObjectName::Keys(user.clone());
    let thief = self::keyring(2);
    let thiefs = thief.stored_bundle(&sealed, &thief.repository(made.id(), made.config.epoch));
    let data = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
    let data = |name: &str| {
        let key = FileKey::from_bytes([5; 32]);
        let user: UserName = name.parse().unwrap();
        data.seal(&user, &Lock::File(&key)).unwrap()
    };
    let is_refused = |bytes: Vec<u8>| {
        store.tamper(made.id(), own.clone(), bytes);
        async { matches!(find().await, Err(RepositoryError::OtherUser { .. })) }
    };
    assert!(is_refused(sealed.to_vec()).await, "without a certificate");
    assert!(is_refused(thiefs).await, "with a thief's");
    assert!(is_refused(data("other")).await, "another user's");
    assert!(is_refused(vec![0; 5000]).await, "no bundle");
    let none = users_bundles(keyring, store, &known).await.unwrap();
    assert_eq!(none, []);
    assert!(is_refused(data("vault")).await, "of another role");
    let all = users_bundles(keyring, store, &known).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].role, Role::Data);
}

#[tokio::test]
async fn opening_can_run_on_any_thread() {
    fn can_be_spawned<T: Send>(future: T) -> T {
        future
    }
    let mut set_up = SetUp::new();
    can_be_spawned(set_up.open("web1")).await.unwrap();
    can_be_spawned(set_up.find("web1")).await.unwrap();
}
