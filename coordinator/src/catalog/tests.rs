//! The catalog takes in a log that is whole, and refuses by name one that was rolled back, forked, holed or
//! forged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use formats::ids::{ActId, CoordinatorId, PackId, RecordId, RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Role};
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::MasterKey;
use formats::limits::RECORD_BYTES_MAX;
use formats::log::lease::Lease;
use formats::log::record::{Payload, RecordError, RecordKind, RecordPlace, seal_record};
use formats::log::retention::{Act, CondemnedPack, Prune, Retention};
use formats::log::settings::HostSettings;
use formats::log::snapshot::{Snapshot, SnapshotTotals};
use formats::log::thinning::{ThinnedPack, Thinning};
use formats::object::ObjectName;
use formats::seal::run_header::Purpose;
use formats::wire::control::names::Names;
use formats::wire::facts::HostFacts;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tempfile::TempDir;

use crate::catalog::sync::SyncError;
use crate::catalog::{Catalog, CatalogError};
use crate::clock::from_nanos;
use crate::repository::memory::MemoryStore;
use crate::repository::store::StoreError;

const REPOSITORY: RepositoryId = RepositoryId([2; 16]);
const EPOCH: u32 = 1;

fn keys(master: u8) -> RepositoryKeys {
    let bundle = KeyBundle::new(&MasterKey::from_bytes([master; 32]), Role::Data);
    RepositoryKeys::derive(&bundle, REPOSITORY, EPOCH)
}

fn snapshot(host: &str, number: u8) -> Payload {
    Payload::Snapshot(Box::new(Snapshot {
        host: host.into(),
        run: RunId([number; 16]),
        started_nanos: i64::from(number) * 1_000_000_000,
        committed_nanos: i64::from(number) * 1_000_000_000 + 1,
        parent: None,
        verified: true,
        sources: vec![b"etc".to_vec()],
        page_index: vec![],
        index: vec![],
        meta_packs: vec![],
        totals: SnapshotTotals {
            files: number.into(),
            ..SnapshotTotals::default()
        },
        problems: vec![],
        names: Names::default(),
        facts: HostFacts::default(),
        agent: "0.1.0".into(),
    }))
}

/// A repository's log on storage, and a catalog.
struct Log {
    dir: TempDir,
    keys: RepositoryKeys,
    store: MemoryStore,
    head: RecordPlace,
}

impl Log {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            keys: keys(1),
            store: MemoryStore::default(),
            head: RecordPlace {
                repository: REPOSITORY,
                epoch: EPOCH,
                sequence: 1,
                previous: RecordId([0; 32]),
            },
        }
    }

    fn with_records(count: u8) -> Self {
        let mut log = Self::new();
        for number in 1..=count {
            log.commit(&snapshot("web1", number));
        }
        log
    }

    fn commit(&mut self, payload: &Payload) -> (RecordPlace, RecordId) {
        let place = self.head;
        let public = self.keys.public().unwrap();
        let (bytes, id) = seal_record(&place, payload, &public.log, &self.keys).unwrap();
        self.tamper(place.sequence, bytes);
        self.head.sequence += 1;
        self.head.previous = id;
        (place, id)
    }

    fn tamper(&self, sequence: u64, bytes: Vec<u8>) {
        self.store
            .tamper(REPOSITORY, ObjectName::Log(sequence), bytes);
    }

    fn lose(&self, sequence: u64) {
        self.store.lose(REPOSITORY, ObjectName::Log(sequence));
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("catalog.db")
    }

    fn catalog(&self) -> Catalog {
        Catalog::open(&self.file(), REPOSITORY, EPOCH).unwrap()
    }

    async fn sync(&self, catalog: &mut Catalog) -> Result<u64, SyncError> {
        catalog.sync(&self.store, &self.keys).await
    }

    /// A catalog that knows the whole log.
    async fn synced(&self) -> Catalog {
        let mut catalog = self.catalog();
        self.sync(&mut catalog).await.unwrap();
        catalog
    }
}

