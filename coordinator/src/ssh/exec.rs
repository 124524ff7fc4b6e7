//! Runs a command on a host, to its end or beside us. Never trusts that it ends, that it says how
//! it ended, or that what it prints is small or printable.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use append_server::ssh::connect::SshConnection;
use append_server::ssh::escape::escape_cut_of_more;
use append_server::ssh::stream::{
    ChannelReader, ChannelWriter, ExitStatus, SharedStderr, open_parts,
};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What is told of a command's standard error, in bytes once it is escaped. Twice as much, which is the most that quotes make of
/// it, must fit a line of the log: journald takes longer ones than 48 KiB apart, and a part that a host chose would be a line of
/// its own.
const STDERR_TOLD_MAX: usize = 20 << 10;

/// A command to run to its end.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The line that the user's login shell on the host gets.
    pub line: &'a str,
    /// Everything that the command gets on its standard input.
    pub stdin: &'a [u8],
    /// More than this on its standard output is an error.
    pub stdout_bytes_max: usize,
    /// How long it may take.
    pub deadline: Duration,
}

/// What a command left behind that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error, escaped and cut.
    pub stderr: String,
}

/// Why a command did not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The server opens no channel for it.
    #[error("{host} opens no session for a command: does its sshd have MaxSessions below 4?")]
    NoSession {
        /// The host's name.
        host: String,
        /// What the server said.
        source: Box<russh::Error>,
    },
    /// The server does not start the command.
    #[error("{host} does not run commands for this user: look at ForceCommand and the login shell")]
    Refused {
        /// The host's name.
        host: String,
    },
    /// It took too long.
    #[error("a command on {host} did not finish within {} s", limit.as_secs())]
    TimedOut {
        /// The host's name.
        host: String,
        /// How long it was given.
        limit: Duration,
    },
    /// It printed too much.
    #[error("a command on {host} printed more than {limit} bytes")]
    TooMuchOutput {
        /// The host's name.
        host: String,
        /// How much it may print.
        limit: usize,
    },
    /// It ended without a status, as when the connection is cut: it did not succeed.
    #[error(
        "a command on {host} ended without saying how: the connection was cut, or it was killed; its last words: {stderr}"
    )]
    NoExitStatus {
        /// The host's name.
        host: String,
        /// Its standard error, escaped and cut.
        stderr: String,
    },
    /// The stream of its output broke.
    #[error("cannot read the output of a command on {host}")]
    Read {
        /// The host's name.
        host: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The connection is gone.
    #[error("connection to {host} was lost before a command started")]
    Lost {
        /// The host's name.
        host: String,
    },
}

/// Runs a command to its end.
pub async fn run(connection: &SshConnection, command: Command<'_>) -> Result<Output, ExecError> {
    timeout(command.deadline, run_to_end(connection, command))
        .await
        .map_err(|_| ExecError::TimedOut {
            host: connection.host().into(),
            limit: command.deadline,
        })?
}

/// Starts a command and hands out its streams.
pub async fn spawn(connection: &SshConnection, line: &str) -> Result<RemoteProcess, ExecError> {
    let host = connection.host().to_owned();
    let limit = connection.request_limit();
    let channel = timeout(limit, start(connection, line))
        .await
        .map_err(|_| ExecError::TimedOut {
            host: host.clone(),
            limit,
        })??;
    let closed = connection.gate().closed.clone();
    let (streams, stderr, exit) = open_parts(channel, closed, None);
    let (stdout, stdin) = streams.into_split();
    Ok(RemoteProcess {
        stdin,
        stdout,
        control: ProcessControl { host, stderr, exit },
    })
}

/// A command that runs on a host. Dropping its streams closes its channel, upon which it gets an
/// end of file and no more; it is not killed.
#[derive(Debug)]
pub struct RemoteProcess {
    /// Its standard input; shut it down to give an end of file.
    pub stdin: ChannelWriter,
    /// Its standard output. Read it, or drop it: see [`append_server::ssh::stream`].
    pub stdout: ChannelReader,
    /// Its standard error and its end.
    pub control: ProcessControl,
}

/// What a running command says beside its output, and how it ends.
#[derive(Debug)]
pub struct ProcessControl {
    host: String,
    stderr: SharedStderr,
    exit: oneshot::Receiver<ExitStatus>,
}

impl ProcessControl {
    /// The beginning of its standard error so far, escaped, and how much more there was.
    #[must_use]
    pub fn stderr(&self) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        escape_cut_of_more(stderr.kept.trim_ascii(), STDERR_TOLD_MAX, stderr.dropped)
    }

    /// Waits for its end. An end without a status is an error, never a success.
    pub async fn wait(&mut self) -> Result<ExitStatus, ExecError> {
        match (&mut self.exit).await {
            Ok(status) => Ok(status),
            Err(_) => Err(ExecError::NoExitStatus {
                host: self.host.clone(),
                stderr: self.stderr(),
            }),
        }
    }
}

async fn run_to_end(connection: &SshConnection, command: Command<'_>) -> Result<Output, ExecError> {
    let RemoteProcess {
        mut stdin,
        mut stdout,
        mut control,
    } = spawn(connection, command.line).await?;
    let feed = async {
        // A command that ends before it has read everything says why by its status.
        if stdin.write_all(command.stdin).await.is_ok() {
            stdin.shutdown().await.unwrap_or_default();
        }
    };
    let collect = collect(&mut stdout, command.stdout_bytes_max, connection.host());
    let ((), stdout) = tokio::join!(feed, collect);
    let stdout = stdout?;
    let status = control.wait().await?;
    Ok(Output {
        status,
        stdout,
        stderr: control.stderr(),
    })
}

async fn collect(
    stdout: &mut ChannelReader,
    limit: usize,
    host: &str,
) -> Result<Vec<u8>, ExecError> {
    let mut bytes = Vec::new();
    let mut bounded = stdout.take(limit as u64 + 1);
    bounded
        .read_to_end(&mut bytes)
        .await
        .map_err(|source| ExecError::Read {
            host: host.into(),
            source,
        })?;
    if bytes.len() > limit {
        return Err(ExecError::TooMuchOutput {
            host: host.into(),
            limit,
        });
    }
    Ok(bytes)
}

async fn start(connection: &SshConnection, line: &str) -> Result<Channel<Msg>, ExecError> {
    let lost = || ExecError::Lost {
        host: connection.host().into(),
    };
    let mut channel = connection
        .handle()
        .channel_open_session()
        .await
        .map_err(|source| match source {
            russh::Error::ChannelOpenFailure(_) => ExecError::NoSession {
                host: connection.host().into(),
                source: Box::new(source),
            },
            _ => lost(),
        })?;
    channel.exec(true, line).await.map_err(|_| lost())?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(channel),
            Some(ChannelMsg::Failure) => {
                // Gives the session back; if the connection is gone, so is the session.
                channel.close().await.unwrap_or_default();
                return Err(ExecError::Refused {
                    host: connection.host().into(),
                });
            }
            None | Some(ChannelMsg::Close) => return Err(lost()),
            // Nothing else means anything before the command has started.
            Some(_) => {}
        }
    }
}
