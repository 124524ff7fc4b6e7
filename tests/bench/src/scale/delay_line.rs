//! The delay line: carries packets between two TUN devices, each after a fixed time, at most so many in a second, and
//! loses some. It is a program of
//! its own whose standard input and output are the two devices, so that nothing but packets is shared with what is
//! measured. Its queues are bounded: a packet that does not fit is dropped and counted, as a router would.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::options::DelayLineOptions;

/// What may be under way in one direction: 50 ms of 5 Gbit/s.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// How long a packet may wait for its turn on a line of a rate of its own.
const TURN_MAX: Duration = Duration::from_millis(100);
/// The longest packet of a device.
const PACKET_BYTES_MAX: usize = 65_536;
/// How often the counts are written.
const COUNTS_EVERY: Duration = Duration::from_millis(200);

/// What one direction carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets that came.
    pub packets: u64,
    /// Packets lost on purpose.
    pub lost: u64,
    /// Packets dropped because the queue was full.
    pub overflowed: u64,
}

/// One direction's counts, shared with the thread that writes them down.
#[derive(Debug, Default)]
struct Meter {
    packets: AtomicU64,
    lost: AtomicU64,
    overflowed: AtomicU64,
}

/// Packets under way in one direction.
#[derive(Debug, Default)]
struct Queue {
    inner: Mutex<Underway>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Underway {
    packets: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

/// Carries packets until it is killed, or whoever started it has gone.
pub fn carry(options: &DelayLineOptions) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to end with the parent")?;
    let near = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let far = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let delay = Duration::from_micros(options.one_way_micros);
    let meters = [Arc::new(Meter::default()), Arc::new(Meter::default())];
    let directions = [
        (near.try_clone()?, far.try_clone()?, 0x0123_4567_89ab_cdef),
        (far, near, 0xfedc_ba98_7654_3210),
    ];
    for ((from, to, seed), meter) in directions.into_iter().zip(&meters) {
        let queue = Arc::new(Queue::default());
        let (filling, meter) = (Arc::clone(&queue), Arc::clone(meter));
        let permille = options.loss_permille;
        let pace = Pace {
            bits_per_sec: options.bits_per_sec,
            free_at: Instant::now(),
        };
        let way = Way {
            delay,
            loss: Loss { seed, permille },
            pace,
        };
        std::thread::spawn(move || take(from, &filling, &meter, way));
        std::thread::spawn(move || give(&queue, to));
    }
    loop {
        let counts = meters.each_ref().map(|meter| meter.counts());
        write_counts(options, &counts)?;
        std::thread::sleep(COUNTS_EVERY);
    }
}

/// The counts file is replaced, never rewritten: whoever reads it finds it whole.
fn write_counts(options: &DelayLineOptions, counts: &[Counts; 2]) -> Result<()> {
    let fresh = options.counts.with_extension("new");
    fs::write(&fresh, serde_json::to_vec(counts)?)
        .and_then(|()| fs::rename(&fresh, &options.counts))
        .with_context(|| format!("writing {}", options.counts.display()))
}

impl Meter {
    fn counts(&self) -> Counts {
        Counts {
            packets: self.packets.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
        }
    }
}

/// Independent losses from a xorshift generator; its seed is fixed, so every measurement loses the same packets.
#[derive(Debug)]
struct Loss {
    seed: u64,
    permille: u64,
}

impl Loss {
    fn loses_next(&mut self) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % 1000 < self.permille
    }
}

/// When the line is free for another packet.
#[derive(Debug)]
struct Pace {
    /// 0: always.
    bits_per_sec: u64,
    free_at: Instant,
}

impl Pace {
    /// When a packet has left; nothing when it would wait too long for its turn.
    fn leaves_at(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        if self.bits_per_sec == 0 {
            return Some(now);
        }
        let begins = self.free_at.max(now);
        if begins - now > TURN_MAX {
            return None;
        }
        let nanos = bytes as u64 * 8 * 1_000_000_000 / self.bits_per_sec;
        self.free_at = begins + Duration::from_nanos(nanos);
        Some(self.free_at)
    }
}

