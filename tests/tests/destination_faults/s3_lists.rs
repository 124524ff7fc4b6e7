//! Listing a bucket that answers with errors, with pages that are cut, and with lists that no honest service gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use append_server::destination::Destination as _;
use formats::object::{ObjectKind, ObjectName};
use tests::fault_proxy::{Answer, Fault, Operation, Which};

use crate::fixtures::{REPOSITORY, S3Bench, expect_passing, record, records};

fn lists() -> Which {
    Which::all(Operation::List)
}

/// What a key in the bucket begins with for every object of the repository.
fn root() -> String {
    format!("some/prefix/{REPOSITORY}/")
}

/// Keys of records in the bucket, six bytes each.
fn keys(sequences: impl IntoIterator<Item = u64>) -> Vec<(String, u64)> {
    let key = |sequence| (format!("some/prefix/{}", record(sequence)), 6);
    sequences.into_iter().map(key).collect()
}

/// F27: an answer that is no list, or not all of one, is an error and never a shorter list.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_fails_is_never_an_empty_one() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.put(&s3, record(1), b"record").await?;
    let page = Answer::page(&keys(1..4), false);
    let with = |words: &str, others: &str| {
        let text = String::from_utf8_lossy(&page.body).replace(words, others);
        Answer::new(200, text)
    };
    for answer in [
        Answer::refusal(500, "InternalError"),
        Answer::refusal(200, "InternalError"),
        Answer::refusal(503, "SlowDown"),
        Answer::new(200, ""),
        Answer::new(204, ""),
        Answer::new(200, "<html><body>Log in to the network</body></html>"),
        Answer::new(200, "{}"),
        Answer::xml(200, "<ListBucketResult></ListBucketResult>"),
        Answer::xml(
            200,
            "<SomethingElse><IsTruncated>false</IsTruncated></SomethingElse>",
        ),
        with("<IsTruncated>false</IsTruncated>", ""),
        with("<KeyCount>3</KeyCount>", "<KeyCount>4</KeyCount>"),
    ] {
        let what = format!("{answer:?}");
        bench.proxy.forget_plan();
        bench.proxy.plan(lists(), Fault::Answer(answer));
        expect_passing(&what, &records(&s3).await)?;
    }
    Ok(())
}

/// F26, F27: a page that is cut anywhere is an error, whether its length told or not, unless every name came before the
/// cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_cut_anywhere_is_an_error() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let page = Answer::page(&keys(1..4), false);
    let length = page.body.len();
    let text = String::from_utf8_lossy(&page.body);
    let last_size = text.rfind("</Size>").context("the last size")?;
    for cut in (0..length).step_by(23).chain([length - 1]) {
        let mut shorter = page.clone();
        shorter.body = page.body.slice(..cut);
        bench.proxy.forget_plan();
        bench.proxy.plan(lists(), Fault::Answer(shorter));
        let found = records(&s3).await;
        let complete = cut > last_size && found.as_ref().is_ok_and(|names| names.len() == 3);
        if !complete {
            expect_passing(&format!("{cut} of {length}"), &found)?;
        }
    }
    bench.proxy.forget_plan();
    bench.proxy.plan(lists(), Fault::Answer(page));
    ensure!(records(&s3).await?.len() == 3, "the whole page is a list");

    // The same by the connection's end, with the true length.
    bench.proxy.forget_plan();
    bench.put(&s3, record(1), b"record").await?;
    for cut in [0, 50, 200, 400] {
        bench.proxy.forget_plan();
        bench.proxy.plan(lists(), Fault::CutInAnswer(cut));
        expect_passing(&format!("cut after {cut}"), &records(&s3).await)?;
    }
    Ok(())
}

/// F27, M56: a list that is a lie in due form cannot be told from a true one here. It hides and destroys nothing: every
/// object is still there, is never put twice, and is listed again when the lie ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_that_is_a_lie_changes_nothing() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    bench.put(&s3, record(1), b"record").await?;
    bench
        .proxy
        .plan(lists(), Fault::Answer(Answer::page(&[], false)));
    ensure!(
        records(&s3).await?.is_empty(),
        "what it says is all there is to say"
    );
    ensure!(
        s3.head(record(1)).await? == 6,
        "a list decides about no object"
    );
    let other = bench.put(&s3, record(1), b"others").await?;
    ensure!(other == append_server::destination::PutOutcome::ExistsDifferent);
    bench.proxy.forget_plan();
    ensure!(records(&s3).await? == [ObjectName::Log(1)]);
    ensure!(bench.proxy.seen(Operation::Delete, "") == 0);
    Ok(())
}

