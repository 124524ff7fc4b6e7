//! The way back from the target to us: a forwarded Unix socket, else a forwarded loopback port,
//! else none, and the upload shares the agent's standard streams.
//! Only hands out streams: who connects to a socket or port on the target is not known here, so
//! nothing that comes through is trusted before the handshake that the consumer makes.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;

use append_server::ssh::connect::SshConnection;
use append_server::ssh::gate::{Endpoint, Gate, Route};
use append_server::ssh::stream::ChannelStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// The longest path that fits a Unix socket address on Linux.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The `transport` key of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// The first that the server allows.
    #[default]
    Auto,
    /// A forwarded Unix socket or nothing.
    Unix,
    /// A forwarded loopback port or nothing.
    Tcp,
    /// The agent's standard streams.
    Stdio,
}

impl FromStr for TransportChoice {
    type Err = UnknownTransport;

    fn from_str(text: &str) -> Result<Self, UnknownTransport> {
        Ok(match text {
            "auto" => Self::Auto,
            "unix" => Self::Unix,
            "tcp" => Self::Tcp,
            "stdio" => Self::Stdio,
            _ => return Err(UnknownTransport { text: text.into() }),
        })
    }
}

/// A value of `transport` that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("transport {text:?} is none of auto, unix, tcp, stdio")]
pub struct UnknownTransport {
    /// What was written.
    pub text: String,
}

/// What the agent is told to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Connect to this socket.
    Unix {
        /// Its path on the target.
        path: String,
    },
    /// Connect to this port on 127.0.0.1.
    Tcp {
        /// The port.
        port: u16,
    },
    /// Send everything over standard input and output.
    Stdio,
}

/// What a tunnel may hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelLimits {
    /// Channels that are open at the same time; further ones are refused and counted.
    pub channels_max: usize,
    /// Channels that wait to be accepted by the consumer.
    pub waiting_max: usize,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            channels_max: 16,
            waiting_max: 8,
        }
    }
}

/// Why there is no tunnel of the kind that is configured.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The server does not forward.
    #[error(
        "sshd of {host} refuses forwarding of a {what}: set AllowStreamLocalForwarding or \
         AllowTcpForwarding in its sshd_config, or use transport = \"stdio\" or \"auto\""
    )]
    Refused {
        /// The host's name.
        host: String,
        /// What it was asked to forward.
        what: &'static str,
    },
    /// The socket's path does not fit into an address.
    #[error("{path} on {host} is too long for a Unix socket: use transport = \"tcp\" or \"auto\"")]
    PathTooLong {
        /// The host's name.
        host: String,
        /// The path.
        path: String,
    },
    /// The server answered with something else than a port.
    #[error("{host} says that it forwards port {port}, which is no port")]
    BadPort {
        /// The host's name.
        host: String,
        /// What it said.
        port: u32,
    },
    /// The server did not answer.
    #[error("{host} did not answer a request for forwarding")]
    NoAnswer {
        /// The host's name.
        host: String,
    },
    /// The connection is gone.
    #[error("connection to {host} was lost while the tunnel was set up")]
    Lost {
        /// The host's name.
        host: String,
        /// What the library said.
        source: russh::Error,
    },
}

/// The tunnel of one run. Dropping it refuses all further channels; open ones live on.
#[derive(Debug)]
pub struct Tunnel {
    transport: Transport,
    fallbacks: Vec<TunnelError>,
    incoming: mpsc::Receiver<ChannelStream>,
    /// Keeps `incoming` open when nothing else does, as with stdio.
    _deliver: mpsc::Sender<ChannelStream>,
    slots: Arc<Semaphore>,
    gate: Arc<Gate>,
}

impl Tunnel {
    /// What the agent is to use.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// What was tried before and refused, for the run's log.
    #[must_use]
    pub fn fallbacks(&self) -> &[TunnelError] {
        &self.fallbacks
    }

