//! What the coordinator's socket takes, and from whom.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use append_server::removals::{RemovalPolicy, RemovalRule};
use formats::ids::PackId;
use formats::limits::{KEY_BUNDLE_BYTES_MAX, RECORD_BYTES_MAX};
use formats::object::ObjectName;
use formats::wire::upload::objects::ObjectPage;
use formats::wire::upload::refusal::RefusalKind;
use formats::wire::upload::removals::RemovalReport;
use support::{
    Answer, Bench, BenchOptions, Peer, REPOSITORY, RUN, destination_name, open_run, sample, start,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn path(name: impl std::fmt::Display) -> String {
    format!("/v1/repositories/{REPOSITORY}/{name}")
}

fn meta(bytes: &[u8]) -> ObjectName {
    ObjectName::Meta(PackId(*blake3::hash(bytes).as_bytes()))
}

#[tokio::test]
async fn objects_are_read_whole_and_in_ranges() {
    let bench = start(BenchOptions::default()).await;
    let mut control = bench.control().await;
    let body = sample(600_000, 1);
    let path = path(meta(&body));
    let put = control.request("PUT", &path, &[], &body).await;
    assert_eq!(put.status, 201);
    let put = control.request("PUT", &path, &[], &body).await;
    assert_eq!((put.status, put.stored().existed), (200, true));

    let whole = control.request("GET", &path, &[], b"").await;
    assert_eq!((whole.status, whole.body == body), (200, true));
    let head = control.request("HEAD", &path, &[], b"").await;
    assert!(head.head.contains("content-length: 600000\r\n"), "{head:?}");
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-300004", 5, 300_005),
        ("bytes=599999-", 599_999, 600_000),
        ("bytes=599990-18446744073709551614", 599_990, 600_000),
    ] {
        let header = format!("range: {range}");
        let part = control.request("GET", &path, &[&header], b"").await;
        assert_eq!(
            (part.status, part.body == body[from..to]),
            (206, true),
            "{range}"
        );
        let shown = format!("content-range: bytes {from}-{}/600000\r\n", to - 1);
        assert!(part.head.contains(&shown), "{part:?}");
    }
    for range in ["bytes=600000-", "bytes=700000-700001"] {
        let header = format!("range: {range}");
        let past = control.request("GET", &path, &[&header], b"").await;
        assert_eq!(past.status, 416, "{range}");
    }
    for range in ["bytes=-5", "bytes=5-1", "bytes=0-1,3-4", "x", "bytes=a-b"] {
        let header = format!("range: {range}");
        let bad = control.request("GET", &path, &[&header], b"").await;
        assert_eq!(bad.refusal(), RefusalKind::Malformed, "{range}");
    }
}

#[tokio::test]
async fn nothing_is_overwritten_or_deleted() {
    let bench = start(BenchOptions::default()).await;
    let first = sample(100, 1);
    for name in ["config", "keys/admin", "log/00000000000000000001"] {
        let mut control = bench.control().await;
        let put = control.request("PUT", &path(name), &[], &first).await;
        assert_eq!(put.status, 201);
        let other = control
            .request("PUT", &path(name), &[], &sample(100, 2))
            .await;
        assert_eq!(other.refusal(), RefusalKind::Conflict);
        for method in ["DELETE", "POST", "PATCH", "OPTIONS", "MOVE", "COPY"] {
            let mut control = bench.control().await;
            let answer = control.request(method, &path(name), &[], b"").await;
            assert_eq!(answer.status, 405, "{method} {name}");
        }
        let read = bench
            .control()
            .await
            .request("GET", &path(name), &[], b"")
            .await;
        assert_eq!(read.body, first);
    }
}

