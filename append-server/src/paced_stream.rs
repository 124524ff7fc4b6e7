//! A connection whose peer may be idle between requests for as long as it likes, but not within a request's
//! head, and not while answers wait to be read. The body's own pace is its reader's business.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::limits::{HEAD_DEADLINE, WRITE_DEADLINE};

const BETWEEN: u8 = 0;
const HEAD: u8 = 1;
const BODY: u8 = 2;

/// Tells the stream where in a request its connection is.
#[derive(Debug, Clone)]
pub struct Phase(Arc<AtomicU8>);

impl Phase {
    /// A request's head is complete; what follows is its body. Ends when the guard is dropped.
    pub fn in_request(&self) -> RequestGuard {
        self.0.store(BODY, Ordering::Release);
        RequestGuard(self.clone())
    }
}

/// A request being answered.
#[derive(Debug)]
pub struct RequestGuard(Phase);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.0.store(BETWEEN, Ordering::Release);
    }
}

/// The stream.
#[derive(Debug)]
pub struct PacedStream<S> {
    inner: S,
    phase: Phase,
    head_timer: Pin<Box<Sleep>>,
    write_timer: Pin<Box<Sleep>>,
    writing: bool,
}

impl<S> PacedStream<S> {
    /// Wraps a stream that stands between requests.
    pub fn new(inner: S) -> (Self, Phase) {
        let phase = Phase(Arc::new(AtomicU8::new(BETWEEN)));
        let now = Instant::now();
        let stream = Self {
            inner,
            phase: phase.clone(),
            head_timer: Box::pin(tokio::time::sleep_until(now)),
            write_timer: Box::pin(tokio::time::sleep_until(now)),
            writing: false,
        };
        (stream, phase)
    }

    /// Passes on a write's outcome, or ends it when the peer has not read for too long.
    fn pace_write<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.writing = false;
            return outcome;
        }
        if !self.writing {
            self.writing = true;
            self.write_timer
                .as_mut()
                .reset(Instant::now() + WRITE_DEADLINE);
        }
        ready!(self.write_timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read its answers",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(context, buffer);
        let came = buffer.filled().len() > before;
        let began = came
            && self
                .phase
                .0
                .compare_exchange(BETWEEN, HEAD, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if began {
            self.head_timer
                .as_mut()
                .reset(Instant::now() + HEAD_DEADLINE);
        }
        if outcome.is_ready() && !came {
            return outcome; // The end, or an error.
        }
        let in_head = self.phase.0.load(Ordering::Acquire) == HEAD;
        if in_head && self.head_timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the request's head did not come in time",
            )));
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.pace_write(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.pace_write(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        self.pace_write(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, buffers);
        self.pace_write(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
