//! A shell that waits for the agent's end, or for a word of it, and removes its snapshots then: whatever becomes of the agent,
//! short of the host going down or the shell being killed too.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::fs_snapshot::program::{command, complaint};

/// What the script of every guard begins with. Nothing that ends the agent ends it.
const WAIT: &str = "trap '' HUP INT TERM PIPE; read -r nothing; failed=0; ";

/// What a guard could not do.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It cannot be started, or followed.
    #[error("start the shell that removes the snapshots")]
    Shell(#[source] io::Error),
    /// It could not remove everything.
    #[error("{complaint}")]
    Remains {
        /// What it said.
        complaint: String,
    },
}

/// A guard that waits. Dropping it has everything removed, too, but waits for nothing.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
}

impl Guard {
    /// Starts one: `script` removes what `arguments` name, and ends with something else than 0 if it cannot. It holds `lock`
    /// as long as it lives.
    pub fn start<A: AsRef<Path>>(
        script: &str,
        arguments: &[A],
        lock: Option<File>,
    ) -> Result<Self, GuardError> {
        let shell = command("sh")
            .arg("-c")
            .arg(format!("{WAIT}{script}"))
            .arg("capstan")
            .args(arguments.iter().map(AsRef::as_ref))
            .stdin(Stdio::piped())
            // Nothing is written to it.
            .stdout(lock.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(GuardError::Shell)?;
        Ok(Self { shell })
    }

    /// What keeps the guard waiting as long as somebody has it: for a program that makes what is to be removed, and may
    /// outlive the agent.
    pub fn hold(&self) -> Result<Stdio, GuardError> {
        use std::os::fd::AsFd as _;
        let Some(input) = &self.shell.stdin else {
            return Ok(Stdio::null());
        };
        let held = input.as_fd().try_clone_to_owned();
        held.map(Stdio::from).map_err(GuardError::Shell)
    }

    /// Has everything removed, and waits for it.
    pub fn remove(mut self) -> Result<(), GuardError> {
        drop(self.shell.stdin.take());
        let mut said = Vec::new();
        if let Some(stderr) = &mut self.shell.stderr {
            stderr.read_to_end(&mut said).map_err(GuardError::Shell)?;
        }
        let status = self.shell.wait().map_err(GuardError::Shell)?;
        match status.success() {
            true => Ok(()),
            false => Err(GuardError::Remains {
                complaint: complaint(&said),
            }),
        }
    }
}
