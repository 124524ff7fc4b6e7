//! Carries upload connections to the append-server within the host's bandwidth of the hour: what is not taken from a connection fills its
//! windows, upon which the agent waits. Never trusts the agent to keep to a rate by itself.

pub mod pace;

use std::sync::Arc;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, duplex, split,
};

use crate::backup::limited_carrying::pace::Pace;
use crate::storage::ingest::{CarryError, Ingest};

/// What is on its way between the two sides of a limited connection.
const BUFFER_BYTES: usize = 64 << 10;

/// The way to the append-server for one run's connections, which share its bandwidth.
#[derive(Debug, Clone)]
pub struct LimitedIngest {
    ingest: Ingest,
    pace: Arc<Pace>,
}

impl LimitedIngest {
    /// The way there, at this pace.
    pub fn new(ingest: Ingest, pace: Pace) -> Self {
        let pace = Arc::new(pace);
        Self { ingest, pace }
    }

    /// Carries a tunnel connection to its end.
    pub async fn carry<S>(&self, tunnel: S) -> Result<(), CarryError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let transfer = self.pace.transfer();
        if !transfer.is_limited() {
            return self.ingest.carry(tunnel).await;
        }
        let (ours, theirs) = duplex(BUFFER_BYTES);
        let (mut from_agent, mut to_agent) = split(tunnel);
        let (mut from_server, mut to_server) = split(ours);
        let up = async {
            let mut piece = Vec::new();
            loop {
                self.pace.keep();
                piece.resize(transfer.piece_bytes(BUFFER_BYTES), 0);
                let Ok(count @ 1..) = from_agent.read(&mut piece).await else {
                    break;
                };
                // It may be another hour since.
                self.pace.keep();
                transfer.take(count as u64).await;
                let bytes = piece.get(..count).unwrap_or_default();
                if to_server.write_all(bytes).await.is_err() {
                    break;
                }
            }
            // A server that is gone needs no end of the stream.
            to_server.shutdown().await.unwrap_or_default();
            std::future::pending().await
        };
        let served = async {
            let (carried, _) = tokio::join!(
                self.ingest.carry(theirs),
                copy(&mut from_server, &mut to_agent)
            );
            // An agent that is gone reads no answer.
            to_agent.shutdown().await.unwrap_or_default();
            carried
        };
        // Losing the way up is safe: the server has ended the connection.
        tokio::select! {
            carried = served => carried,
            () = up => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
