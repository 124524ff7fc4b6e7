//! The agent's session on the target: put there, tunnelled, started, greeted, and in the end gone. Everything
//! that touches the SSH connection during a run is here. Never leaves the agent running: when the session is
//! dropped, the agent's standard input ends, and the janitor's with it.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use append_server::ssh::connect::SshConnection;
use formats::ids::RepositoryId;
use formats::keys::secret::random;
use formats::limits::{TUNNEL_BYTES_MAX, TUNNEL_CONNECTIONS_MAX};
use formats::wire::control::{FromAgent, FromCoordinator, Hello, TunnelBytes};
use formats::wire::facts::HostFacts;
use formats::wire::framing::PROTOCOL_VERSION;
use formats::wire::start::{Start, Transport as WireTransport};
use formats::wire::surroundings::Surroundings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, WriteHalf, split};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use crate::agents::{self, Agent};
use crate::backup::control::{Incoming, Outgoing, read_messages};
use crate::backup::error::RunError;
use crate::backup::limited_carrying::LimitedIngest;
use crate::backup::limited_carrying::pace::Pace;
use crate::clock::Clock;
use crate::config::host::Host;
use crate::ssh::deploy::{AgentBinary, DeployOptions, DeployedAgent, MissingAgent, deploy};
use crate::ssh::exec::ProcessControl;
use crate::ssh::janitor::{Candidate, DirectoryName, Platform};
use crate::ssh::priority::priority_words;
use crate::ssh::remains::probe_left_behind;
use crate::ssh::tunnel::{Transport, Tunnel, TunnelLimits, open_tunnel};
use crate::storage::ingest::Ingest;

/// How long the agent may take to say hello, and to stand ready.
const GREETING_MAX: Duration = Duration::from_secs(60);
/// How long the agent may take to go after its goodbye.
const FAREWELL_MAX: Duration = Duration::from_secs(30);

/// A started agent.
#[derive(Debug)]
pub struct Session {
    /// What it sends.
    pub incoming: Incoming,
    /// What it is sent.
    pub outgoing: Outgoing,
    /// What it said of its host.
    pub facts: HostFacts,
    /// What it said of the machine around it.
    pub surroundings: Surroundings,
    /// Its version and digest.
    pub agent: String,
    process: ProcessControl,
    deployed: DeployedAgent,
    transport: WireTransport,
    /// Where upload connections go.
    ingest: LimitedIngest,
    /// Ends the taking of tunnel connections.
    closed_to_new: Option<DropGuard>,
    directory_name: DirectoryName,
}

/// Puts the agent on the host, opens the tunnel, starts it and hears its hello.
pub async fn begin(
    connection: &SshConnection,
    host: &Host,
    repository: RepositoryId,
    agents_directory: Option<&Path>,
    ingest: &Ingest,
    clock: Arc<dyn Clock>,
) -> Result<Session, RunError> {
    let directory_name = directory_name(repository)?;
    let deployed = put_agent(connection, host, &directory_name, agents_directory).await?;
    let tunnel = open_tunnel(
        connection,
        host.transport.as_str().parse().unwrap_or_default(),
        deployed.directory(),
        TunnelLimits {
            channels_max: usize::from(TUNNEL_CONNECTIONS_MAX) * 2,
            waiting_max: usize::from(TUNNEL_CONNECTIONS_MAX),
        },
    )
    .await?;
    for refused in tunnel.fallbacks() {
        tracing::info!(reason = %refused, "the tunnel fell back");
    }
    let transport = wire_transport(&tunnel);
    let closed_to_new = CancellationToken::new();
    // From now on, so that whoever finds the port before the agent does is turned away at once.
    let rates = host.limits.bandwidth.clone();
    let pace = Pace::new(rates, host.timing.zone.zone(), clock);
    let ingest = LimitedIngest::new(ingest.clone(), pace);
    let carrying = carry(tunnel, ingest.clone(), closed_to_new.clone());
    tokio::spawn(carrying.in_current_span());
    let closed_to_new = closed_to_new.drop_guard();
    let priority = priority_words(host.limits.nice, host.limits.io_priority);
    let process = deployed.start(connection, &priority, &["serve"]).await?;
    let mut incoming = read_messages(process.stdout);
    let outgoing = Outgoing::new(process.stdin);
    let control = process.control;
    let agent = agents::for_machine(&deployed.platform().machine, agents_directory)?;
    let hello = greeting(&mut incoming, &control).await?;
    check_hello(&hello, &agent)?;
    let surroundings = around(&mut incoming, &control).await?;
    Ok(Session {
        incoming,
        outgoing,
        facts: hello.facts,
        surroundings,
        agent: format!(
            "{} {}",
            env!("CARGO_PKG_VERSION"),
            formats::ids::to_hex(&hello.digest)
        ),
        process: control,
        deployed,
        transport,
        ingest,
        closed_to_new: Some(closed_to_new),
        directory_name,
    })
}

