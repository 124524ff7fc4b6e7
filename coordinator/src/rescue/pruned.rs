//! What the log says that prune removed, so that what is not there because nothing needed it is not told as lost. Believes
//! only a log that is whole and signed from its first record to its last; without one nothing is known of prunes.

use std::collections::{HashMap, HashSet};

use append_server::destination::Destination;
use bytes::Bytes;
use formats::ids::{ChunkId, PackId, RecordId};
use formats::keys::repository::RepositoryKeys;
use formats::limits::RECORD_BYTES_MAX;
use formats::listing::entry::{Entry, join};
use formats::log::record::{Payload, RecordPlace, SealedRecord};
use formats::log::retention::Act;
use formats::object::ObjectName;
use futures_util::StreamExt as _;
use futures_util::stream;
use rusqlite::{Transaction, params};

use crate::rescue::compose::entry_at;
use crate::rescue::entries::{path_of_key, sort_key};
use crate::rescue::error::RescueError;
use crate::rescue::latest::{get, last_sequence};
use crate::rescue::list::lost_chunks;
use crate::rescue::shelf::{Shelf, ShelfKind};
use crate::rescue::store::Store;
use crate::snapshot::chunks::ChunkReader;

/// Records read at the same time.
const READ_AT_ONCE: usize = 8;
/// Entries looked at at once.
const ROWS_AT_ONCE: i64 = 256;

/// What a whole log tells of prunes.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    /// Packs that are condemned or gone.
    pub(crate) packs: HashSet<PackId>,
    /// The pieces of the lists of pages of every snapshot that is not forgotten.
    pub(crate) live_lists: HashSet<ChunkId>,
}

/// Reads the log of a destination. Nothing where there was no prune, or no whole log.
pub(crate) async fn pruned(shelf: &Shelf, keys: &RepositoryKeys) -> Option<Pruned> {
    let ShelfKind::Destination(destination) = &shelf.kind else {
        return None;
    };
    let history = read_log(destination.as_ref(), keys).await?;
    (!history.packs.is_empty()).then(|| history.pruned())
}

/// The log up to a record.
#[derive(Debug, Default)]
struct History {
    packs: HashSet<PackId>,
    /// Each snapshot's list of pages, and whether it is forgotten.
    snapshots: HashMap<RecordId, (Vec<ChunkId>, bool)>,
}

async fn read_log(destination: &dyn Destination, keys: &RepositoryKeys) -> Option<History> {
    let verifying = keys.verifying().ok()?;
    let last = last_sequence(destination, keys).await?;
    let mut history = History::default();
    let reads = (1..=last).map(|sequence| async move {
        let name = ObjectName::Log(sequence);
        (
            sequence,
            get(destination, keys, name, RECORD_BYTES_MAX).await,
        )
    });
    let mut reads = stream::iter(reads).buffered(READ_AT_ONCE);
    let mut previous = RecordId([0; 32]);
    while let Some((sequence, bytes)) = reads.next().await {
        let bytes: Bytes = bytes?;
        let place = RecordPlace {
            repository: keys.repository,
            epoch: keys.epoch,
            sequence,
            previous,
        };
        let sealed = SealedRecord::check(&bytes, &verifying, &place).ok()?;
        let payload = sealed.open(keys.log().ok()?).ok()?;
        previous = sealed.id;
        history.take(sealed.id, payload);
    }
    Some(history)
}

impl History {
    fn take(&mut self, id: RecordId, payload: Payload) {
        match payload {
            Payload::Snapshot(snapshot) => {
                let list = snapshot.page_index.iter().map(|piece| piece.id);
                self.snapshots.insert(id, (list.collect(), false));
            }
            Payload::Retention(retention) => self.take_act(retention.act),
            Payload::Lease(_) | Payload::Settings(_) => {}
        }
    }

    fn take_act(&mut self, act: Act) {
        match act {
            Act::Forget { snapshots, .. } => self.set_forgotten(&snapshots, true),
            Act::Undelete { snapshots, packs } => {
                self.set_forgotten(&snapshots, false);
                for pack in packs {
                    self.packs.remove(&pack);
                }
            }
            Act::Prune(prune) => {
                let condemned = prune.condemned.into_iter().map(|one| one.pack);
                self.packs.extend(condemned);
            }
            Act::Sweep { packs } | Act::SweepAt { packs, .. } => self.packs.extend(packs),
            // Which of the log's destinations this is nobody says: what one does not keep is not told as lost at any. Where it is
            // whole, it is rescued all the same.
            Act::Thin(thinning) => {
                let condemned = thinning.condemned.into_iter().map(|one| one.pack);
                self.packs.extend(condemned);
                self.set_forgotten(&thinning.dropped, true);
            }
            Act::Pin { .. } => {}
        }
    }

    fn set_forgotten(&mut self, snapshots: &[RecordId], is_forgotten: bool) {
        for id in snapshots {
            if let Some((_, forgotten)) = self.snapshots.get_mut(id) {
                *forgotten = is_forgotten;
            }
        }
    }