#[tokio::test]
async fn a_log_is_taken_in_once_and_goes_on_where_it_ended() {
    let mut log = Log::with_records(130);
    let mut catalog = log.catalog();
    assert_eq!(log.sync(&mut catalog).await.unwrap(), 130);
    assert_eq!(log.sync(&mut catalog).await.unwrap(), 0);
    assert_eq!(catalog.head().unwrap(), log.head);
    let (place, id) = log.commit(&snapshot("web2", 131));
    catalog.append(&place, id, &snapshot("web2", 131)).unwrap();
    assert_eq!(log.sync(&mut catalog).await.unwrap(), 0);
    drop(catalog);

    let catalog = log.catalog();
    assert_eq!(catalog.head().unwrap(), log.head);
    let rows = catalog.snapshots(None).unwrap();
    assert_eq!(rows.len(), 131);
    assert_eq!((rows[130].id, rows[130].sequence), (id, 131));
    assert_eq!(catalog.snapshots(Some("web1")).unwrap().len(), 130);
    let latest = "latest".parse().unwrap();
    let of_web1 = catalog.resolve(Some("web1"), &latest, &TimeZone::UTC);
    assert_eq!(of_web1.unwrap().sequence, 130);
    let whole = catalog.snapshot(id).unwrap().unwrap();
    assert_eq!(Payload::Snapshot(Box::new(whole)), snapshot("web2", 131));
    assert_eq!(catalog.snapshot(RecordId([5; 32])).unwrap(), None);
    catalog.check().unwrap();
}

#[tokio::test]
async fn an_empty_log_is_an_empty_catalog() {
    let log = Log::new();
    let catalog = log.synced().await;
    assert_eq!(catalog.head().unwrap(), log.head);
    let latest = "latest".parse().unwrap();
    let none = catalog.resolve(Some("web1"), &latest, &TimeZone::UTC);
    let text = none.unwrap_err().to_string();
    assert!(
        text.contains("web1") && text.contains("coordinator run"),
        "{text}"
    );
}

#[tokio::test]
async fn a_shorter_log_is_a_rollback() {
    let log = Log::with_records(3);
    let mut catalog = log.synced().await;
    log.lose(3);
    assert!(matches!(
        log.sync(&mut catalog).await,
        Err(SyncError::Rollback {
            stored: 2,
            known: 3,
            ..
        })
    ));
    (1..=2).for_each(|sequence| log.lose(sequence));
    let gone = log.sync(&mut catalog).await.unwrap_err();
    assert!(matches!(gone, SyncError::Rollback { stored: 0, .. }));
    assert!(gone.is_integrity());
    // What was known stays known.
    assert_eq!(catalog.head().unwrap(), log.head);
}

#[tokio::test]
async fn another_record_at_a_known_place_is_a_fork() {
    let log = Log::with_records(2);
    let mut catalog = log.synced().await;
    // The same key signs another second record, and a third upon it.
    let mut forked = Log::with_records(1);
    forked.commit(&snapshot("web1", 99));
    forked.commit(&snapshot("web1", 100));
    let found = forked.sync(&mut catalog).await.unwrap_err();
    assert!(
        matches!(found, SyncError::Fork { sequence: 2, known, .. } if known == log.head.previous),
        "{found}"
    );
}

#[tokio::test]
async fn a_new_record_that_does_not_follow_the_known_ones_is_refused() {
    let mut log = Log::with_records(2);
    let mut catalog = log.synced().await;
    log.head.previous = RecordId([7; 32]);
    log.commit(&snapshot("web1", 3));
    let found = log.sync(&mut catalog).await.unwrap_err();
    let SyncError::Record {
        sequence, source, ..
    } = found
    else {
        unreachable!("{found}");
    };
    assert_eq!((sequence, source), (3, RecordError::Chain { sequence: 3 }));
    assert_eq!(catalog.snapshots(None).unwrap().len(), 2);
}

#[tokio::test]
async fn a_hole_in_the_log_is_named() {
    let log = Log::with_records(4);
    log.lose(2);
    let mut fresh = log.catalog();
    assert!(matches!(
        log.sync(&mut fresh).await,
        Err(SyncError::Gap {
            missing: 2,
            last: 4,
            ..
        })
    ));
    // What stands before the hole is taken in.
    assert_eq!(fresh.last().unwrap().map(|(sequence, _)| sequence), Some(1));

    // A hole below what is known is a loss as well.
    let log = Log::with_records(4);
    let mut catalog = log.synced().await;
    log.lose(1);
    assert!(matches!(
        log.sync(&mut catalog).await,
        Err(SyncError::Gap { missing: 1, .. })
    ));
}

