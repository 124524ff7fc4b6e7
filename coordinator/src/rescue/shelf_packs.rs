//! Reads parts of the packs that a shelf has. Tries again what may pass by itself; never asks for more than a
//! pack can have, and never keeps more than was asked for.

use std::future::Future;
use std::time::Duration;

use append_server::destination::{ByteRange, Destination, DestinationError, ObjectKey};
use bytes::{Bytes, BytesMut};
use formats::ids::{PackId, RepositoryId};
use formats::limits::PACK_BYTES_MAX;
use formats::seal::run_header::Purpose;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use crate::repository::packs::pack_name;
use crate::rescue::shelf::{Shelf, ShelfKind};
use crate::snapshot::place::{PackSource, PackSourceError};

/// How often a read is tried.
const TRIES: u32 = 5;
/// How long to wait before the second try; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// How long a read may take: a whole pack through a slow line.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(600);

/// The packs of one repository on a shelf.
#[derive(Debug, Clone)]
pub(crate) struct ShelfPacks {
    pub(crate) repository: RepositoryId,
    pub(crate) shelf: Shelf,
}

/// The source did not give all bytes in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer in {} seconds", READ_DEADLINE.as_secs())]
struct TooSlow;

impl PackSource for ShelfPacks {
    fn read_range(
        &self,
        pack: PackId,
        purpose: Purpose,
        offset: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Bytes, PackSourceError>> {
        Box::pin(async move {
            let folder = match &self.shelf.kind {
                ShelfKind::Folder(folder) => folder.clone(),
                ShelfKind::Destination(destination) => {
                    let key = self.key(pack, purpose);
                    let bytes = bytes.min(PACK_BYTES_MAX);
                    let read = || read_once(destination.as_ref(), key.clone(), offset, bytes);
                    return again(pack, read).await;
                }
            };
            let read = tokio::task::spawn_blocking(move || folder.read(pack, offset, bytes));
            match read.await {
                Ok(Some(Ok(read))) => Ok(read.into()),
                Ok(None) => Err(PackSourceError::Missing { pack }),
                Ok(Some(Err(source))) => Err(storage(pack, source)),
                Err(source) => Err(storage(pack, source)),
            }
        })
    }

    fn pack_bytes(
        &self,
        pack: PackId,
        purpose: Purpose,
    ) -> BoxFuture<'_, Result<u64, PackSourceError>> {
        Box::pin(async move {
            match &self.shelf.kind {
                ShelfKind::Destination(destination) => {
                    let key = self.key(pack, purpose);
                    again(pack, || destination.head(key.clone())).await
                }
                ShelfKind::Folder(folder) => match folder.bytes(pack) {
                    None => Err(PackSourceError::Missing { pack }),
                    Some(bytes) => bytes.map_err(|source| storage(pack, source)),
                },
            }
        })
    }
}

impl ShelfPacks {
    fn key(&self, pack: PackId, purpose: Purpose) -> ObjectKey {
        ObjectKey {
            repository: self.repository,
            name: pack_name(pack, purpose),
        }
    }
}

/// Does it once more when it may work then, a few times.
async fn again<T, F>(pack: PackId, attempt: impl Fn() -> F) -> Result<T, PackSourceError>
where
    F: Future<Output = Result<T, DestinationError>>,
{
    let mut wait = FIRST_WAIT;
    let mut tried = 1;
    loop {
        match timeout(READ_DEADLINE, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) if !error.is_retryable() || tried == TRIES => {
                return Err(told(pack, error));
            }
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(%pack, error, "trying once more");
            }
            Err(_) => return Err(storage(pack, TooSlow)),
        }
        sleep(wait).await;
        wait *= 2;
        tried += 1;
    }
}

/// Reads at most so many bytes, however many come. Fewer are for the caller to refuse.
pub(crate) async fn read_once(
    destination: &dyn Destination,
    key: ObjectKey,
    start: u64,
    bytes: u64,
) -> Result<Bytes, DestinationError> {
    let range = ByteRange {
        start,
        bytes: Some(bytes),
    };
    let mut read = destination.get_range(key, range).await?;
    let mut gathered = BytesMut::new();
    while let Some(part) = read.body.next().await {
        gathered.extend_from_slice(&part?);
        if gathered.len() as u64 >= bytes {
            gathered.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
            break;
        }
    }
    Ok(gathered.freeze())
}

fn told(pack: PackId, error: DestinationError) -> PackSourceError {
    match error.is_absent() {
        true => PackSourceError::Missing { pack },
        false => storage(pack, error),
    }
}

fn storage(
    pack: PackId,
    source: impl std::error::Error + Send + Sync + 'static,
) -> PackSourceError {
    PackSourceError::Storage {
        pack,
        source: Box::new(source),
    }
}
