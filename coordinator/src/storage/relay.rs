//! Carries a tunnel channel's bytes to the append-server and back. Blind: it neither reads nor keeps anything,
//! and a side that does not read stops the other.

use std::io;
use std::path::Path;

use append_server::socket::{self, SocketError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One buffer of the direction that carries packs.
const UP_BYTES: usize = 256 << 10;
/// One buffer of the direction that carries answers.
const DOWN_BYTES: usize = 16 << 10;

/// A relayed connection did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The append-server cannot be reached.
    #[error("could not reach the append-server for a tunnel connection")]
    Connect(#[from] SocketError),
    /// One of the two sides broke.
    #[error("a tunnel connection broke")]
    Io(#[from] io::Error),
}

/// Relays until the append-server ends the connection, or the tunnel does and all answers were carried.
pub async fn relay<S>(ingest_socket: &Path, tunnel: S) -> Result<(), RelayError>
where
    S: AsyncRead + AsyncWrite + Send,
{
    let mut server = socket::connect(ingest_socket).await?;
    let (server_reads, server_writes) = server.split();
    let (tunnel_reads, tunnel_writes) = tokio::io::split(tunnel);
    let up = std::pin::pin!(carry(tunnel_reads, server_writes, UP_BYTES));
    let mut down = std::pin::pin!(carry(server_reads, tunnel_writes, DOWN_BYTES));
    tokio::select! {
        // The server has ended: what the tunnel still brings has nowhere to go.
        result = down.as_mut() => result?,
        // The tunnel has ended, or the server stopped reading: its last answer may be on its way.
        result = up => {
            let ended = down.await;
            result?;
            ended?;
        }
    }
    Ok(())
}

/// Copies one direction to its end, and passes the end on.
async fn carry<R, W>(mut from: R, mut to: W, buffer_bytes: usize) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
        // A channel that gathers its writes would keep a small answer back.
        to.flush().await?;
    }
}
