//! The stream below an SFTP session, watched for its end. The library answers what was asked before the end with an
//! error; what is asked just after it, while its tasks still wind down, it would leave without an answer until the
//! request's deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// A stream that says when it brings and takes nothing any more.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    over: CancellationToken,
}

impl<S> Watched<S> {
    /// Cancels `over` at the stream's end, and when nobody holds it any more.
    pub(super) fn new(stream: S, over: CancellationToken) -> Self {
        Self { stream, over }
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if read.is_err() || buffer.filled().len() == before {
            self.over.cancel();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        if written.is_err() {
            self.over.cancel();
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