/// What becomes of packets in one direction.
#[derive(Debug)]
struct Way {
    delay: Duration,
    loss: Loss,
    pace: Pace,
}

fn take(mut from: impl Read, queue: &Queue, meter: &Meter, mut way: Way) {
    let mut buffer = vec![0_u8; PACKET_BYTES_MAX];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(length) => length,
            // A device that is not up yet, or no more.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
        };
        meter.packets.fetch_add(1, Ordering::Relaxed);
        if way.loss.loses_next() {
            meter.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let leaves = way.pace.leaves_at(Instant::now(), length);
        let is_taken =
            leaves.is_some_and(|leaves| queue.push(leaves + way.delay, &buffer[..length]));
        if !is_taken {
            meter.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn give(queue: &Queue, mut to: File) {
    loop {
        let (due, packet) = queue.pop();
        // Sleeping ends some 60 µs late; all that is due by then follows without another sleep.
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        match to.write(&packet) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The device is down: its packets are lost, as on a cut line.
            Err(_) => {}
        }
        queue.give_back(packet);
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Underway> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a packet on its way; `false` when there is no room.
    fn push(&self, due: Instant, bytes: &[u8]) -> bool {
        let mut underway = self.lock();
        if underway.bytes + bytes.len() > QUEUE_BYTES_MAX {
            return false;
        }
        let mut packet = underway.spare.pop().unwrap_or_default();
        packet.extend_from_slice(bytes);
        underway.bytes += bytes.len();
        underway.packets.push_back((due, packet));
        if underway.packets.len() == 1 {
            self.filled.notify_one();
        }
        true
    }

    fn pop(&self) -> (Instant, Vec<u8>) {
        let mut underway = self.lock();
        loop {
            if let Some((due, packet)) = underway.packets.pop_front() {
                underway.bytes -= packet.len();
                return (due, packet);
            }
            underway = self
                .filled
                .wait(underway)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, mut packet: Vec<u8>) {
        packet.clear();
        let mut underway = self.lock();
        if underway.spare.len() <= underway.packets.len() {
            underway.spare.push(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Loss, Pace, QUEUE_BYTES_MAX, Queue, TURN_MAX};

    #[test]
    fn a_line_of_a_rate_carries_no_more_and_keeps_nothing_for_long() {
        let now = Instant::now();
        let mut pace = Pace {
            bits_per_sec: 80_000_000,
            free_at: now,
        };
        let left: Vec<_> = (0..1000)
            .map_while(|_| pace.leaves_at(now, 10_000))
            .collect();
        // A millisecond each.
        assert_eq!(left.len() as u128, TURN_MAX.as_millis() + 1);
        assert_eq!(left[9], now + Duration::from_millis(10));
        assert!(pace.leaves_at(now + TURN_MAX, 10_000).is_some());
    }

    #[test]
    fn losses_are_as_many_as_asked_for() {
        let mut loss = Loss {
            seed: 0x0123_4567_89ab_cdef,
            permille: 10,
        };
        let lost = (0..1_000_000).filter(|_| loss.loses_next()).count();
        assert!((9_500..10_500).contains(&lost), "{lost}");
        let mut none = Loss {
            seed: 1,
            permille: 0,
        };
        assert!((0..1000).all(|_| !none.loses_next()));
    }

    #[test]
    fn a_full_queue_takes_no_more_and_keeps_the_order() {
        let queue = Queue::default();
        let due = Instant::now();
        let packet = vec![7; 1 << 20];
        let taken = (0..100).take_while(|_| queue.push(due, &packet)).count();
        assert_eq!(taken, QUEUE_BYTES_MAX >> 20);
        assert_eq!(queue.pop().1.len(), 1 << 20);
        assert!(queue.push(due, b"last"));
        for _ in 1..taken {
            assert_eq!(queue.pop().1.len(), 1 << 20);
        }
        assert_eq!(queue.pop().1, b"last");
    }
}
