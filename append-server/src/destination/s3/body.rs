//! A spooled object as the body of a request: read by offset, so that it can be sent again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::destination::throttle::Transfer;
use crate::limits::IO_BYTES;
use crate::spool::SpooledObject;

/// Pieces between the reader's thread and the connection.
const PIECES_AHEAD: usize = 2;

/// All bytes of `source`, as fast as the transfer may send them.
pub(super) fn of(source: &SpooledObject, transfer: &Arc<Transfer>) -> ByteStream {
    let (source, transfer) = (source.clone(), Arc::clone(transfer));
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(FileBody::begin(source.clone(), Arc::clone(&transfer)))
    }))
}

struct FileBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl FileBody {
    fn begin(source: SpooledObject, transfer: Arc<Transfer>) -> Self {
        let (sender, mut pieces) = mpsc::channel(PIECES_AHEAD);
        let left = source.bytes();
        let piece_bytes = transfer.piece_bytes(IO_BYTES);
        tokio::task::spawn_blocking(move || {
            let mut offset = 0;
            while offset < source.bytes() {
                let piece = source.read_piece(offset, piece_bytes).map(Bytes::from);
                let (failed, bytes) = (piece.is_err(), piece.as_ref().map_or(0, Bytes::len));
                // A body that nobody reads any more was given up.
                if sender.blocking_send(piece).is_err() || failed {
                    return;
                }
                offset += bytes as u64;
            }
        });
        if transfer.is_limited() {
            pieces = paced(pieces, transfer);
        }
        Self { pieces, left }
    }
}

/// The same pieces, each when it may go.
fn paced(
    mut pieces: mpsc::Receiver<io::Result<Bytes>>,
    transfer: Arc<Transfer>,
) -> mpsc::Receiver<io::Result<Bytes>> {
    // One ahead and no more: its tokens are for now.
    let (sender, paced) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            let bytes = piece.as_ref().map_or(0, Bytes::len);
            transfer.take(bytes as u64).await;
            // A body that nobody reads any more was given up.
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    paced
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(context)) {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
