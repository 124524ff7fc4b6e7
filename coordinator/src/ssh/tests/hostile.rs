//! Peers that break the rules, hang, or speak nonsense.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use append_server::ssh::connect::{SshConnection, connect};
use append_server::ssh::error::{SshError, Stage};
use append_server::ssh::gate::UNASKED_CHANNELS_MAX;
use append_server::ssh::host_key::Fingerprint;
use append_server::ssh::target::{SshTarget, Timeouts};
use russh::keys::{PrivateKey, load_secret_key};
use russh::server::{self, Auth, Handle, Msg, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, Preferred, cipher, kex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::ssh::exec::{self, ExecError};
use crate::ssh::tests::connecting::command;
use crate::ssh::tests::sshd::{PATIENCE, keygen};
use crate::ssh::tunnel::{Transport, TransportChoice, TunnelLimits, open_tunnel};

/// A server that lets everybody in and hands its side of the connection to the test.
struct Hostile {
    handles: mpsc::Sender<Handle>,
}

impl server::Handler for Hostile {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        _: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        if user == "patience" {
            std::future::pending::<()>().await;
        }
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        self.handles.send(session.handle()).await.unwrap();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: server::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if command == b"silent" {
            return Ok(());
        }
        if command == b"refused" {
            return session.channel_failure(channel);
        }
        session.channel_success(channel)?;
        // Says that it is done, but not how.
        session.eof(channel)?;
        session.close(channel)
    }

    async fn tcpip_forward(
        &mut self,
        _: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, russh::Error> {
        *port = 4711;
        Ok(true)
    }
}

struct Peers {
    directory: TempDir,
    port: u16,
    handles: mpsc::Receiver<Handle>,
}

impl Peers {
    async fn start(preferred: Preferred) -> Self {
        let directory = tempfile::tempdir().unwrap();
        keygen(&directory.path().join("host"), "ed25519");
        keygen(&directory.path().join("client"), "ed25519");
        let key: PrivateKey = load_secret_key(directory.path().join("host"), None).unwrap();
        let config = Arc::new(server::Config {
            keys: vec![key],
            preferred,
            auth_rejection_time: Duration::ZERO,
            ..server::Config::default()
        });
        let (sender, handles) = mpsc::channel(4);
        let port = listen(move |stream| {
            let config = Arc::clone(&config);
            let handles = sender.clone();
            async move {
                if let Ok(session) = server::run_stream(config, stream, Hostile { handles }).await {
                    session.await.unwrap_or_default();
                }
            }
        })
        .await;
        Self {
            directory,
            port,
            handles,
        }
    }

    fn target(&self) -> SshTarget {
        let public = self.directory.path().join("host.pub");
        let key = russh::keys::load_public_key(public).unwrap();
        let mut target = raw_target(self.port);
        target.identity_file = Some(self.directory.path().join("client"));
        target.host_keys = vec![Fingerprint::of(&key)];
        target
    }

    async fn connect(&mut self) -> (SshConnection, Handle) {
        let connection = connect(&self.target()).await.unwrap();
        (connection, self.handles.recv().await.unwrap())
    }
}

/// Serves every connection to a fresh port with the given behaviour.
async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

fn raw_target(port: u16) -> SshTarget {
    SshTarget {
        name: "web1".into(),
        address: format!("127.0.0.1:{port}").parse().unwrap(),
        user: "root".into(),
        identity_file: None,
        certificate_file: None,
        agent_socket: None,
        password: None,
        host_keys: vec![
            "SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKFNDhM+J8MxiFZNM"
                .parse()
                .unwrap(),
        ],
        jump: None,
        timeouts: Timeouts {
            handshake: Duration::from_millis(400),
            auth: Duration::from_millis(400),
            ..Timeouts::default()
        },
    }
}

fn refused(result: Result<Channel<Msg>, russh::Error>) -> bool {
    matches!(
        result,
        Err(russh::Error::ChannelOpenFailure(
            ChannelOpenFailure::AdministrativelyProhibited
        ))
    )
}

#[tokio::test]
async fn every_kind_of_channel_that_was_not_asked_for_is_refused() {
    let mut peers = Peers::start(Preferred::DEFAULT).await;
    let (connection, handle) = peers.connect().await;
    assert!(refused(handle.channel_open_session().await));
    assert!(refused(handle.channel_open_agent().await));
    assert!(refused(handle.channel_open_x11("127.0.0.1", 1).await));
    let direct = handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1);
    assert!(refused(direct.await));
    assert!(refused(handle.channel_open_direct_streamlocal("/s").await));
    let forwarded = handle.channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 1);
    assert!(refused(forwarded.await));
    assert!(refused(
        handle.channel_open_forwarded_streamlocal("/s").await
    ));
    assert_eq!(connection.channels_refused(), 7);
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn only_the_forwarded_port_and_only_local_users_reach_the_tunnel() {
    let mut peers = Peers::start(Preferred::DEFAULT).await;
    let (connection, handle) = peers.connect().await;
    let limits = TunnelLimits::default();
    let mut tunnel = open_tunnel(&connection, TransportChoice::Auto, "/tmp", limits)
        .await
        .unwrap();
    assert_eq!(*tunnel.transport(), Transport::Tcp { port: 4711 });
    let open = |address, port, from| handle.channel_open_forwarded_tcpip(address, port, from, 1);
    assert!(refused(open("127.0.0.1", 4712, "127.0.0.1").await));
    assert!(refused(open("0.0.0.0", 4711, "127.0.0.1").await));
    assert_eq!(connection.channels_refused(), 2);
    // The server listens on every address although it was asked not to.
    assert!(refused(open("127.0.0.1", 4711, "192.0.2.7").await));
    assert_eq!(connection.tunnel_channels_refused(), 1);
    assert!(refused(
        handle.channel_open_forwarded_streamlocal("/tmp/s").await
    ));
    let theirs = open("127.0.0.1", 4711, "127.0.0.1").await.unwrap();
    let mut ours = tunnel.accept().await.unwrap();
    theirs.data(&b"hello"[..]).await.unwrap();
    let mut said = [0; 5];
    ours.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
    drop(tunnel);
    assert!(refused(open("127.0.0.1", 4711, "127.0.0.1").await));
}