#[tokio::test]
async fn only_what_completes_a_run_can_be_put() {
    let bench = start(BenchOptions::default()).await;
    let body = sample(100, 1);
    let pack = ObjectName::Pack(PackId(*blake3::hash(&body).as_bytes()));
    let put = |name: String, body: Vec<u8>| {
        let bench = &bench;
        async move {
            let mut control = bench.control().await;
            control.request("PUT", &name, &[], &body).await.refusal()
        }
    };
    assert_eq!(put(path(pack), body.clone()).await, RefusalKind::NotGranted);
    assert_eq!(
        put(path(meta(b"other")), body.clone()).await,
        RefusalKind::Malformed
    );
    assert_eq!(
        put(path(meta(b"")), Vec::new()).await,
        RefusalKind::Malformed
    );
    let long = |bytes: u64| sample(usize::try_from(bytes).unwrap() + 1, 1);
    assert_eq!(
        put(path("keys/admin"), long(KEY_BUNDLE_BYTES_MAX)).await,
        RefusalKind::Quota
    );
    assert_eq!(
        put(path("config"), long(64 << 10)).await,
        RefusalKind::Quota
    );
    let record = path("log/00000000000000000001");
    assert_eq!(
        put(record, long(RECORD_BYTES_MAX)).await,
        RefusalKind::Quota
    );
    for bad in [
        "log/1",
        "log/x",
        "keys/..",
        "keys/.x",
        "keys/%2e%2e",
        "meta/ab/cd",
        "..",
        "%2e%2e/x",
        "tmp/x",
        "packs",
        "config/",
        "config%00",
    ] {
        assert_eq!(
            put(path(bad), body.clone()).await,
            RefusalKind::Malformed,
            "{bad}"
        );
    }
    let foreign = "/v1/repositories/nothex/config".to_owned();
    assert_eq!(put(foreign, body).await, RefusalKind::Malformed);
    assert!(bench.objects().is_empty());
    bench.spool_is_empty().await;
}

#[tokio::test]
async fn lists_are_paged_and_their_questions_checked() {
    let bench = start(BenchOptions::default()).await;
    let mut control = bench.control().await;
    for sequence in [3, 1, 2] {
        let name = ObjectName::Log(sequence);
        let put = control.request("PUT", &path(name), &[], b"record").await;
        assert_eq!(put.status, 201);
    }
    let list = format!("/v1/repositories/{REPOSITORY}?kind=log");
    let after = format!("{list}&after={}", ObjectName::Log(1));
    for (question, expected) in [(&list, vec![1, 2, 3]), (&after, vec![2, 3])] {
        let answer = control.request("GET", question, &[], b"").await;
        let page = ObjectPage::decode(&answer.body).unwrap();
        let names: Vec<_> = expected
            .into_iter()
            .map(|sequence| (ObjectName::Log(sequence).to_string(), 6))
            .collect();
        assert_eq!((page.objects, page.more), (names, false));
    }
    for bad in [
        "",
        "?kind=x",
        "?kind=log&after=config",
        "?kind=log&after=..",
        "?kind=log&x=1",
    ] {
        let question = format!("/v1/repositories/{REPOSITORY}{bad}");
        let answer = control.request("GET", &question, &[], b"").await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn runs_are_opened_once_and_closed_once() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let mut control = bench.control().await;
    let again = control
        .request("POST", "/v1/runs", &[], &open_run().encode())
        .await;
    assert_eq!(again.refusal(), RefusalKind::Conflict);
    let garbage = control.request("POST", "/v1/runs", &[], b"garbage").await;
    assert_eq!(garbage.refusal(), RefusalKind::Malformed);
    bench.close_run().await;
    let path = format!("/v1/runs/{RUN}");
    let again = control.request("DELETE", &path, &[], b"").await;
    assert_eq!(again.refusal(), RefusalKind::Absent);
    let long = bench
        .control()
        .await
        .request("POST", "/v1/runs", &[], &sample(70_000, 1))
        .await;
    assert_eq!(long.refusal(), RefusalKind::Malformed);
}

#[tokio::test]
async fn sockets_are_the_owners_alone() {
    let bench = start(BenchOptions::default()).await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.server.control_socket()), 0o600);
    assert_eq!(mode(bench.server.ingest_socket()), 0o600);
    assert_eq!(mode(bench.server.control_socket().parent().unwrap()), 0o700);
}

