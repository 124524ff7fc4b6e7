//! Every step that touches a disk fails once: nothing is acknowledged, nothing is visible, nothing is left, and
//! the same upload succeeds afterwards.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use append_server::clock::SystemClock;
use append_server::destination::beneath::ResolveBy;
use append_server::destination::faults::{FailWhen, FaultPlan, FaultyDestination};
use append_server::destination::local::{LocalDestination, LocalOptions};
use append_server::destination::memory::MemoryDestination;
use append_server::destination::{ByteRange, Destination, DestinationError, ObjectKey, PutOutcome};
use append_server::fan_out::queue::{Queue, QueuedObject};
use append_server::fan_out::{
    DestinationStatus, FanOut, FanOutError, FanOutPolicy, FanOutTools, Placement,
};
use append_server::io_faults::{IoFaults, IoStep};
use append_server::spool::{Purpose, Spool, SpoolOptions, spool_bytes};
use formats::ids::{PackId, RepositoryId};
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::refusal::RefusalKind;
use rustix::io::Errno;
use support::{
    BenchOptions, REPOSITORY, boxed, destination_name, files_under, pack_name, sample, start,
    start_at,
};
use tempfile::TempDir;

fn try_fan_out(
    placements: Vec<Placement>,
    dir: &TempDir,
    spool: &Arc<Spool>,
) -> Result<FanOut, FanOutError> {
    fan_out_with(placements, dir, spool, 1)
}

fn fan_out_with(
    placements: Vec<Placement>,
    dir: &TempDir,
    spool: &Arc<Spool>,
    copies_min: usize,
) -> Result<FanOut, FanOutError> {
    let policy = FanOutPolicy {
        reserve_bytes: 0,
        copies_min,
        patience: Duration::ZERO,
    };
    let tools = FanOutTools {
        queue: dir.path().join("deliveries.sqlite"),
        spool: Arc::clone(spool),
        clock: Arc::new(SystemClock),
    };
    FanOut::start(placements, policy, &tools)
}

fn fan_out(placements: Vec<Placement>, dir: &TempDir, spool: &Arc<Spool>) -> FanOut {
    try_fan_out(placements, dir, spool).unwrap()
}

/// Uploads with a fault at every time of every step; which steps there were.
async fn fail_every_step(
    place: impl Fn() -> (TempDir, PathBuf),
    errno: Errno,
    kind: RefusalKind,
) -> Vec<IoStep> {
    let mut failed = Vec::new();
    for step in IoStep::ALL {
        let mut nth = 0;
        while fail_step(&place, IoFaults::fail(step, nth, errno), kind).await {
            nth += 1;
        }
        if nth > 0 {
            failed.push(step);
        }
    }
    failed
}

/// One upload with a fault, and the same again; whether the fault was reached.
async fn fail_step(
    place: &impl Fn() -> (TempDir, PathBuf),
    faults: IoFaults,
    kind: RefusalKind,
) -> bool {
    let body = sample(700_000, 1);
    let (dir, spool) = place();
    let root = dir.path().join("root");
    LocalDestination::create(&root).unwrap();
    let options = BenchOptions {
        spool_faults: faults.clone(),
        local: LocalOptions {
            resolve: ResolveBy::Kernel,
            faults: faults.clone(),
        },
        ..BenchOptions::default()
    };
    let bench = start_at(dir, root, spool, options).await;
    bench.open_run().await;
    let answer = bench.agent().await.put_pack(&body).await;
    if !faults.has_failed() {
        assert_eq!(answer.status, 201);
        return false;
    }
    assert_eq!(answer.refusal(), kind, "{faults:?}");
    bench.spool_is_empty().await;
    assert!(
        bench.objects().is_empty(),
        "{faults:?}: {:?}",
        bench.objects()
    );

    let answer = bench.agent().await.put_pack(&body).await;
    assert_eq!(answer.status, 201, "{faults:?}, again");
    assert_eq!(bench.objects(), [pack_name(&body)]);
    let stored = std::fs::read(bench.root.join(pack_name(&body))).unwrap();
    assert_eq!(stored, body);
    true
}

