//! What is on the target at one moment: files in every place an agent may be put, processes, listening sockets.
//! Two states are compared; a run must leave the second equal to the first.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::escape::escape;
use crate::processes;
use crate::sshd::{Sshd, UNPRIVILEGED_USER, namespaces_work};

/// How long a target may take to become clean again after a run: sshd ends its sessions on its own time.
const SETTLE_DEADLINE: Duration = Duration::from_secs(15);
/// Directories are listed this deep; an agent's own directory is never deeper.
const DEPTH_MAX: usize = 4;

/// Where an agent may be put, besides the login user's home.
pub const CANDIDATES: [&str; 4] = ["/run/user/0", "/dev/shm", "/tmp", "/var/tmp"];

/// One moment of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetState {
    /// Escaped paths below the candidate directories and homes.
    pub files: BTreeSet<String>,
    /// Command lines of all processes.
    pub processes: Vec<String>,
    /// Listening TCP and Unix sockets.
    pub sockets: BTreeSet<String>,
}

impl TargetState {
    /// Looks at the target now.
    pub fn of(sshd: &Sshd) -> Result<Self> {
        let mut files = BTreeSet::new();
        let home = sshd.home_of(UNPRIVILEGED_USER);
        let places = CANDIDATES
            .iter()
            .map(|place| (*place).to_owned())
            .chain(["/root".to_owned(), home.to_string_lossy().into_owned()]);
        for place in places {
            let seen_from_here = sshd.path_on_target(&place);
            list(&seen_from_here, place.as_bytes(), DEPTH_MAX, &mut files);
        }
        let running = sshd.processes()?;
        let mut pids: Vec<u32> = running.iter().map(|process| process.pid).collect();
        pids.extend(sshd.root_pid());
        let mut processes: Vec<String> =
            running.into_iter().map(|process| process.command).collect();
        processes.sort();
        Ok(Self {
            files,
            processes,
            sockets: processes::listening_sockets(&pids)?,
        })
    }

    /// What the other state has and this one has not, and the other way round; empty when they are equal.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(
            later
                .files
                .difference(&self.files)
                .map(|path| format!("new file {path}")),
        );
        lines.extend(
            self.files
                .difference(&later.files)
                .map(|path| format!("file gone {path}")),
        );
        lines.extend(
            later
                .sockets
                .difference(&self.sockets)
                .map(|socket| format!("new listener {socket}")),
        );
        let mut known = self.processes.clone();
        for command in &later.processes {
            if let Some(place) = known.iter().position(|other| other == command) {
                known.swap_remove(place);
            } else {
                lines.push(format!("new process {command}"));
            }
        }
        lines
    }
}

/// Waits until the target is as it was before; the error lists what is left on it.
pub fn expect_clean(sshd: &Sshd, before: &TargetState) -> Result<()> {
    let start = Instant::now();
    loop {
        let left = before.differences(&TargetState::of(sshd)?);
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > SETTLE_DEADLINE {
            bail!(
                "after {SETTLE_DEADLINE:?} the target still differs from before:\n{}",
                left.join("\n")
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn list(here: &Path, shown: &[u8], depth: usize, into: &mut BTreeSet<String>) {
    // A directory that vanishes while it is looked at holds nothing.
    let Ok(entries) = fs::read_dir(here) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // On a machine without namespaces other programs use these directories too.
        if depth == DEPTH_MAX && !namespaces_work() && !name.as_bytes().starts_with(b".capstan-") {
            continue;
        }
        let path = [shown, b"/", name.as_bytes()].concat();
        into.insert(escape(&path));
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), &path, depth - 1, into);
        }
    }
}
