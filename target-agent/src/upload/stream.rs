//! The three ways an upload connection can go: a Unix socket, a TCP port on this machine, or messages of the
//! control conversation.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use formats::wire::control::{FromAgent, TunnelBytes};
use formats::wire::start::Transport;

use crate::control::incoming::{Inbox, Incoming};
use crate::control::outgoing::Outgoing;

/// A connection: bytes in both ways, and a limit on waiting for them.
pub trait Stream: Read + Write + Send {
    /// How long a read may wait from now on.
    fn set_wait(&mut self, wait_max: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn set_wait(&mut self, wait_max: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait_max))
    }
}

impl Stream for TcpStream {
    fn set_wait(&mut self, wait_max: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait_max))
    }
}

/// Opens connection number `connection`.
pub fn open(
    transport: &Transport,
    connection: u8,
    incoming: &Incoming,
    outgoing: &Outgoing,
) -> io::Result<Box<dyn Stream>> {
    match transport {
        Transport::Unix { path } => {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            Ok(Box::new(UnixStream::connect(path)?))
        }
        Transport::Tcp { port } => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Transport::Stdio => Ok(Box::new(StdioStream {
            connection,
            inboxes: incoming.tunnels.clone(),
            outgoing: outgoing.clone(),
            wait_max: Duration::MAX,
        })),
    }
}

/// Bytes in one `Tunnel` message: small enough that other messages are not held up.
const MESSAGE_BYTES: usize = 64 << 10;

struct StdioStream {
    connection: u8,
    inboxes: Arc<Vec<Inbox>>,
    outgoing: Outgoing,
    wait_max: Duration,
}

impl Stream for StdioStream {
    fn set_wait(&mut self, wait_max: Duration) -> io::Result<()> {
        self.wait_max = wait_max;
        Ok(())
    }
}

impl Read for StdioStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inboxes
            .get(usize::from(self.connection))
            .ok_or(io::ErrorKind::NotConnected)?
            .take(buffer, self.wait_max)
    }
}

impl Write for StdioStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(MESSAGE_BYTES);
        // An empty message would close the connection.
        if count > 0 {
            self.outgoing.send(&FromAgent::Tunnel(TunnelBytes {
                connection: self.connection,
                bytes: bytes[..count].to_vec(),
            }));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
