//! Storing in a bucket: refusals, lost answers, repeated requests, and services that do not keep their word.

use anyhow::{Result, ensure};
use append_server::destination::s3::ConditionalWrites;
use append_server::destination::s3::options::ConditionalPolicy;
use append_server::destination::{Destination as _, PutOutcome};
use tests::fault_proxy::{Answer, Fault, Operation, Which};

use crate::fixtures::{
    RECORDS, S3Bench, bytes_of, expect_absent, expect_lasting, expect_passing, expect_stored,
    record, text, whole,
};

fn put_of_records() -> Which {
    Which::all(Operation::Put).with(RECORDS)
}

/// F21, F22, F24: whatever passes by itself is said to, also when it comes from something that speaks no S3, and the
/// object is stored by the next attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_passes_is_retryable_and_stores_nothing() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let direct = bench.direct()?;
    let html = || Answer::new(502, "<html><body>Bad Gateway</body></html>");
    let refusals = [
        Answer::refusal(500, "InternalError"),
        html().header("content-type", "text/html"),
        Answer::refusal(503, "SlowDown"),
        Answer::refusal(503, "ServiceUnavailable"),
        Answer::new(503, ""),
        Answer::new(504, ""),
        Answer::new(429, ""),
        Answer::refusal(400, "RequestTimeout"),
        Answer::refusal(409, "ConditionalRequestConflict"),
        Answer::refusal(409, "OperationAborted"),
    ];
    for (sequence, refusal) in (0..).zip(refusals) {
        let what = format!("{refusal:?}");
        let bytes = bytes_of(sequence, 5_000);
        bench
            .proxy
            .plan(put_of_records().times(1), Fault::Answer(refusal));
        let refused = bench.put(&s3, record(sequence), &bytes).await;
        expect_passing(&what, &refused)?;
        expect_absent(&direct, record(sequence)).await?;
        let again = bench.put(&s3, record(sequence), &bytes).await?;
        ensure!(again == PutOutcome::Created, "{what}: {again:?}");
        expect_stored(&direct, record(sequence), &bytes).await?;
    }
    Ok(())
}

/// F23: the service stored it and the answer was lost. The next attempt finds the very bytes, which is a success; other
/// bytes are a conflict.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_acknowledgement_was_lost_is_the_same_when_it_is_sent_again() -> Result<()>
{
    let bench = S3Bench::start().await?;
    let (s3, direct) = (bench.s3()?, bench.direct()?);
    let bytes = bytes_of(1, 300_000);
    bench.proxy.plan(put_of_records().times(1), Fault::CutAfter);
    let lost = bench.put(&s3, record(1), &bytes).await;
    expect_passing("the answer was lost", &lost)?;
    expect_stored(&direct, record(1), &bytes).await?;
    let again = bench.put(&s3, record(1), &bytes).await?;
    ensure!(again == PutOutcome::ExistsSame, "{again:?}");
    let other = bench.put(&s3, record(1), &bytes_of(2, 300_000)).await?;
    ensure!(other == PutOutcome::ExistsDifferent, "{other:?}");
    expect_stored(&direct, record(1), &bytes).await?;
    ensure!(bench.proxy.struck() == 1);
    Ok(())
}

/// F23, F26: a connection that breaks while an object is sent leaves nothing under its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_cut_short_leaves_nothing() -> Result<()> {
    let bench = S3Bench::start().await?;
    let (s3, direct) = (bench.s3()?, bench.direct()?);
    let bytes = bytes_of(3, 300_000);
    let cuts = [0, 1, 65_536, 150_000, 299_999];
    let faults = cuts.map(Fault::CutInRequest);
    for (sequence, fault) in (0..).zip([Fault::CutBefore].into_iter().chain(faults)) {
        bench.proxy.plan(put_of_records().times(1), fault);
        let cut = bench.put(&s3, record(sequence), &bytes).await;
        expect_passing("it was cut", &cut)?;
        expect_absent(&direct, record(sequence)).await?;
        let again = bench.put(&s3, record(sequence), &bytes).await?;
        ensure!(again == PutOutcome::Created, "{again:?}");
        expect_stored(&direct, record(sequence), &bytes).await?;
    }
    ensure!(bench.proxy.struck() == 6);
    Ok(())
}

