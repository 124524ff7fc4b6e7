//! The way back, and what happens when sshd does not allow it.

use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use append_server::ssh::connect::{SshConnection, connect};
use append_server::ssh::stream::ChannelStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::ssh::tests::sshd::{Sshd, eventually, text};
use crate::ssh::tunnel::{
    Transport, TransportChoice, Tunnel, TunnelError, TunnelLimits, open_tunnel,
};

async fn tunnel(sshd: &Sshd, choice: TransportChoice) -> (SshConnection, Tunnel) {
    let connection = connect(&sshd.target()).await.unwrap();
    let directory = text(sshd.directory.path());
    let tunnel = open_tunnel(&connection, choice, directory, TunnelLimits::default())
        .await
        .unwrap();
    (connection, tunnel)
}

/// Sends from the target's side, answers from ours, and ends cleanly.
async fn exchange<S: std::io::Read + std::io::Write + Send + 'static>(
    mut theirs: S,
    mut ours: ChannelStream,
) {
    let sent: Vec<u8> = (0..4_u32 << 20).map(|i| (i >> 3) as u8).collect();
    let expected = sent.clone();
    let side = tokio::task::spawn_blocking(move || {
        theirs.write_all(&sent).unwrap();
        let mut answer = [0; 4];
        theirs.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"done");
        // An end of file: our side has closed the channel.
        assert_eq!(theirs.read(&mut answer).unwrap(), 0);
    });
    let mut received = vec![0; expected.len()];
    ours.read_exact(&mut received).await.unwrap();
    assert!(received == expected);
    ours.write_all(b"done").await.unwrap();
    drop(ours);
    side.await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_leads_to_us() {
    let sshd = Sshd::start("");
    let (connection, mut tunnel) = tunnel(&sshd, TransportChoice::Auto).await;
    let Transport::Unix { path } = tunnel.transport().clone() else {
        panic!("{:?}", tunnel.transport());
    };
    assert!(tunnel.fallbacks().is_empty());
    let theirs = UnixStream::connect(path).unwrap();
    let ours = tunnel.accept().await.unwrap();
    exchange(theirs, ours).await;
    assert_eq!(connection.channels_refused(), 0);
}

#[tokio::test]
async fn without_sockets_a_loopback_port_leads_to_us() {
    let sshd = Sshd::start("AllowStreamLocalForwarding no");
    let (_connection, mut tunnel) = tunnel(&sshd, TransportChoice::Auto).await;
    let Transport::Tcp { port } = *tunnel.transport() else {
        panic!("{:?}", tunnel.transport());
    };
    assert!(matches!(tunnel.fallbacks(), [TunnelError::Refused { .. }]));
    let theirs = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let ours = tunnel.accept().await.unwrap();
    exchange(theirs, ours).await;
}

#[tokio::test]
async fn a_port_that_sshd_opens_to_the_world_still_leads_to_us() {
    for ports in ["yes", "clientspecified"] {
        let sshd = Sshd::start(&format!("GatewayPorts {ports}"));
        let (_connection, mut tunnel) = tunnel(&sshd, TransportChoice::Tcp).await;
        let Transport::Tcp { port } = *tunnel.transport() else {
            panic!("{:?}", tunnel.transport());
        };
        let theirs = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let ours = tunnel.accept().await.unwrap();
        exchange(theirs, ours).await;
    }
}

#[tokio::test]
async fn without_any_forwarding_stdio_remains() {
    for config in [
        "AllowStreamLocalForwarding no\nAllowTcpForwarding no",
        "DisableForwarding yes",
    ] {
        let sshd = Sshd::start(config);
        let (_connection, tunnel) = tunnel(&sshd, TransportChoice::Auto).await;
        assert_eq!(*tunnel.transport(), Transport::Stdio);
        assert_eq!(tunnel.fallbacks().len(), 2);
    }
}

#[tokio::test]
async fn a_configured_transport_is_used_or_refused_with_the_remedy() {
    let sshd = Sshd::start("AllowTcpForwarding local");
    let connection = connect(&sshd.target()).await.unwrap();
    let limits = TunnelLimits::default();
    let open = open_tunnel(&connection, TransportChoice::Tcp, "/tmp", limits);
    let error = open.await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("AllowTcpForwarding"), "{text}");
    assert!(text.contains("transport = \"stdio\""), "{text}");
    let open = open_tunnel(&connection, TransportChoice::Stdio, "/tmp", limits);
    assert_eq!(*open.await.unwrap().transport(), Transport::Stdio);
    let long = format!("/tmp/{}", "x".repeat(120));
    let open = open_tunnel(&connection, TransportChoice::Unix, &long, limits);
    let error = open.await.unwrap_err();
    assert!(
        matches!(error, TunnelError::PathTooLong { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_and_counted() {
    let sshd = Sshd::start("");
    let connection = connect(&sshd.target()).await.unwrap();
    let limits = TunnelLimits {
        channels_max: 2,
        waiting_max: 2,
    };
    let directory = text(sshd.directory.path());
    let mut tunnel = open_tunnel(&connection, TransportChoice::Auto, directory, limits)
        .await
        .unwrap();
    let Transport::Unix { path } = tunnel.transport().clone() else {
        panic!("{:?}", tunnel.transport());
    };
    let _theirs: Vec<_> = (0..2)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    let first = tunnel.accept().await.unwrap();
    let _second = tunnel.accept().await.unwrap();
    for _ in 0..50 {
        let mut extra = UnixStream::connect(&path).unwrap();
        let ended = tokio::task::spawn_blocking(move || extra.read(&mut [0]).unwrap_or(0));
        assert_eq!(ended.await.unwrap(), 0);
    }
    // However many, a local user of the target does not end the run with it.
    assert_eq!(connection.tunnel_channels_refused(), 50);
    assert_eq!(connection.channels_refused(), 0);
    assert!(!connection.is_closed());

    drop(first);
    let slots = || connection.tunnel_channels_refused() == 50;
    eventually("a free place", slots).await;
    let mut admitted = None;
    while admitted.is_none() {
        let _again = UnixStream::connect(&path).unwrap();
        let wait = std::time::Duration::from_millis(100);
        admitted = tokio::time::timeout(wait, tunnel.accept()).await.ok();
    }

    tunnel.close_to_new();
    let mut late = UnixStream::connect(&path).unwrap();
    let ended = tokio::task::spawn_blocking(move || late.read(&mut [0]).unwrap_or(0));
    assert_eq!(ended.await.unwrap(), 0);
}

#[tokio::test]
async fn the_tunnel_ends_with_the_connection() {
    let sshd = Sshd::start("");
    let (connection, mut tunnel) = tunnel(&sshd, TransportChoice::Auto).await;
    let Transport::Unix { path } = tunnel.transport().clone() else {
        panic!("{:?}", tunnel.transport());
    };
    let _theirs = UnixStream::connect(path).unwrap();
    let mut ours = tunnel.accept().await.unwrap();
    drop(connection);
    assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
    assert!(ours.write_all(&[0; 100_000]).await.is_err());
    assert!(tunnel.accept().await.is_none());
}
