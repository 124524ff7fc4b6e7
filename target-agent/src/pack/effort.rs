//! How hard frames are compressed: as quickly as possible where processors are what is short, harder where the way
//! to the server is slow and this host has processors to spare. Never takes a busy host's processors for a better
//! ratio.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use crate::limits::EFFORT_REVIEW_EVERY;

/// zstd levels, quickest first. Past the last, a compressor's tables would take more memory than an agent may.
const LEVELS: [i32; 3] = [1, 3, 6];
/// Of all frames, how many must have waited for a connection to make the next ones smaller…
const HELD_UP_MIN: f64 = 0.5;
/// …and how much of this host's processor time must be idle.
const IDLE_MIN: f64 = 0.4;
/// With less of either, frames are compressed more quickly again.
const HELD_UP_LOW: f64 = 0.2;
const IDLE_LOW: f64 = 0.15;

/// The level in force; read by the sealing threads.
#[derive(Debug, Clone)]
pub struct Effort(Arc<AtomicI32>);

impl Effort {
    /// Begins at the quickest level that was asked for.
    pub fn new(level_min: i32) -> Self {
        Self(Arc::new(AtomicI32::new(level_min)))
    }

    /// The level for the next frame.
    pub fn level(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Watches how frames leave, and sets the level.
#[derive(Debug)]
pub struct Gauge {
    effort: Effort,
    levels: Vec<i32>,
    place: usize,
    frames: u32,
    held_up: u32,
    since: Instant,
    times: Option<CpuTimes>,
}

impl Gauge {
    /// Sets `effort` to one of the levels from its own on.
    pub fn new(effort: Effort) -> Self {
        let level_min = effort.level();
        let higher = LEVELS.into_iter().filter(|level| *level > level_min);
        Self {
            levels: [level_min].into_iter().chain(higher).collect(),
            effort,
            place: 0,
            frames: 0,
            held_up: 0,
            since: Instant::now(),
            times: CpuTimes::now(),
        }
    }

    /// A frame left; `held_up` says whether no connection was free to take it.
    pub fn frame(&mut self, held_up: bool) {
        self.frames += 1;
        self.held_up += u32::from(held_up);
        if self.since.elapsed() < EFFORT_REVIEW_EVERY {
            return;
        }
        let now = CpuTimes::now();
        let idle = match (self.times, now) {
            (Some(before), Some(now)) => now.idle_share_since(before),
            // What is not known is not taken.
            _ => 0.0,
        };
        let share = f64::from(self.held_up) / f64::from(self.frames);
        self.place = next_place(self.place, share, idle, self.levels.len());
        if let Some(level) = self.levels.get(self.place) {
            self.effort.0.store(*level, Ordering::Relaxed);
        }
        (self.frames, self.held_up) = (0, 0);
        self.since = Instant::now();
        self.times = now;
    }
}

/// One step harder, one quicker, or as it was.
fn next_place(place: usize, held_up: f64, idle: f64, places: usize) -> usize {
    if held_up >= HELD_UP_MIN && idle >= IDLE_MIN {
        (place + 1).min(places.saturating_sub(1))
    } else if held_up < HELD_UP_LOW || idle < IDLE_LOW {
        place.saturating_sub(1)
    } else {
        place
    }
}

/// Processor time of the whole host since it started, in the kernel's ticks (proc(5), `/proc/stat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CpuTimes {
    idle: u64,
    total: u64,
}

impl CpuTimes {
    fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user's already.
        let ticks: Vec<u64> = line
            .split_ascii_whitespace()
            .take(8)
            .map_while(|field| field.parse().ok())
            .collect();
        let idle = ticks.get(3)?.saturating_add(*ticks.get(4)?);
        let total = ticks
            .iter()
            .fold(0u64, |sum, tick| sum.saturating_add(*tick));
        Some(Self { idle, total })
    }

    fn idle_share_since(self, before: Self) -> f64 {
        let idle = self.idle.saturating_sub(before.idle);
        let total = self.total.saturating_sub(before.total);
        if total == 0 {
            return 0.0;
        }
        idle as f64 / total as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{CpuTimes, Effort, Gauge, next_place};

    #[test]
    fn a_slow_way_buys_ratio_only_from_idle_processors() {
        assert_eq!(next_place(0, 0.9, 0.7, 3), 1);
        assert_eq!(next_place(2, 0.9, 0.7, 3), 2);
        // A busy host, or a server that is the same machine: no step up, and back where there is nothing to spare.
        assert_eq!(next_place(0, 0.9, 0.3, 3), 0);
        assert_eq!(next_place(1, 0.9, 0.3, 3), 1);
        assert_eq!(next_place(1, 0.9, 0.1, 3), 0);
        // A fast way buys speed.
        assert_eq!(next_place(2, 0.1, 0.9, 3), 1);
    }

    #[test]
    fn the_level_that_was_asked_for_is_the_least() {
        assert_eq!(Gauge::new(Effort::new(1)).levels, [1, 3, 6]);
        assert_eq!(Gauge::new(Effort::new(5)).levels, [5, 6]);
        assert_eq!(Gauge::new(Effort::new(19)).levels, [19]);
    }

    #[test]
    fn processor_times_are_read_as_the_kernel_writes_them() {
        let text = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n";
        let before = CpuTimes::parse(text).expect("it reads");
        assert_eq!((before.idle, before.total), (850, 1_000));
        let later = CpuTimes::parse("cpu  150 0 60 860 80 0 0 50 9 9").expect("it reads");
        assert_eq!(later.idle_share_since(before), 0.45);
        assert_eq!(CpuTimes::parse("cpu  1 2 3"), None);
        assert_eq!(CpuTimes::parse("intr 5"), None);
        assert_eq!(before.idle_share_since(before), 0.0);
    }
}