#[tokio::test]
async fn any_failing_step_leaves_nothing_when_objects_are_linked() {
    let place = || {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        (dir, spool)
    };
    for (errno, kind) in [
        (Errno::NOSPC, RefusalKind::NoSpace),
        (Errno::DQUOT, RefusalKind::NoSpace),
        (Errno::IO, RefusalKind::Storage),
        (Errno::ROFS, RefusalKind::Storage),
    ] {
        let failed = fail_every_step(place, errno, kind).await;
        let copying = [
            IoStep::CreateTemporary,
            IoStep::WriteTemporary,
            IoStep::SyncTemporary,
        ];
        assert!(
            IoStep::ALL
                .iter()
                .all(|step| failed.contains(step) != copying.contains(step))
        );
    }
}

#[tokio::test]
async fn any_failing_step_leaves_nothing_when_objects_are_copied() {
    let Ok(far) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let place = || {
        let dir = tempfile::tempdir().unwrap();
        let spool = far.path().join("spool");
        (dir, spool)
    };
    for (errno, kind) in [
        (Errno::NOSPC, RefusalKind::NoSpace),
        (Errno::IO, RefusalKind::Storage),
    ] {
        assert_eq!(fail_every_step(place, errno, kind).await, IoStep::ALL);
    }
}

fn spool(dir: &TempDir) -> Arc<Spool> {
    let options = SpoolOptions {
        dir: dir.path().join("spool"),
        bytes_max: 64 << 20,
        reserve_bytes: 0,
    };
    Spool::open(&options, IoFaults::none()).unwrap()
}

/// Calls that look at what a destination has of a repository, before the first put.
const LOOKS: u64 = 3;

fn memory(name: &str) -> MemoryDestination {
    MemoryDestination::new(destination_name(name))
}

fn faulty(name: &str, when: FailWhen, errno: Errno) -> FaultyDestination<MemoryDestination> {
    let plan = FaultPlan {
        first: 0,
        count: u64::MAX,
        when,
        errno,
    };
    FaultyDestination::new(memory(name), plan)
}

fn placement(
    destination: impl append_server::destination::Destination + 'static,
    required: bool,
) -> Placement {
    Placement {
        destination: boxed(destination),
        required,
    }
}