fn wire_transport(tunnel: &Tunnel) -> WireTransport {
    match tunnel.transport() {
        Transport::Unix { path } => WireTransport::Unix {
            path: path.clone().into_bytes(),
        },
        Transport::Tcp { port } => WireTransport::Tcp { port: *port },
        Transport::Stdio => WireTransport::Stdio,
    }
}

/// A fresh name; its prefix is the repository's, so that remains of earlier runs are found.
fn directory_name(repository: RepositoryId) -> Result<DirectoryName, RunError> {
    let suffix = formats::ids::to_hex(&random::<8>()?);
    DirectoryName::new(&repository.short(), &suffix).map_err(|_| RunError::Unexpected {
        what: "a directory name that is none",
    })
}

async fn put_agent(
    connection: &SshConnection,
    host: &Host,
    name: &DirectoryName,
    agents_directory: Option<&Path>,
) -> Result<DeployedAgent, RunError> {
    let chosen = OnceLock::new();
    let agent_for = |platform: &Platform| {
        let agent = agents::for_machine(&platform.machine, agents_directory).map_err(|error| {
            MissingAgent {
                machine: platform.machine.clone(),
                reason: error.to_string(),
            }
        })?;
        let agent: &Agent = chosen.get_or_init(|| agent);
        Ok(AgentBinary {
            bytes: &agent.bytes,
            digest: agent.digest,
        })
    };
    let deployed = deploy(
        connection,
        host.login.user.as_str(),
        &DeployOptions {
            name,
            candidates: &Candidate::defaults(),
            become_prefix: &host.become_command.words().join(" "),
            agent_for: &agent_for,
        },
    )
    .await?;
    for skipped in deployed.skipped() {
        tracing::info!(%skipped, "a directory for the agent was skipped");
    }
    Ok(deployed)
}

async fn greeting(incoming: &mut Incoming, process: &ProcessControl) -> Result<Hello, RunError> {
    match next(incoming, process).await? {
        FromAgent::Hello(hello) => Ok(hello),
        FromAgent::Abort(text) => Err(RunError::AgentAborted { text }),
        _ => Err(RunError::Unexpected {
            what: "another message before hello",
        }),
    }
}

async fn around(
    incoming: &mut Incoming,
    process: &ProcessControl,
) -> Result<Surroundings, RunError> {
    match next(incoming, process).await? {
        FromAgent::Surroundings(surroundings) => Ok(surroundings),
        FromAgent::Abort(text) => Err(RunError::AgentAborted { text }),
        _ => Err(RunError::Unexpected {
            what: "another message before its surroundings",
        }),
    }
}

async fn next(incoming: &mut Incoming, process: &ProcessControl) -> Result<FromAgent, RunError> {
    match timeout(GREETING_MAX, incoming.recv()).await {
        Err(_) => Err(RunError::Stalled {
            waited: GREETING_MAX,
        }),
        Ok(Some(Ok(message))) => Ok(message),
        Ok(Some(Err(source))) => Err(RunError::Control {
            stderr: process.stderr(),
            source,
        }),
        Ok(None) => Err(RunError::AgentEnded {
            stderr: process.stderr(),
        }),
    }
}

fn check_hello(hello: &Hello, agent: &Agent) -> Result<(), RunError> {
    if hello.protocol != PROTOCOL_VERSION {
        return Err(RunError::Protocol {
            found: hello.protocol,
            known: PROTOCOL_VERSION,
        });
    }
    if hello.digest != agent.digest {
        return Err(RunError::AgentDigest);
    }
    Ok(())
}

impl Session {
    /// What carries the packs.
    pub fn transport(&self) -> WireTransport {
        self.transport.clone()
    }

    /// Sends the orders and waits until the agent's upload connections stand. From then on nobody else on the
    /// target can open one.
    pub async fn start(&mut self, start: Start) -> Result<Option<StdioTunnel>, RunError> {
        let stdio = start.transport == WireTransport::Stdio;
        self.outgoing
            .send(FromCoordinator::Start(Box::new(start)))
            .await?;
        let mut over_stdio =
            stdio.then(|| StdioTunnel::new(self.ingest.clone(), self.outgoing.clone()));
        loop {
            match next(&mut self.incoming, &self.process).await? {
                FromAgent::Ready => {
                    self.closed_to_new = None;
                    return Ok(over_stdio);
                }
                FromAgent::Tunnel(bytes) => match &mut over_stdio {
                    Some(tunnel) => tunnel.deliver(bytes).await?,
                    None => {
                        return Err(RunError::Unexpected {
                            what: "tunnel bytes without a stdio tunnel",
                        });
                    }
                },
                FromAgent::Abort(text) => return Err(RunError::AgentAborted { text }),
                _ => {
                    return Err(RunError::Unexpected {
                        what: "another message before ready",
                    });
                }
            }
        }
    }