/// M56: names that are no objects of this folder are left out, whatever they look like.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_names_in_a_list_are_left_out() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let (root, good) = (root(), keys([7]));
    let mut names: Vec<(String, u64)> = [
        "log/../../../etc/passwd",
        "log/..",
        "log/",
        "log/7",
        "log/00000000000000000007/more",
        "log/00000000000000000007 ",
        "log/99999999999999999999",
        "log/-0000000000000000001",
        "config",
        "data/00/00",
        "../other/log/00000000000000000001",
    ]
    .iter()
    .map(|name| (format!("{root}{name}"), 6))
    .chain([
        ("/etc/passwd".to_owned(), 6),
        ("log/00000000000000000001".to_owned(), 6),
        (
            format!("some/prefix/{}/log/00000000000000000001", "4".repeat(32)),
            6,
        ),
    ])
    .collect();
    names.extend(good);
    names.sort();
    bench
        .proxy
        .plan(lists(), Fault::Answer(Answer::page(&names, false)));
    let found = records(&s3).await?;
    ensure!(found == [ObjectName::Log(7)], "{found:?}");
    Ok(())
}

/// M56: a list goes forward or is an error: no page twice, no name twice, no page without a name that promises more.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_turns_in_circles_is_an_error() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let descending: Vec<_> = keys([3, 2, 1]);
    for (what, answer) in [
        ("the same page for ever", Answer::page(&keys(1..4), true)),
        ("duplicates", Answer::page(&keys([1, 1, 2]), false)),
        ("descending", Answer::page(&descending, false)),
        ("nothing, and more", Answer::page(&[], true)),
    ] {
        bench.proxy.forget_plan();
        bench.proxy.plan(lists(), Fault::Answer(answer));
        expect_passing(what, &records(&s3).await)?;
    }
    ensure!(bench.proxy.struck() < 20, "{}", bench.proxy.struck());
    Ok(())
}

/// M56: more names than were asked for are cut to what was, and said to be more.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_too_long_is_cut_to_what_was_asked_for() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let answer = Answer::page(&keys(0..5_000), true);
    bench.proxy.plan(lists(), Fault::Answer(answer));
    let list = s3.list(REPOSITORY, ObjectKind::Log, None, 10).await?;
    ensure!(list.objects.len() == 10 && list.more, "{list:?}");
    // What comes before the place where the page begins is no answer.
    let after = Some(ObjectName::Log(4_000));
    let back = s3.list(REPOSITORY, ObjectKind::Log, after, 10).await;
    expect_passing("names from before", &back)
}

/// M56: names without end that are no objects end the listing with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_foreign_names_without_end_is_given_up() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    let (pages, root) = (Arc::new(AtomicU64::new(0)), root());
    let endless = Fault::make(move |_| {
        let page = pages.fetch_add(1, Ordering::SeqCst);
        Answer::page(&[(format!("{root}log/x{page:020}"), 6)], true)
    });
    bench.proxy.plan(lists(), endless);
    let listed = records(&s3).await;
    expect_passing("names without end", &listed)?;
    let words = listed.map_err(crate::fixtures::text).expect_err("given up");
    ensure!(words.contains("pages"), "{words}");
    Ok(())
}

/// F27: what removes objects asks for each by its name and takes no list's word, so that a list that leaves one out, or
/// adds one, makes nothing vanish.
#[tokio::test(flavor = "multi_thread")]
async fn removing_goes_by_the_object_and_not_by_a_list() -> Result<()> {
    let bench = S3Bench::start().await?;
    let s3 = bench.s3()?;
    for sequence in 1..3 {
        bench.put(&s3, record(sequence), b"record").await?;
    }
    let grant = append_server::grants::MaintenanceGrant::of_this_process();
    // The list of versions names another object's version, and the look at the object fails.
    bench.proxy.plan(
        Which::all(Operation::Head).times(1),
        Fault::refuse(500, "InternalError"),
    );
    let refused = s3.delete(record(1), &grant).await;
    expect_passing("nobody knows whether it is there", &refused)?;
    let other = root();
    let versions = Answer::xml(
        200,
        &format!(
            "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>{other}log/00000000000000000002</Key>\
             <VersionId>null</VersionId></Version></ListVersionsResult>"
        ),
    );
    bench.proxy.plan(
        Which::all(Operation::Other).with("versions"),
        Fault::Answer(versions),
    );
    s3.delete(record(1), &grant).await?;
    let left = records(&s3).await.context("what is left")?;
    ensure!(left == [ObjectName::Log(2)], "{left:?}");
    Ok(())
}
