//! Opens the connection to a host: TCP or jump host, key exchange, pinned key, login.
//! Never continues past a key that is not pinned, and gives every stage a deadline.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client::{self, Handle};
use russh::keys::Algorithm;
use russh::{AlgorithmKind, Disconnect};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use crate::ssh::algorithms::{self, HOST_KEYS};
use crate::ssh::auth;
use crate::ssh::cut::CutStream;
use crate::ssh::error::{SshError, Stage};
use crate::ssh::escape::{escape_for_log, escape_trimmed};
use crate::ssh::gate::{Gate, Trust, Violation};
use crate::ssh::host_key::{Fingerprint, ScannedKey, algorithm_name};
use crate::ssh::peer::{Peer, PeerError};
use crate::ssh::stream::ChannelStream;
use crate::ssh::target::{SshTarget, Timeouts};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Names of a server's algorithms that an error repeats.
const NAMES_SHOWN_MAX: usize = 8;

/// Connects to a host and logs in.
///
/// If the server presents a key that is not pinned, its other kinds of key are asked for before
/// that is an error: which one it presents first is not the operator's choice.
pub async fn connect(target: &SshTarget) -> Result<SshConnection, SshError> {
    if target.host_keys.is_empty() {
        return Err(SshError::HostKeyNotPinned {
            host: target.name.clone(),
        });
    }
    let mut kinds = HOST_KEYS.to_vec();
    let mut mismatch = None;
    loop {
        match connect_with(target, &kinds).await {
            Err(error @ SshError::HostKeyMismatch { .. }) => {
                if let SshError::HostKeyMismatch { algorithm, .. } = &error {
                    kinds.retain(|kind| algorithm_name(kind) != *algorithm);
                }
                let first = mismatch.get_or_insert(error);
                tracing::debug!(host = %target.name, error = %first, "asking for another kind of key");
            }
            Err(error) => return Err(mismatch.unwrap_or(error)),
            Ok(connection) => return Ok(connection),
        }
        if kinds.is_empty() {
            break;
        }
    }
    Err(mismatch.unwrap_or_else(|| SshError::NoUsableHostKey {
        host: target.name.clone(),
    }))
}

/// A connection that is logged in. Dropping it closes it, with everything that runs on it.
pub struct SshConnection {
    host: String,
    handle: Arc<Handle<Peer>>,
    gate: Arc<Gate>,
    timeouts: Timeouts,
    host_key: Fingerprint,
    round_trip: Duration,
    _close: DropGuard,
    _jump: Option<Box<SshConnection>>,
}

impl std::fmt::Debug for SshConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshConnection")
            .field("host", &self.host)
            .field("host_key", &self.host_key)
            .finish_non_exhaustive()
    }
}

impl SshConnection {
    /// The host's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The pinned key that the server proved to have.
    #[must_use]
    pub fn host_key(&self) -> Fingerprint {
        self.host_key
    }

    /// What the server displayed before login, escaped and cut.
    #[must_use]
    pub fn banner(&self) -> String {
        escape_trimmed(&self.gate.banner())
    }

    /// Channels that the server opened and that belong to nothing.
    #[must_use]
    pub fn channels_refused(&self) -> u32 {
        self.gate.refused_unasked()
    }

    /// Connections to the tunnel that were one too many, or came from another machine.
    #[must_use]
    pub fn tunnel_channels_refused(&self) -> u32 {
        self.gate.refused_busy()
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gate.closed.is_cancelled()
    }

    /// Waits until the connection is over, whoever ended it.
    pub async fn closed(&self) {
        self.gate.closed.cancelled().await;
    }

    /// Why the connection is over; meaningful once it is.
    #[must_use]
    pub fn close_reason(&self) -> SshError {
        violation_error(&self.host, &self.gate)
            .unwrap_or_else(|| self.gate.lost(&self.host, Stage::Session))
    }

    /// Says goodbye and closes the connection.
    pub async fn disconnect(self) {
        let goodbye = self
            .handle
            .disconnect(Disconnect::ByApplication, "done", "en");
        // Neither a server that is gone nor one that hangs keeps us: dropping closes as well.
        if let Ok(Ok(())) = timeout(GOODBYE, goodbye).await {
            timeout(GOODBYE, self.closed()).await.unwrap_or_default();
        }
    }

    /// The library's own handle, for what is opened over the connection.
    pub fn handle(&self) -> &Handle<Peer> {
        &self.handle
    }

    /// The connection's state.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// How long one request to the server may take.
    pub fn request_limit(&self) -> Duration {
        self.timeouts.request
    }
}

