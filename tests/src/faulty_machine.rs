//! A machine whose clock is wrong, that sleeps, whose disk is full from one write on, or that ends a program in the middle of one:
//! the coordinator as it is shipped, over a C library that is told to fail. Where the kernel gives no time namespaces, machines
//! do not sleep.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::coordinator_process::{DEADLINE, Finished, Running, binary};
use crate::world::World;

/// What stands between a program and its C library.
const SOURCE: &str = include_str!("../preload/faulty_machine.c");
/// Four numbers: the clock, the steps so far, the first that fails, whether it is the end.
const ORDERS_BYTES: usize = 32;

/// A step that a program takes to write something that lasts: a write to a file, or a sync of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This one, counted from 0, and all that follow, find the disk full.
    FullFrom(u64),
    /// The program dies in this one, counted from 0; half of a write is done.
    DiesIn(u64),
}

/// A machine that programs are started on.
#[derive(Debug)]
pub struct FaultyMachine {
    library: PathBuf,
    path: PathBuf,
    orders: File,
    asleep_secs: u64,
    set_secs: i64,
}

impl FaultyMachine {
    /// A machine that is well so far, with its files in this directory.
    pub fn new(directory: &Path) -> Result<Self> {
        let [source, library, path] =
            ["machine.c", "machine.so", "machine.orders"].map(|name| directory.join(name));
        std::fs::write(&source, SOURCE)?;
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .output()
            .context("starting cc")?;
        ensure!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        let orders = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        orders.set_len(ORDERS_BYTES as u64)?;
        let machine = Self {
            library,
            path,
            orders,
            asleep_secs: 0,
            set_secs: 0,
        };
        machine.be_well()?;
        Ok(machine)
    }

    /// Sets the wall clock: by how many seconds it is wrong from now on, for programs that run, too.
    pub fn set_clock(&mut self, secs: i64) -> Result<()> {
        self.set_secs = secs;
        let asleep = i64::try_from(self.asleep_secs)?;
        self.order(0, secs.saturating_add(asleep))
    }

    /// The machine sleeps so long before the next program is started: both of its clocks go on.
    pub fn sleep(&mut self, how_long: Duration) -> Result<()> {
        self.asleep_secs += how_long.as_secs();
        self.set_clock(self.set_secs)
    }

    /// What becomes of the next program's steps.
    pub fn fail(&self, step: Step) -> Result<()> {
        let (first, dies) = match step {
            Step::FullFrom(first) => (first, 0),
            Step::DiesIn(first) => (first, 1),
        };
        self.order(1, 0)?;
        self.order(3, dies)?;
        self.order(2, i64::try_from(first)?)
    }

    /// From now on every step is taken; they are counted anew.
    pub fn be_well(&self) -> Result<()> {
        self.order(2, -1)?;
        self.order(1, 0)
    }

    /// How many steps were taken or failed since it was last said what becomes of them.
    pub fn steps(&self) -> Result<u64> {
        let mut steps = [0; 8];
        self.orders.read_exact_at(&mut steps, 8)?;
        Ok(u64::from_ne_bytes(steps))
    }

    /// Starts a world's coordinator on this machine.
    pub fn start<A: AsRef<OsStr>>(&self, world: &World, arguments: &[A]) -> Result<Running> {
        let coordinator = binary("coordinator")?;
        let mut all: Vec<OsString> = vec!["-c".into(), world.config().into_os_string()];
        all.extend(
            arguments
                .iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        let [library, orders] = [&self.library, &self.path].map(|path| path.to_str());
        let environment = [
            ("LD_PRELOAD", library.context("a path in UTF-8")?),
            ("CAPSTAN_FAULTY_MACHINE", orders.context("a path in UTF-8")?),
        ];
        if self.asleep_secs == 0 {
            return Running::spawn(&coordinator, &all, &environment);
        }
        let mut asleep: Vec<OsString> = vec![
            "--time".into(),
            "--boottime".into(),
            self.asleep_secs.to_string().into(),
            coordinator.into_os_string(),
        ];
        asleep.append(&mut all);
        Running::spawn(&"/usr/bin/unshare".into(), &asleep, &environment)
    }

    /// Runs a world's coordinator on this machine to its end.
    pub fn coordinator<A: AsRef<OsStr>>(&self, world: &World, arguments: &[A]) -> Result<Finished> {
        self.start(world, arguments)?.finish(DEADLINE)
    }

    fn order(&self, place: u64, number: i64) -> Result<()> {
        Ok(self.orders.write_all_at(&number.to_ne_bytes(), place * 8)?)
    }
}

/// Whether machines can sleep here: whether a program that is started in a time namespace is in it. Says so if not.
pub fn can_sleep() -> bool {
    const SECS: u64 = 1_000_000_000;
    let tried = Command::new("unshare")
        .args([
            "--time",
            "--boottime",
            &SECS.to_string(),
            "cat",
            "/proc/uptime",
        ])
        .output();
    let told = tried.map(|tried| String::from_utf8_lossy(&tried.stdout).into_owned());
    let told = told.unwrap_or_default();
    let secs = told.split('.').next().and_then(|secs| secs.parse().ok());
    let can = secs.is_some_and(|secs: u64| secs >= SECS);
    if !can {
        eprintln!("not tried: there are no time namespaces here");
    }
    can
}

/// Numbers below an end at which to fail, that many and spread over all of it; with `CAPSTAN_EVERY_STEP` set, every one. The seed
/// chooses which.
pub fn points(end: u64, count: u64, seed: u64) -> Vec<u64> {
    if std::env::var_os("CAPSTAN_EVERY_STEP").is_some() || end <= count {
        return (0..end).collect();
    }
    let spread = |number: u64| number * end / count;
    (0..count)
        .map(|number| spread(number) + seed % (spread(number + 1) - spread(number)).max(1))
        .collect()
}
