//! Bytes through the tunnel alone: a writer on the host's side, an sshd with its cipher, and the coordinator's own client
//! and reader, on loopback. Both ends share this machine, as do sshd's two processes; a host of its own has more to give.
//!
//! The server is the demo's: the system's OpenSSH, or the embedded one where there is none, and standard error tells which.

use std::error::Error;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;

use append_server::ssh::connect::{SshConnection, connect};
use append_server::ssh::host_key::scan_host_key;
use append_server::ssh::stream::ChannelStream;
use coordinator::demo::ssh_server::{self, SshServer};
use coordinator::ssh::tunnel::{Transport, TransportChoice, TunnelLimits, open_tunnel};
use divan::Bencher;
use divan::counter::BytesCount;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;

/// What is sent in one sample: a full pack, twice.
const SENT_BYTES: usize = 64 << 20;
/// What is written and read at once.
const PIECE_BYTES: usize = 256 << 10;

fn main() {
    divan::main();
}

/// Bytes that the host sends and the coordinator reads, over a forwarded socket and over a forwarded port.
#[divan::bench(
    args = [TransportChoice::Unix, TransportChoice::Tcp],
    sample_count = 10,
    sample_size = 1,
)]
fn upload(bencher: Bencher, transport: TransportChoice) {
    let runtime = Runtime::new().expect("threads start");
    let mut way = runtime.block_on(open(transport)).expect("a tunnel");
    bencher
        .counter(BytesCount::new(SENT_BYTES))
        .bench_local(|| {
            thread::scope(|scope| {
                scope.spawn(|| send(way.theirs.as_mut()));
                runtime.block_on(receive(&mut way.ours));
            });
        });
}

/// Both ends of one connection through the tunnel, and what they stand on, in the order in which it goes.
struct Way {
    theirs: Box<dyn Write + Send>,
    ours: ChannelStream,
    _connection: SshConnection,
    _server: SshServer,
    _directory: TempDir,
}

async fn open(transport: TransportChoice) -> Result<Way, Box<dyn Error>> {
    let directory = TempDir::new()?;
    let server = ssh_server::start(directory.path(), false).await?;
    eprintln!("through {}", server.kind);
    let unpinned = server.target(Vec::new()).ok_or("no address")?;
    let shown = scan_host_key(&unpinned).await?;
    let pinned = shown.iter().map(|key| key.fingerprint).collect();
    let connection = connect(&server.target(pinned).ok_or("no address")?).await?;
    let sockets = directory.path().to_str().ok_or("a path that is no text")?;
    let limits = TunnelLimits::default();
    let mut tunnel = open_tunnel(&connection, transport, sockets, limits).await?;
    let theirs: Box<dyn Write + Send> = match tunnel.transport() {
        Transport::Unix { path } => Box::new(UnixStream::connect(path)?),
        Transport::Tcp { port } => Box::new(TcpStream::connect(("127.0.0.1", *port))?),
        Transport::Stdio => return Err("no forwarding was asked for".into()),
    };
    let ours = tunnel.accept().await.ok_or("nobody connected")?;
    Ok(Way {
        theirs,
        ours,
        _connection: connection,
        _server: server,
        _directory: directory,
    })
}

fn send(theirs: &mut dyn Write) {
    let piece = vec![0xa5; PIECE_BYTES];
    for _ in 0..SENT_BYTES / PIECE_BYTES {
        theirs.write_all(&piece).expect("the tunnel takes it");
    }
}

async fn receive(ours: &mut ChannelStream) {
    let mut piece = vec![0; PIECE_BYTES];
    for _ in 0..SENT_BYTES / PIECE_BYTES {
        ours.read_exact(&mut piece)
            .await
            .expect("the tunnel gives it");
    }
}
