//! The client against the embedded server: the path that every backup takes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use append_server::places::Place;
use bytes::Bytes;
use formats::ids::{PackId, RepositoryId, RunId};
use formats::keys::secret::RunToken;
use formats::object::{ObjectKind, ObjectName};
use formats::wire::handshake::{ANSWER_BYTES, Opening, agent_proof};
use formats::wire::upload::refusal::RefusalKind;
use formats::wire::upload::{OpenRun, Stored};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::storage::client::{OBJECT_BYTES_MAX, ReadRange, StorageClient};
use crate::storage::embedded::{
    EmbeddedError, EmbeddedLimits, EmbeddedServer, QueueUse, create_destination,
};
use crate::storage::error::StorageError;
use crate::storage::ingest::Ingest;

const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
const RUN: RunId = RunId([2; 16]);

fn limits() -> EmbeddedLimits {
    EmbeddedLimits {
        reserve_bytes: 0,
        ..EmbeddedLimits::default()
    }
}

fn places(dir: &Path, names: &[(&str, bool)]) -> Vec<Place> {
    names
        .iter()
        .map(|(name, required)| {
            let path = dir.join(name);
            if *required {
                create_destination(&path).unwrap();
            }
            Place::local(name.parse().unwrap(), &path, *required)
        })
        .collect()
}

async fn embedded() -> (TempDir, EmbeddedServer) {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), &[("local", true)]);
    let server = EmbeddedServer::start(dir.path(), &places, limits(), QueueUse::Deliver)
        .await
        .unwrap();
    (dir, server)
}

fn open_run() -> OpenRun {
    OpenRun {
        repository: REPOSITORY,
        run: RUN,
        token: RunToken::from_bytes([3; 32]),
        bytes_max: 1 << 30,
        packs_max: 1_000,
        seconds_max: 600,
    }
}

fn sample(length: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn meta(bytes: &[u8]) -> ObjectName {
    ObjectName::Meta(PackId(*blake3::hash(bytes).as_bytes()))
}

/// The agent's end of a tunnel: handshake, then one pack.
async fn upload<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, pack: &[u8]) -> Stored {
    let opening = Opening {
        run: RUN,
        nonce: [4; 32],
    };
    stream.write_all(&opening.encode()).await.unwrap();
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await.unwrap();
    let nonce = answer[..32].try_into().unwrap();
    let proof = agent_proof(&open_run().token, &opening, &nonce);
    stream.write_all(&proof).await.unwrap();
    let head = format!(
        "PUT /v1/packs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        pack.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(pack).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 201"));
    let mut body = [0; 41];
    stream.read_exact(&mut body).await.unwrap();
    Stored::decode(&body).unwrap()
}

#[tokio::test]
async fn a_pack_goes_through_the_relay_and_is_read_back() {
    let (_dir, server) = embedded().await;
    let socket = server.ingest_socket().to_owned();
    a_pack_comes_in_and_is_read_back(server, Ingest::Socket(socket)).await;
}

#[tokio::test]
async fn a_pack_goes_into_this_process_and_is_read_back() {
    let (_dir, server) = embedded().await;
    let ingest = server.ingest();
    a_pack_comes_in_and_is_read_back(server, ingest).await;
}

