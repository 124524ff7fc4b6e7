//! Programs of the host that take and remove snapshots: started with plain surroundings, waited for, and their complaint kept.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::read::command::PROGRAM_PATH;

/// What is kept of what a program complains about.
const COMPLAINT_CHARS_MAX: usize = 400;

/// Why a program did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there.
    #[error("the host has no program `{program}`: install {package} there")]
    Missing {
        /// Its name.
        program: &'static str,
        /// What brings it.
        package: &'static str,
    },
    /// It cannot be started.
    #[error("start `{program}`")]
    Start {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It complains.
    #[error("`{what}` failed: {complaint}")]
    Failed {
        /// What it was asked for.
        what: &'static str,
        /// The end of what it said.
        complaint: String,
    },
    /// It says something else than was asked for.
    #[error("`{what}` printed something else than was asked for: {line:?}")]
    Strange {
        /// What it was asked for.
        what: &'static str,
        /// What it printed.
        line: String,
    },
}

/// A program, and what has to be installed for it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The package that brings it.
    pub package: &'static str,
}

/// A command for the host, with an environment of its own, and in a process group that nobody ends with the agent's: what
/// changes a filesystem must not be ended halfway.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", PROGRAM_PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0);
    command
}

/// Runs a program to its end; gives what it printed. `what` names it and its task in errors, `stdin` is what it holds as its
/// input.
pub fn run(
    program: Program,
    what: &'static str,
    arguments: &[&OsStr],
    stdin: Stdio,
) -> Result<Vec<u8>, ProgramError> {
    let output = command(program.name).args(arguments).stdin(stdin).output();
    let output = output.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProgramError::Missing {
            program: program.name,
            package: program.package,
        },
        _ => ProgramError::Start {
            program: program.name,
            source,
        },
    })?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(ProgramError::Failed {
            what,
            complaint: complaint(&output.stderr),
        }),
    }
}

/// The end of what a program complained about, as one line.
pub fn complaint(stderr: &[u8]) -> String {
    let said = OsStr::from_bytes(stderr).to_string_lossy();
    let line = said.trim().replace('\n', "; ");
    let skipped = line.chars().count().saturating_sub(COMPLAINT_CHARS_MAX);
    line.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn a_complaint_is_one_line() {
        assert_eq!(
            complaint(b"ERROR: no\nERROR: space\n"),
            "ERROR: no; ERROR: space"
        );
        assert_eq!(complaint(&[b'x'; 1_000]).len(), 400);
    }
}
