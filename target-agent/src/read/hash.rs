//! Names chunks of big files on other threads than the one that reads and cuts them.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use formats::chunk::{ChunkKind, chunk_id};
use formats::keys::secret::IdKey;

use crate::budget::Plain;
use crate::cpu_limit::CpuLimit;
use crate::window::Piece;

/// A chunk to be named, and where its name is waited for.
#[derive(Debug)]
pub struct HashJob {
    /// The chunk.
    pub plain: Plain,
    /// Takes it with its name; has room for exactly this one.
    pub named: Sender<Piece>,
}

/// Names chunks until there are no more to come.
pub fn run(jobs: &Receiver<HashJob>, key: &IdKey, cpu: &CpuLimit) {
    for HashJob { plain, named } in jobs {
        cpu.pace();
        // Nobody waits any more only when the run is ending.
        named.send(name(plain, key)).ok();
    }
}

/// A chunk with its name.
pub fn name(plain: Plain, key: &IdKey) -> Piece {
    Piece {
        id: chunk_id(key, ChunkKind::Data, &plain.bytes),
        plain,
    }
}

/// What names chunks.
#[derive(Debug, Clone)]
pub struct Hashing {
    /// The repository's key.
    pub key: Arc<IdKey>,
    /// The naming threads.
    pub jobs: Sender<HashJob>,
}