/// F30, as far as there is no upload in parts: a put that reaches the service twice is one object.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_arrives_twice_is_one_object() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.proxy.plan(Which::all(Operation::Put), Fault::Repeat);
    ensure!(s3.conditional_writes().await? == ConditionalWrites::Enforced);
    let bytes = bytes_of(4, 70_000);
    // The second was refused because of the first, and only that was answered.
    let outcome = bench.put(&s3, record(1), &bytes).await?;
    ensure!(outcome == PutOutcome::ExistsSame, "{outcome:?}");
    expect_stored(&bench.direct()?, record(1), &bytes).await
}

/// F25: a service that ignores `If-None-Match` is never taken for one that enforces it.
#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_condition_is_found_out_before_anything_is_stored() -> Result<()> {
    let bench = S3Bench::start().await?;
    bench
        .proxy
        .plan(Which::all(Operation::Put), Fault::Unconditional);
    let strict = bench.with_policy(ConditionalPolicy::Require)?;
    let refused = bench.put(&strict, record(1), b"first").await;
    expect_lasting("it is required", &refused)?;
    expect_absent(&bench.direct()?, record(1)).await?;

    let s3 = bench.s3()?;
    ensure!(s3.conditional_writes().await? == ConditionalWrites::Ignored);
    for (bytes, expected) in [
        ("first", PutOutcome::Created),
        ("first", PutOutcome::ExistsSame),
        ("other", PutOutcome::ExistsDifferent),
    ] {
        let outcome = bench.put(&s3, record(1), bytes.as_bytes()).await?;
        ensure!(outcome == expected, "{bytes}: {outcome:?}");
    }
    expect_stored(&bench.direct()?, record(1), b"first").await
}

/// F25: a question about conditional writes that was not answered is asked again, and no answer is made up for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_without_an_answer_decides_nothing() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let refuse = |status, code| Fault::refuse(status, code);
    for fault in [
        Fault::CutBefore,
        Fault::CutAfter,
        refuse(500, "InternalError"),
        refuse(409, "ConditionalRequestConflict"),
    ] {
        let what = bench.proxy.struck();
        bench.proxy.plan(Which::all(Operation::Put).times(1), fault);
        let asked = s3.conditional_writes().await;
        expect_passing(&format!("probe {what}"), &asked)?;
    }
    bench.proxy.plan(
        Which::all(Operation::Put).times(1),
        refuse(403, "AccessDenied"),
    );
    expect_lasting("a forbidden probe", &s3.conditional_writes().await)?;
    ensure!(s3.conditional_writes().await? == ConditionalWrites::Enforced);
    Ok(())
}

/// M60: a service that says of every object that it exists is believed in nothing: what is not there or has other bytes
/// is never acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_pretends_that_everything_exists_is_not_believed() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let stored = bytes_of(5, 9_000);
    bench.put(&bench.direct()?, record(1), &stored).await?;
    bench.proxy.plan(
        Which::all(Operation::Put),
        Fault::refuse(412, "PreconditionFailed"),
    );
    let refused = bench.put(&s3, record(2), &stored).await;
    expect_passing("nothing is there", &refused)?;
    let words = refused.map_err(text).expect_err("refused");
    ensure!(words.contains("exists and that it does not"), "{words}");
    let other = bench.put(&s3, record(1), &bytes_of(6, 9_000)).await?;
    ensure!(other == PutOutcome::ExistsDifferent, "{other:?}");
    // What it says is not what counts: it has them.
    let same = bench.put(&s3, record(1), &stored).await?;
    ensure!(same == PutOutcome::ExistsSame, "{same:?}");

    // Even when it says so of bytes that it changes on their way.
    let damage = Fault::edit(|answer| {
        let mut bytes = answer.body.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        answer.body = bytes.into();
    });
    bench.proxy.plan(Which::all(Operation::Get), damage);
    let damaged = bench.put(&s3, record(1), &stored).await?;
    ensure!(damaged == PutOutcome::ExistsDifferent, "{damaged:?}");
    Ok(())
}

