//! The pages of the listing that was made, out of the working file.

use bytes::Bytes;
use formats::ids::ChunkId;
use futures_util::future::BoxFuture;

use crate::rescue::store::Store;
use crate::snapshot::listing::ListingError;
use crate::snapshot::pages::PageSource;

/// Has the pages.
#[derive(Debug)]
pub(crate) struct KeptPages(pub(crate) Store);

impl PageSource for KeptPages {
    fn read_pages(&self, ids: Vec<ChunkId>) -> BoxFuture<'_, Result<Vec<Bytes>, ListingError>> {
        let store = self.0.clone();
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || {
                store.with(|transaction| {
                    let mut page =
                        transaction.prepare_cached("SELECT body FROM pages WHERE id = ?1")?;
                    let mut bodies = Vec::with_capacity(ids.len());
                    for id in &ids {
                        let body: Vec<u8> = page.query_row([id.as_bytes()], |row| row.get(0))?;
                        bodies.push(Bytes::from(body));
                    }
                    Ok(bodies)
                })
            });
            let read = reading.await.map_err(|_| ListingError::Stopped)?;
            read.map_err(|source| ListingError::Kept(Box::new(source)))
        })
    }
}
