//! A small pool of HTTP/1.1 connections to one Unix socket. A connection is used by one request at a time and
//! comes back when its answer was read to the end; any other is dropped.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use append_server::socket;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::storage::error::{StorageError, Subject};

/// Idle connections that are kept.
const IDLE_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Pool {
    socket: PathBuf,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// An answer's head, and the connection its body is still on.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
}

/// A connection in use; [`Lease::give_back`] once the body was read to its end.
pub(super) struct Lease {
    pool: Arc<Pool>,
    sender: SendRequest<Full<Bytes>>,
}

impl Lease {
    pub(super) fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(self.sender);
        }
    }
}

impl Pool {
    pub(super) fn new(socket: &Path) -> Arc<Self> {
        Arc::new(Self {
            socket: socket.to_owned(),
            idle: Mutex::default(),
        })
    }

    /// Sends a request and waits for its answer's head. On a kept connection that turns out to be dead it is
    /// sent once more on a new one: every request of this interface may be repeated.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: Request<Full<Bytes>>,
        subject: &Subject,
        deadline: Duration,
    ) -> Result<Answer, StorageError> {
        let attempt = async {
            while let Some(sender) = self.take_idle() {
                if let Ok(answer) = self.send_on(sender, request.clone()).await {
                    return Ok(answer);
                }
            }
            let sender = self.connect(subject).await?;
            self.send_on(sender, request)
                .await
                .map_err(|source| StorageError::Http {
                    subject: subject.clone(),
                    source,
                })
        };
        match timeout(deadline, attempt).await {
            Ok(result) => result,
            Err(_) => Err(StorageError::Deadline {
                subject: subject.clone(),
                deadline,
            }),
        }
    }

    async fn send_on(
        self: &Arc<Self>,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, hyper::Error> {
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        Ok(Answer {
            response,
            lease: Lease {
                pool: Arc::clone(self),
                sender,
            },
        })
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }

    async fn connect(
        self: &Arc<Self>,
        subject: &Subject,
    ) -> Result<SendRequest<Full<Bytes>>, StorageError> {
        let stream = socket::connect(&self.socket).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(512 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| StorageError::Http {
                subject: subject.clone(),
                source,
            })?;
        // Ends when the sender is dropped or the server closes.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection to the append-server ended"
                );
            }
        });
        Ok(sender)
    }
}
