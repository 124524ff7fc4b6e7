//! Looks whether the log's last snapshot is still whole as far as its record and listing go: then a recovery brings
//! back what a rescue cannot tell. Nothing of the rescue depends on it.

use std::collections::HashSet;

use append_server::destination::{Destination, ObjectKey};
use bytes::Bytes;
use formats::config::{CONFIG_BYTES, RepositoryConfig};
use formats::ids::RecordId;
use formats::keys::repository::RepositoryKeys;
use formats::limits::RECORD_BYTES_MAX;
use formats::log::record::{Payload, RecordPlace, SealedRecord};
use formats::log::retention::Act;
use formats::object::{ObjectKind, ObjectName};
use tokio::time::timeout;

use crate::clock::{from_nanos, utc};
use crate::rescue::report::IntactSnapshot;
use crate::rescue::shelf::{Shelf, ShelfKind};
use crate::rescue::shelf_packs::{READ_DEADLINE, read_once};
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::listing::Listing;

/// Names asked for at once.
const LIST_AT_ONCE: usize = 1_000;

/// The last snapshot of a log without gaps, if its whole listing is there.
pub(crate) async fn latest_intact(
    shelf: &Shelf,
    keys: &RepositoryKeys,
    reader: &ChunkReader,
) -> Option<IntactSnapshot> {
    let ShelfKind::Destination(destination) = &shelf.kind else {
        return None;
    };
    let destination = destination.as_ref();
    let config = get(destination, keys, ObjectName::Config, CONFIG_BYTES as u64).await?;
    let verifying = keys.verifying().ok()?;
    RepositoryConfig::open(&config, keys.repository, &verifying).ok()?;
    let mut last = last_sequence(destination, keys).await?;
    let mut forgotten: HashSet<RecordId> = HashSet::new();
    let snapshot = loop {
        let (id, payload) = open_record(destination, keys, &verifying, last).await?;
        match payload {
            Payload::Snapshot(snapshot) if !forgotten.contains(&id) => break *snapshot,
            Payload::Retention(retention) => note_act(&retention.act, &mut forgotten),
            // Others may have been written after it.
            Payload::Snapshot(_) | Payload::Lease(_) | Payload::Settings(_) => {}
        }
        last = last.checked_sub(1)?;
    };
    let listing = Listing::open(reader.clone(), &snapshot.page_index)
        .await
        .ok()?;
    for pages in listing.pages().chunks(LIST_AT_ONCE) {
        let ids = pages.iter().map(|page| page.id).collect();
        let places = reader.locate(ids).await.ok()?;
        if places.iter().any(Option::is_none) {
            return None;
        }
    }
    Some(IntactSnapshot {
        host: snapshot.host,
        time: utc(from_nanos(snapshot.committed_nanos)),
        seq: last,
    })
}

/// Going back through the log, what is brought back is met before the record that forgot it: it may be taken for forgotten,
/// and a snapshot before it is told instead.
fn note_act(act: &Act, forgotten: &mut HashSet<RecordId>) {
    if let Act::Forget { snapshots, .. } = act {
        forgotten.extend(snapshots.iter().copied());
    }
}

/// The last record's place, if none is missing before it.
pub(super) async fn last_sequence(
    destination: &dyn Destination,
    keys: &RepositoryKeys,
) -> Option<u64> {
    let mut last = 0u64;
    let mut after: Option<ObjectName> = None;
    loop {
        let page = destination
            .list(keys.repository, ObjectKind::Log, after.take(), LIST_AT_ONCE)
            .await
            .ok()?;
        for (name, _) in &page.objects {
            let ObjectName::Log(sequence) = name else {
                return None;
            };
            if *sequence != last.checked_add(1)? {
                return None;
            }
            last = *sequence;
        }
        after = page.objects.into_iter().next_back().map(|(name, _)| name);
        if !page.more || after.is_none() {
            return (last > 0).then_some(last);
        }
    }
}

async fn open_record(
    destination: &dyn Destination,
    keys: &RepositoryKeys,
    verifying: &[u8; 32],
    sequence: u64,
) -> Option<(RecordId, Payload)> {
    let record = async |sequence| {
        let name = ObjectName::Log(sequence);
        get(destination, keys, name, RECORD_BYTES_MAX).await
    };
    let previous = match sequence.checked_sub(1)? {
        0 => RecordId([0; 32]),
        before => RecordId(blake3::hash(&record(before).await?).into()),
    };
    let place = RecordPlace {
        repository: keys.repository,
        epoch: keys.epoch,
        sequence,
        previous,
    };
    let bytes = record(sequence).await?;
    let sealed = SealedRecord::check(&bytes, verifying, &place).ok()?;
    let payload = sealed.open(keys.log().ok()?).ok()?;
    Some((sealed.id, payload))
}

/// A whole small object; nothing when it is larger than it may be.
pub(super) async fn get(
    destination: &dyn Destination,
    keys: &RepositoryKeys,
    name: ObjectName,
    bytes_max: u64,
) -> Option<Bytes> {
    let key = ObjectKey {
        repository: keys.repository,
        name,
    };
    let read = read_once(destination, key, 0, bytes_max.saturating_add(1));
    let read = timeout(READ_DEADLINE, read).await.ok()?.ok()?;
    (read.len() as u64 <= bytes_max).then_some(read)
}