/// Another user's process, run by the test below; by itself it has nothing to do.
#[tokio::test]
async fn connects_as_another_user() {
    let Ok(socket) = std::env::var("CAPSTAN_TEST_SOCKET") else {
        return;
    };
    let mut peer = Peer::connect(socket.as_ref()).await;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        path("config")
    );
    let _refused = peer.stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _reset = peer.stream.read_to_end(&mut answer).await;
    println!(
        "uid {} got {} bytes",
        rustix::process::geteuid().as_raw(),
        answer.len()
    );
}

#[tokio::test]
async fn another_user_is_refused_by_the_kernels_word() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root can become another user");
        return;
    }
    // With another user allowed, the socket's mode lets everybody connect; the credentials decide.
    let bench = start(BenchOptions {
        allow_uids: vec![12_345],
        ..BenchOptions::default()
    })
    .await;
    std::fs::set_permissions(bench.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = bench.dir.path().join("client");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for socket in [bench.server.control_socket(), bench.server.ingest_socket()] {
        for (uid, answered) in [(65_534, false), (12_345, true)] {
            let mut client = Command::new(&program);
            client
                .args(["--exact", "connects_as_another_user", "--nocapture"])
                .env("CAPSTAN_TEST_SOCKET", socket)
                .current_dir("/")
                .uid(uid);
            let output = tokio::task::spawn_blocking(move || client.output());
            let output = output.await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if socket == bench.server.control_socket() {
                let nothing = text.contains(&format!("uid {uid} got 0 bytes"));
                assert_eq!(nothing, !answered, "{text}");
            } else {
                // Not even a handshake for either: what it says is none.
                assert!(text.contains(&format!("uid {uid} got ")), "{text}");
            }
        }
    }
}

/// A server that keeps what is condemned for no time, with a record in the log and a pack that the log condemns.
async fn with_condemnable(removals: RemovalPolicy) -> (Bench, String, String) {
    let bench = start(BenchOptions {
        removals,
        ..BenchOptions::default()
    })
    .await;
    let mut control = bench.control().await;
    let record = sample(2_000, 7);
    let stored = control
        .request("PUT", &path("log/00000000000000000001"), &[], &record)
        .await;
    assert_eq!(stored.status, 201);
    let pack = sample(5_000, 8);
    let name = meta(&pack).to_string();
    let stored = control.request("PUT", &path(&name), &[], &pack).await;
    assert_eq!(stored.status, 201);
    let proof = format!(
        "record=1&digest={}",
        PackId(*blake3::hash(&record).as_bytes())
    );
    (bench, name, proof)
}

fn no_grace() -> RemovalPolicy {
    RemovalPolicy {
        grace: std::time::Duration::ZERO,
        daily_bytes_max: 10_000,
        rules: std::collections::HashMap::new(),
    }
}

fn page_of(names: &[&str]) -> Vec<u8> {
    let objects = names.iter().map(|name| ((*name).to_owned(), 5_000));
    ObjectPage {
        objects: objects.collect(),
        more: false,
    }
    .encode()
}

async fn removal(bench: &Bench, what: &str, body: &[u8]) -> Answer {
    let path = format!("/v1/removals/{REPOSITORY}/{what}");
    bench
        .control()
        .await
        .request("POST", &path, &[], body)
        .await
}

