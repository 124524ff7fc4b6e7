//! An SSH server in this program: for the demo, on loopback, and for the machine that the coordinator itself is on, on a
//! stream that nobody else can open. One key or password lets in, as this user; commands and both kinds of forwarding work,
//! nothing else does. Commands get nothing of this program's environment but what a login has.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Config, Handle, Msg, Session};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

/// What is read from a command at once; a packet's content.
const READ_BYTES: usize = 32 << 10;
/// The exit status of a command that a signal ended, as shells have it.
const STATUS_SIGNALLED: u32 = 128;
/// What commands get of the environment: no credentials, and no socket of the service manager.
const ENVIRONMENT: [&str; 7] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "SHELL",
    "XDG_RUNTIME_DIR",
];

/// What lets in.
#[derive(Debug, Clone)]
pub enum WayIn {
    /// A key.
    Key(PublicKey),
    /// A password.
    Password(Zeroizing<String>),
}

/// The server; it and its connections end with this.
#[derive(Debug)]
pub struct EmbeddedSshd {
    /// Its port on 127.0.0.1.
    pub port: u16,
    _stop: DropGuard,
}

impl EmbeddedSshd {
    /// Starts it with its host key and the key that may log in.
    pub async fn start(host_key: PrivateKey, client_key: PublicKey) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let stop = CancellationToken::new();
        let way_in = WayIn::Key(client_key);
        tokio::spawn(serve(listener, config(host_key), way_in, stop.clone()));
        Ok(Self {
            port,
            _stop: stop.drop_guard(),
        })
    }
}

/// Serves whoever has the other end of a stream, until it ends.
pub fn serve_stream<S>(stream: S, host_key: PrivateKey, way_in: WayIn)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let never = CancellationToken::new();
    tokio::spawn(connection(stream, config(host_key), way_in, never));
}

fn config(host_key: PrivateKey) -> Arc<Config> {
    Arc::new(Config {
        keys: vec![host_key],
        auth_rejection_time: Duration::from_millis(100),
        auth_rejection_time_initial: Some(Duration::ZERO),
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    })
}

async fn serve(listener: TcpListener, config: Arc<Config>, way_in: WayIn, stop: CancellationToken) {
    loop {
        // Losing either arm is safe: `accept` is cancel-safe, and a stop ends the loop.
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match stream {
            Ok((stream, _)) => {
                let connection =
                    connection(stream, Arc::clone(&config), way_in.clone(), stop.clone());
                tokio::spawn(connection);
            }
            Err(error) => tracing::debug!(%error, "a connection was not accepted"),
        }
    }
}

async fn connection<S>(stream: S, config: Arc<Config>, way_in: WayIn, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let over = stop.child_token();
    let handler = Connection {
        way_in,
        sessions: HashMap::new(),
        forwards: HashMap::new(),
        over: over.clone(),
        _end: over.clone().drop_guard(),
    };
    let session = match server::run_stream(config, stream, handler).await {
        Ok(session) => session,
        Err(error) => return tracing::debug!(%error, "no SSH on a connection"),
    };
    let handle = session.handle();
    // Losing the session is safe: it is told to end right after.
    tokio::select! {
        ended = session => if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        },
        () = over.cancelled() => {
            let goodbye = handle.disconnect(
                russh::Disconnect::ByApplication,
                "the server ends".to_owned(),
                "en".to_owned(),
            );
            if goodbye.await.is_err() {
                tracing::debug!("a connection had ended already");
            }
        }
    }
}