async fn a_pack_comes_in_and_is_read_back(server: EmbeddedServer, ingest: Ingest) {
    let client = server.client();
    client.open_run(&open_run()).await.unwrap();
    let again = client.open_run(&open_run()).await;
    assert!(matches!(again, Err(StorageError::Conflict { .. })));

    let pack = sample(5_000_000, 1);
    // A tunnel with small buffers: what is not read holds up what is written.
    let (mut agent, tunnel) = tokio::io::duplex(10_000);
    let carrying = tokio::spawn(async move { ingest.carry(tunnel).await });
    let stored = upload(&mut agent, &pack).await;
    assert_eq!(stored.digest.0, *blake3::hash(&pack).as_bytes());
    let name = ObjectName::Pack(stored.digest);
    let read = client
        .get(REPOSITORY, &name, ReadRange::All, OBJECT_BYTES_MAX)
        .await
        .unwrap();
    assert_eq!(read, pack);
    assert_eq!(client.head(REPOSITORY, &name).await.unwrap(), 5_000_000);
    let listed = client.list(REPOSITORY, ObjectKind::Pack).await.unwrap();
    assert_eq!(listed, [(name, 5_000_000)]);

    client.close_run(RUN).await.unwrap();
    let closed = client.close_run(RUN).await;
    assert!(closed.unwrap_err().is_absent());
    // The run's end reaches the agent's end of the tunnel.
    let mut rest = Vec::new();
    agent.read_to_end(&mut rest).await.unwrap();
    carrying.await.unwrap().unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn objects_are_created_once_and_read_in_ranges() {
    let (_dir, server) = embedded().await;
    let client = server.client();
    let bytes = sample(1_000_000, 1);
    let name = meta(&bytes);
    let stored = client.put(REPOSITORY, &name, bytes.clone()).await.unwrap();
    assert!(!stored.existed);
    let stored = client.put(REPOSITORY, &name, bytes.clone()).await.unwrap();
    assert!(stored.existed);

    for (range, expected) in [
        (ReadRange::All, bytes.clone()),
        (ReadRange::From(999_000), bytes.slice(999_000..)),
        (
            ReadRange::Part {
                start: 5,
                bytes: 300_000,
            },
            bytes.slice(5..300_005),
        ),
        (
            ReadRange::Part {
                start: 999_999,
                bytes: 50,
            },
            bytes.slice(999_999..),
        ),
    ] {
        let read = client.get(REPOSITORY, &name, range, 1_000_000).await;
        assert_eq!(read.unwrap(), expected);
        let stream = client.get_stream(REPOSITORY, &name, range, 1_000_000).await;
        let (announced, pieces) = stream.unwrap();
        assert_eq!(announced, expected.len() as u64);
        let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
        assert_eq!(pieces.concat(), expected);
    }
    let past = client.get(REPOSITORY, &name, ReadRange::From(1_000_000), 10);
    assert!(matches!(past.await, Err(StorageError::Refused { .. })));
    let long = client.get(REPOSITORY, &name, ReadRange::All, 999_999).await;
    assert!(matches!(long, Err(StorageError::TooLong { .. })));

    let log = ObjectName::Log(1);
    client.put(REPOSITORY, &log, sample(10, 1)).await.unwrap();
    let other = client.put(REPOSITORY, &log, sample(10, 2)).await;
    assert!(
        matches!(other, Err(StorageError::Conflict { .. })),
        "{other:?}"
    );
    let read = client.get(REPOSITORY, &log, ReadRange::All, 100).await;
    assert_eq!(read.unwrap(), sample(10, 1));
}

#[tokio::test]
async fn refusals_keep_their_kinds() {
    let (_dir, server) = embedded().await;
    let client = server.client();
    for name in [ObjectName::Config, ObjectName::Log(1), meta(b"x")] {
        let read = client.get(REPOSITORY, &name, ReadRange::All, 100).await;
        assert!(read.unwrap_err().is_absent());
        assert!(
            client
                .head(REPOSITORY, &name)
                .await
                .unwrap_err()
                .is_absent()
        );
    }
    let pack = ObjectName::Pack(PackId(*blake3::hash(b"x").as_bytes()));
    let refused = client.put(REPOSITORY, &pack, "x".into()).await;
    assert!(
        matches!(&refused, Err(StorageError::Refused { kind, .. }) if *kind == RefusalKind::NotGranted),
        "{refused:?}"
    );
    let misnamed = client.put(REPOSITORY, &meta(b"y"), "x".into()).await;
    assert!(
        matches!(&misnamed, Err(StorageError::Refused { kind, .. }) if *kind == RefusalKind::Malformed),
        "{misnamed:?}"
    );
    let keys = ObjectName::Keys("admin".parse().unwrap());
    let long = client.put(REPOSITORY, &keys, sample(5_000, 1));
    assert!(matches!(long.await, Err(StorageError::Quota { .. })));
    // The connection that was closed on that is not used again.
    client
        .put(REPOSITORY, &ObjectName::Config, "good".into())
        .await
        .unwrap();
}

#[tokio::test]
async fn long_lists_come_whole_and_in_order() {
    let (_dir, server) = embedded().await;
    let client = server.client();
    let puts = futures_util::stream::iter(0..1_050u64).map(|sequence| {
        let client = client.clone();
        async move {
            let name = ObjectName::Log(sequence);
            client.put(REPOSITORY, &name, "record".into()).await
        }
    });
    let stored: Vec<Stored> = puts.buffer_unordered(16).try_collect().await.unwrap();
    assert_eq!(stored.len(), 1_050);
    let listed = client.list(REPOSITORY, ObjectKind::Log).await.unwrap();
    let expected: Vec<_> = (0..1_050).map(|n| (ObjectName::Log(n), 6)).collect();
    assert_eq!(listed, expected);
    let none = client.list(REPOSITORY, ObjectKind::Meta).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn a_state_directory_may_have_a_very_long_path() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("x".repeat(200)).join("y".repeat(200));
    std::fs::create_dir_all(&state).unwrap();
    let places = places(dir.path(), &[("local", true)]);
    let server = EmbeddedServer::start(&state, &places, limits(), QueueUse::Deliver)
        .await
        .unwrap();
    let client = server.client();
    client
        .put(REPOSITORY, &ObjectName::Config, "config".into())
        .await
        .unwrap();
    server.shutdown().await;
    // Only the spool's own directory and the list of removals stay; the sockets are gone.
    let left = std::fs::read_dir(&state).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["removals.sqlite", "spool"]);
}

#[tokio::test]
async fn an_unmounted_required_destination_stops_the_start_and_another_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut places = places(dir.path(), &[("local", true), ("away", false)]);
    let server = EmbeddedServer::start(dir.path(), &places, limits(), QueueUse::Deliver)
        .await
        .unwrap();
    let put = server.client();
    put.put(REPOSITORY, &ObjectName::Config, "x".into())
        .await
        .unwrap();
    server.shutdown().await;
    assert!(!dir.path().join("away").exists());

    places[1].required = true;
    let refused = EmbeddedServer::start(dir.path(), &places, limits(), QueueUse::Deliver).await;
    assert!(matches!(refused, Err(EmbeddedError::Destination(_))));
    assert!(!dir.path().join("away").exists());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let client = StorageClient::new(&dir.path().join("nothing"));
    let read = client.get(REPOSITORY, &ObjectName::Config, ReadRange::All, 10);
    assert!(matches!(read.await, Err(StorageError::Connect(_))));
}

#[tokio::test]
async fn a_client_outlives_a_server_that_was_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), &[("local", true)]);
    let first = EmbeddedServer::start(dir.path(), &places, limits(), QueueUse::Deliver)
        .await
        .unwrap();
    let client = first.client();
    let name = ObjectName::Config;
    client.put(REPOSITORY, &name, "one".into()).await.unwrap();
    first.shutdown().await;
    let gone = client.head(REPOSITORY, &name).await;
    assert!(matches!(gone, Err(StorageError::Connect(_))), "{gone:?}");
    let second = EmbeddedServer::start(dir.path(), &places, limits(), QueueUse::Deliver)
        .await
        .unwrap();
    assert_eq!(second.client().head(REPOSITORY, &name).await.unwrap(), 3);
}
