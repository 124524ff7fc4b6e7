//! Looks whether a run has left anything on the target. Only looks: removing is the janitor's work.

use std::time::Duration;

use append_server::ssh::connect::SshConnection;
use append_server::ssh::escape::escape_trimmed;

use crate::ssh::exec::{self, Command, ExecError};
use crate::ssh::janitor::{Candidate, DirectoryName};
use crate::ssh::shell;

/// How long looking may take.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// All that a target may say about what is left.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Arguments: prefix, candidates. Names what is left, and which processes run from there: those
/// whose first argument is there, since a shell that only mentions the place may be anything. The
/// shell's `read` drops the NULs between the arguments in `cmdline`.
const FIND_REMAINS: &str = concat!(
    "p=$1; shift; ",
    "for c do ",
    "shift; ",
    "case $c in XDG_RUNTIME_DIR) c=${XDG_RUNTIME_DIR:-} ;; HOME) c=${HOME:-} ;; esac; ",
    "case $c in /*) ",
    "set -- \"$@\" \"$c\"; ",
    "for s in \"$c/$p\"*; do ",
    "if test -e \"$s\" || test -h \"$s\"; then echo \"path $s\"; fi; ",
    "done ;; esac; ",
    "done; ",
    "for q in /proc/[0-9]*; do ",
    "a=; { IFS= read -r a < \"$q/cmdline\"; } 2> /dev/null; ",
    "for c do ",
    "case $a in \"$c/$p\"*) echo \"process ${q#/proc/} $a\" ;; esac; ",
    "done; ",
    "done; echo end",
);

/// What a run has left on the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftBehind {
    /// Paths, escaped.
    pub paths: Vec<String>,
    /// Processes that run from such a path.
    pub processes: Vec<LeftProcess>,
}

impl LeftBehind {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.processes.is_empty()
    }
}

/// A process on the target that runs from a directory of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftProcess {
    /// Its process id.
    pub pid: u32,
    /// Its arguments, run together and escaped.
    pub command: String,
}

/// Why it is not known whether anything is left.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The command did not run.
    #[error("cannot look for remains of the run on {host}")]
    Exec {
        /// The host's name.
        host: String,
        /// Why.
        source: ExecError,
    },
    /// The answer is not complete.
    #[error("{host} answered {answer:?} instead of naming remains of the run")]
    Unexpected {
        /// The host's name.
        host: String,
        /// What it said, escaped and cut.
        answer: String,
    },
}

/// Looks whether anything of this repository's runs is left on the target.
pub async fn probe_left_behind(
    connection: &SshConnection,
    name: &DirectoryName,
    candidates: &[Candidate],
) -> Result<LeftBehind, ProbeError> {
    let line = find_line(name, candidates);
    let output = exec::run(
        connection,
        Command {
            line: &line,
            stdin: b"",
            stdout_bytes_max: ANSWER_BYTES_MAX,
            deadline: PROBE_LIMIT,
        },
    )
    .await
    .map_err(|source| ProbeError::Exec {
        host: connection.host().into(),
        source,
    })?;
    parse_remains(&output.stdout).ok_or_else(|| ProbeError::Unexpected {
        host: connection.host().into(),
        answer: format!("{:?}: {}", output.status, output.stderr),
    })
}

/// The command line of the search.
pub(super) fn find_line(name: &DirectoryName, candidates: &[Candidate]) -> String {
    let mut arguments = vec![name.prefix()];
    arguments.extend(candidates.iter().map(Candidate::as_argument));
    shell::script_line(FIND_REMAINS, &arguments)
}

/// None unless the answer is complete: what was not searched is not clean.
fn parse_remains(stdout: &[u8]) -> Option<LeftBehind> {
    let mut left = LeftBehind::default();
    let mut complete = false;
    for line in stdout.split(|b| *b == b'\n') {
        complete |= line == b"end";
        if let Some(path) = line.strip_prefix(b"path ") {
            left.paths.push(escape_trimmed(path));
        } else if let Some(rest) = line.strip_prefix(b"process ") {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (pid, command) = rest.split_at(digits);
            left.processes.push(LeftProcess {
                pid: std::str::from_utf8(pid).ok()?.parse().ok()?,
                command: escape_trimmed(command),
            });
        }
    }
    complete.then_some(left)
}