fn log(sequence: u64) -> ObjectKey {
    ObjectKey {
        repository: REPOSITORY,
        name: ObjectName::Log(sequence),
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_without_every_required_destination() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let body = spool_bytes(&spool, "record".into(), Purpose::Commit)
        .await
        .unwrap();
    for when in [FailWhen::Before, FailWhen::After] {
        for broken_first in [true, false] {
            let plan = FaultPlan {
                first: LOOKS,
                count: u64::MAX,
                when,
                errno: Errno::NOSPC,
            };
            let broken = FaultyDestination::new(memory("broken"), plan);
            let mut all = vec![placement(broken, true), placement(memory("good"), true)];
            if !broken_first {
                all.reverse();
            }
            let fan_out = fan_out(all, &dir, &spool);
            let error = fan_out.put(&log(1), body.clone()).await.unwrap_err();
            assert!(
                matches!(&error, FanOutError::TooFewReplicas { source, .. } if source.is_no_space()),
                "{error:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_destination_that_is_not_required_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let fan_out = fan_out(
        vec![
            placement(memory("good"), true),
            placement(faulty("broken", FailWhen::Before, Errno::IO), false),
        ],
        &dir,
        &spool,
    );
    let body = spool_bytes(&spool, "record".into(), Purpose::Commit)
        .await
        .unwrap();
    let outcome = fan_out.put(&log(1), body).await.unwrap();
    assert_eq!(outcome, PutOutcome::Created);
    assert_eq!(fan_out.head(None, &log(1)).await.unwrap(), 6);
    fan_out.drain(Duration::from_secs(10)).await;
    assert!(files_under(spool.path()).is_empty());
}

#[tokio::test]
async fn a_destination_that_missed_an_object_gets_it_with_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let once = FaultPlan {
        first: LOOKS,
        count: 1,
        when: FailWhen::Before,
        errno: Errno::TIMEDOUT,
    };
    let lagging = Arc::new(FaultyDestination::new(memory("lagging"), once));
    let good = placement(memory("good"), true);
    let all = vec![
        good,
        Placement {
            destination: lagging.clone(),
            required: true,
        },
    ];
    let fan_out = fan_out(all, &dir, &spool);
    let body = spool_bytes(&spool, "record".into(), Purpose::Commit)
        .await
        .unwrap();
    let error = fan_out.put(&log(1), body.clone()).await.unwrap_err();
    assert!(
        matches!(&error, FanOutError::TooFewReplicas { source, .. } if source.is_retryable()),
        "{error:?}"
    );
    let outcome = fan_out.put(&log(1), body.clone()).await.unwrap();
    assert_eq!(outcome, PutOutcome::Created);
    let outcome = fan_out.put(&log(1), body).await.unwrap();
    assert_eq!(outcome, PutOutcome::ExistsSame);
}

async fn records_listed(fan_out: &FanOut) -> usize {
    let list = fan_out
        .list(None, REPOSITORY, ObjectKind::Log, None, 10)
        .await;
    list.unwrap().objects.len()
}

/// Fails its first calls but those that look at what it has, as one that is away does, and is back after them.
fn back_after(name: &str, calls: u64) -> Arc<FaultyDestination<MemoryDestination>> {
    let plan = FaultPlan {
        first: LOOKS,
        count: calls,
        when: FailWhen::Before,
        errno: Errno::IO,
    };
    Arc::new(FaultyDestination::new(memory(name), plan))
}

#[tokio::test]
async fn a_record_that_only_the_first_destination_has_is_everywhere_before_the_next() {
    for restarted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir);
        let places: [Arc<dyn Destination>; 3] = [
            Arc::new(memory("first")),
            back_after("second", 1),
            Arc::new(memory("far")),
        ];
        let server = || {
            let placements = places.clone().map(|destination| Placement {
                required: destination.name() != &destination_name("far"),
                destination,
            });
            fan_out(placements.into(), &dir, &spool)
        };
        let mut fan_out = server();
        let body = |text: &'static str| spool_bytes(&spool, text.into(), Purpose::Commit);
        let failed = fan_out.put(&log(1), body("one").await.unwrap()).await;
        assert!(failed.is_err());
        if restarted {
            fan_out = server();
        }
        fan_out
            .put(&log(2), body("two").await.unwrap())
            .await
            .unwrap();
        fan_out.drain(Duration::from_secs(10)).await;
        for place in &places {
            for (sequence, bytes) in [(1, 3), (2, 3)] {
                let there = place.head(log(sequence)).await;
                let name = place.name();
                assert_eq!(there.unwrap(), bytes, "{name}, record {sequence}");
            }
        }
    }
}

#[tokio::test]
async fn a_record_that_is_not_everywhere_is_not_listed_and_none_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let (first, second) = (Arc::new(memory("first")), back_after("second", 4));
    let placements = || {
        let all: [Arc<dyn Destination>; 2] = [first.clone(), second.clone()];
        all.map(|destination| Placement {
            destination,
            required: true,
        })
    };
    let server = fan_out(placements().into(), &dir, &spool);
    let body = |text: &'static str| spool_bytes(&spool, text.into(), Purpose::Commit);
    let failed = server.put(&log(1), body("one").await.unwrap()).await;
    assert!(failed.is_err());
    assert_eq!(first.head(log(1)).await.unwrap(), 3);

    assert_eq!(records_listed(&server).await, 0);
    let next = server.put(&log(2), body("two").await.unwrap()).await;
    assert!(
        matches!(&next, Err(FanOutError::StoredByHalves { key, .. }) if *key == log(1)),
        "{next:?}"
    );
    let opened = server.settle(REPOSITORY).await;
    assert!(opened.is_err());
    let status = server.status().unwrap().pop().unwrap();
    assert_eq!((status.lag.objects, status.lag.bytes), (1, 3));
    assert!(status.problem.unwrap().contains(&log(1).to_string()));

    // It is back; whoever looks next brings it what it lacks.
    let server = fan_out(placements().into(), &dir, &spool);
    assert_eq!(records_listed(&server).await, 1);
    assert_eq!(second.head(log(1)).await.unwrap(), 3);
    server
        .put(&log(2), body("two").await.unwrap())
        .await
        .unwrap();
    assert_eq!(records_listed(&server).await, 2);
    assert_eq!(server.status().unwrap().pop().unwrap().lag.objects, 0);
}

