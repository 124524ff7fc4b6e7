//! Runs one command and measures it: wall-clock, the CPU time of the whole machine, and the peak memory of every
//! process that belongs to it, on either side of the SSH connection.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal};

use crate::interruption;
use crate::proc_files::{self, Peaks};

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(50);
/// No step of a working product takes longer.
const DEADLINE: Duration = Duration::from_secs(3600);
/// How much of a failed command's stderr is told.
const STDERR_TAIL_BYTES: usize = 2000;

/// What one command took.
#[derive(Debug)]
pub struct Measured {
    /// Wall-clock seconds.
    pub wall_secs: f64,
    /// CPU seconds of the whole machine meanwhile.
    pub cpu_secs: f64,
    /// Peak memory by process.
    pub peaks: Peaks,
    /// What it printed.
    pub stdout: String,
}

/// Runs a command to its end; what it prints goes through files in `directory`.
pub fn run(mut command: Command, directory: &Path) -> Result<Measured> {
    interruption::check()?;
    let program = command.get_program().to_string_lossy().into_owned();
    let (stdout, stderr) = (directory.join("stdout"), directory.join("stderr"));
    command
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?)
        .process_group(0);
    rustix::fs::sync();

    let cpu_before = proc_files::cpu_secs()?;
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (ended, watched) = sync_channel::<()>(0);
    let watcher = std::thread::spawn(move || watch(&watched, group));
    let status = child.wait();
    let wall_secs = start.elapsed().as_secs_f64();
    let cpu_secs = proc_files::cpu_secs()? - cpu_before;
    drop(ended);
    let (peaks, stopped) = watcher
        .join()
        .map_err(|_| anyhow!("the thread that samples memory panicked"))?;

    let status = status.with_context(|| format!("waiting for {program}"))?;
    if let Some(reason) = stopped {
        bail!("{program} was ended: {reason}\n{}", tail(&stderr));
    }
    if !status.success() {
        bail!("{program} failed ({status}):\n{}", tail(&stderr));
    }
    Ok(Measured {
        wall_secs,
        cpu_secs,
        peaks,
        stdout: fs::read_to_string(&stdout).unwrap_or_default(),
    })
}

/// Samples until the sender is dropped, which is when the command has ended.
fn watch(ended: &Receiver<()>, group: Option<Pid>) -> (Peaks, Option<&'static str>) {
    let start = Instant::now();
    let mut peaks = Peaks::new();
    let mut stopped = None;
    loop {
        proc_files::raise_peaks(&mut peaks);
        if ended.recv_timeout(SAMPLE) != Err(RecvTimeoutError::Timeout) {
            return (peaks, stopped);
        }
        let reason = if interruption::came() {
            "interrupted"
        } else if start.elapsed() > DEADLINE {
            "it took longer than an hour"
        } else {
            continue;
        };
        if stopped.is_none()
            && let Some(group) = group
            && let Err(error) = rustix::process::kill_process_group(group, Signal::KILL)
        {
            eprintln!("bench: a step could not be ended: {error}");
        }
        stopped = Some(reason);
    }
}

fn tail(stderr: &Path) -> String {
    let bytes = fs::read(stderr).unwrap_or_default();
    let from = bytes.len().saturating_sub(STDERR_TAIL_BYTES);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}
