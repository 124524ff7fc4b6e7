//! `host test`: goes through a backup up to its first byte, and tells of every step. Stores nothing, and
//! leaves nothing on the host.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use append_server::ssh::connect::{SshConnection, connect};
use append_server::ssh::error::{SshError, Stage};
use serde::Serialize;

use crate::agents::Agent;
use crate::backup::login::{reach, ssh_target};
use crate::config::host::Host;
use crate::exit_code::ExitCode;
use crate::ssh::deploy::{
    AgentBinary, DeployError, DeployOptions, DeployedAgent, MissingAgent, deploy,
};
use crate::ssh::exec::{self, Command};
use crate::ssh::janitor::{Candidate, DirectoryName, Platform};
use crate::ssh::remains::probe_left_behind;
use crate::ssh::tunnel::{Transport, TunnelLimits, open_tunnel};
use crate::terminal::{error_line, printable, visible, write_json};

/// How long looking for the sources may take; an automounted path takes its time.
const SOURCES_LIMIT: Duration = Duration::from_secs(60);

/// How long the host may take to remove what a failed step has left.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(10);

/// How long between two looks.
const CLEAN_UP_PAUSE: Duration = Duration::from_millis(200);

/// All that it may answer: one word for each path.
const SOURCES_BYTES_MAX: usize = 64 << 10;

/// Reads paths, one a line, and answers each with a word. One line without `!` or backslash, and without a
/// quote inside, because any login shell reads it.
const FIND_SOURCES: &str = "while IFS= read -r p; do if test -e \"$p\" || test -h \"$p\"; then echo yes; else echo no; fi; done";

/// Finds the agent for a machine, or says which file is missing.
pub type AgentFor<'a> = &'a (dyn Fn(&Platform) -> Result<Agent, MissingAgent> + Sync);

/// What `host test --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrialReport {
    /// The host.
    pub host: String,
    /// `ok` or `failed`.
    pub outcome: &'static str,
    /// How packs would come back.
    pub transport: Option<&'static str>,
    /// Each step taken, in order.
    pub steps: Vec<TrialStep>,
    #[serde(skip)]
    exit_code: ExitCode,
}

impl TrialReport {
    /// The number to end with.
    pub fn exit_code(&self) -> ExitCode {
        self.exit_code
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrialStep {
    /// Its name.
    pub step: &'static str,
    /// Whether it succeeded.
    pub ok: bool,
    /// What was found, or the remedy.
    pub text: String,
}

/// Tries a host; `show` gets each step as it is done.
pub async fn try_host(
    host: &Host,
    agent_for: AgentFor<'_>,
    show: &mut (dyn FnMut(&TrialStep) + Send),
) -> TrialReport {
    let mut trial = Trial {
        report: TrialReport {
            host: host.name.to_string(),
            outcome: "ok",
            transport: None,
            steps: Vec::new(),
            exit_code: ExitCode::Ok,
        },
        show,
    };
    if let Some(connection) = log_in(&mut trial, host).await {
        go_on(&mut trial, host, &connection, agent_for).await;
        connection.disconnect().await;
    }
    trial.report
}

/// Writes one step for people.
pub fn write_step(step: &TrialStep, out: &mut dyn Write) -> io::Result<()> {
    let word = if step.ok { "ok" } else { "FAILED" };
    writeln!(out, "{word:<7} {:<13} {}", step.step, step.text)
}

/// Writes the end: everything as JSON, or one line for people, who have seen the steps.
pub fn write_report(report: &TrialReport, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return write_json(out, report);
    }
    match report.outcome {
        "ok" => writeln!(out, "{}: ready to be backed up", report.host),
        _ => writeln!(out, "{}: not ready; nothing was stored", report.host),
    }
}

/// The report as it grows.
struct Trial<'a> {
    report: TrialReport,
    show: &'a mut (dyn FnMut(&TrialStep) + Send),
}

impl Trial<'_> {
    fn good(&mut self, step: &'static str, text: impl Into<String>) {
        self.note(step, true, text.into());
    }

    fn bad(&mut self, step: &'static str, text: String, exit_code: ExitCode) {
        self.report.outcome = "failed";
        if self.report.exit_code == ExitCode::Ok {
            self.report.exit_code = exit_code;
        }
        self.note(step, false, text);
    }

    fn note(&mut self, step: &'static str, ok: bool, text: String) {
        let step = TrialStep {
            step,
            ok,
            text: visible(&text),
        };
        (self.show)(&step);
        self.report.steps.push(step);
    }
}

