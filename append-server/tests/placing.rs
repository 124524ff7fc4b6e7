//! A repository is kept at some of the destinations that nobody waits for: the others get nothing of it, after a restart too, and
//! one that is named again counts once it was filled.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "placing/copies.rs"]
mod copies;
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use append_server::clock::SystemClock;
use append_server::destination::faults::{FailWhen, FaultPlan, FaultyDestination};
use append_server::destination::memory::MemoryDestination;
use append_server::destination::{Destination, DestinationName, ObjectKey};
use append_server::fan_out::copies::{AskedBy, CopiesAsked};
use append_server::fan_out::queue::placing::{Keeping, KeptAt};
use append_server::fan_out::{FanOut, FanOutError, FanOutPolicy, FanOutTools, Placement};
use append_server::grants::{PlacingGrant, RemovalGrant, RepairGrant};
use append_server::io_faults::IoFaults;
use append_server::removals::{Proof, RemovalPolicy, Removals};
use append_server::spool::{Purpose, Spool, SpoolOptions, spool_bytes};
use formats::ids::{PackId, RepositoryId};
use formats::object::{ObjectKind, ObjectName};
use formats::wire::placing::{AskedPlaces, Copies, Placing};
use formats::wire::upload::destinations::{DestinationStates, Placed};
use formats::wire::upload::refusal::RefusalKind;
use rustix::io::Errno;
use support::{BenchOptions, REPOSITORY, destination_name, start};
use tempfile::TempDir;

const OTHER: RepositoryId = RepositoryId([0x77; 16]);

/// A destination, and whether nothing is acknowledged without it.
type Place = (Arc<dyn Destination>, bool);

struct Setup {
    dir: TempDir,
    spool: Arc<Spool>,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SpoolOptions {
            dir: dir.path().join("spool"),
            bytes_max: 64 << 20,
            reserve_bytes: 0,
        };
        let spool = Spool::open(&options, IoFaults::none()).unwrap();
        Self { dir, spool }
    }

    /// A server as after a restart, with what the one before has noted.
    fn server(&self, places: &[Place], copies_min: usize) -> FanOut {
        self.server_with_patience(places, copies_min, Duration::from_secs(20))
    }

    fn server_with_patience(
        &self,
        places: &[Place],
        copies_min: usize,
        patience: Duration,
    ) -> FanOut {
        let placements = places.iter().map(|(destination, required)| Placement {
            destination: Arc::clone(destination),
            required: *required,
        });
        let policy = FanOutPolicy {
            reserve_bytes: 0,
            copies_min,
            patience,
        };
        let tools = FanOutTools {
            queue: self.dir.path().join("deliveries.sqlite"),
            spool: Arc::clone(&self.spool),
            clock: Arc::new(SystemClock),
        };
        FanOut::start(placements.collect(), policy, &tools).unwrap()
    }

    async fn put(&self, server: &FanOut, key: &ObjectKey) -> Result<(), FanOutError> {
        let body = spool_bytes(&self.spool, "object".into(), Purpose::Commit).await;
        server.put(key, body.unwrap()).await.map(drop)
    }
}

fn memory(name: &str) -> Arc<dyn Destination> {
    Arc::new(MemoryDestination::new(destination_name(name)))
}

/// Takes nothing, and has nothing.
fn away(name: &str) -> Arc<dyn Destination> {
    let plan = FaultPlan {
        first: 0,
        count: u64::MAX,
        when: FailWhen::Before,
        errno: Errno::IO,
    };
    let inner = MemoryDestination::new(destination_name(name));
    Arc::new(FaultyDestination::new(inner, plan))
}

fn log(repository: RepositoryId, sequence: u64) -> ObjectKey {
    let name = ObjectName::Log(sequence);
    ObjectKey { repository, name }
}

fn pack() -> ObjectKey {
    ObjectKey {
        repository: REPOSITORY,
        name: ObjectName::Pack(digest()),
    }
}

fn digest() -> PackId {
    PackId(*blake3::hash(b"object").as_bytes())
}

fn these(names: &[&str]) -> KeptAt {
    KeptAt::These(names.iter().map(|name| destination_name(name)).collect())
}

async fn place(server: &FanOut, kept_at: KeptAt) -> Result<(), FanOutError> {
    ask(server, kept_at, Copies::Floor).await
}

async fn ask(server: &FanOut, kept_at: KeptAt, copies: Copies) -> Result<(), FanOutError> {
    let grant = PlacingGrant::of_this_process();
    let keeping = Keeping { kept_at, copies };
    server.place(vec![REPOSITORY], keeping, grant).await
}