#[tokio::test]
async fn forged_altered_and_oversized_records_are_refused_and_nothing_of_them_is_kept() {
    let log = Log::with_records(1);
    let public = log.keys.public().unwrap();
    let payload = snapshot("web1", 2);
    let (good, _) = seal_record(&log.head, &payload, &public.log, &log.keys).unwrap();
    let (forged, _) = seal_record(&log.head, &payload, &public.log, &keys(9)).unwrap();
    let mut altered = good.clone();
    altered[500] ^= 1;
    for bad in [forged, altered, good[..good.len() - 1].to_vec(), Vec::new()] {
        log.tamper(2, bad);
        let mut catalog = log.catalog();
        let found = log.sync(&mut catalog).await.unwrap_err();
        assert!(
            matches!(found, SyncError::Record { sequence: 2, .. }),
            "{found}"
        );
        let last = catalog.last().unwrap();
        assert_eq!(last.map(|(sequence, _)| sequence), Some(1));
    }
    log.tamper(2, vec![0; RECORD_BYTES_MAX as usize + 1]);
    let mut catalog = log.catalog();
    let found = log.sync(&mut catalog).await.unwrap_err();
    assert!(matches!(
        found,
        SyncError::Store(StoreError::TooLarge { .. })
    ));
    log.tamper(2, good);
    assert_eq!(log.sync(&mut catalog).await.unwrap(), 1);
}

#[tokio::test]
async fn a_record_is_appended_at_the_head_and_nowhere_else() {
    let mut log = Log::with_records(1);
    let mut catalog = log.catalog();
    let (place, id) = log.commit(&snapshot("web1", 2));
    let refused = catalog.append(&place, id, &snapshot("web1", 2));
    assert!(matches!(
        refused,
        Err(CatalogError::NotNext {
            offered: 2,
            head: 0
        })
    ));
}

#[tokio::test]
async fn a_record_that_another_process_took_in_first_is_the_same_record() {
    let mut log = Log::with_records(2);
    let mut catalog = log.synced().await;
    let (place, id) = log.commit(&snapshot("web1", 3));
    // A command that lists snapshots while a run commits one.
    let beside = log.synced().await;
    assert_eq!(beside.last().unwrap(), Some((3, id)));
    catalog.append(&place, id, &snapshot("web1", 3)).unwrap();
    assert_eq!(catalog.snapshots(None).unwrap().len(), 3);
    assert_eq!(catalog.head().unwrap(), log.head);
    let other = catalog.append(&place, RecordId([9; 32]), &snapshot("web1", 3));
    assert!(matches!(
        other,
        Err(CatalogError::NotNext {
            offered: 3,
            head: 3
        })
    ));
}

#[tokio::test]
async fn counts_beyond_what_sqlite_can_hold_do_not_stop_a_commit() {
    let mut log = Log::new();
    let mut payload = snapshot("web1", 1);
    let Payload::Snapshot(inner) = &mut payload else {
        unreachable!("made above");
    };
    inner.totals.bytes = u64::MAX;
    let (place, id) = log.commit(&payload);
    let mut catalog = log.catalog();
    catalog.append(&place, id, &payload).unwrap();
    let row = &catalog.snapshots(None).unwrap()[0];
    assert_eq!(row.totals.bytes, i64::MAX as u64);
    let whole = catalog.snapshot(id).unwrap().unwrap();
    assert_eq!(whole.totals.bytes, u64::MAX);
}

#[tokio::test]
async fn a_damaged_or_foreign_catalog_is_refused_with_its_remedy() {
    let log = Log::with_records(2);
    drop(log.synced().await);
    assert!(matches!(
        Catalog::open(&log.file(), REPOSITORY, 2),
        Err(CatalogError::OtherRepository { .. })
    ));
    fs::write(log.file(), vec![0xa5; 20_000]).unwrap();
    let damaged = Catalog::open(&log.file(), REPOSITORY, EPOCH).unwrap_err();
    assert!(damaged.to_string().contains("delete it"), "{damaged}");
    fs::remove_file(log.file()).unwrap();
    assert_eq!(log.synced().await.snapshots(None).unwrap().len(), 2);
}

