//! The bucket against a clock that stands still until everybody waits.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::destination::throttle::{PIECES_PER_SEC, SAVED_UP, Throttle};

const BYTES_PER_SEC: u64 = 1 << 20;
/// Timers go off at whole milliseconds.
const TICK: Duration = Duration::from_millis(2);

fn throttle() -> Arc<Throttle> {
    Throttle::new(Some("1MiB/s".parse().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn bytes_take_as_long_as_the_limit_says_and_no_longer() {
    let transfer = throttle().transfer();
    let began = Instant::now();
    for _ in 0..10 {
        transfer.take(BYTES_PER_SEC / 2).await;
    }
    let took = began.elapsed();
    let expected = Duration::from_secs(5);
    assert!(
        took >= expected - SAVED_UP && took <= expected + TICK,
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_destination_saves_up_a_moment_and_no_more() {
    let transfer = throttle().transfer();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let saved = u128::from(BYTES_PER_SEC) * SAVED_UP.as_millis() / 1_000;
    let began = Instant::now();
    transfer.take(u64::try_from(saved).unwrap()).await;
    assert!(began.elapsed() <= TICK, "{:?}", began.elapsed());
    transfer.take(BYTES_PER_SEC).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took <= Duration::from_secs(1) + TICK, "{took:?}");
}

/// What each of several transfers got in every second, one of them with many pieces in flight.
#[tokio::test(start_paused = true)]
async fn transfers_share_every_second_evenly_however_many_pieces_they_have_in_flight() {
    const TRANSFERS: u64 = 5;
    let throttle = throttle();
    let got: Arc<Vec<AtomicU64>> = Arc::new((0..TRANSFERS).map(|_| AtomicU64::new(0)).collect());
    for number in 0..TRANSFERS {
        let transfer = throttle.transfer();
        let lanes = if number == 0 { 32 } else { 1 };
        for _ in 0..lanes {
            let (transfer, got) = (Arc::clone(&transfer), Arc::clone(&got));
            tokio::spawn(async move {
                let piece = transfer.piece_bytes(256 << 10) as u64;
                loop {
                    transfer.take(piece).await;
                    let mine = usize::try_from(number).unwrap();
                    got[mine].fetch_add(piece, Ordering::Relaxed);
                }
            });
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..10 {
        let before: Vec<u64> = got
            .iter()
            .map(|got| got.swap(0, Ordering::Relaxed))
            .collect();
        drop(before);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let shares: Vec<u64> = got.iter().map(|got| got.load(Ordering::Relaxed)).collect();
        let all: u64 = shares.iter().sum();
        let piece = BYTES_PER_SEC / PIECES_PER_SEC;
        assert!(all <= BYTES_PER_SEC + piece, "{all}");
        assert!(all + piece >= BYTES_PER_SEC, "{all}");
        for share in &shares {
            let fair = BYTES_PER_SEC / TRANSFERS;
            assert!(share.abs_diff(fair) <= piece, "{shares:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits() {
    let transfer = Throttle::new(None).transfer();
    let began = Instant::now();
    transfer.take(u64::MAX).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!transfer.is_limited());
    assert_eq!(transfer.piece_bytes(7), 7);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_does_not_count_what_the_limit_held_up() {
    let transfer = throttle().transfer();
    let patience = Duration::from_secs(2);
    let sent = transfer.within(patience, async {
        for _ in 0..100 {
            transfer.take(BYTES_PER_SEC / 10).await;
        }
    });
    assert!(
        sent.await.is_some(),
        "ten seconds, all of them for the limit"
    );
    let hangs = transfer.within(patience, std::future::pending::<()>());
    let began = Instant::now();
    assert!(hangs.await.is_none());
    assert!(began.elapsed() <= patience + TICK, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_counts_for_what_comes_after() {
    let throttle = Throttle::changing();
    let transfer = throttle.transfer();
    let began = Instant::now();
    transfer.take(1 << 40).await;
    assert!(began.elapsed() <= TICK, "{:?}", began.elapsed());
    for (rate, secs) in [("1MiB/s", 4), ("4MiB/s", 1), ("64KiB/s", 64)] {
        throttle.set(Some(rate.parse().unwrap()));
        let began = Instant::now();
        transfer.take(4 * BYTES_PER_SEC).await;
        let (took, expected) = (began.elapsed(), Duration::from_secs(secs));
        assert!(
            took >= expected - SAVED_UP - TICK && took <= expected + TICK,
            "{rate}: {took:?}"
        );
    }
    throttle.set(None);
    let began = Instant::now();
    transfer.take(1 << 40).await;
    assert!(began.elapsed() <= TICK, "{:?}", began.elapsed());
}
