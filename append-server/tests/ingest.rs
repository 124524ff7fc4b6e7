//! What an agent can reach: the handshake, `PUT /v1/packs`, and no more.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use append_server::receive::Pace;
use formats::ids::RunId;
use formats::limits::PACK_BYTES_MAX;
use formats::wire::upload::OpenRun;
use formats::wire::upload::refusal::RefusalKind;
use support::{
    BenchOptions, Peer, RUN, TOKEN, handshake, is_closed, open_run, pack_name, sample, start,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_pack_is_stored_under_its_digest_and_again_is_the_same() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let body = sample(3_000_000, 1);
    let mut agent = bench.agent().await;
    let first = agent.put_pack(&body).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert!(!first.stored().existed);
    assert_eq!(first.stored().bytes, 3_000_000);
    assert_eq!(first.stored().digest.0, *blake3::hash(&body).as_bytes());
    let again = agent
        .put_pack_chunked(&[&body[..100], &body[100..300_000], &body[300_000..]])
        .await;
    assert_eq!(again.status, 200);
    assert!(again.stored().existed);
    assert_eq!(bench.objects(), [pack_name(&body)]);
    assert_eq!(
        std::fs::read(bench.root.join(pack_name(&body))).unwrap(),
        body
    );
    bench.spool_is_empty().await;
}

#[tokio::test]
async fn nothing_but_putting_packs_can_be_asked() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let body = sample(1_000, 1);
    assert_eq!(bench.agent().await.put_pack(&body).await.status, 201);
    let before = bench.objects();
    let object = format!("/v1/repositories/{}", pack_name(&body));
    let paths = [
        "/v1/packs",
        "/v1/packs/",
        "/v1/packs?x=y",
        "/v1/runs",
        "/v1/repositories",
        "/v1/repositories/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?kind=packs",
        &object,
        "/",
        "/v1/packs/../repositories",
        "*",
    ];
    for path in paths {
        for method in [
            "GET", "HEAD", "DELETE", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "LIST",
        ] {
            if (method, path) == ("PUT", "/v1/packs") {
                continue;
            }
            let mut agent = bench.agent().await;
            let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            agent.stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            agent.stream.read_to_end(&mut answer).await.unwrap();
            let text = String::from_utf8_lossy(&answer);
            let status = &text[9..12];
            assert!(
                ["400", "404", "405"].contains(&status),
                "{method} {path}: {text}"
            );
            assert!(
                !answer
                    .windows(16)
                    .any(|part| body.windows(16).next() == Some(part))
            );
        }
    }
    assert_eq!(bench.objects(), before);
}

#[tokio::test]
async fn a_wrong_token_an_unknown_run_and_garbage_get_nothing() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;

    let mut wrong_token = bench.raw_ingest().await;
    assert!(!handshake(&mut wrong_token, RUN, [1; 32]).await);
    assert!(is_closed(&mut wrong_token).await);

    let mut unknown_run = bench.raw_ingest().await;
    // It is answered like a known one, by a proof that is worth nothing.
    assert!(!handshake(&mut unknown_run, RunId([9; 16]), TOKEN).await);
    assert!(is_closed(&mut unknown_run).await);

    for garbage in [
        &b"GET /v1/repositories HTTP/1.1\r\nhost: x\r\nx: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"[..],
        &[0; 200],
        &[0xff; 58],
    ] {
        let mut stream = bench.raw_ingest().await;
        stream.write_all(garbage).await.unwrap();
        assert!(is_closed(&mut stream).await);
    }
    // Ends in the middle.
    let mut short = bench.raw_ingest().await;
    short.write_all(b"CAPSTUNL").await.unwrap();
    short.shutdown().await.unwrap();
    assert!(is_closed(&mut short).await);
    assert_eq!(bench.server.handshakes_failed(), 6);
    assert!(bench.objects().is_empty());
    // The right one still gets in.
    assert_eq!(bench.agent().await.put_pack(b"x").await.status, 201);
}