/// M61: an object that was acknowledged and not stored is missed by the look that follows every put.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_acknowledged_and_not_stored_is_missed_at_once() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let stored = Answer::new(200, "").header("etag", "\"0\"");
    bench
        .proxy
        .plan(put_of_records(), Fault::Answer(stored.clone()));
    let lie = bench.put(&s3, record(1), b"record").await;
    expect_passing("it stored nothing", &lie)?;
    let words = lie.map_err(text).expect_err("a lie");
    ensure!(
        words.contains("acknowledged the object and does not have it"),
        "{words}"
    );

    // A service that stores nothing at all does not pass the probe for one that enforces conditions.
    bench.proxy.forget_plan();
    bench
        .proxy
        .plan(Which::all(Operation::Put), Fault::Answer(stored));
    let s3 = bench.s3()?;
    ensure!(s3.conditional_writes().await? == ConditionalWrites::Ignored);
    expect_passing("nothing again", &bench.put(&s3, record(2), b"record").await)?;

    // One that stores less than it was sent is found out by the size.
    bench.proxy.forget_plan();
    let smaller = Fault::edit(|answer| {
        for (name, value) in &mut answer.headers {
            if name == "content-length" {
                *value = "5".to_owned();
            }
        }
    });
    bench.proxy.plan(Which::all(Operation::Head), smaller);
    expect_passing(
        "too small",
        &bench.put(&bench.s3()?, record(3), b"record").await,
    )
}

/// M61: the limit of that look. A service that keeps up its lie there is believed until the object is read, which is what
/// `verify` and `scrub` do; then it is absent, and not an error that passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_lie_that_is_kept_up_shows_when_the_object_is_read() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let stored = Answer::new(200, "").header("etag", "\"0\"");
    bench.proxy.plan(put_of_records(), Fault::Answer(stored));
    let there = Answer::new(200, "").header("content-length", "6");
    bench
        .proxy
        .plan(Which::all(Operation::Head), Fault::Answer(there));
    let believed = bench.put(&s3, record(1), b"record").await?;
    ensure!(believed == PutOutcome::Created, "{believed:?}");
    let read = whole(&s3, record(1)).await;
    ensure!(read.is_err_and(|error| error.is_absent()));

    // Credentials that may not look are the same: then the service's word is all there is.
    bench.proxy.forget_plan();
    let stored = Answer::new(200, "").header("etag", "\"0\"");
    bench.proxy.plan(put_of_records(), Fault::Answer(stored));
    bench.proxy.plan(
        Which::all(Operation::Head),
        Fault::Answer(Answer::new(403, "")),
    );
    let believed = bench.put(&s3, record(2), b"record").await?;
    ensure!(believed == PutOutcome::Created, "{believed:?}");
    bench.proxy.forget_plan();
    expect_absent(&s3, record(2)).await
}

/// F29: credentials that expire between the put and the look at it do not make it undone, and it is no error that would
/// have it sent for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_is_as_good_as_its_acknowledgement_when_nobody_may_look() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.proxy.plan(
        Which::all(Operation::Head),
        Fault::Answer(Answer::new(403, "")),
    );
    let outcome = bench.put(&s3, record(1), b"record").await?;
    ensure!(outcome == PutOutcome::Created, "{outcome:?}");
    expect_lasting("a look", &s3.head(record(1)).await)?;
    bench.proxy.forget_plan();
    expect_stored(&s3, record(1), b"record").await
}

/// F21: a service that takes its time is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_an_answer() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let late = Fault::Delay(std::time::Duration::from_millis(700));
    for operation in [Operation::Put, Operation::Get, Operation::Head] {
        bench.proxy.plan(Which::all(operation), late.clone());
    }
    let outcome = bench.put(&s3, record(1), b"record").await?;
    ensure!(outcome == PutOutcome::Created, "{outcome:?}");
    expect_stored(&s3, record(1), b"record").await?;
    ensure!(bench.proxy.struck() >= 4, "{}", bench.proxy.struck());
    Ok(())
}
