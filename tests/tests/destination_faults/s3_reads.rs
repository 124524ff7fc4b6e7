//! Reading from a bucket: bodies that are cut, that lie about their length, that never end, and refusals.

use anyhow::{Result, ensure};
use append_server::destination::{ByteRange, Destination as _, DestinationError, PutOutcome};
use tests::fault_proxy::{Answer, Fault, Operation, Which};

use crate::fixtures::{
    RECORDS, S3Bench, bytes_of, drained, expect_passing, expect_stored, questions, record, whole,
};

/// What is in flight at most when somebody stops reading: buffers on both sides.
const IN_FLIGHT_BYTES_MAX: u64 = 32 << 20;

fn reads() -> Which {
    Which::all(Operation::Get).with(RECORDS)
}

/// F26: a body that ends before its length is an error at its end, never a shorter object.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_always_cut_short_is_an_error_and_never_short_data() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let bytes = bytes_of(1, 300_000);
    bench.put(&s3, record(1), &bytes).await?;
    for cut in [0, 1, 70_000, 299_999] {
        bench.proxy.forget_plan();
        bench.proxy.plan(reads(), Fault::CutInAnswer(cut));
        for range in [
            ByteRange::ALL,
            ByteRange {
                start: 0,
                bytes: Some(300_000),
            },
        ] {
            let read = s3.get_range(record(1), range).await;
            let (found, end) = match read {
                Ok(read) => drained(read).await,
                Err(error) => (Vec::new(), Err(error)),
            };
            expect_passing(&format!("cut after {cut}"), &end)?;
            ensure!(bytes.starts_with(&found) && found.len() < bytes.len());
        }
    }
    Ok(())
}

/// F26, M57: an answer that leaves bytes out and says so in its length is an error where the range tells, and no
/// acknowledgement where it does not: whoever reads a whole object compares its digest.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_a_wrong_length_is_never_taken_for_the_object() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let bytes = bytes_of(2, 50_000);
    bench.put(&s3, record(1), &bytes).await?;
    for keep in [0, 1, 49_999] {
        bench.proxy.forget_plan();
        let shorter = Fault::edit(move |answer| {
            answer.body = answer.body.slice(..keep.min(answer.body.len()));
        });
        bench.proxy.plan(reads(), shorter);
        let range = ByteRange {
            start: 0,
            bytes: Some(50_000),
        };
        let (found, end) = drained(s3.get_range(record(1), range).await?).await;
        expect_passing("a range", &end)?;
        ensure!(found.len() <= keep);
        // The total is what the service says; the bytes are never more nor fewer than that.
        let read = s3.get_range(record(1), ByteRange::ALL).await?;
        let total = read.total;
        let (found, end) = drained(read).await;
        ensure!(end.is_ok() && found.len() as u64 == total && found.len() == keep);
        let outcome = bench.put(&s3, record(1), &bytes).await?;
        ensure!(outcome == PutOutcome::ExistsDifferent, "{outcome:?}");
    }
    Ok(())
}

/// M57: a longer body than asked for, another part, and a range that is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_exactly_what_was_asked_for_or_an_error() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let bytes = bytes_of(3, 40_000);
    bench.put(&s3, record(1), &bytes).await?;
    let (all, longer) = (bytes.clone(), bytes.clone());
    let lies: [(&str, Fault); 3] = [
        (
            "all of it",
            Fault::Answer(Answer::new(200, all).header("etag", "\"0\"")),
        ),
        (
            "another part",
            Fault::edit(|answer| {
                for (name, value) in &mut answer.headers {
                    if name == "content-range" {
                        *value = "bytes 0-9/40000".to_owned();
                    }
                }
            }),
        ),
        (
            "more",
            Fault::edit(move |answer| answer.body = longer.clone().into()),
        ),
    ];
    for (what, lie) in lies {
        bench.proxy.forget_plan();
        bench.proxy.plan(reads(), lie);
        for start in [0_u64, 100] {
            let range = ByteRange {
                start,
                bytes: Some(10),
            };
            let (found, end) = match s3.get_range(record(1), range).await {
                Ok(read) => drained(read).await,
                Err(error) => (Vec::new(), Err(error)),
            };
            let from = usize::try_from(start)?;
            let right = end.is_ok() && found == bytes[from..from + 10];
            let refused = end.as_ref().is_err_and(DestinationError::is_retryable);
            ensure!(right || refused, "{what} from {start}: {found:?} {end:?}");
        }
    }
    Ok(())
}