#[tokio::test]
async fn what_was_recorded_from_one_connection_opens_no_other() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    // Everything a listener on the tunnel could have recorded of a good connection.
    let opening = formats::wire::handshake::Opening {
        run: RUN,
        nonce: [7; 32],
    };
    let token = formats::keys::secret::RunToken::from_bytes(TOKEN);
    let mut first = bench.raw_ingest().await;
    first.write_all(&opening.encode()).await.unwrap();
    let mut answer = [0; 64];
    first.read_exact(&mut answer).await.unwrap();
    let nonce = answer[..32].try_into().unwrap();
    let proof = formats::wire::handshake::agent_proof(&token, &opening, &nonce);
    first.write_all(&proof).await.unwrap();
    let mut first = Peer { stream: first };
    assert_eq!(first.put_pack(b"good").await.status, 201);

    let mut replay = bench.raw_ingest().await;
    replay.write_all(&opening.encode()).await.unwrap();
    replay.write_all(&proof).await.unwrap();
    replay
        .write_all(b"PUT /v1/packs HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nevil")
        .await
        .unwrap();
    let mut all = Vec::new();
    let _reset = replay.read_to_end(&mut all).await;
    assert!(
        all.len() <= 64,
        "only the answer to the opening: {}",
        all.len()
    );
    assert_eq!(bench.objects(), [pack_name(b"good")]);
}

#[tokio::test]
async fn the_token_of_an_ended_run_opens_nothing() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let mut agent = bench.agent().await;
    assert_eq!(agent.put_pack(b"one").await.status, 201);
    let mut uploading = bench.agent().await;
    uploading.begin_chunked().await;
    uploading.chunk(&sample(1 << 20, 1)).await;

    bench.close_run().await;
    let mut late = bench.raw_ingest().await;
    assert!(!handshake(&mut late, RUN, TOKEN).await);
    assert!(is_closed(&mut late).await);
    // Connections that were open end, and the upload under way leaves nothing.
    assert!(is_closed(&mut agent.stream).await);
    uploading.stream.write_all(b"0\r\n\r\n").await.ok();
    if let Ok(answer) = uploading.try_answer("PUT").await {
        assert_eq!(answer.refusal(), RefusalKind::NotGranted);
    }
    assert_eq!(bench.objects(), [pack_name(b"one")]);
    bench.spool_is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_ends_by_itself() {
    let bench = start(BenchOptions::default()).await;
    bench
        .open(&OpenRun {
            seconds_max: 60,
            ..open_run()
        })
        .await;
    let mut agent = bench.agent().await;
    assert_eq!(agent.put_pack(b"one").await.status, 201);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(is_closed(&mut agent.stream).await);
    let mut late = bench.raw_ingest().await;
    assert!(!handshake(&mut late, RUN, TOKEN).await);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_cut() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let mut stream = bench.raw_ingest().await;
    let began = tokio::time::Instant::now();
    stream.write_all(b"CAPS").await.unwrap();
    let mut byte = [0];
    assert!(!matches!(stream.read(&mut byte).await, Ok(1)));
    let waited = began.elapsed();
    assert!((9..=12).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_head_is_cut_and_an_idle_connection_is_not() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let mut idle = bench.agent().await;
    let mut slow = bench.agent().await;
    let began = tokio::time::Instant::now();
    slow.stream.write_all(b"PUT /v1/packs HT").await.unwrap();
    assert!(is_closed(&mut slow.stream).await);
    assert!(began.elapsed() <= Duration::from_secs(15));
    tokio::time::advance(Duration::from_secs(1_800)).await;
    assert_eq!(idle.put_pack(b"one").await.status, 201);
    tokio::time::advance(Duration::from_secs(1_700)).await;
    assert_eq!(idle.put_pack(b"two").await.status, 201);
}

#[tokio::test]
async fn a_trickling_body_is_cut_and_leaves_nothing() {
    let pace = Pace {
        interval: Duration::from_millis(200),
        bytes_min: 1_000,
    };
    let bench = start(BenchOptions {
        pace,
        ..BenchOptions::default()
    })
    .await;
    bench.open_run().await;
    let mut agent = bench.agent().await;
    agent.begin_chunked().await;
    for _ in 0..100 {
        agent.chunk(b"x").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = agent.answer("PUT").await;
    assert_eq!(answer.refusal(), RefusalKind::Malformed);
    assert!(is_closed(&mut agent.stream).await);
    assert!(bench.objects().is_empty());
    bench.spool_is_empty().await;
}

#[tokio::test]
async fn bytes_and_packs_are_counted_as_they_come() {
    let bench = start(BenchOptions::default()).await;
    bench
        .open(&OpenRun {
            bytes_max: 3_000_000,
            packs_max: 3,
            ..open_run()
        })
        .await;
    let mut agent = bench.agent().await;
    assert_eq!(agent.put_pack(&sample(1_000_000, 1)).await.status, 201);

    // Cut in the middle: the rest of the grant is smaller than this body, which never ends.
    agent.begin_chunked().await;
    for seed in 0..40 {
        agent.chunk(&sample(100_000, seed)).await;
    }
    let answer = agent.answer("PUT").await;
    assert_eq!((answer.status, answer.refusal()), (413, RefusalKind::Quota));
    assert_eq!(bench.objects(), [pack_name(&sample(1_000_000, 1))]);

    // What was counted is not given back.
    let mut agent = bench.agent().await;
    let answer = agent.put_pack(&sample(900_000, 2)).await;
    assert_eq!(answer.refusal(), RefusalKind::Quota);
    // The packs are used up as well: three were begun.
    let answer = bench.agent().await.put_pack(b"x").await;
    assert_eq!(answer.refusal(), RefusalKind::Quota);
    assert_eq!(bench.objects().len(), 1);
    bench.spool_is_empty().await;
}

#[tokio::test]
async fn impossible_sizes_are_refused() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let empty = bench.agent().await.put_pack(b"").await;
    assert_eq!(
        (empty.status, empty.refusal()),
        (400, RefusalKind::Malformed)
    );

    // Announced: refused before a byte of it is read.
    let mut agent = bench.agent().await;
    let head = format!(
        "PUT /v1/packs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        PACK_BYTES_MAX + 1
    );
    agent.stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(agent.answer("PUT").await.refusal(), RefusalKind::Quota);

    // Not announced: refused when it is reached.
    let mut agent = bench.agent().await;
    agent.begin_chunked().await;
    let piece = sample(1 << 20, 1);
    for _ in 0..=(PACK_BYTES_MAX >> 20) {
        agent.chunk(&piece).await;
    }
    assert_eq!(agent.answer("PUT").await.refusal(), RefusalKind::Quota);

    // Lies about its length.
    for head in [
        "content-length: 18446744073709551616",
        "content-length: -1",
        "content-length: 4\r\ncontent-length: 5",
        "transfer-encoding: gzip",
    ] {
        let mut agent = bench.agent().await;
        let request = format!("PUT /v1/packs HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\nabcdefgh");
        agent.stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _reset = agent.stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 4"),
            "{head}: {text}"
        );
    }
    assert!(bench.objects().is_empty());
    bench.spool_is_empty().await;
}