#[tokio::test]
async fn what_was_never_stored_hides_and_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    // The first fails before anything is stored; what is put after that has other bytes.
    let (first, second) = (back_after("first", 1), Arc::new(memory("second")));
    let all: [Arc<dyn Destination>; 2] = [first.clone(), second.clone()];
    let placements = all.map(|destination| Placement {
        destination,
        required: true,
    });
    let server = fan_out(placements.into(), &dir, &spool);
    let body = |text: &'static str| spool_bytes(&spool, text.into(), Purpose::Commit);
    let failed = server.put(&log(1), body("one").await.unwrap()).await;
    assert!(failed.is_err());
    assert_eq!(records_listed(&server).await, 0);
    for sequence in [1, 2] {
        let stored = server
            .put(&log(sequence), body("other").await.unwrap())
            .await;
        assert_eq!(stored.unwrap(), PutOutcome::Created);
    }
    assert_eq!(records_listed(&server).await, 2);
    assert_eq!(second.head(log(1)).await.unwrap(), 5);
    assert_eq!(server.status().unwrap().remove(0).lag.objects, 0);
    // One who comes late with other bytes is refused, and leaves nothing behind.
    let late = server.put(&log(2), body("late").await.unwrap()).await;
    assert!(matches!(late, Err(FanOutError::Conflict { .. })));
    assert_eq!(records_listed(&server).await, 2);
}

/// A repository with a config, a pack and two records on one destination alone.
async fn backed_up_before(dir: &TempDir, spool: &Arc<Spool>) -> Arc<MemoryDestination> {
    let old = Arc::new(memory("old"));
    let placements = vec![Placement {
        destination: old.clone(),
        required: true,
    }];
    let server = fan_out(placements, dir, spool);
    for key in backed_up_names() {
        let body = spool_bytes(spool, "object".into(), Purpose::Commit).await;
        server.put(&key, body.unwrap()).await.unwrap();
    }
    old
}

fn backed_up_names() -> Vec<ObjectKey> {
    let pack = ObjectName::Pack(PackId(*blake3::hash(b"object").as_bytes()));
    let names = [ObjectName::Config, pack].map(|name| ObjectKey { name, ..log(0) });
    names.into_iter().chain([log(1), log(2)]).collect()
}

async fn has_everything(place: &dyn Destination) -> bool {
    for key in backed_up_names() {
        if place.head(key).await.is_err() {
            return false;
        }
    }
    true
}