    /// The next connection that somebody on the target made; none once the connection is over or
    /// the tunnel takes no more. With [`Transport::Stdio`] there never is one.
    pub async fn accept(&mut self) -> Option<ChannelStream> {
        // Losing the closed arm is safe, the token stays cancelled; `recv` is cancel-safe.
        tokio::select! {
            stream = self.incoming.recv() => stream,
            () = self.gate.closed.cancelled() => None,
        }
    }

    /// Refuses all further connections. To be called when the agent has made its own, so that
    /// nobody else on the target can come in later.
    pub fn close_to_new(&mut self) {
        self.slots.close();
        self.gate.set_route(None);
        self.incoming.close();
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.close_to_new();
    }
}

/// Sets up the tunnel, with the socket in the agent's fresh directory on the target.
pub async fn open_tunnel(
    connection: &SshConnection,
    choice: TransportChoice,
    directory: &str,
    limits: TunnelLimits,
) -> Result<Tunnel, TunnelError> {
    let (deliver, incoming) = mpsc::channel(limits.waiting_max.max(1));
    let slots = Arc::new(Semaphore::new(limits.channels_max));
    let route = |endpoint| Route {
        endpoint,
        deliver: deliver.clone(),
        slots: Arc::clone(&slots),
    };
    let mut fallbacks = Vec::new();
    let mut attempts: VecDeque<TransportChoice> = match choice {
        TransportChoice::Auto => [TransportChoice::Unix, TransportChoice::Tcp].into(),
        one => [one].into(),
    };
    let transport = loop {
        let attempt = attempts.pop_front();
        let result = match attempt {
            Some(TransportChoice::Unix) => forward_socket(connection, directory, &route).await,
            Some(TransportChoice::Tcp) => forward_port(connection, &route).await,
            Some(TransportChoice::Stdio | TransportChoice::Auto) | None => Ok(Transport::Stdio),
        };
        match result {
            Ok(transport) => break transport,
            Err(error @ (TunnelError::NoAnswer { .. } | TunnelError::Lost { .. })) => {
                return Err(error);
            }
            Err(error) if choice != TransportChoice::Auto => return Err(error),
            Err(error) => fallbacks.push(error),
        }
    };
    Ok(Tunnel {
        transport,
        fallbacks,
        incoming,
        _deliver: deliver,
        slots,
        gate: Arc::clone(connection.gate()),
    })
}

async fn forward_socket(
    connection: &SshConnection,
    directory: &str,
    route: &impl Fn(Endpoint) -> Route,
) -> Result<Transport, TunnelError> {
    let host = connection.host();
    let path = format!("{directory}/s");
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err(TunnelError::PathTooLong {
            host: host.into(),
            path,
        });
    }
    let request = connection.handle().streamlocal_forward(&path);
    let answer = timeout(connection.request_limit(), request).await;
    granted(host, "Unix socket", answer)?;
    // The agent connects only once it is told to, so no channel can come before this.
    let endpoint = Endpoint::Socket(path.clone());
    connection.gate().set_route(Some(route(endpoint)));
    Ok(Transport::Unix { path })
}

async fn forward_port(
    connection: &SshConnection,
    route: &impl Fn(Endpoint) -> Route,
) -> Result<Transport, TunnelError> {
    let host = connection.host();
    let request = connection.handle().tcpip_forward("127.0.0.1", 0);
    let answer = timeout(connection.request_limit(), request).await;
    let said = granted(host, "TCP port", answer)?;
    let port = u16::try_from(said)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| TunnelError::BadPort {
            host: host.into(),
            port: said,
        })?;
    let endpoint = Endpoint::LoopbackPort(said);
    connection.gate().set_route(Some(route(endpoint)));
    Ok(Transport::Tcp { port })
}

fn granted<T>(
    host: &str,
    what: &'static str,
    answer: Result<Result<T, russh::Error>, tokio::time::error::Elapsed>,
) -> Result<T, TunnelError> {
    let host = host.to_owned();
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(russh::Error::RequestDenied)) => Err(TunnelError::Refused { host, what }),
        Ok(Err(source)) => Err(TunnelError::Lost { host, source }),
        Err(_) => Err(TunnelError::NoAnswer { host }),
    }
}