#[tokio::test]
async fn a_sync_can_run_on_any_thread() {
    fn can_be_spawned<T: Send>(future: T) -> T {
        future
    }
    let log = Log::with_records(1);
    let mut catalog = log.catalog();
    let sync = can_be_spawned(catalog.sync(&log.store, &log.keys));
    assert_eq!(sync.await.unwrap(), 1);
}

fn act(number: u8, act: Act) -> Payload {
    Payload::Retention(Box::new(Retention {
        id: ActId([number; 16]),
        at_nanos: i64::from(number) * 1_000_000_000,
        act,
    }))
}

fn condemned(number: u8) -> CondemnedPack {
    CondemnedPack {
        pack: PackId([number; 32]),
        purpose: Purpose::Data,
        bytes: 10,
    }
}

#[tokio::test]
async fn what_single_destinations_do_not_keep_is_followed_in_the_logs_order() {
    let mut log = Log::with_records(3);
    let catalog = log.synced().await;
    let ids: Vec<RecordId> = catalog
        .snapshots(None)
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect();
    let thin = |dropped: &[RecordId], packs: &[u8]| {
        Act::Thin(Thinning {
            destination: "near".into(),
            snapshots: 9,
            dropped: dropped.to_vec(),
            condemned: packs
                .iter()
                .map(|number| ThinnedPack {
                    pack: PackId([*number; 32]),
                    bytes: 10,
                })
                .collect(),
            ..Thinning::default()
        })
    };
    let sweep = |number: u8| Act::SweepAt {
        destination: "near".into(),
        packs: vec![PackId([number; 32])],
    };
    log.commit(&act(4, thin(&ids[..1], &[1])));
    log.commit(&act(5, sweep(1)));
    log.commit(&act(6, thin(&ids[1..2], &[2, 3])));
    let catalog = log.synced().await;
    let near = "near".parse().unwrap();
    let there = |catalog: &Catalog| {
        let rows = catalog.thinned().unwrap();
        let rows = rows
            .iter()
            .map(|row| (row.pack.0[0], row.sequence, row.swept));
        rows.collect::<Vec<_>>()
    };
    assert_eq!(
        there(&catalog),
        [(1, 4, Some(5)), (2, 6, None), (3, 6, None)]
    );
    assert_eq!(catalog.thinned_at(&near).unwrap().len(), 3);
    assert_eq!(catalog.last_followed().unwrap(), 6);
    assert_eq!(catalog.left_at(&near).unwrap().unwrap().snapshots, 9);
    assert_eq!(catalog.dropped_at(ids[1]).unwrap(), ["near"]);
    let whole = |catalog: &Catalog, id, forgotten| {
        let whole = catalog.would_be_whole_at(id, forgotten, &near);
        whole.unwrap()
    };
    assert!(!whole(&catalog, ids[0], None) && whole(&catalog, ids[1], None));
    assert!(whole(&catalog, ids[2], Some(4)) && !whole(&catalog, ids[2], Some(3)));

    // What is condemned everywhere is no matter of one destination, until that is undone.
    let prune = Prune {
        condemned: vec![condemned(1), condemned(2)],
        ..Prune::default()
    };
    log.commit(&act(7, Act::Prune(prune)));
    let catalog = log.synced().await;
    assert_eq!(there(&catalog), [(3, 6, None)]);
    // A snapshot that is back is whole where nothing went that it needed.
    let undelete = Act::Undelete {
        snapshots: ids[..2].to_vec(),
        packs: vec![condemned(1).pack, condemned(2).pack, condemned(3).pack],
    };
    log.commit(&act(8, undelete));
    let catalog = log.synced().await;
    assert_eq!(there(&catalog), [(1, 4, Some(5))], "what is swept stays so");
    let dropped = catalog.dropped().unwrap();
    assert_eq!(dropped.keys().copied().collect::<Vec<_>>(), ids[..1]);
    assert!(catalog.spared_after(7).unwrap());
}

