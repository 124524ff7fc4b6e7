//! Counts failed handshakes and logs them at most once a second, so that whoever knocks cannot fill the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::grants::handshake::HandshakeError;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct FailureLog {
    total: AtomicU64,
    last: Mutex<Option<(Instant, u64)>>,
}

impl FailureLog {
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self, error: &HandshakeError) {
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let logged = match *last {
            Some((at, _)) if now.duration_since(at) < INTERVAL => return,
            Some((_, logged)) => logged,
            None => 0,
        };
        *last = Some((now, total));
        tracing::warn!(
            error = error as &dyn std::error::Error,
            failures = total - logged,
            total,
            "a connection did not prove that it belongs to a run"
        );
    }
}
