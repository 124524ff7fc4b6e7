//! A repository asks for more copies than others: nothing of it is acknowledged before they are there, and what is no copy does
//! not count as one.

use std::sync::Arc;
use std::time::Duration;

use append_server::destination::Destination;
use append_server::destination::faults::{FailWhen, FaultPlan, FaultyDestination};
use append_server::destination::memory::MemoryDestination;
use append_server::fan_out::FanOutError;
use append_server::fan_out::copies::AskedBy;
use append_server::fan_out::queue::Queue;
use append_server::fan_out::queue::placing::{Keeping, KeptAt};
use append_server::grants::PlacingGrant;
use formats::object::ObjectName;
use formats::wire::placing::Copies;
use formats::wire::upload::destinations::Placed;
use rustix::io::Errno;

use super::support::{REPOSITORY, destination_name};
use super::{
    OTHER, Setup, ask, away, has, log, memory, pack, place, placed, store_beside, these, wait_for,
};

/// For what does not come.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn what_one_repository_asks_for_holds_for_it_alone_and_after_a_restart() {
    let setup = Setup::new();
    let (first, near) = (memory("first"), memory("near"));
    let mut places = vec![
        (first.clone(), true),
        (near.clone(), false),
        (away("far"), false),
    ];
    let server = setup.server_with_patience(&places, 1, SHORT);
    // An earlier object counts for fewer.
    setup.put(&server, &log(REPOSITORY, 1)).await.unwrap();
    ask(&server, KeptAt::Everywhere, Copies::All).await.unwrap();
    let refused = setup.put(&server, &log(REPOSITORY, 2)).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(&refused, FanOutError::TooFewCopies { stored: 2, asked, .. }
            if asked.copies == 3 && asked.by == AskedBy::CommitAll),
        "{refused:?}"
    );
    assert!(
        text.contains("commit = all") && text.contains("behind are: far"),
        "{text}"
    );
    setup.put(&server, &log(OTHER, 1)).await.unwrap();

    // Nobody has said anything to the next one.
    drop(server);
    let server = setup.server_with_patience(&places, 1, SHORT);
    let refused = setup.put(&server, &pack()).await;
    assert!(
        matches!(refused, Err(FanOutError::TooFewCopies { stored: 2, .. })),
        "{refused:?}"
    );
    setup.put(&server, &log(OTHER, 2)).await.unwrap();
    ask(&server, KeptAt::Everywhere, Copies::AtLeast(2))
        .await
        .unwrap();
    setup.put(&server, &log(REPOSITORY, 2)).await.unwrap();
    assert!(has(&near, log(REPOSITORY, 2)).await);
    let refused = ask(&server, these(&["near"]), Copies::AtLeast(3)).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("commit = 3") && text.contains("(2)"),
        "{text}"
    );

    drop(server);
    let far = memory("far");
    places[2].0 = far.clone();
    let server = setup.server(&places, 1);
    ask(&server, KeptAt::Everywhere, Copies::All).await.unwrap();
    setup.put(&server, &log(REPOSITORY, 3)).await.unwrap();
    for sequence in 1..=3 {
        for destination in [&first, &near, &far] {
            assert!(has(destination, log(REPOSITORY, sequence)).await);
        }
    }
    assert!(has(&far, pack()).await);
}

#[tokio::test]
async fn every_one_of_a_repository_is_each_that_it_is_kept_at_and_only_once_it_is_filled() {
    let setup = Setup::new();
    let far = memory("far");
    let places = [
        (memory("first"), true),
        (far.clone(), false),
        (away("other"), false),
    ];
    let server = setup.server(&places, 1);
    ask(&server, these(&[]), Copies::All).await.unwrap();
    setup.put(&server, &log(REPOSITORY, 1)).await.unwrap();
    ask(&server, these(&["far"]), Copies::All).await.unwrap();
    let refused = setup.put(&server, &log(REPOSITORY, 2)).await;
    assert!(
        matches!(&refused, Err(FanOutError::Unfilled { name, .. }) if name == far.name()),
        "{refused:?}"
    );
    server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    setup.put(&server, &log(REPOSITORY, 2)).await.unwrap();
    assert!(has(&far, log(REPOSITORY, 1)).await && has(&far, log(REPOSITORY, 2)).await);
}

