//! Puts the agent onto the target, proves that it runs there as it was sent, and starts it.
//! Never leaves it there: the directory it is in belongs to the janitor.

use std::time::Duration;

use append_server::ssh::connect::SshConnection;
use append_server::ssh::escape::escape_trimmed;
use append_server::ssh::stream::ExitStatus;

use crate::ssh::exec::{self, Command, ExecError, RemoteProcess};
use crate::ssh::janitor::{
    Candidate, DirectoryName, Janitor, JanitorError, Platform, Search, Skipped, search,
};
use crate::ssh::shell;

/// How long the upload may take: five MiB over a slow modem line.
const UPLOAD_LIMIT: Duration = Duration::from_secs(600);

/// How long the agent may take to hash itself, with `become` looking somebody up in LDAP.
const DIGEST_LIMIT: Duration = Duration::from_secs(60);

/// Argument: the agent's path.
const RECEIVE_AGENT: &str = "umask 077; cat > \"$1\" && chmod 700 \"$1\"";

/// An agent build.
#[derive(Debug, Clone, Copy)]
pub struct AgentBinary<'a> {
    /// The program.
    pub bytes: &'a [u8],
    /// Its BLAKE3 digest.
    pub digest: [u8; 32],
}

/// How to deploy.
pub struct DeployOptions<'a> {
    /// The name of the directory to make.
    pub name: &'a DirectoryName,
    /// Where to make it, in order.
    pub candidates: &'a [Candidate],
    /// What the agent is started through, such as `sudo -n`; nothing to start it directly.
    pub become_prefix: &'a str,
    /// Finds the agent for a machine, or says which file is missing.
    pub agent_for: &'a (dyn Fn(&Platform) -> Result<AgentBinary<'a>, MissingAgent> + Sync),
}

/// There is no agent for a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no agent for {machine}: {reason}")]
pub struct MissingAgent {
    /// The machine, as `uname -m` says it.
    pub machine: String,
    /// Which file would be it, and what to do.
    pub reason: String,
}

/// Why the agent is not on the target.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// No directory could be made or kept.
    #[error(transparent)]
    Janitor(#[from] JanitorError),
    /// A command did not run.
    #[error("cannot {attempt} on {host}")]
    Exec {
        /// The host's name.
        host: String,
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: ExecError,
    },
    /// The target is not Linux.
    #[error("{host} runs {system}, which is not supported: Capstan backs up Linux")]
    UnsupportedSystem {
        /// The host's name.
        host: String,
        /// As `uname -s` says it.
        system: String,
    },
    /// There is no agent for its machine.
    #[error("cannot back up {host}")]
    MissingAgent {
        /// The host's name.
        host: String,
        /// Which file is missing.
        source: MissingAgent,
    },
    /// No candidate takes and runs the agent.
    #[error(
        "no directory on {host} can hold and run the agent ({}): mount one of them without noexec \
         and with {need_mib} MiB free, or name another in agent_dirs",
        join(skipped)
    )]
    NoDirectory {
        /// The host's name.
        host: String,
        /// Every candidate and what was wrong with it.
        skipped: Vec<Skipped>,
        /// How much the agent takes.
        need_mib: usize,
    },
    /// `become` does not let us.
    #[error(
        "{prefix:?} does not start the agent on {host}: {said}; as root on {host}, put this line \
         into /etc/sudoers.d/capstan: {user} ALL=(root) NOPASSWD: ALL"
    )]
    BecomeRefused {
        /// The host's name.
        host: String,
        /// The user we are logged in as.
        user: String,
        /// The prefix.
        prefix: String,
        /// What it said, escaped.
        said: String,
    },
    /// `become` names a program that is not there.
    #[error(
        "{prefix:?} is not on {host}: install it, or set become = \"\" and log in as a user that \
         may read everything"
    )]
    BecomeMissing {
        /// The host's name.
        host: String,
        /// The prefix.
        prefix: String,
    },
    /// What runs there is not what was sent.
    #[error("the agent on {host} has digest {said:?} instead of {expected}: it was changed there")]
    DigestMismatch {
        /// The host's name.
        host: String,
        /// What was sent.
        expected: String,
        /// What the target said, escaped and cut.
        said: String,
    },
}

/// The agent on the target, checked and ready to start. Dropping it removes it.
#[derive(Debug)]
pub struct DeployedAgent {
    janitor: Janitor,
    platform: Platform,
    skipped: Vec<Skipped>,
    become_words: Vec<String>,
}

impl DeployedAgent {
    /// The directory on the target that is the agent's alone.
    #[must_use]
    pub fn directory(&self) -> &str {
        self.janitor.directory()
    }

    /// The target's kind of machine.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The candidates that could not be used, for the run's log.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Starts the agent behind these words, which may hold it back; its standard streams carry the conversation.
    pub async fn start(
        &self,
        connection: &SshConnection,
        priority: &[String],
        arguments: &[&str],
    ) -> Result<RemoteProcess, DeployError> {
        let words = [self.become_words.as_slice(), priority].concat();
        let line = agent_line(&words, self.directory(), arguments);
        exec::spawn(connection, &line)
            .await
            .map_err(|source| DeployError::Exec {
                host: connection.host().into(),
                attempt: "start the agent",
                source,
            })
    }

    /// Removes the directory and waits for it.
    pub async fn remove(self) {
        self.janitor.stop().await;
    }
}