#[tokio::test]
async fn a_flood_of_channels_ends_the_connection() {
    let mut peers = Peers::start(Preferred::DEFAULT).await;
    let (connection, handle) = peers.connect().await;
    let flood = async {
        for _ in 0..=UNASKED_CHANNELS_MAX {
            if !refused(handle.channel_open_session().await) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(flood, connection.closed()) })
        .await
        .unwrap();
    let reason = connection.close_reason();
    let SshError::TooManyChannels { refused, .. } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(refused, UNASKED_CHANNELS_MAX + 1);
    let error = exec::run(&connection, command("true")).await.unwrap_err();
    assert!(matches!(error, ExecError::Lost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_command_without_exit_status_has_failed() {
    let mut peers = Peers::start(Preferred::DEFAULT).await;
    let (connection, _handle) = peers.connect().await;
    let error = exec::run(&connection, command("true")).await.unwrap_err();
    assert!(matches!(error, ExecError::NoExitStatus { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_start_the_command_is_named() {
    let mut peers = Peers::start(Preferred::DEFAULT).await;
    let (connection, _handle) = peers.connect().await;
    let error = exec::spawn(&connection, "refused").await.unwrap_err();
    assert!(matches!(error, ExecError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_key_again_after_a_rekey_is_left() {
    let mut peers = Peers::start(Preferred::DEFAULT).await;
    let (connection, _handle) = peers.connect().await;
    // As if it had announced the pinned key, which this server does not know how to do.
    let announced = &connection.gate().proves_host_key;
    announced.store(true, std::sync::atomic::Ordering::Relaxed);
    connection.handle().rekey_soon().await.unwrap();
    tokio::time::timeout(PATIENCE, connection.closed())
        .await
        .unwrap();
    let reason = connection.close_reason();
    assert!(
        matches!(reason, SshError::HostKeyChanged { .. }),
        "{reason:?}"
    );
}

#[tokio::test]
async fn a_server_that_never_starts_the_command_is_given_up() {
    let peers = Peers::start(Preferred::DEFAULT).await;
    let mut target = peers.target();
    target.timeouts.request = Duration::from_millis(200);
    let connection = connect(&target).await.unwrap();
    let error = exec::spawn(&connection, "silent").await.unwrap_err();
    assert!(matches!(error, ExecError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn another_key_than_the_pinned_one_is_refused() {
    let peers = Peers::start(Preferred::DEFAULT).await;
    let mut target = peers.target();
    let wrong = raw_target(1).host_keys;
    target.host_keys = wrong.clone();
    let error = connect(&target).await.unwrap_err();
    let SshError::HostKeyMismatch {
        pinned, presented, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(pinned, wrong);
    assert_eq!(presented, peers.target().host_keys[0]);
}

#[tokio::test]
async fn weak_algorithms_are_not_agreed_upon() {
    let only = |preferred: Preferred| async {
        let peers = Peers::start(preferred).await;
        connect(&peers.target()).await.unwrap_err()
    };
    // Needs a separate MAC.
    let error = only(Preferred {
        cipher: vec![cipher::AES_256_CTR].into(),
        ..Preferred::DEFAULT
    })
    .await;
    let named = matches!(error, SshError::NoCommonAlgorithm { kind: "cipher", .. });
    assert!(named, "{error:?}");
    let error = only(Preferred {
        kex: vec![kex::DH_G14_SHA1].into(),
        ..Preferred::DEFAULT
    })
    .await;
    let named = matches!(&error, SshError::NoCommonAlgorithm { kind: "key exchange", theirs, .. }
        if theirs.contains("group14-sha1"));
    assert!(named, "{error:?}");
    // Open to prefix truncation: ChaCha20 without strict key exchange.
    let error = only(Preferred {
        kex: vec![kex::CURVE25519].into(),
        cipher: vec![cipher::CHACHA20_POLY1305].into(),
        ..Preferred::DEFAULT
    })
    .await;
    assert!(
        matches!(error, SshError::WeakAlgorithms { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn aes_gcm_does_without_strict_key_exchange() {
    let mut peers = Peers::start(Preferred {
        kex: vec![kex::CURVE25519].into(),
        ..Preferred::DEFAULT
    })
    .await;
    peers.connect().await;
}

#[tokio::test]
async fn a_peer_that_hangs_at_any_stage_is_given_up() {
    let mute = listen(|mut stream| async move {
        stream
            .read_to_end(&mut Vec::new())
            .await
            .unwrap_or_default();
    })
    .await;
    let after_banner = listen(|mut stream| async move {
        stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        stream
            .read_to_end(&mut Vec::new())
            .await
            .unwrap_or_default();
    })
    .await;
    for port in [mute, after_banner] {
        let began = Instant::now();
        let error = connect(&raw_target(port)).await.unwrap_err();
        let SshError::TimedOut { stage, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(stage, Stage::KeyExchange);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_server_that_never_decides_about_a_login_is_given_up() {
    let peers = Peers::start(Preferred::DEFAULT).await;
    let mut target = peers.target();
    target.user = "patience".into();
    let error = connect(&target).await.unwrap_err();
    let SshError::TimedOut { stage, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(stage, Stage::Authentication);
}

#[tokio::test]
async fn nonsense_before_the_key_exchange_is_bounded() {
    async fn endless(mut stream: TcpStream, line: &'static [u8]) {
        while stream.write_all(line).await.is_ok() {}
    }
    let lines = listen(|stream| endless(stream, b"welcome to this machine\r\n")).await;
    let long = listen(|stream| endless(stream, &[b'x'; 4096])).await;
    let huge =
        listen(|stream| endless(stream, b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff")).await;
    for port in [lines, long, huge] {
        let mut target = raw_target(port);
        target.timeouts.handshake = PATIENCE;
        let error = connect(&target).await.unwrap_err();
        assert!(matches!(error, SshError::Handshake { .. }), "{error:?}");
    }
}
