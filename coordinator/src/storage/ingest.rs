//! Where a tunnel's connections go: into the append-server of this very process, or to the socket of one that
//! runs by itself. Either way the same server code reads them; the first way spares a copy through the kernel.

use std::path::PathBuf;

use append_server::ingest::IngestError;
use append_server::server::IngestPort;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::storage::relay::{RelayError, relay};

/// The way to the append-server's ingest side. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Ingest {
    /// In this process.
    Embedded(IngestPort),
    /// Another process listens here.
    Socket(PathBuf),
}

/// A tunnel connection did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The server of this process ended it.
    #[error("the append-server ended a tunnel connection")]
    Embedded(#[from] IngestError),
    /// It was not carried to the server's socket.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

impl Ingest {
    /// Carries a tunnel connection to its end.
    pub async fn carry<S>(&self, tunnel: S) -> Result<(), CarryError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Self::Embedded(port) => Ok(port.serve(tunnel).await?),
            Self::Socket(path) => Ok(relay(path, tunnel).await?),
        }
    }
}
