//! What crosses between programs: the control conversation of agent and coordinator, the tunnel's handshake,
//! and the append-server's HTTP interface. Specified in `formats/docs/wire.md`.

pub mod control;
pub mod facts;
pub mod framing;
pub mod handshake;
pub mod placing;
pub mod start;
pub mod streams;
pub mod surroundings;
pub mod upload;
