//! Runs a program that prints a secret, and ends it when it takes too long, with all that it started.

use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::places::secret::{SECRET_BYTES_MAX, SecretError};

/// How often one looks whether a program that has closed its output has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How the program ended, and what it printed before.
pub(super) fn run(words: &[String], time: Duration) -> Result<(ExitStatus, Vec<u8>), SecretError> {
    let until = Instant::now() + time;
    let (program, arguments) = words.split_first().ok_or(SecretError::NoSecret {
        place: "an empty command".to_owned(),
    })?;
    let failed = |source| SecretError::Run {
        program: program.clone(),
        source,
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    // In a group of its own it could not ask a person at the terminal.
    let has_group = !io::stderr().is_terminal();
    if has_group {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("its output was asked for");
    match wait(&mut child, &printed_by(stdout), until) {
        Ok(Some(ended)) => Ok(ended),
        Ok(None) => {
            end(&mut child, has_group).map_err(failed)?;
            let program = program.clone();
            Err(SecretError::Deadline { program, time })
        }
        Err(error) => {
            end(&mut child, has_group).map_err(failed)?;
            Err(failed(error))
        }
    }
}

/// Reads on a thread of its own: what is read may never end.
fn printed_by(stdout: ChildStdout) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, printed) = sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(SECRET_BYTES_MAX).read_to_end(&mut bytes);
        // Whoever waited for it may have given up.
        sender.send(read.map(|_| bytes)).ok();
    });
    printed
}

/// Nothing if it did not end in time.
fn wait(
    child: &mut Child,
    printed: &Receiver<io::Result<Vec<u8>>>,
    until: Instant,
) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let left = until.saturating_duration_since(Instant::now());
    let bytes = match printed.recv_timeout(left) {
        Ok(read) => read?,
        Err(RecvTimeoutError::Timeout) => return Ok(None),
        Err(error @ RecvTimeoutError::Disconnected) => return Err(io::Error::other(error)),
    };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some((status, bytes)));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn end(child: &mut Child, has_group: bool) -> io::Result<()> {
    if has_group {
        // It is not waited for yet, so the group is still its own.
        kill_process_group(Pid::from_child(child), Signal::KILL)?;
    } else {
        child.kill()?;
    }
    child.wait().map(drop)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::{Duration, Instant};

    use super::{LOOK_EVERY, run};
    use crate::places::secret::{SecretError, SecretSource};

    fn words(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("child");
        let script = format!("sleep 600 & echo $! > '{}'; wait", file.display());
        let hangs = SecretSource::Command(words(&script));
        let error = hangs.fetch_within(Duration::from_millis(500)).unwrap_err();
        assert!(matches!(error, SecretError::Deadline { .. }), "{error}");
        let child = std::fs::read_to_string(file).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        // Gone, or ended and not waited for by whoever takes it over. A kill takes a moment.
        let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let until = Instant::now() + Duration::from_secs(10);
        while lives() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
        assert!(!lives());
    }

    #[test]
    fn what_is_printed_counts_once_the_program_has_ended() {
        let (status, printed) =
            run(&words("echo secret; exit 3"), Duration::from_secs(60)).unwrap();
        assert_eq!(
            (status.code(), printed.as_slice()),
            (Some(3), &b"secret\n"[..])
        );
        let source = SecretSource::Command(words("echo secret"));
        assert_eq!(*source.fetch().unwrap(), "secret");
        let closes = run(&words("exec >&-; sleep 600"), Duration::from_millis(300));
        assert!(matches!(closes, Err(SecretError::Deadline { .. })));
    }
}
