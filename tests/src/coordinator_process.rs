//! Runs the `coordinator` binary as a person would: arguments in, exit code, stdout and stderr out, with a deadline.
//! It never links the coordinator, so what is tested is what is shipped.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;

use crate::processes;

/// How long any one command may take unless the test says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The arguments it was given, for messages.
    pub arguments: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub duration: Duration,
}

impl Finished {
    /// Stdout as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stderr as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Goes on only when the exit code is the expected one; the error shows what was printed.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == Some(code),
            "`coordinator {}` ended with {:?} (signal {:?}) where {code} was expected\n--- stdout\n{}\n--- stderr\n{}",
            self.arguments,
            self.code,
            self.signal,
            self.stdout_text(),
            self.stderr_text()
        );
        Ok(self)
    }

    /// Goes on only when stderr holds all of these words.
    pub fn expect_stderr(self, words: &[&str]) -> Result<Self> {
        let text = self.stderr_text();
        for word in words {
            ensure!(
                text.contains(word),
                "`coordinator {}` did not say {word:?} on stderr:\n{text}",
                self.arguments
            );
        }
        Ok(self)
    }

    /// Stdout as the JSON shape asked for.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.stdout).with_context(|| {
            format!(
                "`coordinator {}` printed something else than the agreed JSON: {}",
                self.arguments,
                self.stdout_text()
            )
        })
    }

    /// Goes on only when nothing printed could drive a terminal.
    pub fn expect_no_control_characters(self) -> Result<Self> {
        for (stream, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let text = String::from_utf8(bytes.clone())
                .with_context(|| format!("{stream} is not UTF-8"))?;
            let bad = text.chars().find(|character| {
                character.is_control() && *character != '\n' && *character != '\t'
            });
            ensure!(
                bad.is_none(),
                "{stream} of `coordinator {}` holds the control character {bad:?}: {text:?}",
                self.arguments
            );
        }
        Ok(self)
    }
}

/// A coordinator that still runs.
#[derive(Debug)]
pub struct Running {
    arguments: String,
    child: Child,
    started: Instant,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a program under test with exactly these arguments and environment additions.
    pub fn spawn<A: AsRef<OsStr>>(
        program: &PathBuf,
        arguments: &[A],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied());
        // Nothing of the person's own set-up may decide a test.
        for name in ["SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "RUST_LOG", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            collect(
                child.stdout.take().context("stdout was asked for")?,
                Arc::clone(&stdout),
            ),
            collect(
                child.stderr.take().context("stderr was asked for")?,
                Arc::clone(&stderr),
            ),
        ];
        let arguments = arguments
            .iter()
            .map(|argument| argument.as_ref().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Self {
            arguments,
            child,
            started: Instant::now(),
            stdout,
            stderr,
            readers,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self
            .child
            .try_wait()
            .context("asking for the state of the coordinator")?
            .is_some())
    }

    /// What it said on stderr so far.
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    /// Ends it with SIGKILL; a coordinator that had ended already is no error.
    pub fn kill(&mut self) -> Result<()> {
        processes::kill(self.child.id())?;
        Ok(())
    }

    /// Waits for its end; past the deadline it is killed and that is an error.
    pub fn finish(mut self, deadline: Duration) -> Result<Finished> {
        let status = loop {
            if let Some(status) = self
                .child
                .try_wait()
                .context("waiting for the coordinator")?
            {
                break status;
            }
            if self.started.elapsed() > deadline {
                self.child
                    .kill()
                    .context("ending a coordinator past its deadline")?;
                self.child
                    .wait()
                    .context("waiting for the killed coordinator")?;
                bail!(
                    "`coordinator {}` was not done after {deadline:?}; stderr:\n{}",
                    self.arguments,
                    self.stderr_so_far()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let duration = self.started.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| {
                anyhow::anyhow!("a thread that read the coordinator's output panicked")
            })?;
        }
        let take = |buffer: &Mutex<Vec<u8>>| {
            std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner))
        };
        Ok(Finished {
            arguments: std::mem::take(&mut self.arguments),
            code: status.code(),
            signal: status.signal(),
            stdout: take(&self.stdout),
            stderr: take(&self.stderr),
            duration,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails half-way must not leave a coordinator behind; one that ended already is reaped here.
        if matches!(self.child.try_wait(), Ok(None))
            && self.child.kill().is_ok()
            && self.child.wait().is_err()
        {
            eprintln!("a coordinator could not be reaped");
        }
    }
}

/// A program of this workspace, beside the running test executable.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("asking for the path of this test")?;
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("a test executable lies in target/<profile>/deps")?;
    let path = profile.join(name);
    ensure!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace` first, or tests/run, which does",
        path.display()
    );
    Ok(path)
}

fn collect(mut stream: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 8192];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&buffer[..length]);
        }
    })
}
