//! An SSH server whose SFTP is OpenSSH's own `sftp-server`, with faults in between, packet by packet: requests that are
//! cut off before or after they are done, refused although they are done, or answered with something else. What no
//! rule of the plan concerns passes unchanged. It listens on loopback and ends when dropped.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::runtime::Runtime;

use crate::sshd::{fingerprint, generate_key};

mod packets;

pub use packets::{Request, attributes, name_answer, status_answer};

/// OpenSSH's program.
const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

/// How a request fails.
#[derive(Clone)]
pub enum SftpFault {
    /// The connection is cut before the server hears of it.
    CutBefore,
    /// The server does what is asked, and the connection is cut before it is answered.
    CutAfter,
    /// The server does what is asked, and the answer is "failure".
    FailAfter,
    /// The server never hears of it, and the answer is "done".
    Pretend,
    /// The server never hears of it; the answer is this, made for the request's number.
    Answer(Arc<dyn Fn(u32) -> Vec<u8> + Send + Sync>),
    /// The server never hears of it; these bytes are sent, whatever they are.
    Raw(Vec<u8>),
}

impl SftpFault {
    /// Answers with a packet's bytes, its length not counted.
    pub fn answer(make: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::Answer(Arc::new(make))
    }
}

struct Rule {
    request: Request,
    skip: u64,
    times: u64,
    fault: SftpFault,
}

/// A running server.
#[derive(Debug)]
pub struct SftpFaultServer {
    address: SocketAddr,
    fingerprint: String,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    arguments: Vec<String>,
    plan: Mutex<Vec<Rule>>,
    struck: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl SftpFaultServer {
    /// Starts one that keeps its host key in `directory`, which must exist. `arguments` are the program's.
    pub fn start(directory: &Path, arguments: &[&str]) -> Result<Self> {
        let key_path = directory.join("faulty_host_key");
        generate_key(&key_path)?;
        let key = russh::keys::load_secret_key(&key_path, None).context("loading a host key")?;
        let config = russh::server::Config {
            keys: vec![key],
            ..russh::server::Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            plan: Mutex::new(Vec::new()),
            struck: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, Arc::new(config), accepting).await,
                Err(error) => eprintln!("the faulty SFTP server cannot listen: {error}"),
            }
        });
        Ok(Self {
            address,
            fingerprint: fingerprint(&directory.join("faulty_host_key.pub"))?,
            shared,
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

    /// Adds a rule: after `skip` requests of a kind, `times` of them fail so. The first rule that takes a request decides.
    pub fn plan(&self, request: Request, skip: u64, times: u64, fault: SftpFault) {
        self.shared.rules().push(Rule {
            request,
            skip,
            times,
            fault,
        });
    }

    /// From now on everything passes.
    pub fn forget_plan(&self) {
        self.shared.rules().clear();
    }

    /// How many requests met with a fault so far.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }
}

impl Drop for SftpFaultServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The programs are killed when their tasks go.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What befalls a request, which is counted.
    fn befalls(&self, request: &Request) -> Option<SftpFault> {
        for rule in self.rules().iter_mut() {
            if rule.request != *request {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                self.struck.fetch_add(1, Ordering::SeqCst);
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

async fn accept(listener: TcpListener, config: Arc<russh::server::Config>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&config), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, config: Arc<russh::server::Config>, shared: Arc<Shared>) {
    let connection = Connection {
        shared,
        channel: None,
    };
    if let Ok(session) = russh::server::run_stream(config, stream, connection).await {
        // A client that hangs up, or was cut off.
        drop(session.await);
    }
}

struct Connection {
    shared: Arc<Shared>,
    channel: Option<Channel<Msg>>,
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        _: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(channel) = self.channel.take().filter(|_| name == "sftp") else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let (shared, handle) = (Arc::clone(&self.shared), session.handle());
        tokio::spawn(async move {
            if let Err(error) = relay(shared, channel).await {
                eprintln!("the faulty SFTP server: {error:#}");
            }
            // Cut on purpose, or left by the client, who does not mind then.
            drop(
                handle
                    .disconnect(
                        russh::Disconnect::ByApplication,
                        "cut by the plan".to_owned(),
                        String::new(),
                    )
                    .await,
            );
        });
        Ok(())
    }
}

async fn relay(shared: Arc<Shared>, channel: Channel<Msg>) -> Result<()> {
    let mut server = Command::new(SFTP_SERVER)
        .args(&shared.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {SFTP_SERVER}"))?;
    let to_server = server.stdin.take().context("the program's input")?;
    let from_server = server.stdout.take().context("the program's output")?;
    let befalls = move |request: &Request| shared.befalls(request);
    packets::relay(channel.into_stream(), to_server, from_server, befalls).await;
    server.kill().await.context("ending the program")?;
    Ok(())
}
