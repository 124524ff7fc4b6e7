//! Works off a window: its chunks are read in pack order and written to all their places as they come; then
//! what follows the files is made.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::ids::ChunkId;

use crate::restore::after::AfterWorker;
use crate::restore::error::RestoreError;
use crate::restore::site::Site;
use crate::restore::summary::ProblemKind;
use crate::restore::window::{Destination, Follower, Window};
use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::chunks::{ChunkReader, ChunkSink};
use crate::terminal::error_line;

/// What is left when a window is worked off.
#[derive(Debug)]
pub(crate) struct WindowEnd {
    /// The worker, for the next window.
    pub(crate) after: AfterWorker,
    /// Further names whose first name this restore has not put anywhere.
    pub(crate) unresolved: Vec<Follower>,
}

/// Writes everything in the window.
pub(crate) async fn work_off(
    window: Window,
    chunks: ChunkReader,
    site: Arc<Site>,
    mut after: AfterWorker,
) -> Result<WindowEnd, RestoreError> {
    let ids: Vec<ChunkId> = window.destinations.keys().copied().collect();
    let sink = Arc::new(FileSink {
        destinations: window.destinations,
        site: Arc::clone(&site),
    });
    if !ids.is_empty() {
        chunks.deliver(ChunkKind::Data, &ids, sink).await?;
    }
    let (complete, followers) = (window.complete, window.followers);
    tokio::task::spawn_blocking(move || {
        for job in complete {
            job.finish(&site);
        }
        let unresolved = after.make_all(&site, followers);
        WindowEnd { after, unresolved }
    })
    .await
    .map_err(|_| RestoreError::Stopped)
}

/// Hands each chunk to all its files.
#[derive(Debug)]
struct FileSink {
    destinations: HashMap<ChunkId, Vec<Destination>>,
    site: Arc<Site>,
}

impl ChunkSink for FileSink {
    fn chunk(&self, id: ChunkId, found: Result<Bytes, Arc<ChunkError>>) {
        for destination in self.destinations.get(&id).map_or(&[][..], Vec::as_slice) {
            let job = &destination.job;
            match &found {
                Ok(bytes) if bytes.len() as u64 == u64::from(destination.bytes) => {
                    job.write(&self.site, destination.offset, bytes);
                }
                Ok(bytes) => job.fail(
                    ProblemKind::Damaged,
                    format!(
                        "chunk {id} has {} bytes where the listing says {}",
                        bytes.len(),
                        destination.bytes
                    ),
                ),
                Err(error) => job.fail(kind_of(error), error_line(error.as_ref())),
            }
            if job.release() {
                job.finish(&self.site);
            }
        }
    }
}

/// What kind of problem of a file a chunk's failure is.
pub(crate) fn kind_of(error: &ChunkError) -> ProblemKind {
    match error.class() {
        FailureClass::Integrity => ProblemKind::Damaged,
        FailureClass::Storage | FailureClass::Key => ProblemKind::Other,
    }
}
