//! The two directions of a channel as byte streams, with back-pressure in both.
//! Never holds more than a few packets, and never outlives the connection.
//!
//! All channels of a connection share its reading: while one reader does not read, the others wait
//! too. So whoever holds a [`ChannelReader`] reads it, or drops it, which discards what arrives.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// Packets between the connection and a reader.
const PACKETS_WAITING_MAX: usize = 8;

/// Bytes of a command's standard error that are kept.
pub const STDERR_BYTES_MAX: usize = 64 << 10;

/// How a command on the target ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u32),
    /// A signal ended it; the name without `SIG`.
    Signal(String),
}

impl ExitStatus {
    /// Whether the command exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

/// A channel as one stream of bytes in each direction; dropping it closes the channel.
#[derive(Debug)]
pub struct ChannelStream {
    reader: ChannelReader,
    writer: ChannelWriter,
}

impl ChannelStream {
    /// The streams of a channel that stands; its slot, if it has one, is free again when they are over.
    pub fn open(
        channel: Channel<Msg>,
        closed: CancellationToken,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (parts, _, _) = open_parts(channel, closed, slot);
        parts
    }

    /// The two directions, to be used by different tasks.
    #[must_use]
    pub fn into_split(self) -> (ChannelReader, ChannelWriter) {
        (self.reader, self.writer)
    }
}

/// The first bytes of a command's standard error, and how many came after them.
#[derive(Debug, Default)]
pub struct Stderr {
    /// The first bytes.
    pub kept: Vec<u8>,
    /// How many more there were.
    pub dropped: u64,
}

/// Filled while the command runs.
pub type SharedStderr = Arc<Mutex<Stderr>>;

/// The streams of a channel whose command has been accepted, its standard error and its end.
pub fn open_parts(
    channel: Channel<Msg>,
    connection: CancellationToken,
    slot: Option<OwnedSemaphorePermit>,
) -> (ChannelStream, SharedStderr, oneshot::Receiver<ExitStatus>) {
    let (read, write) = channel.split();
    // Cancelled when the channel is over; a child, so also when the connection is.
    let over = connection.child_token();
    let released = CancellationToken::new();
    let held = Arc::new(released.clone().drop_guard());
    let (bytes, incoming) = mpsc::channel(PACKETS_WAITING_MAX);
    let (exit, exited) = oneshot::channel();
    let stderr = SharedStderr::default();
    let writer = ChannelWriter {
        inner: Box::pin(write.make_writer()),
        over: Box::pin(over.clone().cancelled_owned()),
        ended: false,
        _held: Arc::clone(&held),
    };
    let reader = ChannelReader {
        incoming,
        current: Bytes::new(),
        _held: held,
    };
    let pump = Pump {
        read,
        write,
        bytes: Some(bytes),
        stderr: Arc::clone(&stderr),
        exit: Some(exit),
        over,
        released,
        _slot: slot,
    };
    tokio::spawn(pump.run());
    (ChannelStream { reader, writer }, stderr, exited)
}

/// Takes a channel's messages apart. One task per channel, so that standard error and the exit
/// status are seen even if nobody waits for them.
struct Pump {
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    bytes: Option<mpsc::Sender<Bytes>>,
    stderr: SharedStderr,
    exit: Option<oneshot::Sender<ExitStatus>>,
    over: CancellationToken,
    released: CancellationToken,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Pump {
    async fn run(mut self) {
        loop {
            // Losing any arm loses nothing: `wait` is cancel-safe and the tokens stay cancelled.
            let message = tokio::select! {
                message = self.read.wait() => message,
                () = self.released.cancelled() => break,
                () = self.over.cancelled() => break,
            };
            match message {
                None | Some(ChannelMsg::Close) => break,
                Some(message) => self.take(message).await,
            }
        }
        self.over.cancel();
        // First, so that a connection which waits to hand us a packet goes on and takes the close.
        drop(self.read);
        // Fails only when the connection is gone, which closes the channel as well.
        self.write.close().await.unwrap_or_default();
    }

    async fn take(&mut self, message: ChannelMsg) {
        match message {
            // An empty packet would read as the end of the stream.
            ChannelMsg::Data { data } if !data.is_empty() => self.pass_on(data).await,
            ChannelMsg::ExtendedData { data, ext: 1 } => self.keep_stderr(&data),
            ChannelMsg::Eof => self.bytes = None,
            ChannelMsg::ExitStatus { exit_status } => self.finish(ExitStatus::Code(exit_status)),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                self.finish(ExitStatus::Signal(signal_text(&signal_name)));
            }
            _ => {}
        }
    }

    async fn pass_on(&mut self, data: Bytes) {
        let Some(bytes) = &self.bytes else {
            return;
        };
        // Losing the send drops the packet, which only happens when the channel is over.
        let sent = tokio::select! {
            sent = bytes.send(data) => sent.is_ok(),
            () = self.released.cancelled() => false,
            () = self.over.cancelled() => false,
        };
        if !sent {
            self.bytes = None;
        }
    }

    fn keep_stderr(&self, data: &[u8]) {
        let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let room = STDERR_BYTES_MAX.saturating_sub(stderr.kept.len());
        let kept = data.get(..room).unwrap_or(data);
        stderr.kept.extend_from_slice(kept);
        stderr.dropped += (data.len() - kept.len()) as u64;
    }

    fn finish(&mut self, status: ExitStatus) {
        if let Some(exit) = self.exit.take() {
            // Nobody may be waiting for it.
            exit.send(status).unwrap_or_default();
        }
    }
}

fn signal_text(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => crate::ssh::escape::escape_for_log(name.as_bytes())
            .chars()
            .take(32)
            .collect(),
        known => format!("{known:?}"),
    }
}

/// What a channel sends to us. Reading ends cleanly at the sender's end of file and also when the
/// channel or the connection is lost: what arrives must say by itself that it is complete.
#[derive(Debug)]
pub struct ChannelReader {
    incoming: mpsc::Receiver<Bytes>,
    current: Bytes,
    _held: Arc<DropGuard>,
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(self.incoming.poll_recv(cx)) {
                Some(data) => self.current = data,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = buf.remaining().min(self.current.len());
        buf.put_slice(self.current.get(..count).unwrap_or_default());
        self.current.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// What we send on a channel. Shutting it down sends the end of file; writing fails once the
/// channel or the connection is gone.
pub struct ChannelWriter {
    inner: Pin<Box<dyn AsyncWrite + Send + Sync>>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    _held: Arc<DropGuard>,
}

impl std::fmt::Debug for ChannelWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelWriter").finish_non_exhaustive()
    }
}

impl ChannelWriter {
    /// A writer that waits for window would otherwise wait for ever on a lost connection.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::BrokenPipe.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.inner.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended || self.check(cx).is_err() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.inner.as_mut().poll_shutdown(cx))?;
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