/// Logs in to a server that is at the other end of a stream already, wherever the target says that it is.
pub async fn connect_over<S>(target: &SshTarget, stream: S) -> Result<SshConnection, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let gate = Gate::new(Trust::Pinned(target.host_keys.clone()));
    let close = gate.closed.clone().drop_guard();
    let round_trip = Duration::ZERO;
    let exchanged = Exchanged {
        handle: handshake(target, HOST_KEYS, &gate, stream, round_trip).await?,
        jump: None,
        round_trip,
    };
    log_in(target, gate, close, exchanged).await
}

async fn connect_with(target: &SshTarget, kinds: &[Algorithm]) -> Result<SshConnection, SshError> {
    let gate = Gate::new(Trust::Pinned(target.host_keys.clone()));
    // From here on, returning early ends what has been started.
    let close = gate.closed.clone().drop_guard();
    let exchanged = exchange_keys(target, kinds, &gate).await?;
    log_in(target, gate, close, exchanged).await
}

async fn log_in(
    target: &SshTarget,
    gate: Arc<Gate>,
    close: DropGuard,
    exchanged: Exchanged,
) -> Result<SshConnection, SshError> {
    let Exchanged {
        mut handle,
        jump,
        round_trip,
    } = exchanged;
    // The key is noted by the check alone, so a key exchange that skipped it ends here.
    let Some(key) = gate.host_key() else {
        return Err(SshError::HostKeyChanged {
            host: target.name.clone(),
        });
    };
    let login = auth::authenticate(&mut handle, &gate, target);
    match timeout(target.timeouts.auth, login).await {
        Ok(result) => result?,
        Err(_) => {
            return Err(timed_out(
                target,
                Stage::Authentication,
                target.timeouts.auth,
            ));
        }
    }
    let handle = Arc::new(handle);
    tokio::spawn(guard_rekeys(
        target.name.clone(),
        Arc::clone(&handle),
        Arc::clone(&gate),
    ));
    Ok(SshConnection {
        host: target.name.clone(),
        handle,
        gate,
        timeouts: target.timeouts,
        host_key: Fingerprint::of(&key),
        round_trip,
        _close: close,
        _jump: jump.map(Box::new),
    })
}

/// The host key of one kind that the server presents and proves in a key exchange.
pub(super) async fn read_host_key(
    target: &SshTarget,
    kind: Algorithm,
) -> Result<ScannedKey, SshError> {
    let gate = Gate::new(Trust::ScanOnly);
    let _close = gate.closed.clone().drop_guard();
    match exchange_keys(target, &[kind], &gate).await {
        Err(SshError::HostKeyMismatch {
            presented,
            algorithm,
            ..
        }) => Ok(ScannedKey {
            algorithm,
            fingerprint: presented,
        }),
        Err(error) => Err(error),
        // The check accepts nothing, so a finished exchange had no check.
        Ok(_) => Err(SshError::HostKeyChanged {
            host: target.name.clone(),
        }),
    }
}

/// A connection before login.
struct Exchanged {
    handle: Handle<Peer>,
    jump: Option<SshConnection>,
    round_trip: Duration,
}

async fn exchange_keys(
    target: &SshTarget,
    kinds: &[Algorithm],
    gate: &Arc<Gate>,
) -> Result<Exchanged, SshError> {
    let Some(jump_target) = &target.jump else {
        let (stream, round_trip) = connect_tcp(target).await?;
        return Ok(Exchanged {
            handle: handshake(target, kinds, gate, stream, round_trip).await?,
            jump: None,
            round_trip,
        });
    };
    // Boxed because the jump host may have one itself.
    let jump = Box::pin(connect(jump_target))
        .await
        .map_err(|source| SshError::Jump {
            host: target.name.clone(),
            jump: jump_target.name.clone(),
            source: Box::new(source),
        })?;
    let started = Instant::now();
    let stream = connect_through(target, &jump).await?;
    let round_trip = jump.round_trip.max(started.elapsed());
    Ok(Exchanged {
        handle: handshake(target, kinds, gate, stream, round_trip).await?,
        jump: Some(jump),
        round_trip,
    })
}

