//! Several destinations, one of which fails, lies or crawls: the others are not held up, nothing is acknowledged that is
//! not where it must be, and what was missed is made up for.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use append_server::clock::SystemClock;
use append_server::destination::beneath::ResolveBy;
use append_server::destination::local::{LocalDestination, LocalOptions};
use append_server::destination::{ByteRange, Destination, DestinationError, ObjectKey, PutOutcome};
use append_server::fan_out::{
    DestinationStatus, FanOut, FanOutError, FanOutPolicy, FanOutTools, Placement,
};
use append_server::io_faults::IoFaults;
use append_server::spool::{Purpose, Spool, SpooledObject, spool_bytes};
use formats::ids::PackId;
use formats::object::{ObjectKind, ObjectName};
use tests::fault_proxy::{Answer, Fault, Operation, Which};

use crate::fixtures::{
    RECORDS, REPOSITORY, S3Bench, bytes_of, drained, expect_stored, record, records, spool,
};
use crate::sftp::LineBench;

/// How long something that is sure to happen may take on a busy machine.
const SURELY: Duration = Duration::from_secs(120);

fn required(destination: impl Destination + 'static) -> Placement {
    Placement {
        destination: Arc::new(destination),
        required: true,
    }
}

fn follower(destination: impl Destination + 'static) -> Placement {
    Placement {
        required: false,
        ..required(destination)
    }
}

fn local(root: &Path) -> Result<LocalDestination> {
    LocalDestination::create(root)?;
    let options = LocalOptions {
        resolve: ResolveBy::Kernel,
        faults: IoFaults::none(),
    };
    Ok(LocalDestination::open("local".parse()?, root, options)?)
}

fn fan_out(
    placements: Vec<Placement>,
    dir: &Path,
    spool: &Arc<Spool>,
    copies_min: usize,
    patience: Duration,
) -> Result<FanOut> {
    let policy = FanOutPolicy {
        reserve_bytes: 0,
        copies_min,
        patience,
    };
    let tools = FanOutTools {
        queue: dir.join("deliveries.sqlite"),
        spool: Arc::clone(spool),
        clock: Arc::new(SystemClock),
    };
    Ok(FanOut::start(placements, policy, &tools)?)
}

async fn spooled(spool: &Arc<Spool>, bytes: &[u8]) -> Result<SpooledObject> {
    Ok(spool_bytes(spool, bytes.to_vec().into(), Purpose::Commit).await?)
}

/// The name of a pack. Records of the log follow one after the other; packs need not.
fn pack(bytes: &[u8]) -> ObjectKey {
    let id = PackId(*blake3::hash(bytes).as_bytes());
    ObjectKey {
        repository: REPOSITORY,
        name: ObjectName::Pack(id),
    }
}

fn status_of(fan_out: &FanOut, name: &str) -> Result<DestinationStatus> {
    let all = fan_out.status()?;
    let found = all
        .into_iter()
        .find(|status| status.name.to_string() == name);
    found.with_context(|| format!("no destination {name}"))
}

