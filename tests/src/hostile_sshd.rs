//! A scriptable hostile SSH server. By default it behaves: it runs what it is asked to in a private directory, and plays
//! the agent itself when that is started. Each option is one way to misbehave. It listens on loopback and ends when dropped.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::hostile_agent::{self, AgentScript, HostileAgent};
use crate::sshd::{fingerprint, generate_key_of_type};

mod commands;

#[cfg(test)]
mod tests;

/// Where the server stops answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// It accepts the connection and says nothing.
    BeforeBanner,
    /// It names its version and says nothing more.
    AfterBanner,
    /// It never answers the login.
    InLogin,
    /// It never answers the opening of a channel.
    OnChannel,
    /// It starts a command and never answers.
    OnCommand,
    /// The agent starts and says nothing.
    OnAgent,
}

/// A channel nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uninvited {
    /// `forwarded-tcpip` of a port never requested.
    ForwardedTcp,
    /// `forwarded-streamlocal@openssh.com` of a path never requested.
    ForwardedUnix,
    /// `auth-agent@openssh.com`.
    Agent,
    /// `x11`.
    X11,
    /// `session`, by which a server would run commands at its client.
    Session,
    /// `direct-tcpip`, by which a server would reach into the client's network.
    DirectTcp,
}

/// How the server misbehaves.
#[derive(Clone, Default)]
pub struct HostileOptions {
    /// Type of its host key for `ssh-keygen -t`; `ed25519` when empty.
    pub host_key_type: String,
    /// Where it stops answering.
    pub stall: Option<Stall>,
    /// Channels it opens once the client is logged in, and how many of each.
    pub uninvited: Vec<Uninvited>,
    /// How many of each uninvited channel.
    pub uninvited_count: u32,
    /// Written to every command's stderr again and again, without end.
    pub endless_stderr: Option<Vec<u8>>,
    /// Written to every command's stdout before anything else.
    pub stdout_before: Vec<u8>,
    /// Shown before the login.
    pub login_banner: Option<String>,
    /// Answers instead of running a command that contains this text: bytes on stdout, then this exit code.
    pub answers: Vec<(String, Vec<u8>, u32)>,
    /// Plays the agent; without one the started agent ends at once.
    pub agent: Option<Arc<dyn AgentScript>>,
    /// The agent's exit code.
    pub agent_exit_code: u32,
    /// Runs the uploaded agent for real instead of playing it.
    pub real_agent: bool,
    /// Says yes to a forwarded port, and names this one, where somebody else listens.
    pub squatted_port: Option<u16>,
}

/// What happened, for the test to look at.
#[derive(Debug, Default)]
pub struct Observed {
    /// Channels that the client let the server open.
    pub accepted_uninvited: AtomicU64,
    /// Channels that it refused.
    pub refused_uninvited: AtomicU64,
    /// Logins that succeeded.
    pub logins: AtomicU64,
    /// Commands, in order.
    pub commands: Mutex<Vec<String>>,
    /// How the played agent ended: empty while it runs or when it ended well.
    pub agent_error: Mutex<String>,
    /// How often the agent was started.
    pub agents_started: AtomicU64,
}

/// A running hostile server.
#[derive(Debug)]
pub struct HostileSshd {
    address: SocketAddr,
    fingerprint: String,
    observed: Arc<Observed>,
    runtime: Option<Runtime>,
}

impl HostileSshd {
    /// Starts one that keeps its files in a new directory.
    pub fn start(directory: &Path, options: HostileOptions) -> Result<Self> {
        std::fs::create_dir_all(directory.join("run"))
            .context("a directory for the hostile server")?;
        let kind = if options.host_key_type.is_empty() {
            "ed25519"
        } else {
            &options.host_key_type
        };
        let key_path = directory.join("host_key");
        generate_key_of_type(kind, &key_path)?;
        let key = russh::keys::load_secret_key(&key_path, None)
            .context("loading the hostile host key")?;
        let config = russh::server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::ZERO,
            inactivity_timeout: Some(Duration::from_secs(300)),
            ..russh::server::Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let observed = Arc::new(Observed::default());
        let shared = Arc::new(Shared {
            options,
            directory: directory.to_owned(),
            observed: Arc::clone(&observed),
        });
        runtime.spawn(accept(listener, Arc::new(config), shared));
        Ok(Self {
            address,
            fingerprint: fingerprint(&directory.join("host_key.pub"))?,
            observed,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its host key's fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What happened so far.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }
}

impl Drop for HostileSshd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Stalled connections would wait for ever; commands are killed when their tasks go.
            runtime.shutdown_background();
        }
    }
}

impl Observed {
    fn note_command(&self, command: &[u8]) {
        let text = String::from_utf8_lossy(command).into_owned();
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }

    /// How the played agent ended.
    pub fn agent_error(&self) -> String {
        self.agent_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

struct Shared {
    options: HostileOptions,
    directory: PathBuf,
    observed: Arc<Observed>,
}

struct Connection {
    shared: Arc<Shared>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

async fn accept(listener: TcpListener, config: Arc<russh::server::Config>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&config), Arc::clone(&shared)));
    }
}

