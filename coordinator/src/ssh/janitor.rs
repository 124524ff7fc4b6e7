//! The command that keeps a fresh directory on the target for as long as we are there.
//! Never leaves it behind: when its standard input ends, for whatever reason, it removes it.
//!
//! It needs a POSIX shell and mkdir, rm, cat, chmod, uname; tested with dash and busybox.

use std::time::Duration;

use append_server::ssh::connect::SshConnection;
use append_server::ssh::escape::escape_trimmed;
use append_server::ssh::stream::ChannelWriter;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use crate::ssh::exec::{self, ExecError, ProcessControl};
use crate::ssh::shell;

/// How long picking a directory may take; a slow home directory on NFS counts.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long removing it may take.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// All that a target may say while a directory is picked.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Arguments: name, prefix, first candidate's number, candidates. One line and no `!`, because csh as
/// a login shell takes neither, and no backslash because of fish.
///
/// A directory is stale only if it is ours and no link: in a sticky directory nobody else can then
/// swap it while it is being removed. Running an empty file succeeds in any shell, and fails with
/// "Permission denied" where the file system is mounted noexec.
const KEEP_DIRECTORY: &str = concat!(
    "umask 077; n=$1; p=$2; i=$3; shift 3; ",
    "echo uname $(uname -sm); ",
    "trap 'exit 129' HUP INT TERM PIPE; ",
    "for c do ",
    "w=$c; case $c in XDG_RUNTIME_DIR) c=${XDG_RUNTIME_DIR:-} ;; HOME) c=${HOME:-} ;; esac; ",
    "case $c in ",
    "/*) ",
    "for s in \"$c/$p\"*; do ",
    "if test -h \"$s\"; then :; ",
    "elif test -d \"$s\" && test -O \"$s\"; then rm -rf \"$s\"; fi; ",
    "done; ",
    "d=$c/$n; ",
    "if e=$(mkdir \"$d\" 2>&1); then ",
    "trap 'rm -rf \"$d\"' EXIT; ",
    "if e=$( { : > \"$d/x\" && chmod 700 \"$d/x\" && \"$d/x\"; } 2>&1 ); then ",
    "rm -f \"$d/x\"; echo \"ok $i $d\"; cat > /dev/null; exit 0; ",
    "fi; rm -rf \"$d\"; trap - EXIT; ",
    "fi; ",
    "echo \"skip $w\" $e ;; ",
    "*) echo \"skip $w\" is not set ;; ",
    "esac; ",
    "i=$((i+1)); ",
    "done; echo none; exit 1",
);

/// Where on the target the agent may be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// `$XDG_RUNTIME_DIR`, if it is set.
    XdgRuntimeDir,
    /// `$HOME`.
    Home,
    /// An absolute path.
    Path(String),
}

impl Candidate {
    /// The directories that are tried when nothing else is configured, in order.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let path = |text: &str| Self::Path(text.into());
        vec![
            Self::XdgRuntimeDir,
            path("/dev/shm"),
            path("/tmp"),
            path("/var/tmp"),
            Self::Home,
        ]
    }

    pub(super) fn as_argument(&self) -> &str {
        match self {
            Self::XdgRuntimeDir => "XDG_RUNTIME_DIR",
            Self::Home => "HOME",
            Self::Path(path) => path,
        }
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            variable => write!(f, "${}", variable.as_argument()),
        }
    }
}

/// The name of a run's directory: `.capstan-<repository>-<random>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryName {
    prefix: String,
    name: String,
}

/// Why a name cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{part:?} cannot be part of a directory name: use letters and digits")]
pub struct BadDirectoryName {
    /// The offending part.
    pub part: String,
}

impl DirectoryName {
    /// Joins the repository's short id and a random suffix that the coordinator drew.
    pub fn new(repository: &str, random: &str) -> Result<Self, BadDirectoryName> {
        for part in [repository, random] {
            let plain = part.bytes().all(|b| b.is_ascii_alphanumeric());
            if !plain || part.is_empty() || part.len() > 32 {
                return Err(BadDirectoryName { part: part.into() });
            }
        }
        let prefix = format!(".capstan-{repository}-");
        let name = format!("{prefix}{random}");
        Ok(Self { prefix, name })
    }

    /// What the names of all directories of this repository start with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// What kind of machine a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// As `uname -s` says it, escaped.
    pub system: String,
    /// As `uname -m` says it, escaped.
    pub machine: String,
}

/// A candidate that could not be used, and what the target said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The directory, as configured.
    pub candidate: String,
    /// What the target said, escaped.
    pub reason: String,
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.candidate, self.reason)
    }
}

/// Why there is no directory on the target.
#[derive(Debug, thiserror::Error)]
pub enum JanitorError {
    /// The command did not run.
    #[error("cannot prepare a directory on the target")]
    Exec {
        /// Why.
        #[from]
        source: ExecError,
    },
    /// It took too long.
    #[error("{host} did not prepare a directory within {} s", START_LIMIT.as_secs())]
    TimedOut {
        /// The host's name.
        host: String,
    },
    /// The answer is not what the script prints.
    #[error(
        "{host} answered {answer:?} instead of preparing a directory: is the login shell usable, \
         and does it print nothing by itself?"
    )]
    Unexpected {
        /// The host's name.
        host: String,
        /// What it said, escaped and cut.
        answer: String,
    },
}

