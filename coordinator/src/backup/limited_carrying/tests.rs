//! Limited connections carry everything both ways, end with either side, and share their limit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::UnixListener;

use crate::backup::limited_carrying::LimitedIngest;
use crate::backup::limited_carrying::pace::Pace;
use crate::clock::{Clock, FixedClock};
use crate::schedule::rates::{RateHours, Rates};
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

/// A clock that stands at noon.
fn noon() -> Arc<FixedClock> {
    let noon: Timestamp = "2026-07-15T12:00:00Z".parse().unwrap();
    Arc::new(FixedClock::at(noon))
}

fn pace(rates: Option<Rates>, clock: Arc<dyn Clock>) -> Pace {
    Pace::new(rates, &TimeZone::UTC, clock)
}

fn always(rate: &str) -> Pace {
    pace(Some(Rates::always(rate.parse().unwrap())), noon())
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
    let pace = always("64KiB/s");
    let ingest = LimitedIngest::new(server(&dir, bytes), pace);
    let began = Instant::now();
    let (a, b) = tokio::join!(upload(ingest.clone(), bytes), upload(ingest, bytes));
    assert_eq!((a, b), (3 * (64 << 10), 3 * (64 << 10)));
    // Two seconds' worth, but for what an idle limit has saved up.
    assert!(began.elapsed() > Duration::from_millis(1_700));
}

/// Slow up to one o'clock, without a limit after it.
fn slow_at_noon() -> Option<Rates> {
    Some(Rates::new(vec![RateHours {
        hours: Some("12:00-13:00".parse().unwrap()),
        rate: "64KiB/s".parse().unwrap(),
    }]))
}

#[tokio::test]
async fn a_rate_changes_while_a_connection_lasts() {
    let dir = tempfile::tempdir().unwrap();
    // Three minutes and more at the slow rate.
    let bytes = 12 << 20;
    let clock = noon();
    let pace = pace(slow_at_noon(), clock.clone());
    let upload = tokio::spawn(upload(LimitedIngest::new(server(&dir, bytes), pace), bytes));
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!upload.is_finished());
    clock.advance_secs(3_600);
    assert_eq!(upload.await.unwrap(), 3 * (12 << 20));
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_connection_that_begins_without_a_limit_gets_one_when_its_hour_comes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = noon();
    clock.advance_secs(23 * 3_600);
    let ingest = LimitedIngest::new(server(&dir, 256 << 10), pace(slow_at_noon(), clock.clone()));
    let (mut agent, tunnel) = duplex(16 << 10);
    let carrying = ingest.clone();
    let carried = tokio::spawn(async move { carrying.carry(tunnel).await });
    agent.write_all(&[3; 128 << 10]).await.unwrap();
    clock.advance_secs(3_600);
    let began = Instant::now();
    agent.write_all(&[3; 128 << 10]).await.unwrap();
    agent.read_exact(&mut [0; 8]).await.unwrap();
    // Two seconds' worth, but for what was on its way and saved up.
    assert!(began.elapsed() > Duration::from_millis(500));
    carried.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_limit_nothing_waits() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = LimitedIngest::new(server(&dir, 8 << 20), pace(None, noon()));
    assert_eq!(upload(ingest, 8 << 20).await, 3 * (8 << 20));
}

#[tokio::test]
async fn an_agent_that_goes_ends_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ingest");
    let listener = UnixListener::bind(&path).unwrap();
    let ingest = LimitedIngest::new(Ingest::Socket(path), always("1MiB/s"));
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
