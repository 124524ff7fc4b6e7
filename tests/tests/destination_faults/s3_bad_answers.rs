//! Answers made to harm who reads them: redirects, documents that unfold, and more text than anybody needs.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use append_server::destination::Destination as _;
use append_server::grants::MaintenanceGrant;
use tests::fault_proxy::{Answer, Fault, Operation, Which};

use crate::fixtures::{
    S3Bench, expect_lasting, expect_passing, expect_stored, questions, record, records, text,
};

/// An answer may be as large as this before it is given up, and buffers hold something more.
const ANSWER_BYTES_MAX: u64 = (8 << 20) + (24 << 20);

/// M58: a redirect is refused and says what to mend, and nobody connects to where it points.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_refused_and_never_followed() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.put(&s3, record(1), b"record").await?;
    let trap = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    trap.set_nonblocking(true)?;
    let to = format!("http://{}/latest/meta-data/", trap.local_addr()?);
    let grant = MaintenanceGrant::of_this_process();
    for answer in [
        Answer::refusal(301, "PermanentRedirect").header("x-amz-bucket-region", "eu-west-9"),
        Answer::new(302, ""),
        Answer::new(303, ""),
        Answer::refusal(307, "TemporaryRedirect"),
        Answer::new(308, "<html>elsewhere</html>"),
    ] {
        let what = format!("{answer:?}");
        bench.proxy.forget_plan();
        for operation in Operation::ALL {
            let redirect = answer.clone().header("location", &to);
            bench
                .proxy
                .plan(Which::all(operation), Fault::Answer(redirect));
        }
        let mut answers = questions(&s3, record(1)).await;
        answers.push(("put", bench.put(&s3, record(2), b"other").await.map(drop)));
        answers.push(("delete", s3.delete(record(1), &grant).await));
        for (action, answer) in answers {
            expect_lasting(&format!("{action}: {what}"), &answer)?;
            let words = answer.map_err(text).expect_err("refused");
            ensure!(words.contains("sends us elsewhere"), "{action}: {words}");
        }
    }
    let visitor = trap.accept();
    ensure!(
        visitor.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "somebody followed"
    );
    bench.proxy.forget_plan();
    expect_stored(&s3, record(1), b"record").await
}

/// M59: a document type, its entities and what they would unfold to are no list and no reason.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_unfold_are_not_read() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let mut entities = String::from("<!ENTITY a0 \"NoSuchKey\">");
    for level in 1..12 {
        let inside = format!("&a{};", level - 1).repeat(10);
        entities.push_str(&format!("<!ENTITY a{level} \"{inside}\">"));
    }
    let outside = "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>";
    let list = |name: &str| {
        format!(
            "<ListBucketResult><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents>\
             <Key>{name}</Key><Size>6</Size></Contents></ListBucketResult>"
        )
    };
    for document in [
        format!("<!DOCTYPE x [{entities}]>{}", list("&a11;")),
        format!("{outside}{}", list("&a;")),
        list("&undefined;"),
        list("&#x110000;"),
    ] {
        bench.proxy.forget_plan();
        bench.proxy.plan(
            Which::all(Operation::List),
            Fault::Answer(Answer::xml(200, &document)),
        );
        let found = records(&s3).await;
        ensure!(found.is_err(), "{}: {found:?}", &document[..60]);
    }
    for code in ["&a0;", "&a11;"] {
        let document = format!("<!DOCTYPE x [{entities}]><Error><Code>{code}</Code></Error>");
        bench.proxy.forget_plan();
        for operation in [Operation::Get, Operation::Head] {
            bench.proxy.plan(
                Which::all(operation),
                Fault::Answer(Answer::xml(404, &document)),
            );
        }
        for (what, answer) in questions(&s3, record(1)).await.into_iter().take(2) {
            let error = answer.expect_err("nothing is there");
            ensure!(!error.is_absent(), "{what} {code}: {error:?}");
        }
    }
    Ok(())
}

/// M59: elements within elements without end neither exhaust the stack nor take for ever.
#[tokio::test(flavor = "multi_thread")]
async fn deep_documents_are_harmless() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let depth = 300_000;
    let (open, close) = ("<a>".repeat(depth), "</a>".repeat(depth));
    for (status, document) in [
        (
            200,
            format!("<ListBucketResult>{open}{close}</ListBucketResult>"),
        ),
        (200, format!("<ListBucketResult>{open}")),
        (500, format!("<Error>{open}{close}</Error>")),
        (500, open.clone()),
    ] {
        bench.proxy.forget_plan();
        bench.proxy.plan(
            Which::all(Operation::List),
            Fault::Answer(Answer::xml(status, &document)),
        );
        expect_passing(&format!("{status}"), &records(&s3).await)?;
    }
    Ok(())
}

/// M57, M59: an answer that never ends is given up at a bound, be it a list, a refusal or a thanks for a put.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_given_up() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.put(&s3, record(1), b"record").await?;
    for operation in [Operation::List, Operation::Get, Operation::Put] {
        for status in [200, 403, 500] {
            if operation == Operation::Get && status == 200 {
                continue;
            }
            bench.proxy.forget_plan();
            bench
                .proxy
                .plan(Which::all(operation), Fault::Endless(status, None));
            let before = bench.proxy.endless_bytes();
            let answer = match operation {
                Operation::List => records(&s3).await.map(drop),
                Operation::Get => crate::fixtures::whole(&s3, record(1)).await.map(drop),
                _ => bench.put(&s3, record(2), b"other").await.map(drop),
            };
            let taken = bench.proxy.endless_bytes() - before;
            let what = format!("{operation:?} {status}: {answer:?} after {taken}");
            let error = answer.expect_err("no end");
            ensure!(
                !error.is_absent() && error.is_retryable() == (status != 403),
                "{what}"
            );
            ensure!(taken > 0 && taken < ANSWER_BYTES_MAX, "{what}");
        }
    }
    Ok(())
}

/// M59: of what a service writes no more is repeated than a person can read, and nothing that moves a terminal's cursor.
#[tokio::test(flavor = "multi_thread")]
async fn a_services_words_are_cut_and_escaped() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let long = "x".repeat(1 << 20);
    let document = format!(
        "<Error><Code>{long}</Code><Message>\u{9b}31m\u{202e}&#x1b;[2J{long}</Message></Error>"
    );
    bench.proxy.plan(
        Which::all(Operation::List),
        Fault::Answer(Answer::xml(400, &document)),
    );
    let words = records(&s3).await.map_err(text).expect_err("refused");
    ensure!(words.len() < 4_000, "{} bytes", words.len());
    let calm = |c: char| !c.is_control() && c != '\u{202e}';
    ensure!(words.chars().all(calm), "{words:?}");
    Ok(())
}