async fn serve(mut stream: TcpStream, config: Arc<russh::server::Config>, shared: Arc<Shared>) {
    match shared.options.stall {
        Some(Stall::BeforeBanner) => std::future::pending().await,
        Some(Stall::AfterBanner) => {
            // Whether the client still listens does not matter here.
            drop(stream.write_all(b"SSH-2.0-hostile\r\n").await);
            std::future::pending().await
        }
        _ => {}
    }
    let connection = Connection {
        shared,
        channels: HashMap::new(),
    };
    // A client that hangs up is what most tests want.
    if let Ok(session) = russh::server::run_stream(config, stream, connection).await
        && let Err(error) = session.await
    {
        eprintln!("hostile sshd: the client left: {error}");
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.shared.options.login_banner.clone())
    }

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        _: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        if self.shared.options.stall == Some(Stall::InLogin) {
            std::future::pending::<()>().await;
        }
        Ok(Auth::Accept)
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        self.shared.observed.logins.fetch_add(1, Ordering::Relaxed);
        for kind in self.shared.options.uninvited.clone() {
            let count = self.shared.options.uninvited_count.max(1);
            tokio::spawn(open_uninvited(
                session.handle(),
                kind,
                count,
                Arc::clone(&self.shared.observed),
            ));
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.shared.options.stall == Some(Stall::OnChannel) {
            // Dropping the handle would refuse; keeping it for ever answers nothing.
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(reply);
            });
            return Ok(());
        }
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        _: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Some(squatted) = self.shared.options.squatted_port else {
            return Ok(false);
        };
        *port = squatted.into();
        Ok(true)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.shared.observed.note_command(command);
        let Some(channel) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        if self.shared.options.stall == Some(Stall::OnCommand) {
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(channel);
            });
            return Ok(());
        }
        let command = String::from_utf8_lossy(command).into_owned();
        tokio::spawn(answer(
            Arc::clone(&self.shared),
            session.handle(),
            channel,
            command,
        ));
        Ok(())
    }
}

async fn open_uninvited(handle: Handle, kind: Uninvited, count: u32, observed: Arc<Observed>) {
    for _ in 0..count {
        let opened = match kind {
            Uninvited::ForwardedTcp => {
                handle
                    .channel_open_forwarded_tcpip("127.0.0.1", 4_242, "127.0.0.1", 1)
                    .await
            }
            Uninvited::ForwardedUnix => {
                handle
                    .channel_open_forwarded_streamlocal("/run/never/asked/for")
                    .await
            }
            Uninvited::Agent => handle.channel_open_agent().await,
            Uninvited::X11 => handle.channel_open_x11("127.0.0.1", 1).await,
            Uninvited::Session => handle.channel_open_session().await,
            Uninvited::DirectTcp => {
                handle
                    .channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
                    .await
            }
        };
        match opened {
            Ok(_) => observed.accepted_uninvited.fetch_add(1, Ordering::Relaxed),
            Err(russh::Error::ChannelOpenFailure(_)) => {
                observed.refused_uninvited.fetch_add(1, Ordering::Relaxed)
            }
            // The client hung up, which is an answer too.
            Err(_) => return,
        };
    }
}

async fn answer(shared: Arc<Shared>, handle: Handle, channel: Channel<Msg>, command: String) {
    let end = End {
        handle,
        id: channel.id(),
    };
    if let Some(text) = &shared.options.endless_stderr {
        let (end, text) = (end.clone(), text.clone());
        tokio::spawn(async move {
            while end
                .handle
                .extended_data(end.id, 1, text.clone())
                .await
                .is_ok()
            {}
        });
    }
    let plays = !shared.options.real_agent && hostile_agent::is_agent_start(&command);
    if plays {
        play_agent(&shared, channel, end).await;
    } else if let Some((_, bytes, code)) = shared
        .options
        .answers
        .iter()
        .find(|(part, ..)| command.contains(part))
    {
        if channel.data_bytes(bytes.clone()).await.is_ok() {
            end.with_code(*code).await;
        }
    } else {
        let directory = shared.directory.join("run");
        if let Err(error) = commands::run(
            &directory,
            &shared.options.stdout_before,
            channel,
            &command,
            end,
        )
        .await
        {
            eprintln!("hostile sshd: {command}: {error:#}");
        }
    }
}

async fn play_agent(shared: &Shared, channel: Channel<Msg>, end: End) {
    shared
        .observed
        .agents_started
        .fetch_add(1, Ordering::Relaxed);
    if shared.options.stall == Some(Stall::OnAgent) {
        std::future::pending::<()>().await;
    }
    let mut agent = HostileAgent::new(&shared.directory.join("run"), channel.into_stream());
    if let Some(script) = &shared.options.agent
        && let Err(error) = script.play(&mut agent).await
    {
        *shared
            .observed
            .agent_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = format!("{error:#}");
    }
    end.with_code(shared.options.agent_exit_code).await;
}

/// The end of a command. A channel that is dropped is closed, so the code must be sent before that.
#[derive(Clone)]
struct End {
    handle: Handle,
    id: ChannelId,
}

impl End {
    async fn with_code(self, code: u32) {
        let mut said = self.handle.eof(self.id).await;
        said = said.and(self.handle.exit_status_request(self.id, code).await);
        if said.and(self.handle.close(self.id).await).is_err() {
            eprintln!("hostile sshd: the client left before a command ended");
        }
    }
}