#[tokio::test]
async fn a_cut_upload_leaves_nothing() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    for announced in [true, false] {
        let mut agent = bench.agent().await;
        if announced {
            let head = b"PUT /v1/packs HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n";
            agent.stream.write_all(head).await.unwrap();
            agent.stream.write_all(&sample(4_999_999, 1)).await.unwrap();
        } else {
            agent.begin_chunked().await;
            agent.chunk(&sample(2_000_000, 1)).await;
        }
        drop(agent);
    }
    // Closing waits until uploads are stored or dropped.
    bench.close_run().await;
    assert!(bench.objects().is_empty());
    bench.spool_is_empty().await;
}

#[tokio::test]
async fn a_run_has_a_bounded_number_of_connections() {
    let bench = start(BenchOptions::default()).await;
    bench.open_run().await;
    let mut agents = Vec::new();
    for _ in 0..append_server::limits::CONNECTIONS_PER_RUN_MAX {
        let mut agent = bench.agent().await;
        // Answered: it certainly has its place.
        assert!(agent.put_pack(b"x").await.status < 300);
        agents.push(agent);
    }
    let mut more = bench.agent().await;
    assert!(is_closed(&mut more.stream).await);
    drop(agents);
}

#[tokio::test]
async fn uploads_wait_for_room_in_the_spool() {
    let bench = start(BenchOptions {
        spool_bytes_max: 2 << 20,
        ..BenchOptions::default()
    })
    .await;
    bench.open_run().await;
    let mut first = bench.agent().await;
    let head = b"PUT /v1/packs HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n";
    first.stream.write_all(head).await.unwrap();
    first.stream.write_all(&sample(1_000_000, 1)).await.unwrap();
    // Wait until it has its room.
    while bench.spooled().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut second = bench.agent().await;
    let waiting = tokio::spawn(async move { second.put_pack(&sample(1_500_000, 2)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    first.stream.write_all(&sample(1_000_000, 3)).await.unwrap();
    assert_eq!(first.answer("PUT").await.status, 201);
    assert_eq!(waiting.await.unwrap().status, 201);
}
