//! Runs a program of this machine with a message on its standard input. No shell; it is ended when it takes too long.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::terminal::visible;

/// How much of what it says when it fails is kept.
const COMPLAINT_BYTES_MAX: u64 = 1 << 10;

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
        // Dropping it has ended it.
        Err(_) => Err(CommandError::Deadline { program, timeout }),
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
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
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
    let ((), said, status) = tokio::try_join!(feed, hear, child.wait()).map_err(failed)?;
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
