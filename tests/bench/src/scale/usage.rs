//! Watches processes from outside while something runs: peak memory and processor time of coordinators, agents and SSH
//! servers, as `/proc` tells them. It never signals anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use tests::processes;

/// How often processes are looked at. Peaks are the kernel's own, so nothing between two looks is missed but what a
/// process does in its last moments.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the processes of one kind took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Group {
    /// How many there were.
    pub processes: usize,
    /// The largest peak of any of them, in bytes.
    pub peak_max: u64,
    /// All of their peaks, added up.
    pub peak_sum: u64,
    /// The most that all of them had at one time.
    pub together_max: u64,
    /// Processor seconds of all of them.
    pub cpu_secs: f64,
}

/// What a measurement's processes took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    /// Coordinators, with the append-servers in them.
    pub coordinator: Group,
    /// Agents on targets.
    pub agent: Group,
    /// Processes of targets' SSH servers, only those that were there while it ran.
    pub sshd: Group,
}

/// A thread that looks until it is stopped.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Coordinator,
    Agent,
    Sshd,
}

#[derive(Debug)]
struct Seen {
    kind: Kind,
    peak: u64,
    /// Processor seconds when it was first seen: what an SSH server took before does not count.
    cpu_before: f64,
    cpu: f64,
}

impl Sampler {
    /// Begins to watch; coordinators are the processes that run this file.
    pub fn start(coordinator: &Path) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            coordinator: coordinator.to_owned(),
            seen: BTreeMap::new(),
            together: [0; 3],
        };
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("sampler".into())
            .spawn(move || watch.until(&told))
            .context("starting the sampler")?;
        Ok(Self { stop, thread })
    }

    /// Ends watching and gives what was seen.
    pub fn stop(self) -> Result<Usage> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the sampler panicked"))
    }
}

struct Watch {
    coordinator: PathBuf,
    seen: BTreeMap<u32, Seen>,
    together: [u64; 3],
}

impl Watch {
    fn until(mut self, stop: &AtomicBool) -> Usage {
        let mut first = true;
        while !stop.load(Ordering::Relaxed) {
            self.look(first);
            first = false;
            std::thread::sleep(LOOK_EVERY);
        }
        self.usage()
    }

    fn look(&mut self, first: bool) {
        let mut together = [0; 3];
        for process in processes::all().unwrap_or_default() {
            let Some(kind) = self.kind(&process.executable) else {
                continue;
            };
            let Some((resident, peak)) = memory(process.pid) else {
                continue;
            };
            let cpu = cpu_secs(process.pid).unwrap_or_default();
            together[kind as usize] += resident;
            let seen = self.seen.entry(process.pid).or_insert(Seen {
                kind,
                peak: 0,
                cpu_before: if first { cpu } else { 0.0 },
                cpu,
            });
            // A process that was forked becomes what it is by its `exec`, and its peak begins anew.
            if seen.kind == kind {
                seen.peak = seen.peak.max(peak);
            } else {
                seen.kind = kind;
                seen.peak = peak;
            }
            seen.cpu = cpu;
        }
        for (most, now) in self.together.iter_mut().zip(together) {
            *most = (*most).max(now);
        }
    }

    fn kind(&self, executable: &Path) -> Option<Kind> {
        let text = executable.to_string_lossy();
        if executable == self.coordinator {
            Some(Kind::Coordinator)
        } else if text.contains("/.capstan-") {
            Some(Kind::Agent)
        } else if executable
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("sshd"))
        {
            Some(Kind::Sshd)
        } else {
            None
        }
    }

    fn usage(&self) -> Usage {
        let group = |kind: Kind| {
            let mut group = Group {
                together_max: self.together[kind as usize],
                ..Group::default()
            };
            for seen in self.seen.values().filter(|seen| seen.kind == kind) {
                group.processes += 1;
                group.peak_max = group.peak_max.max(seen.peak);
                group.peak_sum += seen.peak;
                group.cpu_secs += seen.cpu - seen.cpu_before;
            }
            group
        };
        Usage {
            coordinator: group(Kind::Coordinator),
            agent: group(Kind::Agent),
            sshd: group(Kind::Sshd),
        }
    }
}

/// Resident memory now, and at its peak.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// User and system time of a process so far.
fn cpu_secs(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}