/// Connect, host key, login: one call, told as three steps.
async fn log_in(trial: &mut Trial<'_>, host: &Host) -> Option<SshConnection> {
    if host.local {
        return begin_here(trial, host).await;
    }
    let target = match ssh_target(host) {
        Ok(target) => target,
        Err(error) => {
            trial.bad("connect", error_line(&error), ExitCode::Error);
            return None;
        }
    };
    let over: String = host
        .jumps
        .iter()
        .map(|jump| format!(" over {}", jump.login.address))
        .collect();
    let place = format!("{}{over}", target.address);
    match connect(&target).await {
        Ok(connection) => {
            trial.good("connect", place);
            trial.good("host-key", connection.host_key().to_string());
            trial.good("authenticate", format!("as {}", target.user));
            Some(connection)
        }
        Err(error) => {
            refused(trial, &error, place);
            None
        }
    }
}

/// The machine of the coordinator, which nobody logs in to.
async fn begin_here(trial: &mut Trial<'_>, host: &Host) -> Option<SshConnection> {
    match reach(host).await {
        Ok(connection) => {
            trial.good("connect", "this machine, without a login");
            Some(connection)
        }
        Err(error) => {
            trial.bad("connect", error_line(&error), ExitCode::Error);
            None
        }
    }
}

fn refused(trial: &mut Trial<'_>, error: &SshError, place: String) {
    let code = match error.is_host_key_mismatch() {
        true => ExitCode::HostKeyMismatch,
        false => ExitCode::Error,
    };
    let text = error_line(error);
    match error.stage() {
        // Without a pinned key nothing was connected to.
        Stage::HostKey if matches!(error, SshError::HostKeyNotPinned { .. }) => {
            trial.bad("host-key", text, code);
        }
        Stage::Connect | Stage::KeyExchange => trial.bad("connect", text, code),
        Stage::HostKey => {
            trial.good("connect", place);
            trial.bad("host-key", text, code);
        }
        Stage::Authentication | Stage::Session => {
            trial.good("connect", place);
            trial.good("host-key", "as pinned");
            trial.bad("authenticate", text, code);
        }
    }
}

/// Everything after login; whatever was put on the host is taken away again.
async fn go_on(
    trial: &mut Trial<'_>,
    host: &Host,
    connection: &SshConnection,
    agent_for: AgentFor<'_>,
) {
    let Some(name) = directory_name(trial, host) else {
        return;
    };
    if let Some(deployed) = put_agent(trial, host, connection, &name, agent_for).await {
        try_tunnel(trial, host, connection, deployed.directory()).await;
        find_sources(trial, host, connection).await;
        deployed.remove().await;
    }
    look_for_remains(trial, connection, &name).await;
}

/// After a step that failed nobody has waited until the host had tidied up, so it gets some time for that.
async fn look_for_remains(trial: &mut Trial<'_>, connection: &SshConnection, name: &DirectoryName) {
    let until = Instant::now() + CLEAN_UP_LIMIT;
    let left = loop {
        match probe_left_behind(connection, name, &Candidate::defaults()).await {
            Ok(left) if left.is_empty() => {
                return trial.good("clean-up", "nothing is left on the host");
            }
            Ok(left) if Instant::now() >= until => break left,
            Ok(_) => tokio::time::sleep(CLEAN_UP_PAUSE).await,
            Err(error) => return trial.bad("clean-up", error_line(&error), ExitCode::Error),
        }
    };
    let paths = left.paths.iter().cloned();
    let processes = left
        .processes
        .iter()
        .map(|left| format!("process {}", left.pid));
    let all: Vec<String> = paths.chain(processes).collect();
    let text = format!("left behind: {}", all.join(", "));
    trial.bad("clean-up", text, ExitCode::Error);
}

/// A name that is no run's, so that a run of this host that is under way keeps its directory.
fn directory_name(trial: &mut Trial<'_>, host: &Host) -> Option<DirectoryName> {
    let digest = blake3::hash(host.name.as_str().as_bytes()).to_hex();
    let mut random = [0u8; 8];
    let drawn = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = DirectoryName::new(&format!("test{}", &digest.as_str()[..8]), &random);
    match (drawn, name) {
        (Ok(()), Ok(name)) => Some(name),
        (Err(error), _) => {
            trial.bad(
                "upload",
                format!("no random numbers: {error}"),
                ExitCode::Error,
            );
            None
        }
        (_, Err(error)) => {
            trial.bad("upload", error_line(&error), ExitCode::Error);
            None
        }
    }
}