/// One connection: its channels that run nothing yet, and what is forwarded for it.
struct Connection {
    way_in: WayIn,
    sessions: HashMap<ChannelId, Channel<Msg>>,
    forwards: HashMap<String, DropGuard>,
    over: CancellationToken,
    _end: DropGuard,
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        // Whatever the user is called: commands run as the user of this program.
        match &self.way_in {
            WayIn::Key(known) if key.public_key.key_data() == known.key_data() => Ok(Auth::Accept),
            WayIn::Key(_) | WayIn::Password(_) => Ok(Auth::reject()),
        }
    }

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, russh::Error> {
        let digest = |text: &str| blake3::hash(text.as_bytes()); // Compares in constant time.
        match &self.way_in {
            WayIn::Password(known) if digest(known) == digest(password) => Ok(Auth::Accept),
            WayIn::Key(_) | WayIn::Password(_) => Ok(Auth::reject()),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.sessions.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let line = std::str::from_utf8(command).ok();
        let started = line.and_then(|line| shell(line).ok());
        match (self.sessions.remove(&channel), started) {
            (Some(open), Some(child)) => {
                session.channel_success(channel)?;
                tokio::spawn(run(open, child, self.over.clone()));
                Ok(())
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let (Ok(wanted), "127.0.0.1" | "localhost") = (u16::try_from(*port), address) else {
            return Ok(false);
        };
        let Ok(listener) = TcpListener::bind(("127.0.0.1", wanted)).await else {
            return Ok(false);
        };
        let Ok(bound) = listener.local_addr() else {
            return Ok(false);
        };
        *port = bound.port().into();
        let over = self.over.child_token();
        let forward = PortForward {
            address: address.to_owned(),
            port: *port,
            handle: session.handle(),
        };
        self.forwards
            .insert(forward.key(), over.clone().drop_guard());
        tokio::spawn(forward_port(listener, forward, over));
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, russh::Error> {
        Ok(self.forwards.remove(&format!("{address}:{port}")).is_some())
    }

    async fn streamlocal_forward(
        &mut self,
        socket_path: &str,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let Some(socket) = Socket::bind(socket_path) else {
            return Ok(false);
        };
        let over = self.over.child_token();
        self.forwards
            .insert(socket_path.to_owned(), over.clone().drop_guard());
        tokio::spawn(forward_socket(socket, session.handle(), over));
        Ok(true)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        socket_path: &str,
        _session: &mut Session,
    ) -> Result<bool, russh::Error> {
        Ok(self.forwards.remove(socket_path).is_some())
    }
}

fn shell(line: &str) -> io::Result<Child> {
    let environment = ENVIRONMENT.iter();
    let environment = environment.filter_map(|name| Some((name, std::env::var_os(name)?)));
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.is_dir());
    let home = home.unwrap_or_else(|| PathBuf::from("/"));
    Command::new("sh")
        .args(["-c", line])
        .env_clear()
        .envs(environment)
        .current_dir(home)
        // A key that interrupts this program on a terminal is not meant for what it backs up.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Carries a command's three streams and its end. When the connection is gone its input ends, and it is
/// left to end by itself, as sshd does it.
async fn run(channel: Channel<Msg>, mut child: Child, over: CancellationToken) {
    let (incoming, outgoing) = channel.split();
    let stdin = child.stdin.take();
    let feeding = tokio::spawn(feed(incoming, stdin, over));
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    tokio::join!(
        send_output(stdout, &outgoing, None),
        send_output(stderr, &outgoing, Some(1))
    );
    let status = match child.wait().await {
        Ok(status) => status
            .code()
            .and_then(|code| u32::try_from(code).ok())
            .unwrap_or(STATUS_SIGNALLED),
        Err(_) => STATUS_SIGNALLED,
    };
    feeding.abort();
    let told = async {
        outgoing.exit_status(status).await?;
        outgoing.eof().await?;
        outgoing.close().await
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "nobody hears how a command ended");
    }
}

async fn feed(
    mut incoming: ChannelReadHalf,
    mut stdin: Option<ChildStdin>,
    over: CancellationToken,
) {
    loop {
        // Losing a message is safe: the connection is over then, and the input ends.
        let message = tokio::select! {
            message = incoming.wait() => message,
            () = over.cancelled() => None,
        };
        match (message, &mut stdin) {
            (Some(ChannelMsg::Data { data }), Some(open)) => {
                if open.write_all(&data).await.is_err() || open.flush().await.is_err() {
                    stdin = None;
                }
            }
            (Some(ChannelMsg::Eof), _) => stdin = None,
            (None | Some(ChannelMsg::Close), _) => return,
            (Some(_), _) => {}
        }
    }
}

async fn send_output(
    output: Option<impl AsyncRead + Unpin>,
    outgoing: &ChannelWriteHalf<Msg>,
    kind: Option<u32>,
) {
    let Some(mut output) = output else { return };
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        buffer.reserve(READ_BYTES);
        match output.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let bytes = buffer.split().freeze();
        let sent = match kind {
            None => outgoing.data_bytes(bytes).await,
            Some(kind) => outgoing.extended_data_bytes(kind, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A port that is forwarded to the client.
struct PortForward {
    address: String,
    port: u32,
    handle: Handle,
}

impl PortForward {
    fn key(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }
}

async fn forward_port(listener: TcpListener, forward: PortForward, over: CancellationToken) {
    loop {
        // Losing either arm is safe: `accept` is cancel-safe, and a stop ends the loop.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = over.cancelled() => return,
        };
        let Ok((stream, from)) = accepted else { return };
        let open = forward.handle.channel_open_forwarded_tcpip(
            forward.address.clone(),
            forward.port,
            from.ip().to_string(),
            from.port().into(),
        );
        match open.await {
            Ok(channel) => join(stream, channel, &over),
            Err(error) => tracing::debug!(%error, "the client takes no connection"),
        }
    }
}

/// A listening socket that is unlinked with its value, as sshd does it.
struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    fn bind(path: &str) -> Option<Self> {
        let path = Path::new(path).to_owned();
        let listener = UnixListener::bind(&path).ok()?;
        let socket = Self { path, listener };
        fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o600)).ok()?;
        Some(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "a forwarded socket is gone already");
        }
    }
}

async fn forward_socket(socket: Socket, handle: Handle, over: CancellationToken) {
    let path = socket.path.to_string_lossy().into_owned();
    loop {
        // Losing either arm is safe: `accept` is cancel-safe, and a stop ends the loop.
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = over.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { return };
        match handle
            .channel_open_forwarded_streamlocal(path.clone())
            .await
        {
            Ok(channel) => join(stream, channel, &over),
            Err(error) => tracing::debug!(%error, "the client takes no connection"),
        }
    }
}

/// Carries bytes both ways until both ends have ended.
fn join<S>(mut stream: S, channel: Channel<Msg>, over: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let over = over.clone();
    tokio::spawn(async move {
        let mut channel = channel.into_stream();
        // Losing the copy is safe: the connection that it carries is over.
        tokio::select! {
            copied = copy_bidirectional(&mut stream, &mut channel) => {
                if let Err(error) = copied {
                    tracing::debug!(%error, "a forwarded connection was cut");
                }
            }
            () = over.cancelled() => {}
        }
    });
}