/// Waits until a destination's status is as wanted.
async fn wait_for(
    fan_out: &FanOut,
    name: &str,
    wanted: impl Fn(&DestinationStatus) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let status = status_of(fan_out, name)?;
        if wanted(&status) {
            return Ok(());
        }
        ensure!(start.elapsed() < SURELY, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// F21, F23, F24: errors of every passing kind are waited out by puts, and a lost acknowledgement is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn puts_wait_a_storm_out() -> Result<()> {
    let bench = S3Bench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let fan_out = fan_out(
        vec![required(bench.s3()?)],
        dir.path(),
        &bench.spool,
        1,
        SURELY,
    )?;
    for (sequence, fault) in (0..).zip([
        Fault::refuse(500, "InternalError"),
        Fault::Answer(Answer::new(502, "<html>Bad Gateway</html>")),
        Fault::refuse(503, "SlowDown"),
        Fault::refuse(409, "ConditionalRequestConflict"),
        Fault::CutBefore,
        Fault::CutInRequest(10_000),
        Fault::CutAfter,
    ]) {
        let bytes = bytes_of(sequence, 40_000);
        let puts = Which::all(Operation::Put).with(RECORDS).times(2);
        bench.proxy.forget_plan();
        bench.proxy.plan(puts, fault);
        let source = spooled(&bench.spool, &bytes).await?;
        let outcome = fan_out.put(&record(sequence), source).await?;
        ensure!(outcome != PutOutcome::ExistsDifferent, "{outcome:?}");
        expect_stored(&bench.direct()?, record(sequence), &bytes).await?;
    }
    ensure!(bench.proxy.struck() >= 13, "{}", bench.proxy.struck());
    Ok(())
}

/// F21: and by reads, when no other destination can answer.
#[tokio::test(flavor = "multi_thread")]
async fn reads_wait_a_storm_out() -> Result<()> {
    let bench = S3Bench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let fan_out = fan_out(
        vec![required(bench.s3()?)],
        dir.path(),
        &bench.spool,
        1,
        SURELY,
    )?;
    bench.put(&bench.direct()?, record(1), b"record").await?;
    for fault in [
        Fault::refuse(500, "InternalError"),
        Fault::Answer(Answer::new(502, "<html>Bad Gateway</html>")),
        Fault::Answer(Answer::new(503, "")),
        Fault::CutBefore,
    ] {
        bench.proxy.forget_plan();
        for operation in [Operation::Get, Operation::Head, Operation::List] {
            let twice = Which::all(operation).times(2);
            bench.proxy.plan(twice, fault.clone());
        }
        ensure!(fan_out.head(None, &record(1)).await? == 6);
        let read = fan_out.get_range(None, &record(1), ByteRange::ALL).await?;
        let (bytes, end) = drained(read).await;
        end?;
        ensure!(bytes == b"record");
        let list = fan_out
            .list(None, REPOSITORY, ObjectKind::Log, None, 10)
            .await?;
        ensure!(list.objects.len() == 1);
    }
    ensure!(bench.proxy.struck() == 4 * 6, "{}", bench.proxy.struck());
    // What does not pass is not waited for.
    bench.proxy.forget_plan();
    bench.proxy.plan(
        Which::all(Operation::List),
        Fault::refuse(403, "AccessDenied"),
    );
    let refused = fan_out
        .list(None, REPOSITORY, ObjectKind::Log, None, 10)
        .await;
    ensure!(refused.is_err() && bench.proxy.struck() == 4 * 6 + 1);
    Ok(())
}

/// F27, F29: a list that fails for as long as anybody waits is an error, and never an empty or an absent one.
#[tokio::test(flavor = "multi_thread")]
async fn questions_that_fail_for_long_are_errors() -> Result<()> {
    let bench = S3Bench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let patience = Duration::from_millis(600);
    let fan_out = fan_out(
        vec![required(bench.s3()?)],
        dir.path(),
        &bench.spool,
        1,
        patience,
    )?;
    for operation in [Operation::Get, Operation::Head, Operation::List] {
        bench
            .proxy
            .plan(Which::all(operation), Fault::refuse(503, "SlowDown"));
    }
    let head = fan_out.head(None, &record(1)).await.map(drop);
    let get = fan_out
        .get_range(None, &record(1), ByteRange::ALL)
        .await
        .map(drop);
    let list = fan_out
        .list(None, REPOSITORY, ObjectKind::Log, None, 10)
        .await
        .map(drop);
    for answer in [head, get, list] {
        let Err(FanOutError::Read(error)) = answer else {
            anyhow::bail!("{answer:?}");
        };
        ensure!(error.is_retryable() && !error.is_absent(), "{error:?}");
    }
    let source = spooled(&bench.spool, b"record").await?;
    bench
        .proxy
        .plan(Which::all(Operation::Put), Fault::refuse(503, "SlowDown"));
    let put = fan_out.put(&record(1), source).await;
    ensure!(
        matches!(&put, Err(FanOutError::TooFewReplicas { stored: 0, source, .. }) if source.is_retryable()),
        "{put:?}"
    );
    Ok(())
}

/// F22: one that refuses for long is left alone, says so, holds up nobody, and catches up when it takes objects again.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_refuses_for_long_holds_up_no_other() -> Result<()> {
    const OBJECTS: u64 = 24;
    let bench = S3Bench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let root = dir.path().join("root");
    // Less room than the objects need: what is not delivered does not stay in the spool.
    let spool = spool(&dir.path().join("spool"), 12 << 20)?;
    let places = vec![required(local(&root)?), follower(bench.s3()?)];
    let fan_out = fan_out(places, dir.path(), &spool, 1, SURELY)?;
    bench
        .proxy
        .plan(Which::all(Operation::Put), Fault::refuse(503, "SlowDown"));
    for sequence in 0..OBJECTS {
        let bytes = bytes_of(sequence, 1 << 20);
        let source = tokio::time::timeout(SURELY, spooled(&spool, &bytes));
        let source = source.await.context("no room in the spool")??;
        let outcome = fan_out.put(&record(sequence), source).await?;
        ensure!(outcome == PutOutcome::Created, "{outcome:?}");
    }
    wait_for(&fan_out, "s3", |status| {
        let problem = status.problem.as_deref().unwrap_or_default();
        status.lag.objects == OBJECTS && problem.contains("SlowDown")
    })
    .await?;
    ensure!(status_of(&fan_out, "local")?.lag.objects == 0);

    bench.proxy.forget_plan();
    wait_for(&fan_out, "s3", |status| {
        status.lag.objects == 0 && status.problem.is_none()
    })
    .await?;
    let direct = bench.direct()?;
    for sequence in 0..OBJECTS {
        expect_stored(&direct, record(sequence), &bytes_of(sequence, 1 << 20)).await?;
    }
    Ok(())
}

