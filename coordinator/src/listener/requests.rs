//! How many requests were answered, by the class of the answer, since the daemon began.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// The classes, as they are told.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counts.
#[derive(Debug, Default)]
pub struct Requests([AtomicU64; CLASSES.len()]);

impl Requests {
    /// One more.
    pub fn note(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.0.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of each class.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        CLASSES.into_iter().zip(counts).collect()
    }
}