/// What came of a search for a directory.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) platform: Platform,
    pub(super) skipped: Vec<Skipped>,
    pub(super) janitor: Option<Janitor>,
}

/// The command that keeps the directory. Dropping it removes the directory, too.
#[derive(Debug)]
pub struct Janitor {
    directory: String,
    /// The number of the candidate that was taken.
    pub(super) index: usize,
    stdin: ChannelWriter,
    control: ProcessControl,
}

impl Janitor {
    /// The absolute path of the fresh directory.
    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// Ends it and waits until the directory is removed. Whether nothing is left is for
    /// [`crate::ssh::remains::probe_left_behind`] to say.
    pub async fn stop(mut self) {
        let goodbye = async {
            self.stdin.shutdown().await.unwrap_or_default();
            self.control.wait().await
        };
        if let Ok(Err(error)) = timeout(STOP_LIMIT, goodbye).await {
            tracing::debug!(%error, "the janitor ended without a status");
        }
    }
}

/// Looks for the first candidate, from number `first` on, on which files can be run.
pub(super) async fn search(
    connection: &SshConnection,
    name: &DirectoryName,
    candidates: &[Candidate],
    first: usize,
) -> Result<Search, JanitorError> {
    timeout(
        START_LIMIT,
        search_inner(connection, name, candidates, first),
    )
    .await
    .map_err(|_| JanitorError::TimedOut {
        host: connection.host().into(),
    })?
}

/// The command line of the janitor.
pub(super) fn keep_line(name: &DirectoryName, candidates: &[Candidate], first: usize) -> String {
    let number = first.to_string();
    let mut arguments = vec![name.name.as_str(), name.prefix.as_str(), &number];
    arguments.extend(candidates.iter().skip(first).map(Candidate::as_argument));
    shell::script_line(KEEP_DIRECTORY, &arguments)
}

async fn search_inner(
    connection: &SshConnection,
    name: &DirectoryName,
    candidates: &[Candidate],
    first: usize,
) -> Result<Search, JanitorError> {
    let line = keep_line(name, candidates, first);
    let process = exec::spawn(connection, &line).await?;
    let mut stdout = BufReader::new(process.stdout.take(ANSWER_BYTES_MAX as u64));
    let mut control = process.control;
    let mut platform = None;
    let mut skipped: Vec<Skipped> = Vec::new();
    loop {
        let mut line = Vec::new();
        // A failed read ends like an end of file: with what came so far.
        stdout
            .read_until(b'\n', &mut line)
            .await
            .unwrap_or_default();
        let Some(answer) = Answer::parse(&line, &name.name, candidates.len()) else {
            return Err(unexpected(connection, &line, &mut control).await);
        };
        match (answer, &platform) {
            (Answer::Uname(found), None) => platform = Some(found),
            (Answer::Skip(skip), Some(_)) if skipped.len() < candidates.len() => skipped.push(skip),
            (Answer::Ok { index, directory }, Some(found)) => {
                let janitor = Janitor {
                    directory,
                    index,
                    stdin: process.stdin,
                    control,
                };
                return Ok(Search {
                    platform: found.clone(),
                    skipped,
                    janitor: Some(janitor),
                });
            }
            (Answer::None, Some(found)) => {
                return Ok(Search {
                    platform: found.clone(),
                    skipped,
                    janitor: None,
                });
            }
            _ => return Err(unexpected(connection, &line, &mut control).await),
        }
    }
}

/// Names what the target said instead; an empty answer is explained by its standard error.
async fn unexpected(
    connection: &SshConnection,
    line: &[u8],
    control: &mut ProcessControl,
) -> JanitorError {
    let mut answer = escape_trimmed(line.get(..200).unwrap_or(line));
    if answer.is_empty() {
        match timeout(Duration::from_secs(2), control.wait()).await {
            Ok(Ok(status)) => answer = format!("{status:?}: {}", control.stderr()),
            Ok(Err(error)) => return JanitorError::Exec { source: error },
            Err(_) => answer = control.stderr(),
        }
    }
    JanitorError::Unexpected {
        host: connection.host().into(),
        answer,
    }
}

enum Answer {
    Uname(Platform),
    Skip(Skipped),
    Ok { index: usize, directory: String },
    None,
}

impl Answer {
    fn parse(line: &[u8], name: &str, candidates: usize) -> Option<Self> {
        let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        if text == "none" {
            return Some(Self::None);
        }
        let (word, rest) = text.split_once(' ')?;
        match word {
            "uname" => {
                let (system, machine) = rest.split_once(' ')?;
                Some(Self::Uname(Platform {
                    system: escape_trimmed(system.as_bytes()),
                    machine: escape_trimmed(machine.as_bytes()),
                }))
            }
            "skip" => {
                let (candidate, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                Some(Self::Skip(Skipped {
                    candidate: escape_trimmed(candidate.as_bytes()),
                    reason: escape_trimmed(reason.as_bytes()),
                }))
            }
            "ok" => {
                let (index, directory) = rest.split_once(' ')?;
                let index = index.parse().ok().filter(|i| *i < candidates)?;
                let plain = !directory.chars().any(|c| c.is_control() || c == '\\');
                let ours = directory.starts_with('/') && directory.ends_with(&format!("/{name}"));
                (plain && ours).then(|| Self::Ok {
                    index,
                    directory: directory.into(),
                })
            }
            _ => None,
        }
    }
}