/// Fills a destination and waits until it has everything.
async fn fill(server: &FanOut, name: &str) {
    let name = destination_name(name);
    let queued = server.queue_missing(REPOSITORY, &name).await.unwrap();
    assert_eq!(queued.objects, 4);
    for _ in 0..1_000 {
        let all = server.status().unwrap();
        let status = all.iter().find(|status| status.name == name).unwrap();
        if status.lag.objects == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", server.status());
}

#[tokio::test]
async fn a_required_destination_that_was_added_later_counts_once_it_is_filled() {
    for new_first in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir);
        let old = backed_up_before(&dir, &spool).await;
        let new = Arc::new(memory("new"));
        let all: [Arc<dyn Destination>; 2] = [old.clone(), new.clone()];
        let mut placements = Vec::from(all.map(|destination| Placement {
            destination,
            required: true,
        }));
        if new_first {
            placements.reverse();
        }
        let server = fan_out(placements, &dir, &spool);
        let body = || spool_bytes(&spool, "next".into(), Purpose::Commit);
        let refused = server.put(&log(3), body().await.unwrap()).await;
        let text = format!("{:#}", refused.as_ref().unwrap_err());
        assert!(
            matches!(&refused, Err(FanOutError::Lacks { name, objects: 3, .. }) if name == new.name()),
            "{refused:?}"
        );
        assert!(text.contains("coordinator destination sync new"), "{text}");
        assert!(server.ready_for(REPOSITORY).await.is_err());
        assert!(new.head(log(3)).await.is_err_and(|error| error.is_absent()));

        fill(&server, "new").await;
        assert!(has_everything(new.as_ref()).await);
        server.ready_for(REPOSITORY).await.unwrap();
        server.put(&log(3), body().await.unwrap()).await.unwrap();
        assert_eq!(records_listed(&server).await, 3);
        assert_eq!(new.head(log(3)).await.unwrap(), 4);
    }
}

#[tokio::test]
async fn a_required_destination_that_is_being_filled_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let old = backed_up_before(&dir, &spool).await;
    // Lists, and takes nothing.
    let plan = FaultPlan {
        first: 5,
        count: u64::MAX,
        when: FailWhen::Before,
        errno: Errno::IO,
    };
    let new = Arc::new(FaultyDestination::new(memory("new"), plan));
    let all: [Arc<dyn Destination>; 2] = [new.clone(), old];
    let placements = all.map(|destination| Placement {
        destination,
        required: true,
    });
    let server = fan_out(placements.into(), &dir, &spool);
    let queued = server.queue_missing(REPOSITORY, new.name()).await.unwrap();
    assert_eq!(queued.objects, 4);
    assert_eq!(records_listed(&server).await, 2);
    let body = spool_bytes(&spool, "next".into(), Purpose::Commit).await;
    let refused = server.put(&log(3), body.unwrap()).await;
    assert!(
        matches!(&refused, Err(FanOutError::RequiredIsBehind { name, objects: 4, .. }) if name == new.name()),
        "{refused:?}"
    );
    drop(server);

    // Alone it would look as if there had never been anything.
    let empty = Placement {
        destination: Arc::new(memory("new")),
        required: true,
    };
    let alone = fan_out(vec![empty], &dir, &spool);
    let list = alone.list(None, REPOSITORY, ObjectKind::Log, None, 10);
    assert!(matches!(
        list.await,
        Err(FanOutError::RequiredIsBehind { .. })
    ));
    let head = alone.head(None, &log(1)).await;
    assert!(matches!(head, Err(FanOutError::RequiredIsBehind { .. })));
}

#[tokio::test]
async fn a_follower_that_was_added_later_is_no_copy_before_it_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let old = backed_up_before(&dir, &spool).await;
    let new = Arc::new(memory("new"));
    let placements = vec![
        Placement {
            destination: old,
            required: true,
        },
        Placement {
            destination: new.clone(),
            required: false,
        },
    ];
    let server = fan_out_with(placements, &dir, &spool, 2).unwrap();
    let refused = server.ready_for(REPOSITORY).await;
    assert!(
        matches!(&refused, Err(FanOutError::Lacks { name, objects: 3, .. }) if name == new.name()),
        "{refused:?}"
    );
    fill(&server, "new").await;
    assert!(has_everything(new.as_ref()).await);
    server.ready_for(REPOSITORY).await.unwrap();
}