/// F37: a follower on a line of 1 KiB/s does not slow down what is stored, nor what is stored after it would have filled
/// the spool.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_crawls_slows_down_nobody() -> Result<()> {
    const OBJECTS: u64 = 24;
    let bench = LineBench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let spool = spool(&dir.path().join("spool"), 8 << 20)?;
    let places = vec![
        required(local(&dir.path().join("root"))?),
        follower(bench.sftp()?),
    ];
    let fan_out = fan_out(places, dir.path(), &spool, 1, SURELY)?;
    bench.relay.set_pace(1 << 10);
    let storing = async {
        for sequence in 0..OBJECTS {
            let bytes = bytes_of(sequence, 1 << 20);
            let source = spooled(&spool, &bytes).await?;
            let outcome = fan_out.put(&pack(&bytes), source).await?;
            ensure!(outcome == PutOutcome::Created, "{outcome:?}");
        }
        Ok(())
    };
    // At that pace they take more than six hours.
    tokio::time::timeout(SURELY, storing)
        .await
        .context("the run is held up")??;
    let status = status_of(&fan_out, "sftp")?;
    ensure!(status.lag.objects == OBJECTS, "{status:?}");
    Ok(())
}

/// F37: one that takes objects and never says so holds what is on its way to it, and not the room of those that come
/// after.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_stands_still_leaves_room_in_the_spool() -> Result<()> {
    let bench = S3Bench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let spool = spool(&dir.path().join("spool"), 8 << 20)?;
    let s3 = bench.s3()?;
    s3.conditional_writes().await?;
    let places = vec![required(local(&dir.path().join("root"))?), follower(s3)];
    let fan_out = fan_out(places, dir.path(), &spool, 1, SURELY)?;
    let packs = REPOSITORY.to_string();
    let puts = || Which::all(Operation::Put).with(&packs);
    // While the first is under way others gather behind it; the next four never end.
    let (first, never) = (Duration::from_secs(3), Duration::from_secs(3_600));
    bench.proxy.plan(puts().times(1), Fault::Delay(first));
    bench.proxy.plan(puts(), Fault::Delay(never));
    for sequence in 0..20 {
        // The first is on its way before the others come, and four of those before the rest.
        let under_way = match sequence {
            1 => 1,
            5 => 5,
            _ => 0,
        };
        let start = Instant::now();
        while bench.proxy.seen(Operation::Put, &packs) < under_way {
            ensure!(
                start.elapsed() < SURELY,
                "{under_way} puts should be under way"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let bytes = bytes_of(sequence, 1 << 20);
        let source = tokio::time::timeout(SURELY / 4, spooled(&spool, &bytes)).await;
        let source = source.with_context(|| format!("no room for object {sequence}"))??;
        fan_out.put(&pack(&bytes), source).await?;
    }
    ensure!(status_of(&fan_out, "s3")?.lag.objects == 19);
    Ok(())
}

/// F27: a list that lies makes a sync queue too much or too little, and destroys nothing: what is there is found to be
/// the same, and a later sync makes up for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_with_lying_lists_destroys_nothing() -> Result<()> {
    const OBJECTS: usize = 5;
    let bench = S3Bench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let places = vec![
        required(local(&dir.path().join("root"))?),
        follower(bench.s3()?),
    ];
    let fan_out = fan_out(places, dir.path(), &bench.spool, 1, SURELY)?;
    for sequence in 0..OBJECTS as u64 {
        let source = spooled(&bench.spool, &bytes_of(sequence, 1_000)).await?;
        fan_out.put(&record(sequence), source).await?;
    }
    let name = "s3".parse()?;
    wait_for(&fan_out, "s3", |status| status.lag.objects == 0).await?;
    let empty = Fault::Answer(Answer::page(&[], false));
    bench.proxy.plan(Which::all(Operation::List), empty);
    let queued = fan_out.queue_missing(REPOSITORY, &name).await?;
    ensure!(queued.objects == OBJECTS as u64, "{queued:?}");
    wait_for(&fan_out, "s3", |status| {
        status.lag.objects == 0 && status.problem.is_none()
    })
    .await?;

    // A list that fails queues nothing and says so.
    bench.proxy.forget_plan();
    bench.proxy.plan(
        Which::all(Operation::List),
        Fault::refuse(500, "InternalError"),
    );
    let failed = fan_out.queue_missing(REPOSITORY, &name).await;
    ensure!(matches!(failed, Err(FanOutError::Read(_))), "{failed:?}");
    bench.proxy.forget_plan();
    let queued = fan_out.queue_missing(REPOSITORY, &name).await?;
    ensure!(queued.objects == 0, "{queued:?}");
    ensure!(records(&bench.direct()?).await?.len() == OBJECTS);
    ensure!(bench.proxy.seen(Operation::Delete, "") == 0);
    Ok(())
}