#[tokio::test]
async fn what_the_log_says_of_snapshots_and_packs_is_followed_in_its_order() {
    let mut log = Log::with_records(3);
    let ids: Vec<RecordId> = {
        let catalog = log.synced().await;
        let rows = catalog.snapshots(None).unwrap();
        rows.iter().map(|row| row.id).collect()
    };
    let forget = Act::Forget {
        by_person: false,
        snapshots: vec![ids[0], ids[1]],
    };
    log.commit(&act(4, forget)); // Record 4.
    let prune = Prune {
        snapshots: 1,
        condemned: vec![condemned(1), condemned(2)],
        ..Prune::default()
    };
    log.commit(&act(5, Act::Prune(prune.clone())));
    let sweep = Act::Sweep {
        packs: vec![condemned(1).pack, condemned(7).pack],
    };
    log.commit(&act(6, sweep));
    let undelete = Act::Undelete {
        snapshots: vec![ids[1]],
        packs: vec![condemned(1).pack, condemned(2).pack],
    };
    log.commit(&act(7, undelete));
    let pin = Act::Pin {
        snapshot: ids[2],
        pinned: true,
        reason: "audit".into(),
    };
    log.commit(&act(8, pin));

    let catalog = log.synced().await;
    let left: Vec<RecordId> = catalog
        .snapshots(Some("web1"))
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(left, ids[1..]);
    let latest = "latest~2".parse().unwrap();
    assert!(
        catalog
            .resolve(Some("web1"), &latest, &TimeZone::UTC)
            .is_err()
    );
    assert_eq!(catalog.snapshots_after(0).unwrap().len(), 3);
    let forgotten = catalog.forgotten(Some("web1")).unwrap();
    assert_eq!((forgotten.len(), forgotten[0].sequence), (1, 4));
    // What is swept stays so, whatever a later record says of it.
    let rows = catalog.condemned().unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.pack, row.sequence, row.swept))
        .collect();
    assert_eq!(rows, [(condemned(1), 5, Some(6))]);
    assert!(catalog.spared_after(6).unwrap() && !catalog.spared_after(7).unwrap());
    assert_eq!(catalog.last_followed().unwrap(), 7);
    assert_eq!(catalog.last_prune().unwrap().unwrap().prune, prune);
    assert_eq!(catalog.pinned().unwrap()[0].snapshot, ids[2]);
    assert_eq!(
        catalog.acts_after(6).unwrap(),
        [(7, ActId([7; 16])), (8, ActId([8; 16]))]
    );
    let latest = catalog.latest_time_after(7).unwrap();
    assert_eq!(latest.map(Timestamp::as_second), Some(8));
    assert_eq!(catalog.latest_time_after(8).unwrap(), None);
}

#[tokio::test]
async fn a_leap_of_the_logs_times_is_found_and_a_clock_that_was_behind_is_none() {
    let mut log = Log::new();
    for number in [1, 2, 50, 3, 51, 52] {
        log.commit(&snapshot("web1", number));
    }
    let catalog = log.synced().await;
    let leap = |after: (u64, Option<i64>), longer_than| {
        let after = (after.0, after.1.map(from_nanos));
        let longer_than = Duration::from_secs(longer_than);
        let found = catalog.last_leap_after(after, longer_than).unwrap();
        found.map(|(before, at)| (before.as_second(), at.as_second()))
    };
    assert_eq!(leap((0, None), 40), Some((2, 50)));
    assert_eq!(leap((0, None), 48), None);
    // After a record that stands for a time of its own.
    assert_eq!(leap((3, None), 40), Some((3, 51)));
    assert_eq!(leap((3, Some(1_000_000_000)), 40), Some((3, 51)));
    assert_eq!(leap((4, None), 40), None);
    assert_eq!(leap((4, Some(0)), 40), Some((0, 51)));
}

/// The keys of a role that adds snapshots and opens nothing.
fn writing_keys() -> RepositoryKeys {
    let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Write);
    RepositoryKeys::derive(&bundle, REPOSITORY, EPOCH)
}