/// It was added later, was away when the others were compared, and comes back while a put waits for it.
#[tokio::test]
async fn what_comes_back_without_what_was_before_is_no_copy() {
    let setup = Setup::new();
    let first = memory("first");
    let server = setup.server(&[(first.clone(), true)], 1);
    setup.put(&server, &log(REPOSITORY, 1)).await.unwrap();
    drop(server);
    let plan = FaultPlan {
        first: 0,
        count: 1,
        when: FailWhen::Before,
        errno: Errno::IO,
    };
    let far = MemoryDestination::new(destination_name("far"));
    let far: Arc<dyn Destination> = Arc::new(FaultyDestination::new(far, plan));
    let server = setup.server(&[(first, true), (far.clone(), false)], 1);
    ask(&server, KeptAt::Everywhere, Copies::All).await.unwrap();
    for sequence in [2, 3] {
        let refused = setup.put(&server, &log(REPOSITORY, sequence)).await;
        assert!(
            matches!(&refused, Err(FanOutError::Lacks { name, .. }) if name == far.name()),
            "{refused:?}"
        );
    }
    server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    setup.put(&server, &log(REPOSITORY, 3)).await.unwrap();
    assert!(has(&far, log(REPOSITORY, 1)).await);
}

#[tokio::test]
async fn what_nobody_writes_to_is_kept_everywhere_when_it_is_on_too_few() {
    let setup = Setup::new();
    let far = memory("far");
    let places = [(memory("first"), true), (far.clone(), false)];
    let server = setup.server(&places, 1);
    ask(&server, these(&[]), Copies::All).await.unwrap();
    setup.put(&server, &log(REPOSITORY, 1)).await.unwrap();
    let as_before = async |server: &append_server::fan_out::FanOut| {
        let grant = PlacingGrant::of_this_process();
        server.place_as_before(vec![REPOSITORY], grant).await
    };
    as_before(&server).await.unwrap();
    let queue = Queue::open(&setup.dir.path().join("deliveries.sqlite")).unwrap();
    let nowhere_else = Keeping {
        kept_at: these(&[]),
        copies: Copies::Floor,
    };
    assert_eq!(queue.keeping(REPOSITORY).unwrap(), nowhere_else);

    drop(server);
    let server = setup.server(&places, 2);
    let refused = setup.put(&server, &log(REPOSITORY, 2)).await;
    assert!(
        matches!(refused, Err(FanOutError::KeptAtTooFew { .. })),
        "{refused:?}"
    );
    as_before(&server).await.unwrap();
    assert_eq!(
        placed(&server, Some(REPOSITORY)),
        [Placed::Kept, Placed::Unfilled]
    );
    server.queue_missing(REPOSITORY, far.name()).await.unwrap();
    setup.put(&server, &log(REPOSITORY, 2)).await.unwrap();
    assert!(has(&far, log(REPOSITORY, 1)).await);
}

/// Another follower is away, and has nothing that the first one has not, if that one has everything.
#[tokio::test]
async fn what_is_waited_for_and_was_left_out_is_filled_while_a_follower_is_away() {
    for (is_whole, expected) in [(false, Placed::Unfilled), (true, Placed::Kept)] {
        let setup = Setup::new();
        let (first, far) = (memory("first"), memory("far"));
        store_beside(&setup, &first, &far).await;
        if is_whole {
            let server = setup.server(&[(first.clone(), true), (far.clone(), false)], 1);
            place(&server, these(&[])).await.unwrap();
            let mut config = pack();
            config.name = ObjectName::Config;
            setup.put(&server, &config).await.unwrap();
            place(&server, KeptAt::Everywhere).await.unwrap();
        }
        let places = [(first, true), (far.clone(), true), (away("other"), false)];
        let server = setup.server(&places, 1);
        server.queue_missing(REPOSITORY, far.name()).await.unwrap();
        wait_for(&server, far.name()).await;
        assert_eq!(placed(&server, Some(REPOSITORY))[1], expected);
        assert_eq!(server.ready_for(REPOSITORY).await.is_ok(), is_whole);
    }
}
