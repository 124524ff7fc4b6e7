//! Runs a command on a host that ends with us: when its time is up, and when the connection is gone, it is ended there with
//! every process that it started. Never lets a shell read its words, and never keeps more than the end of what it prints.
//!
//! It needs a POSIX shell; without `setsid`, only the command itself is ended and not what it started.

use std::io;
use std::time::Duration;

use append_server::ssh::connect::SshConnection;
use append_server::ssh::escape::escape_trimmed;
use append_server::ssh::stream::{ChannelReader, ExitStatus};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::ssh::exec::{ExecError, ProcessControl, spawn};
use crate::ssh::shell;

/// What is kept of the end of its output.
const OUTPUT_BYTES_MAX: usize = 4 << 10;
/// How long the host may take to end a command whose time is up: a second longer than it gives it.
const ENDING_LIMIT: Duration = Duration::from_secs(10);
/// How long output may come after the command's end, from what it left running.
const LATE_OUTPUT_LIMIT: Duration = Duration::from_secs(1);

/// Reads one line of script and does what it says: it comes on the standard input, where no login shell sees it.
const READ_SCRIPT: &str = "IFS= read -r script; eval \"$script\"";

/// The command runs in a session of its own. Beside it waits a shell for the end of our stream; then it tells the first one,
/// and ends the command's processes, at last without asking.
const BEFORE_COMMAND: &str = "exec 2>&1 3<&0 0</dev/null; trap ended=1 USR1; ended=; \
     if command -v setsid >/dev/null; then group=-; setsid ";
const BETWEEN_COMMANDS: &str = " 3<&- & else group=; ";
const AFTER_COMMAND: &str = " 3<&- & fi; pid=$!; \
     (read -r nothing <&3; kill -USR1 $$; kill -TERM $group$pid; \
     for second in 1 2 3 4 5; do sleep 1; kill -0 $group$pid || exit 0; done; kill -KILL $group$pid) >/dev/null 2>&1 & watch=$!; \
     exec 3<&-; wait $pid; status=$?; if test -n \"$ended\"; then wait $watch; exit 124; fi; \
     kill $watch 2>/dev/null; exit $status\n";

/// A command to run.
#[derive(Debug, Clone, Copy)]
pub struct GuardedCommand<'a> {
    /// The program and its arguments; no word holds a NUL.
    pub words: &'a [String],
    /// Variables of its environment, in names that a shell takes.
    pub variables: &'a [(&'a str, String)],
    /// What it is started through, such as `sudo -n`.
    pub become_words: &'a [String],
    /// How long it may take.
    pub limit: Duration,
}

/// How a guarded command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How; nothing when its time was up and it was ended.
    pub status: Option<ExitStatus>,
    /// The end of all it printed, escaped.
    pub output: String,
}

/// Runs a command to its end, or ends it.
pub async fn run_guarded(
    connection: &SshConnection,
    command: GuardedCommand<'_>,
) -> Result<Ended, ExecError> {
    let mut process = spawn(connection, &start_line(command.become_words)).await?;
    let script = script(command);
    let mut output = Tail::default();
    let (stdout, control) = (&mut process.stdout, &mut process.control);
    let stdin = &mut process.stdin;
    // A host that takes in nothing is given no more time than one that is slow.
    let whole = async {
        // A command that cannot be started says why by its status.
        if stdin.write_all(script.as_bytes()).await.is_ok() {
            stdin.flush().await.unwrap_or_default();
        }
        to_end(stdout, control, &mut output).await
    };
    let status = match timeout(command.limit, whole).await {
        Ok(status) => Some(status?),
        Err(_) => {
            let ending = async {
                process.stdin.shutdown().await.unwrap_or_default();
                to_end(stdout, control, &mut output).await
            };
            let ending = timeout(ENDING_LIMIT, ending).await;
            if !matches!(ending, Ok(Ok(_))) {
                tracing::warn!("a command on the host may run on: it could not be ended in time");
            }
            None
        }
    };
    Ok(Ended {
        status,
        output: output.text(),
    })
}

fn start_line(become_words: &[String]) -> String {
    let mut words: Vec<&str> = become_words.iter().map(String::as_str).collect();
    words.extend(["sh", "-c", READ_SCRIPT, "capstan"]);
    format!("exec {}", shell::command_line(&words))
}

fn script(command: GuardedCommand<'_>) -> String {
    let words: Vec<String> = command
        .words
        .iter()
        .map(|word| shell::one_line(word))
        .collect();
    let words = words.join(" ");
    let variables: String = command
        .variables
        .iter()
        .map(|(name, value)| format!("export {name}={}; ", shell::one_line(value)))
        .collect();
    format!(
        "{}{variables}{BEFORE_COMMAND}{words}{BETWEEN_COMMANDS}{words}{AFTER_COMMAND}",
        shell::LINE_BREAK
    )
}

/// Reads what it prints until it has ended.
async fn to_end(
    stdout: &mut ChannelReader,
    control: &mut ProcessControl,
    output: &mut Tail,
) -> Result<ExitStatus, ExecError> {
    let mut buffer = vec![0; 8 << 10];
    let mut open = true;
    let status = loop {
        // Losing either is safe: unread bytes stay in the stream, and the end is still told next time.
        tokio::select! {
            read = stdout.read(&mut buffer), if open => open = output.take(read, &buffer),
            status = control.wait() => break status?,
        }
    };
    let rest = async {
        while open {
            open = output.take(stdout.read(&mut buffer).await, &buffer);
        }
    };
    if timeout(LATE_OUTPUT_LIMIT, rest).await.is_err() {
        tracing::debug!("a command's output stays open after its end");
    }
    Ok(status)
}

/// The end of an output.
#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
    dropped: u64,
}

impl Tail {
    /// Takes what was read; whether there may be more.
    fn take(&mut self, read: io::Result<usize>, buffer: &[u8]) -> bool {
        let bytes = buffer.get(..read.unwrap_or(0)).unwrap_or_default();
        self.kept.extend_from_slice(bytes);
        let beyond = self.kept.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.kept.drain(..beyond);
        self.dropped += beyond as u64;
        !bytes.is_empty()
    }

    fn text(&self) -> String {
        let text = escape_trimmed(&self.kept);
        match self.dropped {
            0 => text,
            dropped => format!("[after {dropped} bytes more] {text}"),
        }
    }
}