/// Uploads the agent into the first candidate that holds and runs it.
pub async fn deploy(
    connection: &SshConnection,
    user: &str,
    options: &DeployOptions<'_>,
) -> Result<DeployedAgent, DeployError> {
    let become_words: Vec<String> = shell::words(options.become_prefix)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut skipped = Vec::new();
    let mut first = 0;
    let mut need_mib = 0;
    while first < options.candidates.len() {
        let found = search(connection, options.name, options.candidates, first).await?;
        let Search {
            platform,
            skipped: more,
            janitor,
        } = found;
        skipped.extend(more);
        let Some(janitor) = janitor else { break };
        first = janitor.index + 1;
        let agent = agent_for(connection, options, &platform)?;
        need_mib = agent.bytes.len().div_ceil(1 << 20);
        match install(connection, user, &janitor, agent, &become_words).await? {
            Installed::Yes => {
                return Ok(DeployedAgent {
                    janitor,
                    platform,
                    skipped,
                    become_words,
                });
            }
            Installed::NotHere { reason } => {
                skipped.push(Skipped {
                    candidate: parent_of(janitor.directory()).to_owned(),
                    reason,
                });
                // Waits, so that a full disk has its space back.
                janitor.stop().await;
            }
        }
    }
    Err(DeployError::NoDirectory {
        host: connection.host().into(),
        skipped,
        need_mib,
    })
}

enum Installed {
    Yes,
    NotHere { reason: String },
}

fn agent_for<'a>(
    connection: &SshConnection,
    options: &DeployOptions<'a>,
    platform: &Platform,
) -> Result<AgentBinary<'a>, DeployError> {
    if platform.system != "Linux" {
        return Err(DeployError::UnsupportedSystem {
            host: connection.host().into(),
            system: platform.system.clone(),
        });
    }
    (options.agent_for)(platform).map_err(|source| DeployError::MissingAgent {
        host: connection.host().into(),
        source,
    })
}

async fn install(
    connection: &SshConnection,
    user: &str,
    janitor: &Janitor,
    agent: AgentBinary<'_>,
    become_words: &[String],
) -> Result<Installed, DeployError> {
    let path = format!("{}/agent", janitor.directory());
    let line = shell::script_line(RECEIVE_AGENT, &[&path]);
    let command = Command {
        line: &line,
        stdin: agent.bytes,
        stdout_bytes_max: 4096,
        deadline: UPLOAD_LIMIT,
    };
    let upload = exec::run(connection, command)
        .await
        .map_err(|source| exec_error(connection, "upload the agent", source))?;
    if !upload.status.success() {
        return Ok(Installed::NotHere {
            reason: format!("upload failed: {}", said(&upload.status, &upload.stderr)),
        });
    }
    check_digest(connection, user, janitor, agent, become_words).await
}

/// Starts the agent once just to name its digest, through `become`, so that everything that could
/// be in its way shows before anything depends on it.
async fn check_digest(
    connection: &SshConnection,
    user: &str,
    janitor: &Janitor,
    agent: AgentBinary<'_>,
    become_words: &[String],
) -> Result<Installed, DeployError> {
    let expected = blake3::Hash::from_bytes(agent.digest).to_hex().to_string();
    let run = ask_digest(connection, janitor, become_words).await?;
    let (status, digest, stderr) = &run;
    if status.success() {
        return if *digest == expected {
            Ok(Installed::Yes)
        } else {
            Err(DeployError::DigestMismatch {
                host: connection.host().into(),
                expected,
                said: digest.chars().take(100).collect(),
            })
        };
    }
    if become_words.is_empty() {
        return Ok(Installed::NotHere {
            reason: format!("agent does not run: {}", said(status, stderr)),
        });
    }
    // Is it the agent or what should start it?
    let (alone, _, alone_said) = ask_digest(connection, janitor, &[]).await?;
    if !alone.success() {
        return Ok(Installed::NotHere {
            reason: format!("agent does not run: {}", said(&alone, &alone_said)),
        });
    }
    let host = connection.host().to_owned();
    let prefix = become_words.join(" ");
    if *status == ExitStatus::Code(127) {
        return Err(DeployError::BecomeMissing { host, prefix });
    }
    Err(DeployError::BecomeRefused {
        host,
        user: user.into(),
        prefix,
        said: said(status, stderr),
    })
}

async fn ask_digest(
    connection: &SshConnection,
    janitor: &Janitor,
    become_words: &[String],
) -> Result<(ExitStatus, String, String), DeployError> {
    let line = agent_line(become_words, janitor.directory(), &["--digest"]);
    let command = Command {
        line: &line,
        stdin: b"",
        stdout_bytes_max: 4096,
        deadline: DIGEST_LIMIT,
    };
    let output = exec::run(connection, command)
        .await
        .map_err(|source| exec_error(connection, "start the agent", source))?;
    Ok((output.status, escape_trimmed(&output.stdout), output.stderr))
}

fn agent_line(words_before: &[String], directory: &str, arguments: &[&str]) -> String {
    let agent = format!("{directory}/agent");
    let mut words: Vec<&str> = words_before.iter().map(String::as_str).collect();
    words.push(&agent);
    words.extend_from_slice(arguments);
    // `exec`, so that the agent gets the end of file and the signals, and no shell stays.
    format!("exec {}", shell::command_line(&words))
}

fn said(status: &ExitStatus, stderr: &str) -> String {
    match (status, stderr) {
        (ExitStatus::Code(code), "") => format!("exit code {code}"),
        (ExitStatus::Signal(name), "") => format!("killed by {name}"),
        (_, stderr) => stderr.into(),
    }
}

fn exec_error(connection: &SshConnection, attempt: &'static str, source: ExecError) -> DeployError {
    DeployError::Exec {
        host: connection.host().into(),
        attempt,
        source,
    }
}

fn parent_of(directory: &str) -> &str {
    directory.rsplit_once('/').map_or("/", |(parent, _)| parent)
}

fn join(skipped: &[Skipped]) -> String {
    let texts: Vec<String> = skipped.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