/// F39, M60: when the copies that are asked for cannot be made, nothing is acknowledged, for whatever reason.
#[tokio::test(flavor = "multi_thread")]
async fn too_few_copies_are_never_an_acknowledgement() -> Result<()> {
    let bench = S3Bench::start().await?;
    for (sequence, fault) in (0..).zip([
        Fault::CutBefore,
        Fault::refuse(503, "SlowDown"),
        Fault::refuse(403, "AccessDenied"),
        Fault::refuse(412, "PreconditionFailed"),
        Fault::Answer(Answer::new(200, "")),
        Fault::Answer(Answer::new(301, "").header("location", "http://127.0.0.1:1/")),
    ]) {
        let dir = tests::world::temporary_directory()?;
        let root = dir.path().join("root");
        bench.proxy.forget_plan();
        let s3 = bench.s3()?;
        s3.conditional_writes().await?;
        let puts = Which::all(Operation::Put).with(RECORDS);
        bench.proxy.plan(puts, fault);
        let places = vec![required(local(&root)?), follower(s3)];
        let patience = Duration::from_secs(1);
        let fan_out = fan_out(places, dir.path(), &bench.spool, 2, patience)?;
        let source = spooled(&bench.spool, b"record").await?;
        let put = fan_out.put(&record(sequence), source).await;
        ensure!(
            matches!(put, Err(FanOutError::TooFewCopies { stored: 1, .. })),
            "{sequence}: {put:?}"
        );
    }
    Ok(())
}

/// F26, M57, M68: a delivery takes no copy that is not what was stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_not_passed_on() -> Result<()> {
    let bench = S3Bench::start().await?;
    let dir = tests::world::temporary_directory()?;
    let bytes = bytes_of(1, 10_000);
    let key = pack(&bytes);
    bench.put(&bench.direct()?, key.clone(), &bytes).await?;
    let other = local(&dir.path().join("root"))?;
    let places = vec![required(bench.s3()?), follower(other.clone())];
    let fan_out = fan_out(places, dir.path(), &bench.spool, 1, Duration::ZERO)?;
    let damage = Fault::edit(|answer| {
        let mut bytes = answer.body.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        answer.body = bytes.into();
    });
    bench.proxy.plan(Which::all(Operation::Get), damage);
    fan_out.queue_missing(REPOSITORY, &"local".parse()?).await?;
    wait_for(&fan_out, "local", |status| {
        let problem = status.problem.as_deref().unwrap_or_default();
        problem.contains("no copy of it has the bytes")
    })
    .await?;
    let found = other.head(key).await;
    ensure!(
        found.as_ref().is_err_and(DestinationError::is_absent),
        "{found:?}"
    );
    Ok(())
}
