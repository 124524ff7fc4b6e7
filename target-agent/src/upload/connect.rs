//! Opens the run's upload connections and shakes hands on each.

use std::io;

use formats::wire::start::Start;

use crate::control::incoming::Incoming;
use crate::control::outgoing::Outgoing;
use crate::limits::{HANDSHAKE_WAIT, STORED_WAIT};
use crate::upload::handshake::{HandshakeError, shake_hands};
use crate::upload::stream::{self, Stream};

/// Why there are no upload connections.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The tunnel cannot be reached.
    #[error("upload connection {connection} cannot be opened")]
    Open {
        /// Which.
        connection: u8,
        /// Why.
        source: io::Error,
    },
    /// The other end is not the append-server, or is gone.
    #[error("upload connection {connection} is not the run's")]
    Handshake {
        /// Which.
        connection: u8,
        /// Why.
        source: HandshakeError,
    },
}

/// Opens as many connections as the orders say.
pub fn connect(
    start: &Start,
    incoming: &Incoming,
    outgoing: &Outgoing,
) -> Result<Vec<Box<dyn Stream>>, ConnectError> {
    (0..start.limits.tunnel_connections)
        .map(|connection| {
            let open = |wait_max| -> io::Result<Box<dyn Stream>> {
                let mut stream = stream::open(&start.transport, connection, incoming, outgoing)?;
                stream.set_wait(wait_max)?;
                Ok(stream)
            };
            let mut stream =
                open(HANDSHAKE_WAIT).map_err(|source| ConnectError::Open { connection, source })?;
            shake_hands(stream.as_mut(), start.run, &start.token)
                .map_err(|source| ConnectError::Handshake { connection, source })?;
            stream
                .set_wait(STORED_WAIT)
                .map_err(|source| ConnectError::Open { connection, source })?;
            Ok(stream)
        })
        .collect()
}
