//! Watches the bytes that a network device receives, to tell the rate of the middle of a transfer from its beginning
//! and end. The device's own counter is read; nothing is captured.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

/// How often the counter is read.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The middle of a transfer: its bytes from this part of them to that.
const MIDDLE: (f64, f64) = (0.25, 0.95);

/// A thread that looks until it is stopped.
#[derive(Debug)]
pub struct WireMonitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(f64, u64)>>,
}

/// What crossed the wire, headers and retransmissions included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crossed {
    /// All bytes received.
    pub bytes: u64,
    /// Bytes a second in the middle of the transfer.
    pub middle_rate: f64,
}

impl WireMonitor {
    /// Begins to watch a device.
    pub fn start(device: &'static str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("wire".into())
            .spawn(move || {
                let began = Instant::now();
                let mut seen = Vec::new();
                loop {
                    // Asked before the counter is read, so that the last reading has everything.
                    let last = told.load(Ordering::Relaxed);
                    if let Some(bytes) = received(device) {
                        seen.push((began.elapsed().as_secs_f64(), bytes));
                    }
                    if last {
                        return seen;
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            })
            .context("starting the wire's monitor")?;
        Ok(Self { stop, thread })
    }

    /// Ends watching.
    pub fn stop(self) -> Result<Crossed> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self
            .thread
            .join()
            .map_err(|_| anyhow!("the wire's monitor panicked"))?;
        Ok(crossed(&seen))
    }
}

fn crossed(seen: &[(f64, u64)]) -> Crossed {
    let (Some((_, first)), Some((_, last))) = (seen.first(), seen.last()) else {
        return Crossed::default();
    };
    let bytes = last - first;
    let reached = |part: f64| {
        let wanted = first + (bytes as f64 * part) as u64;
        seen.iter().find(|(_, bytes)| *bytes >= wanted)
    };
    let middle_rate = match (reached(MIDDLE.0), reached(MIDDLE.1)) {
        (Some((begin, from)), Some((end, to))) if end > begin => (to - from) as f64 / (end - begin),
        _ => 0.0,
    };
    Crossed { bytes, middle_rate }
}

/// The first number after a device's name in `/proc/net/dev` is the bytes it received.
fn received(device: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/net/dev").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::crossed;

    #[test]
    fn a_slow_beginning_does_not_count_as_the_middle() {
        let mut seen = vec![(0.0, 1000), (10.0, 1000)];
        seen.extend(
            (1..=100).map(|step| (10.0 + f64::from(step) * 0.05, 1000 + 100 * step as u64)),
        );
        seen.push((30.0, 11_000));
        let crossed = crossed(&seen);
        assert_eq!(crossed.bytes, 10_000);
        assert!((crossed.middle_rate - 2000.0).abs() < 1.0, "{crossed:?}");
    }
}
