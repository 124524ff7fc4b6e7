//! Watches processes from outside while something runs: peak memory and processor time of coordinators, agents, SSH
//! servers and S3 servers, as `/proc` tells them. It never signals anything.

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

use crate::table::{median, number};

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
    /// Processes of SSH servers, of targets and of destinations, only those that were there while it ran.
    pub sshd: Group,
    /// S3 servers, with all that belongs to them.
    pub s3: Group,
    /// This program, and the delay line.
    pub bench: Group,
}

impl Usage {
    /// Processor seconds of everything that is watched.
    pub fn cpu_secs(&self) -> f64 {
        let groups = [self.coordinator, self.agent, self.sshd, self.s3, self.bench];
        groups.iter().map(|group| group.cpu_secs).sum()
    }
}

/// The middle processor seconds of each kind: coordinator, agent, SSH servers, S3 server, this program with its line.
pub fn cpu_cells(usages: &[Usage]) -> String {
    let groups: [fn(&Usage) -> Group; KINDS] = [
        |usage| usage.coordinator,
        |usage| usage.agent,
        |usage| usage.sshd,
        |usage| usage.s3,
        |usage| usage.bench,
    ];
    let middle = |group: &fn(&Usage) -> Group| {
        let all: Vec<f64> = usages.iter().map(|usage| group(usage).cpu_secs).collect();
        number(median(&all))
    };
    groups.iter().map(middle).collect::<Vec<_>>().join(", ")
}

/// Processor seconds that the whole machine had spent at a time.
#[derive(Debug, Clone, Copy)]
pub struct MachineTime(f64);

impl MachineTime {
    /// Up to now.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        // User, nice, system, idle, waiting for disks, irq, softirq.
        let spent: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        Ok(Self(spent as f64 / per_second))
    }

    /// What it has spent since.
    pub fn since(self) -> Result<f64> {
        Ok(Self::now()?.0 - self.0)
    }
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
    S3,
    Bench,
}

/// How many kinds there are.
const KINDS: usize = 5;
/// Programs of S3 servers, by how their names begin; moto is a Python program.
const S3_PROGRAMS: [&str; 6] = [
    "ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "rclone", "python",
];

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
            bench: std::env::current_exe().context("asking for this program's path")?,
            seen: BTreeMap::new(),
            together: [0; KINDS],
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
    bench: PathBuf,
    seen: BTreeMap<u32, Seen>,
    together: [u64; KINDS],
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
        let mut together = [0; KINDS];
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
        let name = executable.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        if executable == self.coordinator {
            Some(Kind::Coordinator)
        } else if executable == self.bench {
            Some(Kind::Bench)
        } else if text.contains("/.capstan-") {
            Some(Kind::Agent)
        } else if name.starts_with("sshd") {
            Some(Kind::Sshd)
        } else if S3_PROGRAMS.iter().any(|known| name.starts_with(known)) {
            Some(Kind::S3)
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
            s3: group(Kind::S3),
            bench: group(Kind::Bench),
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