fn placed(server: &FanOut, of: Option<RepositoryId>) -> Vec<Placed> {
    let states = server.status_of(of).unwrap();
    states.iter().map(|state| state.placed).collect()
}

async fn has(destination: &Arc<dyn Destination>, key: ObjectKey) -> bool {
    match destination.head(key).await {
        Ok(_) => true,
        Err(error) if error.is_absent() => false,
        Err(error) => panic!("{error}"),
    }
}

/// Waits until nothing is on its way to a destination any more.
async fn wait_for(server: &FanOut, name: &DestinationName) {
    for _ in 0..2_000 {
        let all = server.status().unwrap();
        let status = all.iter().find(|status| status.name == *name).unwrap();
        if status.lag.objects == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", server.status());
}

#[tokio::test]
async fn what_is_left_out_gets_nothing_after_a_restart_either_and_nothing_waits_for_it() {
    let setup = Setup::new();
    let (near, far) = (memory("near"), memory("far"));
    let places = [
        (memory("first"), true),
        (near.clone(), false),
        (far.clone(), false),
    ];
    let server = setup.server(&places, 2);
    place(&server, these(&["near"])).await.unwrap();
    for key in [pack(), log(REPOSITORY, 1), log(OTHER, 1)] {
        setup.put(&server, &key).await.unwrap();
    }
    drop(server);
    let server = setup.server(&places, 2);
    setup.put(&server, &log(REPOSITORY, 2)).await.unwrap();
    for place in [&near, &far] {
        wait_for(&server, place.name()).await;
    }
    for key in [pack(), log(REPOSITORY, 1), log(REPOSITORY, 2)] {
        assert!(has(&near, key.clone()).await, "{key}");
        assert!(!has(&far, key.clone()).await, "{key}");
    }
    assert!(has(&far, log(OTHER, 1)).await);
    let kept = Placed::Kept;
    assert_eq!(
        placed(&server, Some(REPOSITORY)),
        [kept, kept, Placed::LeftOut]
    );
    assert_eq!(placed(&server, Some(OTHER)), [kept; 3]);
    assert_eq!(placed(&server, None), [kept; 3]);

    // Neither a synchronisation nor a repair fills it.
    let queued = server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    assert_eq!(queued.objects, 0);
    let grant = RepairGrant::of_this_process();
    let healed = server
        .heal(far.name(), &pack(), digest(), &setup.spool, grant)
        .await;
    assert!(matches!(healed, Err(FanOutError::LeftOut { .. })));
    assert!(!has(&far, pack()).await);
    // Fewer than the copies that are asked for are never taken for a placing.
    let refused = place(&server, these(&[])).await;
    assert!(
        matches!(
            &refused,
            Err(FanOutError::KeptAtTooFew {
                asked: CopiesAsked {
                    copies: 2,
                    by: AskedBy::MinCopies
                },
                destinations: 1
            })
        ),
        "{refused:?}"
    );
    setup.put(&server, &log(REPOSITORY, 3)).await.unwrap();
}

#[tokio::test]
async fn what_is_named_again_is_no_copy_before_it_is_filled() {
    let setup = Setup::new();
    let far = memory("far");
    let places = [(memory("first"), true), (far.clone(), false)];
    let server = setup.server(&places, 1);
    place(&server, these(&[])).await.unwrap();
    for key in [pack(), log(REPOSITORY, 1)] {
        setup.put(&server, &key).await.unwrap();
    }
    drop(server);
    let server = setup.server(&places, 2);
    let refused = setup.put(&server, &log(REPOSITORY, 2)).await;
    assert!(
        matches!(refused, Err(FanOutError::KeptAtTooFew { .. })),
        "{refused:?}"
    );

    place(&server, KeptAt::Everywhere).await.unwrap();
    let unfilled = [Placed::Kept, Placed::Unfilled];
    assert_eq!(placed(&server, Some(REPOSITORY)), unfilled);
    assert_eq!(placed(&server, None), unfilled);
    for refused in [
        server.ready_for(REPOSITORY).await,
        setup.put(&server, &log(REPOSITORY, 2)).await,
    ] {
        let text = format!("{:#}", refused.as_ref().unwrap_err());
        assert!(
            matches!(&refused, Err(FanOutError::Unfilled { name, .. }) if name == far.name()),
            "{refused:?}"
        );
        assert!(text.contains("coordinator destination sync far"), "{text}");
    }
    assert!(!has(&far, log(REPOSITORY, 2)).await);

    let queued = server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    assert_eq!(queued.objects, 2);
    assert_eq!(placed(&server, None), [Placed::Kept; 2]);
    setup.put(&server, &log(REPOSITORY, 2)).await.unwrap();
    for key in [pack(), log(REPOSITORY, 1), log(REPOSITORY, 2)] {
        assert!(has(&far, key.clone()).await, "{key}");
    }
}

/// Both have the same log, and one lacks a pack that a later record may name.
#[tokio::test]
async fn what_was_dropped_on_its_way_is_missed_though_the_logs_are_alike() {
    for required in [false, true] {
        let setup = Setup::new();
        let first = memory("first");
        let server = setup.server(&[(first.clone(), true), (away("far"), false)], 1);
        setup.put(&server, &pack()).await.unwrap();
        let far = destination_name("far");
        let lag = |server: &FanOut| server.status().unwrap().pop().unwrap().lag.objects;
        assert_eq!(lag(&server), 1);
        place(&server, these(&[])).await.unwrap();
        assert_eq!(lag(&server), 0);
        place(&server, KeptAt::Everywhere).await.unwrap();
        assert_eq!(lag(&server), 0);
        drop(server);

        let back = memory("far");
        let server = setup.server(&[(first, true), (back.clone(), required)], 2);
        let refused = server.ready_for(REPOSITORY).await;
        assert!(
            matches!(&refused, Err(FanOutError::Unfilled { name, .. }) if *name == far),
            "{refused:?}"
        );
        assert_eq!(
            server
                .queue_missing(REPOSITORY, &far)
                .await
                .unwrap()
                .objects,
            1
        );
        server.ready_for(REPOSITORY).await.unwrap();
        wait_for(&server, &far).await;
        assert!(has(&back, pack()).await);
    }
}

/// Stored while it was left out, and named again: it lacks both, and nothing is on its way there.
async fn store_beside(setup: &Setup, first: &Arc<dyn Destination>, far: &Arc<dyn Destination>) {
    let server = setup.server(&[(first.clone(), true), (far.clone(), false)], 1);
    place(&server, these(&[])).await.unwrap();
    for key in [pack(), log(REPOSITORY, 1)] {
        setup.put(&server, &key).await.unwrap();
    }
    place(&server, KeptAt::Everywhere).await.unwrap();
}

#[tokio::test]
async fn what_is_waited_for_and_not_filled_is_not_believed_for_what_it_has_not() {
    let setup = Setup::new();
    let (first, far) = (memory("first"), memory("far"));
    store_beside(&setup, &first, &far).await;
    let list = async |server: &FanOut| {
        let listed = server.list(None, REPOSITORY, ObjectKind::Log, None, 10);
        listed.await.map(|list| list.objects.len())
    };
    // It is asked first, and says nothing of the log.
    let server = setup.server(&[(far.clone(), true), (first.clone(), true)], 1);
    assert_eq!(list(&server).await.unwrap(), 1);
    assert_eq!(server.head(None, &pack()).await.unwrap(), 6);
    drop(server);
    let server = setup.server(&[(far.clone(), true), (first, false)], 1);
    assert_eq!(server.head(None, &pack()).await.unwrap(), 6);
    for refused in [
        list(&server).await.map(|_| ()),
        server.head(None, &log(REPOSITORY, 2)).await.map(|_| ()),
    ] {
        assert!(
            matches!(&refused, Err(FanOutError::Unfilled { name, .. }) if name == far.name()),
            "{refused:?}"
        );
    }
    server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    wait_for(&server, far.name()).await;
    assert_eq!(list(&server).await.unwrap(), 1);
}

#[tokio::test]
async fn a_filling_that_could_not_ask_every_source_fills_nothing() {
    let setup = Setup::new();
    let (first, far) = (memory("first"), memory("far"));
    store_beside(&setup, &first, &far).await;
    for (second, expected) in [
        (away("second"), Placed::Unfilled),
        (memory("second"), Placed::Kept),
    ] {
        let places = [(first.clone(), true), (second, true), (far.clone(), false)];
        let server = setup.server(&places, 1);
        server.queue_missing(REPOSITORY, far.name()).await.unwrap();
        assert_eq!(placed(&server, Some(REPOSITORY))[2], expected);
        // What is known is brought all the same.
        wait_for(&server, far.name()).await;
        assert!(has(&far, pack()).await);
    }
}

#[tokio::test]
async fn nothing_is_removed_where_it_is_kept_and_not_filled_yet() {
    let setup = Setup::new();
    let (first, far) = (memory("first"), memory("far"));
    let server = setup.server(&[(first.clone(), true), (far.clone(), false)], 1);
    for key in [pack(), log(REPOSITORY, 1)] {
        setup.put(&server, &key).await.unwrap();
    }
    wait_for(&server, far.name()).await;
    place(&server, these(&[])).await.unwrap();
    place(&server, KeptAt::Everywhere).await.unwrap();

    let policy = RemovalPolicy {
        grace: Duration::ZERO,
        daily_bytes_max: u64::MAX,
        rules: HashMap::new(),
    };
    let removals = Removals::open(&setup.dir.path().join("removals.sqlite"), policy).unwrap();
    let proof = Proof {
        sequence: 1,
        digest: digest(),
    };
    let packs = [(pack().name, 6)];
    let grant = RemovalGrant::of_this_process;
    let condemned = removals.condemn(&server, REPOSITORY, proof, &packs, grant());
    condemned.await.unwrap();
    let swept = removals.sweep(&server, REPOSITORY, Some(proof), &packs, grant());
    assert_eq!(swept.await.unwrap().removed, 1);
    assert!(!has(&first, pack()).await && has(&far, pack()).await);

    server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    let again = removals.sweep(&server, REPOSITORY, None, &[], grant());
    assert_eq!(again.await.unwrap().removed, 1);
    assert!(!has(&far, pack()).await);
}

#[tokio::test]
async fn what_is_left_out_is_read_for_what_it_has_and_never_believed_for_what_it_has_not() {
    let setup = Setup::new();
    let far = memory("far");
    let places = [(memory("first"), true), (far.clone(), false)];
    let server = setup.server(&places, 1);
    let body = spool_bytes(&setup.spool, "object".into(), Purpose::Commit).await;
    far.put_if_absent(pack(), body.unwrap()).await.unwrap();
    place(&server, these(&[])).await.unwrap();
    assert_eq!(server.head(None, &pack()).await.unwrap(), 6);
    drop(server);
    let server = setup.server(&[(away("first"), true), (far, false)], 1);
    let unknown = server.head(None, &log(REPOSITORY, 1)).await;
    assert!(
        matches!(&unknown, Err(FanOutError::Read(source)) if !source.is_absent()),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn the_control_socket_alone_says_where_repositories_are_kept() {
    let bench = start(BenchOptions {
        more: vec![Placement {
            destination: memory("far"),
            required: false,
        }],
        ..BenchOptions::default()
    })
    .await;
    let placing = |names: Option<&[&str]>| {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Placing {
            repositories: vec![REPOSITORY],
            asked: Some(AskedPlaces {
                destinations: names,
                copies: Copies::Floor,
            }),
        }
        .encode()
    };
    let placed = || async {
        let path = format!("/v1/destinations?repository={REPOSITORY}");
        let answer = bench.control().await.request("GET", &path, &[], b"").await;
        let states = DestinationStates::decode(&answer.body).unwrap();
        states
            .0
            .iter()
            .map(|state| state.placed)
            .collect::<Vec<_>>()
    };
    bench.open_run().await;
    let mut agent = bench.agent().await;
    let refused = agent
        .request("POST", "/v1/placing", &[], &placing(Some(&[])))
        .await;
    assert!(refused.status >= 400, "{refused:?}");
    let kept = Placed::Kept;
    assert_eq!(placed().await, [kept, kept]);

    let mut control = bench.control().await;
    for (names, expected) in [
        (Some(&["local"][..]), Placed::LeftOut),
        (Some(&["far"][..]), Placed::Unfilled),
        (Some(&[][..]), Placed::LeftOut),
        (None, Placed::Unfilled),
    ] {
        let answer = control
            .request("POST", "/v1/placing", &[], &placing(names))
            .await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(placed().await, [kept, expected], "{names:?}");
    }
    for bad in [&placing(Some(&["../far"]))[..], b"garbage", b""] {
        let answer = bench
            .control()
            .await
            .request("POST", "/v1/placing", &[], bad)
            .await;
        assert_eq!(answer.refusal(), RefusalKind::Malformed);
    }
    assert_eq!(placed().await, [kept, Placed::Unfilled]);
}

/// It asks for more than there are, and then nobody writes to it any more.
#[tokio::test]
async fn more_copies_than_there_can_be_are_refused_and_none_are_asked_for_again() {
    let bench = start(BenchOptions::default()).await;
    let mut control = bench.control().await;
    let asking = |asked| {
        let repositories = vec![REPOSITORY];
        Placing {
            repositories,
            asked,
        }
        .encode()
    };
    let three = asking(Some(AskedPlaces {
        destinations: None,
        copies: Copies::AtLeast(3),
    }));
    let refused = control.request("POST", "/v1/placing", &[], &three).await;
    assert_eq!(refused.refusal(), RefusalKind::Malformed);
    let mut control = bench.control().await;
    let none = asking(None);
    let answer = control.request("POST", "/v1/placing", &[], &none).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}
