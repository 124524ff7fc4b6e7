//! Upload connections: through the tunnel to the append-server, and nowhere else. Never sends a byte of data
//! before the other end has proved that it knows the run's token.

pub mod connect;
pub mod handshake;
pub mod http;
pub mod sender;
pub mod stream;
