//! Limited connections carry everything both ways, end with either side, and share their limit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use append_server::destination::bandwidth::Bandwidth;
use append_server::destination::throttle::Throttle;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::UnixListener;

use crate::backup::limited_carrying::LimitedIngest;
use crate::storage::ingest::Ingest;

/// A server that reads so many bytes of each connection, and answers with their number.
fn server(dir: &TempDir, bytes: usize) -> Ingest {
    let path = dir.path().join("ingest");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = vec![0; bytes];
                stream.read_exact(&mut all).await.unwrap();
                let sum: u64 = all.iter().map(|byte| u64::from(*byte)).sum();
                stream.write_all(&sum.to_le_bytes()).await.unwrap();
            });
        }
    });
    Ingest::Socket(path)
}

async fn upload(ingest: LimitedIngest, bytes: usize) -> u64 {
    let (mut agent, tunnel) = duplex(16 << 10);
    let carried = tokio::spawn(async move { ingest.carry(tunnel).await });
    agent.write_all(&vec![3; bytes]).await.unwrap();
    let mut answer = [0; 8];
    agent.read_exact(&mut answer).await.unwrap();
    // The server has ended the connection, and so does the agent's side of it.
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
    carried.await.unwrap().unwrap();
    u64::from_le_bytes(answer)
}

#[tokio::test]
async fn connections_share_what_their_host_may_send() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = 64 << 10;
    let bandwidth: Bandwidth = "64KiB/s".parse().unwrap();
    let ingest = LimitedIngest::new(server(&dir, bytes), Throttle::new(Some(bandwidth)));
    let began = Instant::now();
    let (a, b) = tokio::join!(upload(ingest.clone(), bytes), upload(ingest, bytes));
    assert_eq!((a, b), (3 * (64 << 10), 3 * (64 << 10)));
    // Two seconds' worth, but for what an idle limit has saved up.
    assert!(began.elapsed() > Duration::from_millis(1_700));
}

#[tokio::test]
async fn without_a_limit_nothing_waits() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = LimitedIngest::new(server(&dir, 8 << 20), Throttle::new(None));
    assert_eq!(upload(ingest, 8 << 20).await, 3 * (8 << 20));
}

#[tokio::test]
async fn an_agent_that_goes_ends_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ingest");
    let listener = UnixListener::bind(&path).unwrap();
    let bandwidth: Bandwidth = "1MiB/s".parse().unwrap();
    let ingest = LimitedIngest::new(Ingest::Socket(path), Throttle::new(Some(bandwidth)));
    let (mut agent, tunnel) = duplex(16 << 10);
    let carried = tokio::spawn(async move { ingest.carry(tunnel).await });
    let (mut server, _) = listener.accept().await.unwrap();
    agent.write_all(b"half of").await.unwrap();
    drop(agent);
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"half of");
    drop(server);
    carried.await.unwrap().unwrap();
}