/// The connection, and how long the server took to accept it: a round trip, or a little more.
async fn connect_tcp(target: &SshTarget) -> Result<(TcpStream, Duration), SshError> {
    let connecting = async {
        let place = (target.address.host(), target.address.port());
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in lookup_host(place).await? {
            let started = Instant::now();
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok((stream, started.elapsed())),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    let unreachable = |source| SshError::Unreachable {
        host: target.name.clone(),
        address: target.address.to_string(),
        source,
    };
    let (stream, round_trip) = timeout(target.timeouts.tcp, connecting)
        .await
        .map_err(|_| timed_out(target, Stage::Connect, target.timeouts.tcp))?
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok((stream, round_trip))
}

async fn connect_through(
    target: &SshTarget,
    jump: &SshConnection,
) -> Result<ChannelStream, SshError> {
    let port = u32::from(target.address.port());
    let open = jump
        .handle
        .channel_open_direct_tcpip(target.address.host(), port, "127.0.0.1", 0);
    let channel = timeout(target.timeouts.tcp, open)
        .await
        .map_err(|_| timed_out(target, Stage::Connect, target.timeouts.tcp))?
        .map_err(|source| SshError::JumpRefused {
            host: target.name.clone(),
            jump: jump.host.clone(),
            address: target.address.to_string(),
            source,
        })?;
    Ok(ChannelStream::open(channel, jump.gate.closed.clone(), None))
}

async fn handshake<S>(
    target: &SshTarget,
    kinds: &[Algorithm],
    gate: &Arc<Gate>,
    stream: S,
    round_trip: Duration,
) -> Result<Handle<Peer>, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = algorithms::client_config(&target.timeouts, kinds, round_trip);
    let stream = CutStream::new(stream, gate.closed.clone());
    let peer = Peer::new(Arc::clone(gate));
    let exchange = client::connect_stream(config, stream, peer);
    match timeout(target.timeouts.handshake, exchange).await {
        Ok(Ok(handle)) => Ok(handle),
        Ok(Err(error)) => Err(handshake_error(target, gate, error)),
        Err(_) => Err(timed_out(
            target,
            Stage::KeyExchange,
            target.timeouts.handshake,
        )),
    }
}

/// The library does not show the host key of a later key exchange. The channel that carries it is
/// already authenticated, but to be sure that the peer still is the pinned one, it has to prove it
/// again, if it is a server that said it can.
async fn guard_rekeys(host: String, handle: Arc<Handle<Peer>>, gate: Arc<Gate>) {
    loop {
        // Losing either arm is safe: the notification is kept, and the token stays cancelled.
        tokio::select! {
            () = gate.rekeyed.notified() => {}
            () = gate.closed.cancelled() => return,
        }
        let Some(key) = gate.host_key().filter(|_| gate.proves_host_key()) else {
            continue;
        };
        let proof = handle.hostkeys_prove(vec![key]).await;
        if let Err(error) = proof
            && !gate.closed.is_cancelled()
        {
            tracing::error!(%host, %error, "no proof of the pinned host key after a re-key");
            gate.violate(Violation::ChangedHostKey);
            return;
        }
    }
}

fn timed_out(target: &SshTarget, stage: Stage, limit: Duration) -> SshError {
    SshError::TimedOut {
        host: target.name.clone(),
        stage,
        limit,
    }
}

fn handshake_error(target: &SshTarget, gate: &Gate, error: PeerError) -> SshError {
    let host = target.name.clone();
    if let Some(violation) = gate.violation() {
        return violation_to_error(&host, violation, &gate.pinned());
    }
    match error {
        PeerError::Ssh(russh::Error::NoCommonAlgo { kind, theirs, .. }) => {
            SshError::NoCommonAlgorithm {
                host,
                kind: kind_name(&kind),
                theirs: names_shown(&theirs),
            }
        }
        PeerError::Ssh(source) => SshError::Handshake { host, source },
        PeerError::Violation(violation) => violation_to_error(&host, violation, &gate.pinned()),
    }
}

fn violation_error(host: &str, gate: &Gate) -> Option<SshError> {
    let violation = gate.violation()?;
    Some(violation_to_error(host, violation, &gate.pinned()))
}

fn violation_to_error(host: &str, violation: Violation, pinned: &[Fingerprint]) -> SshError {
    let host = host.to_owned();
    match violation {
        Violation::WrongHostKey { presented } => SshError::HostKeyMismatch {
            host,
            pinned: pinned.to_vec(),
            presented: presented.fingerprint,
            algorithm: presented.algorithm,
        },
        Violation::UncheckedHostKey | Violation::ChangedHostKey => {
            SshError::HostKeyChanged { host }
        }
        Violation::WeakAlgorithms => SshError::WeakAlgorithms { host },
        Violation::TooManyChannels { refused } => SshError::TooManyChannels { host, refused },
    }
}

fn kind_name(kind: &AlgorithmKind) -> &'static str {
    match kind {
        AlgorithmKind::Kex => "key exchange",
        AlgorithmKind::Key => "host key",
        AlgorithmKind::Cipher => "cipher",
        AlgorithmKind::Compression => "compression",
        AlgorithmKind::Mac => "MAC",
    }
}

fn names_shown(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(NAMES_SHOWN_MAX)
        .map(|name| escape_for_log(name.get(..64).unwrap_or(name).as_bytes()))
        .collect();
    shown.join(", ")
}
