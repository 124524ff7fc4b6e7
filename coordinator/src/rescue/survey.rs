//! Opens every pack, several at a time, and enters what is in them into a temporary index. What does not open is
//! counted and named. Ends early only when the place stops answering altogether.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use formats::ids::ChunkId;
use formats::keys::repository::RepositoryKeys;
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use rusqlite::params;

use crate::index::{Index, Rebuild};
use crate::rescue::error::RescueError;
use crate::rescue::opening::{OpenedPack, Refusal, RefusalKind, open_pack};
use crate::rescue::places::encode_place;
use crate::rescue::report::RefusedPack;
use crate::rescue::shelf::{FoundPack, Shelf};
use crate::rescue::shelf_packs::ShelfPacks;
use crate::rescue::store::Store;
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::memory::table_places;

/// Packs opened at the same time.
const OPEN_AT_ONCE: usize = 8;
/// Packs entered at once; a table takes at most some 6 MiB.
const ENTER_AT_ONCE: usize = 8;
/// So many packs that cannot be read, one after the other, are a place that does not answer.
const UNREADABLE_IN_A_ROW_MAX: u32 = 20;
/// The most refused packs that are listed one by one.
const REFUSED_LISTED_MAX: usize = 20;

/// How the packs were found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) found: u64,
    pub(crate) opened: u64,
    pub(crate) refused: u64,
    pub(crate) kinds: BTreeMap<RefusalKind, u64>,
    pub(crate) listed: Vec<RefusedPack>,
    /// Another generation of keys that some pack names.
    pub(crate) other_epoch: Option<u32>,
    unreadable_in_a_row: u32,
}

impl Survey {
    /// Counts a pack that does not open, and names it.
    pub(crate) fn refuse(&mut self, pack: String, refusal: Refusal) {
        tracing::warn!(pack, cause = refusal.text, "a pack does not open");
        self.found += 1;
        self.refused += 1;
        *self.kinds.entry(refusal.kind).or_default() += 1;
        self.other_epoch = self.other_epoch.or(refusal.epoch);
        if self.listed.len() < REFUSED_LISTED_MAX {
            self.listed.push(RefusedPack {
                pack,
                kind: refusal.kind,
                text: refusal.text,
            });
        }
    }

    fn take(
        &mut self,
        opened: Result<Result<OpenedPack, Refusal>, ChunkError>,
        (shelf, found): (&Shelf, FoundPack),
    ) -> Result<Option<OpenedPack>, RescueError> {
        match opened {
            Ok(Ok(opened)) => {
                self.found += 1;
                self.opened += 1;
                self.unreadable_in_a_row = 0;
                return Ok(Some(opened));
            }
            Ok(Err(refusal)) => {
                self.unreadable_in_a_row = 0;
                self.refuse(shelf.path_of(&found), refusal);
            }
            Err(source) => {
                self.unreadable_in_a_row += 1;
                if self.unreadable_in_a_row >= UNREADABLE_IN_A_ROW_MAX {
                    let place = shelf.name.clone();
                    return Err(RescueError::Silent { place, source });
                }
                self.refuse(shelf.path_of(&found), Refusal::unreadable(source));
            }
        }
        Ok(None)
    }
}

/// Opens packs in their order, so that a chunk's first place is in the first of its packs.
pub(crate) async fn open_all(
    packs: &Arc<ShelfPacks>,
    found: Vec<FoundPack>,
    keys: &RepositoryKeys,
    (file, store): (&Path, &Store),
    survey: &mut Survey,
) -> Result<Index, RescueError> {
    let mut entering = Entering {
        rebuild: Rebuild::begin(file, keys.repository)?,
        store: store.clone(),
    };
    let mut opening = stream::iter(found)
        .map(|found| {
            let (packs, keys) = (Arc::clone(packs), keys.clone());
            async move { (found, open_pack(packs.as_ref(), found, keys).await) }
        })
        .buffered(OPEN_AT_ONCE);
    let mut batch = Vec::with_capacity(ENTER_AT_ONCE);
    loop {
        let next = opening.next().await;
        let ended = next.is_none();
        if let Some((found, opened)) = next {
            batch.extend(survey.take(opened, (&packs.shelf, found))?);
        }
        if batch.len() >= ENTER_AT_ONCE || ended {
            let ready = std::mem::take(&mut batch);
            entering = tokio::task::spawn_blocking(move || entering.enter(ready))
                .await
                .map_err(|_| RescueError::Stopped)??;
        }
        if ended {
            break;
        }
    }
    drop(opening);
    tracing::info!(
        opened = survey.opened,
        refused = survey.refused,
        "packs were opened"
    );
    tokio::task::spawn_blocking(move || entering.rebuild.finish(0))
        .await
        .map_err(|_| RescueError::Stopped)?
        .map_err(RescueError::from)
}

struct Entering {
    rebuild: Rebuild,
    store: Store,
}

impl Entering {
    fn enter(mut self, opened: Vec<OpenedPack>) -> Result<Self, RescueError> {
        for OpenedPack { facts, table } in opened {
            let places: Vec<_> =
                table_places((facts.pack, facts.bytes), facts.purpose, &table).collect();
            let ids: Vec<ChunkId> = places.iter().map(|(id, _)| *id).collect();
            let known = self.rebuild.contains_many(&ids)?;
            let others = || places.iter().zip(&known).filter(|(_, known)| **known);
            if others().next().is_some() {
                self.store.with(|transaction| {
                    let mut add = transaction.prepare_cached(
                        "INSERT OR IGNORE INTO others (id, place) VALUES (?1, ?2)",
                    )?;
                    for ((id, place), _) in others() {
                        add.execute(params![id.as_bytes(), encode_place(place)])?;
                    }
                    Ok(())
                })?;
            }
            // The time is of no use here, and nothing depends on it.
            self.rebuild
                .add(&facts, &table, None, Timestamp::UNIX_EPOCH)?;
        }
        Ok(self)
    }
}