/// M57: a body without end is given up, whatever length it has been given, and no more of it is taken than fits buffers.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_end_is_given_up() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.put(&s3, record(1), b"record").await?;
    let taken_before = bench.proxy.endless_bytes();
    let ten = ByteRange {
        start: 0,
        bytes: Some(10),
    };
    for (status, announced) in [(200, None), (206, None), (200, Some(1 << 40))] {
        bench.proxy.forget_plan();
        bench.proxy.plan(reads(), Fault::Endless(status, announced));
        match s3.get_range(record(1), ten).await {
            Ok(read) => {
                let (found, end) = drained(read).await;
                ensure!(found.len() <= 10, "{} bytes", found.len());
                expect_passing("more than ten bytes", &end)?;
            }
            Err(error) => ensure!(error.is_retryable() && announced.is_none(), "{error:?}"),
        }
        match s3.get_range(record(1), ByteRange::ALL).await {
            Ok(read) => ensure!(Some(read.total) == announced),
            Err(error) => ensure!(error.is_retryable() && announced.is_none(), "{error:?}"),
        }
        // Nor does anybody compare a body with an object of another size.
        let put = bench.put(&s3, record(1), b"record").await;
        ensure!(
            !matches!(put, Ok(PutOutcome::ExistsSame | PutOutcome::Created)),
            "{put:?}"
        );
    }
    let taken = bench.proxy.endless_bytes() - taken_before;
    ensure!(
        bench.proxy.struck() >= 9 && taken < 9 * IN_FLIGHT_BYTES_MAX,
        "{taken}"
    );
    Ok(())
}

/// M57: nothing is unpacked because an answer says that it is packed.
#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_that_nobody_asked_for_is_not_undone() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    // `gzip` of nothing, and as an object's bytes nothing special.
    let packed =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    bench.put(&s3, record(1), packed).await?;
    let encoding = Fault::edit(|answer| {
        answer
            .headers
            .push(("content-encoding".to_owned(), "gzip".to_owned()));
    });
    bench.proxy.plan(reads(), encoding);
    expect_stored(&s3, record(1), packed).await?;
    ensure!(bench.proxy.struck() == 1);
    Ok(())
}

/// F29: what the credentials do not allow, or do not allow any more, lasts until somebody acts, and is never "absent".
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_lasting_and_never_absent() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.put(&s3, record(1), b"record").await?;
    let all = [
        Operation::Put,
        Operation::Get,
        Operation::Head,
        Operation::List,
        Operation::Delete,
    ];
    for (status, code, words) in [
        (403, "AccessDenied", "policy"),
        (400, "ExpiredToken", "expired"),
        (403, "InvalidAccessKeyId", "secret_key"),
        (403, "SignatureDoesNotMatch", "secret_key"),
        (403, "RequestTimeTooSkewed", "clock"),
        (401, "", "policy"),
    ] {
        bench.proxy.forget_plan();
        for operation in all {
            bench
                .proxy
                .plan(Which::all(operation), Fault::refuse(status, code));
        }
        let mut answers = questions(&s3, record(1)).await;
        let put = bench.put(&s3, record(2), b"record").await.map(drop);
        answers.push(("put", put));
        for (what, answer) in answers {
            let error = answer.expect_err("nothing is allowed");
            ensure!(
                matches!(error, DestinationError::Permanent { .. }),
                "{code} {what}: {error:?}"
            );
            let text = crate::fixtures::text(error);
            // The answer to a HEAD has no body to say it in.
            let says =
                text.contains(words) || (what == "head" && text.contains(&status.to_string()));
            ensure!(says, "{code} {what}: {text}");
        }
    }
    // Nothing was lost by it.
    bench.proxy.forget_plan();
    expect_stored(&s3, record(1), b"record").await
}

/// F27, F29: only the protocol's own word for it makes an object absent.
#[tokio::test(flavor = "multi_thread")]
async fn not_found_by_anything_but_the_service_is_not_absent() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.put(&s3, record(1), b"record").await?;
    for answer in [
        Answer::new(404, ""),
        Answer::new(404, "<html>Not found</html>").header("content-type", "text/html"),
        Answer::refusal(404, "NoSuchBucket"),
        Answer::refusal(404, "NoSuchUpload"),
        Answer::refusal(410, "NoSuchKey"),
        Answer::xml(404, "<Error><Code>NoSuch"),
        Answer::xml(
            404,
            "<Error><Code></Code><Message>NoSuchKey</Message></Error>",
        ),
    ] {
        let what = format!("{answer:?}");
        bench.proxy.forget_plan();
        for operation in [Operation::Get, Operation::Head] {
            bench
                .proxy
                .plan(Which::all(operation), Fault::Answer(answer.clone()));
        }
        let head = s3.head(record(1)).await.map(drop);
        let get = whole(&s3, record(1)).await.map(drop);
        for found in [head, get] {
            let error = found.expect_err("nothing was found");
            ensure!(!error.is_absent(), "{what}: {error:?}");
        }
    }
    Ok(())
}