async fn status_of(server: &FanOut, wanted: impl Fn(&DestinationStatus) -> bool) {
    for _ in 0..1_500 {
        if server.status().unwrap().iter().any(&wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", server.status());
}

#[tokio::test]
async fn packs_that_cannot_be_read_hold_up_nothing_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let root = dir.path().join("root");
    LocalDestination::create(&root).unwrap();
    let local = LocalDestination::open(destination_name("local"), &root, LocalOptions::default());
    let local = Arc::new(local.unwrap());
    let mut packs = Vec::new();
    for seed in 0..12 {
        let bytes = sample(1_000, seed);
        let key = ObjectKey {
            repository: REPOSITORY,
            name: ObjectName::Pack(PackId(*blake3::hash(&bytes).as_bytes())),
        };
        let body = spool_bytes(&spool, bytes.into(), Purpose::Data)
            .await
            .unwrap();
        local.put_if_absent(key.clone(), body).await.unwrap();
        packs.push((key, 1_000));
    }
    // A record of another repository is behind them all.
    let record = ObjectKey {
        repository: RepositoryId([0x77; 16]),
        name: ObjectName::Log(1),
    };
    let body = spool_bytes(&spool, "record".into(), Purpose::Commit).await;
    local
        .put_if_absent(record.clone(), body.unwrap())
        .await
        .unwrap();
    for (key, _) in &packs[..9] {
        // What stands there now is no file that could be read.
        let path = root.join(key.to_string());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    }
    let far = Arc::new(memory("far"));
    let queued: Vec<_> = packs
        .iter()
        .cloned()
        .chain([(record.clone(), 6)])
        .map(|(key, bytes)| QueuedObject {
            key,
            bytes,
            digest: None,
        })
        .collect();
    let queue = Queue::open(&dir.path().join("deliveries.sqlite")).unwrap();
    queue.add(&[far.name().clone()], &queued, 1).unwrap();
    let server = fan_out(
        vec![
            Placement {
                destination: local,
                required: true,
            },
            Placement {
                destination: far.clone(),
                required: false,
            },
        ],
        &dir,
        &spool,
    );
    status_of(&server, |status| status.lag.objects == 9).await;
    assert_eq!(far.head(record).await.unwrap(), 6);
    for (key, bytes) in packs.split_off(9) {
        assert_eq!(far.head(key).await.unwrap(), bytes);
    }
    let problem = server.status().unwrap().pop().unwrap().problem;
    assert!(problem.unwrap().contains("could not read it where it is"));
}

#[tokio::test]
async fn a_record_whose_copies_differ_is_told_and_not_spread() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let places = ["one", "two", "far"].map(|name| Arc::new(memory(name)));
    let [one, two, far] = &places;
    for (place, texts) in [(one, ["first", "secOnd"]), (two, ["first", "second"])] {
        for (sequence, text) in (1..).zip(texts) {
            let body = spool_bytes(&spool, text.into(), Purpose::Commit).await;
            place
                .put_if_absent(log(sequence), body.unwrap())
                .await
                .unwrap();
        }
    }
    let placements = places.each_ref().map(|place| Placement {
        required: place.name() != far.name(),
        destination: place.clone(),
    });
    let server = fan_out(placements.into(), &dir, &spool);
    let queued = server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    assert_eq!(queued.objects, 2);
    let told = |status: &DestinationStatus| {
        let problem = status.problem.as_deref().unwrap_or_default();
        let words = [&log(2).to_string(), "one", "two", "differ", "scan --repair"];
        status.lag.objects == 1 && words.iter().all(|word| problem.contains(*word))
    };
    status_of(&server, told).await;
    assert_eq!(far.head(log(1)).await.unwrap(), 5);
    assert!(far.head(log(2)).await.is_err_and(|error| error.is_absent()));
}

