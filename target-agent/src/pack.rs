//! Wanted chunks become packs: gathered into frames, sealed on several threads, put in order again, and
//! streamed to the append-server as they come. Never holds a whole pack.

pub mod effort;
pub mod frames;
pub mod packs;
pub mod seal;
