//! Runs a program of this machine with a message on its standard input. No shell; it is ended when it takes too long, with all
//! that it started.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::terminal::visible;

/// How much of what it says when it fails is kept.
const COMPLAINT_BYTES_MAX: u64 = 1 << 10;
/// How long it is listened to once it has ended, where what it started goes on.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program did not take the message.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be run.
    #[error("could not run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It failed.
    #[error("{program} ended with {status}: {complaint}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said on standard error.
        complaint: String,
    },
    /// It did not end.
    #[error("{program} was not done after {} s", timeout.as_secs_f32())]
    Deadline {
        /// The program.
        program: String,
        /// How long it had.
        timeout: Duration,
    },
}

/// Runs `words` with `input` on its standard input.
pub async fn run(words: &[String], input: &[u8], timeout: Duration) -> Result<(), CommandError> {
    let program = words.first().cloned().unwrap_or_default();
    match tokio::time::timeout(timeout, run_to_end(words, input)).await {
        Ok(done) => done,
        // Dropping it has ended it and its group.
        Err(_) => Err(CommandError::Deadline { program, timeout }),
    }
}

/// The group of a program that is not waited for yet; ends with its value.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(leader) = leader
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "a program's group could not be ended");
        }
    }
}

async fn run_to_end(words: &[String], input: &[u8]) -> Result<(), CommandError> {
    let (program, arguments) = match words {
        [program, arguments @ ..] => (program.clone(), arguments),
        [] => (String::new(), words),
    };
    let failed = |source| CommandError::Run {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut group = Group(child.id());
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that does not read its input may still do its work.
            match stdin.write_all(input).await {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    let hear = async {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            (&mut stderr)
                .take(COMPLAINT_BYTES_MAX)
                .read_to_end(&mut said)
                .await?;
            // What is more is read all the same: a full pipe would stop it.
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        }
        Ok::<_, io::Error>(said)
    };
    let mut talk = pin!(async { tokio::try_join!(feed, hear) });
    let mut talked = None;
    let status = loop {
        // Losing the wait is safe, and the talk goes on.
        tokio::select! {
            status = child.wait() => break status.map_err(failed)?,
            done = &mut talk, if talked.is_none() => talked = Some(done.map_err(failed)?),
        }
    };
    // It has ended by itself; what it leaves running is its own affair, though that keeps its standard error open.
    group.0 = None;
    let ((), said) = match talked {
        Some(talked) => talked,
        None => match tokio::time::timeout(LAST_WORDS, talk).await {
            Ok(talked) => talked.map_err(failed)?,
            Err(_) => ((), Vec::new()),
        },
    };
    if status.success() {
        return Ok(());
    }
    let complaint = visible(String::from_utf8_lossy(&said).trim());
    Err(CommandError::Failed {
        program,
        status,
        complaint,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::{CommandError, run};

    #[tokio::test]
    async fn a_program_that_ended_well_has_told_whatever_it_leaves_running() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("child");
        let script = format!("sleep 30 & echo $! > '{}'; exit 0", file.display());
        let words = ["sh", "-c", &script].map(str::to_owned);
        run(&words, b"{}", Duration::from_secs(20)).await.unwrap();
        let child = std::fs::read_to_string(file).unwrap();
        let child = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::TERM).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("child");
        let script = format!("sleep 600 & echo $! > '{}'; wait", file.display());
        let words = ["sh", "-c", &script].map(str::to_owned);
        let error = run(&words, b"{}", Duration::from_millis(500))
            .await
            .unwrap_err();
        assert!(matches!(error, CommandError::Deadline { .. }), "{error}");
        let child = std::fs::read_to_string(file).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        // Gone, or ended and not waited for by whoever takes it over. A kill takes a moment.
        let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        for _ in 0..1_000 {
            if lives() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(!lives());
    }
}