#[tokio::test]
async fn an_error_is_never_taken_for_absent_or_for_an_empty_list() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let fan_out = fan_out(
        vec![
            placement(memory("empty"), true),
            placement(faulty("broken", FailWhen::Before, Errno::IO), true),
        ],
        &dir,
        &spool,
    );
    for error in [
        fan_out.head(None, &log(1)).await.unwrap_err(),
        fan_out
            .get_range(None, &log(1), ByteRange::ALL)
            .await
            .map(|read| read.bytes)
            .unwrap_err(),
    ] {
        assert!(
            matches!(&error, FanOutError::Read(source) if matches!(**source, DestinationError::Permanent { .. })),
            "{error:?}"
        );
    }
    // A data pack may be kept by one alone that does not answer now; what every one has is where the required ones are.
    let kept_elsewhere = crate::fan_out(
        vec![
            placement(memory("empty"), true),
            placement(faulty("broken", FailWhen::Before, Errno::IO), false),
        ],
        &dir,
        &spool,
    );
    let pack = ObjectKey {
        name: ObjectName::Pack(PackId([7; 32])),
        ..log(0)
    };
    let is_absent = async |key: &ObjectKey| match kept_elsewhere.head(None, key).await {
        Err(FanOutError::Read(error)) => error.is_absent(),
        other => panic!("nobody has it: {other:?}"),
    };
    assert!(!is_absent(&pack).await);
    assert!(is_absent(&log(1)).await);
    let only_broken = crate::fan_out(
        vec![
            placement(faulty("broken", FailWhen::Before, Errno::IO), true),
            placement(memory("behind"), false),
        ],
        &dir,
        &spool,
    );
    let list = only_broken
        .list(None, REPOSITORY, ObjectKind::Log, None, 10)
        .await;
    assert!(list.is_err());
    assert!(matches!(
        try_fan_out(vec![placement(memory("a"), false)], &dir, &spool),
        Err(FanOutError::NothingRequired)
    ));
}

#[tokio::test]
async fn of_two_writers_of_a_log_record_one_wins_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let places: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(memory(name))).into();
    let server = |order: [usize; 3]| {
        let placements = order.map(|index| Placement {
            destination: places[index].clone(),
            required: true,
        });
        Arc::new(fan_out(placements.into(), &dir, &spool))
    };
    for sequence in 0..50 {
        // Two servers of the same configuration.
        let (one, two) = (server([0, 1, 2]), server([0, 1, 2]));
        let first = spool_bytes(&spool, "first".into(), Purpose::Commit)
            .await
            .unwrap();
        let second = spool_bytes(&spool, "second".into(), Purpose::Commit)
            .await
            .unwrap();
        let key = log(sequence);
        let (first, second) = tokio::join!(one.put(&key, first), two.put(&key, second));
        assert!(first.is_ok() != second.is_ok());
        let expected = if first.is_ok() { 5 } else { 6 };
        for place in &places {
            assert_eq!(place.head(key.clone()).await.unwrap(), expected);
        }
    }
}