#[tokio::test]
async fn keys_that_open_nothing_take_in_the_chain_and_whoever_opens_reads_what_was_left() {
    let mut log = Log::with_records(2);
    log.commit(&act(3, Act::Prune(Prune::default())));
    let lease = Payload::Lease(Lease {
        coordinator: CoordinatorId([7; 16]),
        machine: "elsewhere".into(),
        taken_nanos: 4,
    });
    log.commit(&lease);
    let mut catalog = log.catalog();
    let keys = writing_keys();
    assert_eq!(catalog.sync(&log.store, &keys).await.unwrap(), 4);
    assert_eq!(catalog.head().unwrap(), log.head);
    let kinds: Vec<_> = catalog.unread().unwrap();
    assert_eq!(
        kinds,
        [
            (1, RecordKind::Snapshot),
            (2, RecordKind::Snapshot),
            (3, RecordKind::Retention),
            (4, RecordKind::LeaseOrSettings),
        ]
    );
    assert!(catalog.snapshots(None).unwrap().is_empty());
    assert_eq!(catalog.last_unread_act().unwrap(), 3);
    assert_eq!(catalog.hidden_lease_at(u64::MAX).unwrap(), Some(4));
    assert_eq!(catalog.hidden_lease_at(3).unwrap(), None);
    assert_eq!(catalog.unheeded().unwrap(), Some(3));
    catalog.heed().unwrap();
    assert_eq!(catalog.unheeded().unwrap(), None);
    // What is made here is known, and its lease is the last one.
    let (place, id) = log.commit(&lease);
    catalog.append(&place, id, &lease).unwrap();
    assert_eq!(catalog.hidden_lease_at(u64::MAX).unwrap(), None);
    let thinning = Thinning {
        destination: "nas".into(),
        ..Thinning::default()
    };
    log.commit(&act(6, Act::Thin(thinning)));
    catalog.sync(&log.store, &keys).await.unwrap();
    assert_eq!(catalog.unheeded().unwrap(), Some(6));

    // Who opens them has the same catalog as one that is read anew, also of what came before its own records.
    let path = log.dir.path().join("anew.db");
    let mut fresh = Catalog::open(&path, REPOSITORY, EPOCH).unwrap();
    log.sync(&mut fresh).await.unwrap();
    assert_eq!(log.sync(&mut catalog).await.unwrap(), 0);
    assert!(catalog.unread().unwrap().is_empty());
    assert_eq!(
        catalog.snapshots(None).unwrap(),
        fresh.snapshots(None).unwrap()
    );
    assert_eq!(catalog.lease().unwrap(), fresh.lease().unwrap());
    assert_eq!(
        catalog.prunes_after(0).unwrap(),
        fresh.prunes_after(0).unwrap()
    );
    assert_eq!(catalog.last_thinning().unwrap(), 6);
    assert_eq!(fresh.last_thinning().unwrap(), 6);
    log.lose(6);
    let refused = catalog.sync(&log.store, &keys).await;
    assert!(matches!(refused, Err(SyncError::Rollback { .. })));
}

#[tokio::test]
async fn settings_that_storage_did_not_acknowledge_are_nobody_elses_lease() {
    let mut log = Log::new();
    let mut catalog = log.catalog();
    let own = Payload::Settings(HostSettings {
        host: "web1".into(),
        toml: "x".into(),
    });
    let (place, id) = log.commit(&own);
    catalog.intend(&place, id, &own).unwrap();
    catalog.sync(&log.store, &writing_keys()).await.unwrap();
    assert_eq!(catalog.hidden_lease_at(u64::MAX).unwrap(), None);
    assert_eq!(catalog.host_settings("web1").unwrap().as_deref(), Some("x"));
}

#[tokio::test]
async fn a_snapshot_that_storage_did_not_acknowledge_is_known_by_keys_that_could_not_open_it() {
    let mut log = Log::new();
    let keys = writing_keys();
    let mut catalog = log.catalog();
    let (own, other) = (snapshot("web1", 1), snapshot("web1", 2));
    let (place, id) = log.commit(&own);
    catalog.intend(&place, id, &own).unwrap();
    log.commit(&other);
    catalog.sync(&log.store, &keys).await.unwrap();
    let known = catalog.snapshots(Some("web1")).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].id, id);
    assert_eq!(catalog.unread().unwrap(), [(2, RecordKind::Snapshot)]);
}