    /// Hands over what the agent sends; the session keeps an ended stream in its place.
    pub fn take_incoming(&mut self) -> Incoming {
        let (_, ended) = tokio::sync::mpsc::channel(1);
        std::mem::replace(&mut self.incoming, ended)
    }

    /// What the agent wrote to its standard error, escaped and capped.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Lets the agent go and sees that it and its directory are gone; gives what is left, for the log.
    pub async fn end(self, connection: &SshConnection) -> Vec<String> {
        let Self {
            incoming,
            outgoing,
            mut process,
            deployed,
            closed_to_new,
            directory_name,
            ..
        } = self;
        drop(closed_to_new);
        drop(outgoing);
        // Reading goes on until the agent's end of the stream, so that it is not held up on its way out.
        let drain = tokio::spawn(async move {
            let mut incoming = incoming;
            while incoming.recv().await.is_some() {}
        });
        match timeout(FAREWELL_MAX, process.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => tracing::warn!(?status, stderr = process.stderr(), "the agent's end"),
            Ok(Err(error)) => tracing::warn!(%error, "the agent's end"),
            Err(_) => tracing::warn!("the agent did not go in time"),
        }
        drain.abort();
        deployed.remove().await;
        left_behind(connection, &directory_name).await
    }
}

async fn left_behind(connection: &SshConnection, name: &DirectoryName) -> Vec<String> {
    match probe_left_behind(connection, name, &Candidate::defaults()).await {
        Ok(left) => {
            let processes = left
                .processes
                .iter()
                .map(|process| format!("process {} {}", process.pid, process.command));
            left.paths.iter().cloned().chain(processes).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "cannot tell whether anything is left on the host");
            Vec::new()
        }
    }
}

/// Hands every connection of the tunnel to the append-server until the agent is ready; those that stand by
/// then live on.
async fn carry(mut tunnel: Tunnel, ingest: LimitedIngest, ready: CancellationToken) {
    loop {
        // Losing `accept` is safe: a stream that was not taken is dropped with the tunnel.
        let stream = tokio::select! {
            stream = tunnel.accept() => stream,
            () = ready.cancelled() => None,
        };
        let Some(stream) = stream else {
            tunnel.close_to_new();
            return;
        };
        let ingest = ingest.clone();
        let carrying = async move {
            if let Err(error) = ingest.carry(stream).await {
                tracing::debug!(%error, "an upload connection ended");
            }
        };
        tokio::spawn(carrying.in_current_span());
    }
}

/// Upload connections that travel in the control conversation.
#[derive(Debug)]
pub struct StdioTunnel {
    ingest: LimitedIngest,
    outgoing: Outgoing,
    connections: Vec<(u8, WriteHalf<DuplexStream>)>,
}

impl StdioTunnel {
    fn new(ingest: LimitedIngest, outgoing: Outgoing) -> Self {
        Self {
            ingest,
            outgoing,
            connections: Vec::new(),
        }
    }

    /// Passes the agent's bytes on; the first of a connection opens it, none closes it.
    pub async fn deliver(&mut self, bytes: TunnelBytes) -> Result<(), RunError> {
        let number = bytes.connection;
        let known = self
            .connections
            .iter()
            .position(|(other, _)| *other == number);
        if bytes.bytes.is_empty() {
            if let Some(place) = known {
                self.connections.swap_remove(place);
            }
            return Ok(());
        }
        let place = match known {
            Some(place) => place,
            None if number < TUNNEL_CONNECTIONS_MAX => {
                self.connections.push((number, self.open(number)));
                self.connections.len() - 1
            }
            None => {
                return Err(RunError::Unexpected {
                    what: "more tunnel connections than allowed",
                });
            }
        };
        let (_, writer) = &mut self.connections[place];
        if writer.write_all(&bytes.bytes).await.is_err() {
            // The append-server closed it; the agent learns it by its answers' end.
            self.connections.swap_remove(place);
        }
        Ok(())
    }

    fn open(&self, number: u8) -> WriteHalf<DuplexStream> {
        let buffer = usize::try_from(TUNNEL_BYTES_MAX).unwrap_or(usize::MAX);
        let (ours, theirs) = tokio::io::duplex(buffer);
        let ingest = self.ingest.clone();
        let carrying = async move {
            if let Err(error) = ingest.carry(theirs).await {
                tracing::debug!(%error, "an upload connection ended");
            }
        };
        tokio::spawn(carrying.in_current_span());
        let (mut answers, writer) = split(ours);
        let outgoing = self.outgoing.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0u8; 16 << 10];
            loop {
                let count = answers.read(&mut buffer).await.unwrap_or(0);
                let bytes = TunnelBytes {
                    connection: number,
                    bytes: buffer.get(..count).unwrap_or_default().to_vec(),
                };
                if outgoing.send(FromCoordinator::Tunnel(bytes)).await.is_err() || count == 0 {
                    return;
                }
            }
        });
        writer
    }
}