/// A file system of its own size; nothing where this user may not mount.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "capstan-test"])
            .arg(&at)
            .status();
        match status {
            Ok(status) if status.success() => Some(Self(at)),
            _ => {
                eprintln!("not tried: this user cannot mount a tmpfs");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ended = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn full_disk(spool_is_full: bool, options: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(dir.path().join("disk"), options) else {
        return;
    };
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let (root, spool) = if spool_is_full {
        (other.join("root"), disk.0.join("spool"))
    } else {
        (disk.0.join("root"), other.join("spool"))
    };
    LocalDestination::create(&root).unwrap();
    let bench = start_at(dir, root, spool, BenchOptions::default()).await;
    bench.open_run().await;
    let mut stored = Vec::new();
    let mut refused = 0;
    for seed in 0..40 {
        let body = sample(if seed % 2 == 0 { 300_000 } else { 6_000_000 }, seed);
        let mut agent = bench.agent().await;
        let answer = agent.put_pack(&body).await;
        if answer.status == 201 {
            stored.push(body);
        } else {
            assert_eq!(
                (answer.status, answer.refusal()),
                (507, RefusalKind::NoSpace)
            );
            refused += 1;
        }
    }
    assert!(refused > 0 && !stored.is_empty());
    let mut names: Vec<_> = stored.iter().map(|body| pack_name(body)).collect();
    names.sort();
    assert_eq!(bench.objects(), names);
    for body in &stored {
        assert_eq!(
            std::fs::read(bench.root.join(pack_name(body))).unwrap(),
            *body
        );
    }
    bench.spool_is_empty().await;
}

#[tokio::test]
async fn a_full_spool_disk_is_said_and_loses_nothing() {
    full_disk(true, "size=4m").await;
}

#[tokio::test]
async fn a_full_destination_is_said_and_loses_nothing() {
    full_disk(false, "size=4m").await;
}

#[tokio::test]
async fn a_destination_out_of_inodes_is_said_and_loses_nothing() {
    full_disk(false, "size=200m,nr_inodes=24").await;
}

#[tokio::test]
async fn the_reserve_is_kept_for_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(dir.path().join("disk"), "size=24m") else {
        return;
    };
    let (root, spool) = (disk.0.join("root"), disk.0.join("spool"));
    LocalDestination::create(&root).unwrap();
    let options = BenchOptions {
        reserve_bytes: 8 << 20,
        ..BenchOptions::default()
    };
    let bench = start_at(dir, root, spool, options).await;
    let mut control = bench.control().await;
    let path = format!("/v1/removals/{REPOSITORY}/room?bytes=");
    let mut room = async |bytes: u64| {
        let path = format!("{path}{bytes}");
        control.request("GET", &path, &[], b"").await
    };
    assert_eq!(room(8 << 20).await.status, 204);
    let refused = room(17 << 20).await;
    assert_eq!(refused.refusal(), RefusalKind::NoSpace, "{refused:?}");
    bench.open_run().await;
    let mut stored = 0;
    let refused = loop {
        let answer = bench.agent().await.put_pack(&sample(3 << 20, stored)).await;
        if answer.status != 201 {
            break answer;
        }
        stored += 1;
        assert!(stored < 10);
    };
    assert_eq!(refused.refusal(), RefusalKind::NoSpace);
    assert!(stored >= 4);
    assert_eq!(room(1).await.refusal(), RefusalKind::NoSpace);
    // Data is over; the log goes on.
    for sequence in 0..3 {
        let path = format!(
            "/v1/repositories/{REPOSITORY}/{}",
            ObjectName::Log(sequence)
        );
        let answer = control
            .request("PUT", &path, &[], &sample(1 << 20, sequence))
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test]
async fn what_a_crash_left_in_the_spool_is_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (root, spool) = (dir.path().join("root"), dir.path().join("spool"));
    LocalDestination::create(&root).unwrap();
    std::fs::create_dir_all(spool.join("spool-00112233")).unwrap();
    std::fs::write(spool.join("spool-00112233/0000"), sample(1_000, 1)).unwrap();
    let bench = start_at(dir, root, spool, BenchOptions::default()).await;
    assert!(bench.spooled().is_empty());
    assert!(bench.objects().is_empty());
}

#[tokio::test]
async fn an_object_that_was_linked_before_a_crash_is_made_durable_by_the_next_put() {
    // A crash between the link and the folder's sync: the name is there, and nobody was told.
    let bench = start(BenchOptions::default()).await;
    let body = sample(10_000, 1);
    let path = bench.root.join(pack_name(&body));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &body).unwrap();
    bench.open_run().await;
    let answer = bench.agent().await.put_pack(&body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.stored().existed);
}

#[tokio::test]
async fn a_damaged_copy_is_a_conflict_and_is_not_overwritten() {
    let bench = start(BenchOptions::default()).await;
    let body = sample(10_000, 1);
    let path = bench.root.join(pack_name(&body));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    bench.open_run().await;
    for damaged in [&b""[..], &body[..9_999], &sample(10_000, 2)] {
        std::fs::write(&path, damaged).unwrap();
        let answer = bench.agent().await.put_pack(&body).await;
        assert_eq!(
            (answer.status, answer.refusal()),
            (409, RefusalKind::Conflict)
        );
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}