#[tokio::test]
async fn nothing_goes_that_the_log_did_not_condemn_before() {
    let (bench, name, proof) = with_condemnable(no_grace()).await;
    let page = page_of(&[&name]);
    // Neither without being condemned, nor on the word of a record that is not there, nor anything but a pack.
    let sweep = format!("sweep?{proof}");
    assert_eq!(
        removal(&bench, &sweep, &page).await.refusal(),
        RefusalKind::Conflict
    );
    let other = format!("condemn?record=1&digest={}", PackId([9; 32]));
    assert_eq!(
        removal(&bench, &other, &page).await.refusal(),
        RefusalKind::Conflict
    );
    let later = proof.replace("record=1", "record=2");
    let refused = removal(&bench, &format!("condemn?{later}"), &page).await;
    assert_eq!(refused.refusal(), RefusalKind::Absent);
    let condemn = format!("condemn?{proof}");
    for kept in ["log/00000000000000000001", "config", "keys/admin"] {
        let refused = removal(&bench, &condemn, &page_of(&[kept])).await;
        assert_eq!(refused.refusal(), RefusalKind::NotGranted, "{kept}");
    }
    assert!(bench.objects().iter().any(|object| object.ends_with(&name)));

    assert_eq!(removal(&bench, &condemn, &page).await.status, 204);
    let answer = removal(&bench, &sweep, &page).await;
    let report = RemovalReport::decode(&answer.body).unwrap();
    assert_eq!((report.removed, report.removed_bytes), (1, 5_000));
    assert!(!bench.objects().iter().any(|object| object.ends_with(&name)));
    // It does not come back, and asking again is no error.
    assert_eq!(
        removal(&bench, "spare", &page).await.refusal(),
        RefusalKind::Conflict
    );
    let again = removal(&bench, &sweep, &page).await;
    assert_eq!(again.status, 200);
}

#[tokio::test]
async fn the_servers_own_grace_and_its_limit_a_day_hold_whoever_asks() {
    let week = RemovalPolicy {
        grace: std::time::Duration::from_secs(604_800),
        ..no_grace()
    };
    let little = RemovalPolicy {
        daily_bytes_max: 4_999,
        ..no_grace()
    };
    let kept = RemovalPolicy {
        rules: [(
            destination_name("local"),
            RemovalRule {
                allow_delete: false,
                ..RemovalRule::default()
            },
        )]
        .into(),
        ..no_grace()
    };
    for (policy, counts) in [(week, (1, 0)), (little, (0, 1)), (kept, (0, 0))] {
        let (bench, name, proof) = with_condemnable(policy).await;
        let page = page_of(&[&name]);
        let condemn = removal(&bench, &format!("condemn?{proof}"), &page).await;
        assert_eq!(condemn.status, 204);
        let answer = removal(&bench, &format!("sweep?{proof}"), &page).await;
        let report = RemovalReport::decode(&answer.body).unwrap();
        assert_eq!((report.too_young, report.over_limit), counts);
        assert_eq!(report.removed, 0);
        assert!(bench.objects().iter().any(|object| object.ends_with(&name)));
    }
}

#[tokio::test]
async fn the_last_copy_never_goes_because_one_destination_does_not_keep_it() {
    let (bench, meta, proof) = with_condemnable(no_grace()).await;
    let pack = sample(5_000, 9);
    let name = ObjectName::Pack(PackId(*blake3::hash(&pack).as_bytes())).to_string();
    let mut control = bench.control().await;
    let moved = format!("/v1/removals/{REPOSITORY}/{name}");
    let stored = control.request("PUT", &moved, &[], &pack).await;
    assert_eq!(stored.status, 201);
    let page = page_of(&[&name]);
    let at = |what: &str, place: &str| format!("{what}?{proof}&destination={place}");
    let nowhere = removal(&bench, &at("condemn", "elsewhere"), &page).await;
    assert_ne!(nowhere.status, 204);
    let not_condemned = removal(&bench, &at("sweep", "local"), &page).await;
    assert_eq!(not_condemned.refusal(), RefusalKind::Conflict);
    // What every destination has is no matter of one.
    let refused = removal(&bench, &at("condemn", "local"), &page_of(&[&meta])).await;
    assert_eq!(refused.refusal(), RefusalKind::NotGranted);

    let condemned = removal(&bench, &at("condemn", "local"), &page).await;
    assert_eq!(condemned.status, 204);
    let answer = removal(&bench, &at("sweep", "local"), &page).await;
    let report = RemovalReport::decode(&answer.body).unwrap();
    let problem = report.waiting[0].problem.as_deref();
    assert_eq!(
        (report.removed, problem),
        (0, Some("no other destination is to keep it"))
    );
    assert!(bench.objects().iter().any(|object| object.ends_with(&name)));
    let spared = removal(&bench, "spare?destination=local", &page).await;
    assert_eq!(spared.refusal(), RefusalKind::Conflict);
}