async fn put_agent(
    trial: &mut Trial<'_>,
    host: &Host,
    connection: &SshConnection,
    name: &DirectoryName,
    agent_for: AgentFor<'_>,
) -> Option<DeployedAgent> {
    let become_prefix = host.become_command.words().join(" ");
    let candidates = Candidate::defaults();
    let chosen = OnceLock::new();
    let options = DeployOptions {
        name,
        candidates: &candidates,
        become_prefix: &become_prefix,
        agent_for: &|platform: &Platform| {
            let agent = agent_for(platform)?;
            let agent: &Agent = chosen.get_or_init(|| agent);
            Ok(AgentBinary {
                bytes: &agent.bytes,
                digest: agent.digest,
            })
        },
    };
    match deploy(connection, host.login.user.as_str(), &options).await {
        Ok(deployed) => {
            let skipped = deployed
                .skipped()
                .iter()
                .map(|skip| format!("; not in {skip}"));
            let skipped: String = skipped.collect();
            trial.good("upload", format!("into {}{skipped}", deployed.directory()));
            let through = match become_prefix.as_str() {
                "" => String::new(),
                prefix => format!(" through {prefix}"),
            };
            let machine = &deployed.platform().machine;
            trial.good(
                "start",
                format!("the agent for {machine} runs{through}, unchanged"),
            );
            Some(deployed)
        }
        Err(error) => {
            // These come after the upload, when the agent is asked for its digest.
            let started = matches!(
                error,
                DeployError::BecomeRefused { .. }
                    | DeployError::BecomeMissing { .. }
                    | DeployError::DigestMismatch { .. }
            );
            if started {
                trial.good("upload", "done");
            }
            let step = if started { "start" } else { "upload" };
            trial.bad(step, error_line(&error), ExitCode::Error);
            None
        }
    }
}

async fn try_tunnel(
    trial: &mut Trial<'_>,
    host: &Host,
    connection: &SshConnection,
    directory: &str,
) {
    let choice = host.transport.as_str().parse().unwrap_or_default();
    match open_tunnel(connection, choice, directory, TunnelLimits::default()).await {
        Ok(tunnel) => {
            let (word, text) = match tunnel.transport() {
                Transport::Unix { .. } => ("unix", "a forwarded socket"),
                Transport::Tcp { .. } => ("tcp", "a forwarded port on 127.0.0.1"),
                Transport::Stdio => ("stdio", "the agent's own standard streams"),
            };
            trial.report.transport = Some(word);
            let fallbacks = tunnel.fallbacks().iter();
            let refused: String = fallbacks.map(|error| format!("; {error}")).collect();
            trial.good("tunnel", format!("{word}: {text}{refused}"));
        }
        Err(error) => trial.bad("tunnel", error_line(&error), ExitCode::Error),
    }
}

/// Looks, as the user that the agent runs as, whether every source path is there.
async fn find_sources(trial: &mut Trial<'_>, host: &Host, connection: &SshConnection) {
    // The copy of the state is made when a run begins.
    let (paths, odd): (Vec<_>, Vec<_>) = host
        .paths_given()
        .partition(|path| !path.as_bytes().contains(&b'\n'));
    // The words of `become` hold nothing that a shell interprets, and the script holds no quote.
    let prefix = host.become_command.words().join(" ");
    let line = format!("exec {prefix} sh -c '{FIND_SOURCES}'");
    let mut stdin = Vec::new();
    for path in &paths {
        stdin.extend_from_slice(path.as_bytes());
        stdin.push(b'\n');
    }
    let command = Command {
        line: &line,
        stdin: &stdin,
        stdout_bytes_max: SOURCES_BYTES_MAX,
        deadline: SOURCES_LIMIT,
    };
    let output = match exec::run(connection, command).await {
        Ok(output) => output,
        Err(error) => return trial.bad("sources", error_line(&error), ExitCode::Error),
    };
    let answers: Vec<&[u8]> = output.stdout.split(|byte| *byte == b'\n').collect();
    if !output.status.success() || answers.len() != paths.len() + 1 {
        let text = format!(
            "cannot look for them: {:?} {}",
            output.status, output.stderr
        );
        return trial.bad("sources", text, ExitCode::Error);
    }
    let missing: Vec<String> = paths
        .iter()
        .zip(answers)
        .filter(|(_, answer)| *answer != b"yes")
        .map(|(path, _)| *path)
        .chain(odd)
        .map(|path| printable(path.as_bytes()))
        .collect();
    match (missing.is_empty(), paths.len()) {
        (true, 0) => trial.bad(
            "sources",
            "there are none: set paths".into(),
            ExitCode::Error,
        ),
        (true, count) => trial.good("sources", format!("{count} of {count} exist")),
        (false, _) => {
            let text = format!("not on the host: {}", missing.join(", "));
            trial.bad("sources", text, ExitCode::Error);
        }
    }
}
