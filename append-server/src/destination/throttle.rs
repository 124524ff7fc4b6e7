//! Keeps a destination within its bandwidth: one bucket of tokens, a token for each byte, for all its transfers in both
//! directions. A transfer waits for the tokens of its next piece, in turn with the others, for exactly as long as they
//! take to come. Never polls, and never lets more through in any second than the limit and a tenth. The limit may be another
//! from one piece to the next.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::destination::bandwidth::Bandwidth;

/// Tokens of an idle destination are saved up for so long: enough to go on at full speed when a timer is late.
const SAVED_UP: Duration = Duration::from_millis(100);
/// Pieces that a second's bytes are given out in; as many transfers get their turn within a second.
const PIECES_PER_SEC: u64 = 16;
/// No piece need be smaller.
const PIECE_BYTES_MIN: u64 = 4 << 10;

/// More than anything can send.
const UNLIMITED: u64 = u64::MAX;

/// What a destination's transfers share.
#[derive(Debug)]
pub struct Throttle(Option<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// [`UNLIMITED`] for the time being, or the limit.
    bytes_per_sec: AtomicU64,
    /// The time up to which every token has been given out; what has passed since then is saved up.
    given_until: Mutex<Instant>,
}

impl Throttle {
    /// With a limit, or without any.
    pub fn new(bandwidth: Option<Bandwidth>) -> Arc<Self> {
        Arc::new(Self(
            bandwidth.map(|bandwidth| Bucket::new(bandwidth.bytes_per_sec())),
        ))
    }

    /// With a limit that changes; there is none until it is set.
    pub fn changing() -> Arc<Self> {
        Arc::new(Self(Some(Bucket::new(UNLIMITED))))
    }

    /// Sets the limit of one that changes, for what is asked for from now on; or that there is none for the time being.
    pub fn set(&self, bandwidth: Option<Bandwidth>) {
        if let Some(bucket) = &self.0 {
            let bytes_per_sec = bandwidth.map_or(UNLIMITED, Bandwidth::bytes_per_sec);
            bucket.bytes_per_sec.store(bytes_per_sec, Ordering::Relaxed);
        }
    }

    /// Begins to send or receive one object.
    pub fn transfer(self: &Arc<Self>) -> Arc<Transfer> {
        Arc::new(Transfer {
            throttle: Arc::clone(self),
            turn: tokio::sync::Mutex::new(()),
            waited_nanos: AtomicU64::new(0),
        })
    }
}

impl Bucket {
    fn new(bytes_per_sec: u64) -> Self {
        Self {
            bytes_per_sec: AtomicU64::new(bytes_per_sec),
            given_until: Mutex::new(Instant::now()),
        }
    }

    fn bytes_per_sec(&self) -> u64 {
        self.bytes_per_sec.load(Ordering::Relaxed).max(1)
    }

    fn piece_bytes(&self) -> u64 {
        (self.bytes_per_sec() / PIECES_PER_SEC).max(PIECE_BYTES_MIN)
    }

    /// Gives out tokens, and says when they are there. Who goes away before that has used them up all the same.
    fn give(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        let saved = now.checked_sub(SAVED_UP).unwrap_or(now);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_sec());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut given_until = self
            .given_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *given_until = (*given_until).max(saved) + takes;
        *given_until
    }
}

/// One object on its way.
#[derive(Debug)]
pub struct Transfer {
    throttle: Arc<Throttle>,
    /// Of a transfer with many pieces in flight, one asks at a time: the others' turn comes in between.
    turn: tokio::sync::Mutex<()>,
    waited_nanos: AtomicU64,
}

impl Transfer {
    /// Whether it may have to wait.
    pub fn is_limited(&self) -> bool {
        self.throttle.0.is_some()
    }

    /// The bytes that a piece should have, of at most `bytes_max`.
    pub fn piece_bytes(&self, bytes_max: usize) -> usize {
        let piece = self.throttle.0.as_ref().map(Bucket::piece_bytes);
        piece
            .and_then(|piece| usize::try_from(piece).ok())
            .map_or(bytes_max, |piece| piece.min(bytes_max))
    }

    /// Waits until so many bytes may go.
    pub async fn take(&self, bytes: u64) {
        let Some(bucket) = &self.throttle.0 else {
            return;
        };
        let _turn = self.turn.lock().await;
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(bucket.piece_bytes());
            left -= piece;
            let asked = Instant::now();
            tokio::time::sleep_until(bucket.give(piece)).await;
            let nanos = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.waited_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// How long it has waited.
    fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_nanos.load(Ordering::Relaxed))
    }

    /// Carries `work` out, or nothing when it takes longer than this; what the transfer waits for its bandwidth
    /// meanwhile does not count.
    pub async fn within<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (began, before) = (Instant::now(), self.waited());
        let deadline = || began + patience + self.waited().saturating_sub(before);
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout_at(deadline(), work.as_mut()).await {
                Ok(done) => return Some(done),
                // It waited while it was waited for.
                Err(_) if Instant::now() < deadline() => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