    fn pruned(self) -> Pruned {
        let live = self.snapshots.into_values();
        let live = live.filter(|(_, is_forgotten)| !is_forgotten);
        Pruned {
            packs: self.packs,
            live_lists: live.flat_map(|(list, _)| list).collect(),
        }
    }
}

/// Notes the pages of a snapshot that is not forgotten.
pub(super) fn note_live_pages(store: &Store, ids: &[ChunkId]) -> Result<(), RescueError> {
    Ok(store.with(|transaction| {
        let mut note =
            transaction.prepare_cached("INSERT OR IGNORE INTO live_pages (id) VALUES (?1)")?;
        for id in ids {
            note.execute([id.as_bytes()])?;
        }
        Ok(())
    })?)
}

/// Notes what is listed in a page, if it is one of those.
pub(super) fn note_live_paths(
    transaction: &Transaction<'_>,
    page: ChunkId,
    entries: &[(Vec<u8>, Entry)],
) -> rusqlite::Result<()> {
    let mut is_live = transaction.prepare_cached("SELECT 1 FROM live_pages WHERE id = ?1")?;
    if !is_live.exists([page.as_bytes()])? {
        return Ok(());
    }
    let mut note = transaction
        .prepare_cached("INSERT OR IGNORE INTO live_paths (directory, name) VALUES (?1, ?2)")?;
    for (directory, entry) in entries {
        note.execute(params![sort_key(directory), entry.name])?;
    }
    Ok(())
}

/// Drops the files that only forgotten snapshots had and whose content is not whole any more; says how many. What a snapshot
/// has that is not forgotten stays, and is told if it lacks something.
pub(crate) async fn drop_pruned(reader: &ChunkReader, store: &Store) -> Result<u64, RescueError> {
    let (mut dropped, mut after) = (0, (Vec::new(), Vec::new()));
    loop {
        let rows = forgotten_rows(store, &after)?;
        let Some((key, name, _)) = rows.last() else {
            break;
        };
        after = (key.clone(), name.clone());
        let mut gone = Vec::new();
        for (key, name, entry) in rows {
            let is_whole = match &entry.hard_link_to {
                // Its first name was looked at, or is still to be.
                Some(_) => true,
                None => matches!(lost_chunks(reader, &entry.content).await?, Ok((0, _))),
            };
            if !is_whole {
                gone.push((key, name));
            }
        }
        dropped += gone.len() as u64;
        remove(store, &gone)?;
    }
    Ok(dropped + drop_further_names(store)?)
}

type ForgottenRow = (Vec<u8>, Vec<u8>, Entry);

/// Files that no page of a snapshot that is not forgotten has, after one.
fn forgotten_rows(
    store: &Store,
    (key, name): &(Vec<u8>, Vec<u8>),
) -> Result<Vec<ForgottenRow>, RescueError> {
    let rows = store.with(|transaction| {
        let mut next = transaction.prepare_cached(
            "SELECT directory, name, body FROM entries AS entry
             WHERE is_directory = 0 AND (directory, name) > (?1, ?2) AND NOT EXISTS (
               SELECT 1 FROM live_paths AS live
               WHERE live.directory = entry.directory AND live.name = entry.name)
             ORDER BY directory, name LIMIT ?3",
        )?;
        let rows = next.query_map(params![key, name, ROWS_AT_ONCE], |row| {
            Ok((row.get(0)?, row.get(1)?, entry_at(row, 2)?))
        })?;
        rows.collect::<rusqlite::Result<Vec<ForgottenRow>>>()
    });
    Ok(rows?)
}

fn remove(store: &Store, gone: &[(Vec<u8>, Vec<u8>)]) -> Result<(), RescueError> {
    Ok(store.with(|transaction| {
        let mut delete =
            transaction.prepare_cached("DELETE FROM entries WHERE directory = ?1 AND name = ?2")?;
        let mut note =
            transaction.prepare_cached("INSERT OR IGNORE INTO dropped_paths (path) VALUES (?1)")?;
        for (key, name) in gone {
            delete.execute(params![key, name])?;
            note.execute([join(&path_of_key(key), name)])?;
        }
        Ok(())
    })?)
}

/// Further names of files that were dropped go with them.
fn drop_further_names(store: &Store) -> Result<u64, RescueError> {
    let (mut dropped, mut after) = (0, (Vec::new(), Vec::new()));
    loop {
        let rows = forgotten_rows(store, &after)?;
        let Some((key, name, _)) = rows.last() else {
            return Ok(dropped);
        };
        after = (key.clone(), name.clone());
        dropped += store.with(|transaction| {
            let mut was_dropped =
                transaction.prepare_cached("SELECT 1 FROM dropped_paths WHERE path = ?1")?;
            let mut delete = transaction
                .prepare_cached("DELETE FROM entries WHERE directory = ?1 AND name = ?2")?;
            let mut count = 0;
            for (key, name, entry) in &rows {
                if let Some(first) = &entry.hard_link_to
                    && was_dropped.exists([first])?
                {
                    delete.execute(params![key, name])?;
                    count += 1;
                }
            }
            Ok(count)
        })?;
    }
}
