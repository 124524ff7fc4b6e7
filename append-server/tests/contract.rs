//! Every kind of destination against the one contract.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use append_server::destination::beneath::ResolveBy;
use append_server::destination::contract::{Workbench, check};
use append_server::destination::local::{LocalDestination, LocalOptions};
use append_server::destination::local_root::RootError;
use append_server::destination::memory::MemoryDestination;
use append_server::destination::{Destination, DestinationError, ObjectKey, PutOutcome};
use append_server::grants::MaintenanceGrant;
use append_server::io_faults::IoFaults;
use append_server::spool::{Purpose, Spool, SpoolOptions, spool_bytes};
use formats::ids::PackId;
use formats::object::ObjectName;
use support::{REPOSITORY, destination_name, files_under, sample};

fn spool(dir: &Path) -> Arc<Spool> {
    let options = SpoolOptions {
        dir: dir.to_owned(),
        bytes_max: 256 << 20,
        reserve_bytes: 0,
    };
    Spool::open(&options, IoFaults::none()).unwrap()
}

fn local(root: &Path, resolve: ResolveBy) -> LocalDestination {
    let options = LocalOptions {
        resolve,
        faults: IoFaults::none(),
    };
    LocalDestination::open(destination_name("local"), root, options).unwrap()
}

async fn keeps_the_contract(destination: Arc<dyn Destination>, spool: &Arc<Spool>) {
    let bench = Workbench {
        destination,
        spool: Arc::clone(spool),
        listed_objects: 1_100,
    };
    check(&bench).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let memory = MemoryDestination::new(destination_name("memory"));
    keeps_the_contract(Arc::new(memory), &spool(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_by_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    LocalDestination::create(&root).unwrap();
    for resolve in [ResolveBy::Kernel, ResolveBy::Walk] {
        let spool = spool(&dir.path().join("spool"));
        keeps_the_contract(Arc::new(local(&root, resolve)), &spool).await;
        assert!(files_under(spool.path()).is_empty());
    }
    assert_eq!(left_under(&root), ["capstan-destination"]);
}

/// What the suite left, but for damaged objects, which are kept on purpose.
fn left_under(root: &Path) -> Vec<String> {
    let mut left = files_under(root);
    left.retain(|name| !name.contains("/damaged/"));
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_by_copies() {
    // /dev/shm is another file system than the temporary directory on most machines; where it is not, this
    // is the same as the test above.
    let (Ok(near), Ok(far)) = (tempfile::tempdir(), tempfile::tempdir_in("/dev/shm")) else {
        return;
    };
    let root = near.path().join("root");
    LocalDestination::create(&root).unwrap();
    let spool = spool(far.path());
    let destination = local(&root, ResolveBy::Kernel);
    keeps_the_contract(Arc::new(destination), &spool).await;
    assert_eq!(left_under(&root), ["capstan-destination"]);
    assert!(files_under(spool.path()).is_empty());
}

async fn put(destination: &LocalDestination, spool: &Arc<Spool>, bytes: &[u8]) -> ObjectKey {
    let key = ObjectKey {
        repository: REPOSITORY,
        name: ObjectName::Pack(PackId(*blake3::hash(bytes).as_bytes())),
    };
    let body = spool_bytes(spool, bytes.to_vec().into(), Purpose::Data)
        .await
        .unwrap();
    let outcome = destination.put_if_absent(key.clone(), body).await.unwrap();
    assert_eq!(outcome, PutOutcome::Created);
    key
}

#[tokio::test]
async fn two_destinations_on_one_file_system_never_share_one_files_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let mut inodes = Vec::new();
    let body = spool_bytes(&spool, sample(100_000, 1).into(), Purpose::Data)
        .await
        .unwrap();
    for name in ["a", "b", "c"] {
        let root = dir.path().join(name);
        LocalDestination::create(&root).unwrap();
        let destination = local(&root, ResolveBy::Kernel);
        let key = ObjectKey {
            repository: REPOSITORY,
            name: ObjectName::Log(1),
        };
        let outcome = destination.put_if_absent(key.clone(), body.clone()).await;
        assert_eq!(outcome.unwrap(), PutOutcome::Created);
        let facts = root.join(key.to_string()).metadata().unwrap();
        assert_eq!(facts.permissions().mode() & 0o7777, 0o400);
        let folder = root.join(REPOSITORY.to_string()).metadata().unwrap();
        assert_eq!(folder.permissions().mode() & 0o7777, 0o700);
        inodes.push(facts.ino());
    }
    inodes.dedup();
    assert_eq!(inodes.len(), 3);
}

#[tokio::test]
async fn planted_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    let spool = spool(&dir.path().join("spool"));
    for resolve in [ResolveBy::Kernel, ResolveBy::Walk] {
        let _new = std::fs::remove_dir_all(&root);
        LocalDestination::create(&root).unwrap();
        let destination = local(&root, resolve);
        let repository = root.join(REPOSITORY.to_string());
        let key = |name| ObjectKey {
            repository: REPOSITORY,
            name,
        };
        std::fs::create_dir(&repository).unwrap();
        std::os::unix::fs::symlink(&outside, repository.join("log")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret"), repository.join("config")).unwrap();

        // Neither written through, nor read through, nor taken for "absent" or for an empty folder.
        for name in [ObjectName::Log(1), ObjectName::Config] {
            let body = spool_bytes(&spool, sample(10, 1).into(), Purpose::Data);
            let body = body.await.unwrap();
            let error = destination
                .put_if_absent(key(name.clone()), body)
                .await
                .unwrap_err();
            assert!(
                matches!(error, DestinationError::Permanent { .. }),
                "{error:?}"
            );
            let error = destination.head(key(name.clone())).await.unwrap_err();
            assert!(!error.is_absent(), "{error:?}");
        }
        let kind = formats::object::ObjectKind::Log;
        let list = destination.list(REPOSITORY, kind, None, 10).await;
        assert!(list.is_err(), "{list:?}");
        assert_eq!(files_under(&outside), ["secret"]);
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
        // Deleting removes the link, never what it points to.
        let grant = MaintenanceGrant::of_this_process();
        destination
            .delete(key(ObjectName::Config), &grant)
            .await
            .unwrap();
        assert!(outside.join("secret").exists());
    }
}

#[tokio::test]
async fn foreign_files_are_left_out_of_lists_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    LocalDestination::create(&root).unwrap();
    let spool = spool(&dir.path().join("spool"));
    let destination = local(&root, ResolveBy::Kernel);
    let key = put(&destination, &spool, b"one").await;
    let packs = root.join(REPOSITORY.to_string()).join("packs");
    std::fs::write(packs.join("README"), b"x").unwrap();
    std::fs::create_dir(packs.join("zz")).unwrap();
    std::fs::create_dir_all(packs.join("00").join("dir")).unwrap();
    std::fs::write(packs.join("00").join("..hidden"), b"x").unwrap();
    let kind = formats::object::ObjectKind::Pack;
    let list = destination.list(REPOSITORY, kind, None, 10).await.unwrap();
    assert_eq!(list.objects, [(key.name, 3)]);
    assert!(packs.join("README").exists());
}

#[test]
fn a_root_is_never_made_or_taken_by_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        |path: &Path| LocalDestination::open(destination_name("x"), path, LocalOptions::default());
    let missing = dir.path().join("missing");
    assert!(matches!(open(&missing), Err(RootError::Missing { .. })));
    assert!(!missing.exists());

    // A mount point whose disk is not there.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(matches!(open(&empty), Err(RootError::NoMarker { .. })));
    assert!(files_under(&empty).is_empty());

    std::fs::write(empty.join("capstan-destination"), "capstan-destination 9\n").unwrap();
    assert!(matches!(open(&empty), Err(RootError::UnknownMarker { .. })));

    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("data"), b"x").unwrap();
    let created = LocalDestination::create(&full);
    assert!(matches!(created, Err(RootError::NotEmpty { .. })));

    let good = dir.path().join("good");
    LocalDestination::create(&good).unwrap();
    open(&good).unwrap();
    let again = LocalDestination::create(&good);
    assert!(matches!(again, Err(RootError::AlreadyThere { .. })));
}
