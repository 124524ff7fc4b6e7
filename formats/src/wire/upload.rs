//! The append-server's HTTP/1.1 interface: paths, headers and small bodies that both sides use. Bodies that
//! are not objects are the canonical codec's too, so nothing here can be read in two ways.

pub mod destinations;
pub mod objects;
pub mod refusal;
pub mod removals;
pub mod repairs;

use crate::codec::{DecodeError, Put, Reader};
use crate::ids::{PackId, RepositoryId, RunId};
use crate::keys::secret::RunToken;
use crate::limits::PACK_BYTES_MAX;

/// Ingest socket: `PUT` a data pack; the body is the pack, the answer a [`Stored`].
pub const PATH_PACKS: &str = "/v1/packs";
/// Control socket: `POST` a [`OpenRun`] opens a run's grant; `DELETE /v1/runs/<run>` ends it.
pub const PATH_RUNS: &str = "/v1/runs";
/// Control socket: `GET`, `HEAD`, `PUT` of `/v1/repositories/<repository>/<object name>`, and
/// `GET /v1/repositories/<repository>?kind=<folder>&after=<name>` for a listing. With `destination=<name>` they read from
/// that destination alone.
pub const PATH_REPOSITORIES: &str = "/v1/repositories";

/// Control socket: `GET` answers [`destinations::DestinationStates`];
/// `POST /v1/destinations/<name>/sync?repository=<repository>` queues what that destination lacks and answers
/// [`repairs::Queued`]; `GET …/pending?repository=<repository>&after=<name>` lists what it is still to get;
/// `POST …/heal?repository=<repository>&object=<name>&digest=<hexadecimal>` answers [`repairs::HealedObject`];
/// `POST …/lock?repository=<repository>&object=<name>` answers [`repairs::LockedObject`].
pub const PATH_DESTINATIONS: &str = "/v1/destinations";

/// Control socket, for prune: `POST /v1/removals/<repository>/condemn` and `…/spare` and `…/sweep` with an
/// [`objects::ObjectPage`] of packs, `record=<sequence>&digest=<hexadecimal>` naming the log record that says so; the last
/// answers a [`removals::RemovalReport`]. `GET /v1/removals/<repository>/room?bytes=<bytes>` says whether so much can be copied;
/// `PUT /v1/removals/<repository>/<object name>` stores a data pack of copied frames.
pub const PATH_REMOVALS: &str = "/v1/removals";

/// An acknowledged object: durable on every required destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// BLAKE3 of its bytes.
    pub digest: PackId,
    /// Its bytes.
    pub bytes: u64,
    /// Whether exactly these bytes were there before.
    pub existed: bool,
}

impl Stored {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(self.digest.as_bytes());
        out.put_u64(self.bytes);
        out.put_flag(self.existed);
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let stored = Self {
            digest: PackId::read(&mut reader)?,
            bytes: reader.u64("bytes")?,
            existed: reader.flag("existed")?,
        };
        reader.finish("stored")?;
        Ok(stored)
    }
}

/// Whether a pack of this size can be one.
pub fn pack_size_is_possible(bytes: u64) -> bool {
    (1..=PACK_BYTES_MAX).contains(&bytes)
}

/// Opens one run's right to append data packs.
#[derive(Debug, Clone)]
pub struct OpenRun {
    /// The repository it may append to.
    pub repository: RepositoryId,
    /// The run.
    pub run: RunId,
    /// What the agent proves knowledge of.
    pub token: RunToken,
    /// The most bytes of all its packs.
    pub bytes_max: u64,
    /// The most packs.
    pub packs_max: u64,
    /// Seconds until the grant ends by itself.
    pub seconds_max: u64,
}

impl OpenRun {
    /// Its bytes. They hold a secret: the caller wipes them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(self.repository.as_bytes());
        out.put(self.run.as_bytes());
        out.put(self.token.expose());
        out.put_u64(self.bytes_max);
        out.put_u64(self.packs_max);
        out.put_u64(self.seconds_max);
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let open = Self {
            repository: RepositoryId::read(&mut reader)?,
            run: RunId::read(&mut reader)?,
            token: RunToken::from_bytes(reader.array("run token")?),
            bytes_max: reader.u64("bytes")?,
            packs_max: reader.u64("packs")?,
            seconds_max: reader.u64("seconds")?,
        };
        reader.finish("open run")?;
        Ok(open)
    }
}
