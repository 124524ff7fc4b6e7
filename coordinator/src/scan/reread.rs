//! Reads objects of a destination again, whole, and compares their digests; with the keys, opens them too. Goes on where
//! the last scan of that destination stopped.

use std::sync::Arc;
use std::time::Duration;

use append_server::destination::DestinationName;
use bytes::Bytes;
use formats::ids::PackId;
use formats::limits::PACK_BYTES_MAX;
use formats::object::{ObjectKind, ObjectName};
use formats::seal::run_header::Purpose;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::scan::bad::Fault;
use crate::scan::expected::ExpectedObject;
use crate::scan::{Depth, DestinationScan, Scan, ScanError};
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::pack_check::check_pack_bytes;
use crate::storage::error::StorageError;
use crate::storage::{ReadRange, StorageClient};

/// Objects that are read at once.
const READS_AT_ONCE: usize = 4;
/// How many objects in a row may be unreadable before it is taken for the destination's fault.
const UNREADABLE_IN_A_ROW_MAX: u32 = 8;
/// When an object that could not be read is tried again.
const ONCE_MORE_AFTER: Duration = Duration::from_secs(1);

/// What an object turned out to be.
enum Reread {
    Good(u64),
    Bad(Fault),
    /// Nothing is known of it.
    Unreadable(StorageError),
    /// Good bytes that hold something else than they should: the same everywhere.
    Wrong(u64, Vec<String>),
}

impl Scan<'_> {
    pub(super) async fn reread(
        &mut self,
        destination: &DestinationName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        match self.options.depth {
            Depth::Names => self.reread_head(destination, here).await,
            Depth::New => self.reread_new(destination, here).await,
            Depth::Percent(percent) => self.reread_part(destination, percent, here).await,
            Depth::Whole => self.reread_whole(destination, here).await,
        }
    }

    /// The end of the log, whose record chains all before it, and the config.
    async fn reread_head(
        &mut self,
        destination: &DestinationName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        let last = ObjectName::Log(self.expected.last_record());
        let small = [ObjectName::Config, last];
        let objects = small.into_iter().filter_map(|name| {
            Some(ExpectedObject {
                digest: Some(self.expected.digest(&name)?),
                name,
                bytes: None,
                row: 0,
                is_live: true,
            })
        });
        let objects = objects.collect();
        self.read_all(destination, objects, here).await.map(drop)
    }

    /// In the order in which packs were taken in, so that what was read is all that came before.
    async fn reread_new(
        &mut self,
        destination: &DestinationName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        self.reread_head(destination, here).await?;
        let known = self.state.rows_read(self.repository, destination)?;
        // An index that was built anew counts its rows anew.
        let mut at = if known > self.expected.last_row {
            0
        } else {
            known
        };
        loop {
            let page = self.expected.page_by_row(at)?;
            // What is still on its way there is read once it has come.
            let arrived = page
                .iter()
                .take_while(|object| !self.pending.contains(&object.name))
                .count();
            let rows: Vec<i64> = page.iter().map(|object| object.row).take(arrived).collect();
            let objects = page.into_iter().take(arrived).collect();
            let read = self.read_all(destination, objects, here).await?;
            let Some(row) = read.checked_sub(1).and_then(|last| rows.get(last)) else {
                return Ok(());
            };
            self.state
                .note_rows_read(self.repository, destination, *row)?;
            if read < rows.len() {
                return Ok(());
            }
            at = *row;
        }
    }

    async fn reread_part(
        &mut self,
        destination: &DestinationName,
        percent: u8,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        self.reread_head(destination, here).await?;
        let total = here.objects + here.missing + here.damaged + here.pending;
        let left = usize::try_from((total * u64::from(percent)).div_ceil(100)).unwrap_or(0);
        let at = self.state.position(self.repository, destination)?;
        self.reread_from(destination, at, None, left, here)
            .await
            .map(drop)
    }

    /// To the end, and from the beginning to where that began.
    async fn reread_whole(
        &mut self,
        destination: &DestinationName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        self.reread_head(destination, here).await?;
        let at = self.state.position(self.repository, destination)?;
        let began = at.clone();
        let ended = self
            .reread_from(destination, at, None, usize::MAX, here)
            .await?;
        if ended && began.is_some() {
            self.reread_from(destination, None, began.as_ref(), usize::MAX, here)
                .await?;
        }
        Ok(())
    }

    /// Reads so many objects after a name, up to another or to the end; says whether it got there.
    async fn reread_from(
        &mut self,
        destination: &DestinationName,
        mut at: Option<ObjectName>,
        up_to: Option<&ObjectName>,
        mut left: usize,
        here: &mut DestinationScan,
    ) -> Result<bool, ScanError> {
        if at.is_none() {
            let last_row = self.expected.last_row;
            self.state
                .note_beginning(self.repository, destination, last_row, self.began)?;
        }
        while left > 0 {
            let mut page = self.next_page(at.as_ref())?;
            page.truncate(left);
            page.retain(|object| up_to.is_none_or(|up_to| object.name <= *up_to));
            let Some(last) = page.last() else {
                // All of it was read; the next scan begins anew.
                return self.note_whole(destination).map(|()| true);
            };
            at = Some(last.name.clone());
            let (count, names) = (page.len(), names_of(&page));
            let read = self.read_all(destination, page, here).await?;
            if let Some(name) = read.checked_sub(1).and_then(|last| names.get(last)) {
                self.state
                    .note_position(self.repository, destination, name)?;
            }
            if read < count {
                return Ok(false);
            }
            left -= count;
        }
        if self.next_page(at.as_ref())?.is_empty() {
            self.note_whole(destination)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// What comes after a name, of its kind or of the next that has something.
    fn next_page(&self, at: Option<&ObjectName>) -> Result<Vec<ExpectedObject>, ScanError> {
        let kinds = ObjectKind::ALL.into_iter();
        for kind in kinds.skip_while(|kind| at.is_some_and(|at| at.kind() != *kind)) {
            let after = at.filter(|at| at.kind() == kind);
            let page = self.expected.page(kind, after)?;
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    fn note_whole(&mut self, destination: &DestinationName) -> Result<(), ScanError> {
        self.state.note_whole(self.repository, destination)?;
        Ok(())
    }

    /// Reads objects as far as the budget goes; says how many, counted from the first.
    async fn read_all(
        &mut self,
        destination: &DestinationName,
        objects: Vec<ExpectedObject>,
        here: &mut DestinationScan,
    ) -> Result<usize, ScanError> {
        let storage = self.storage_at(destination);
        let reader = match self.options.verify {
            true => Some(self.coordinator.chunk_reader_at(self.opened, &storage)),
            false => None,
        };
        let reader = reader
            .transpose()
            .map_err(|error| Arc::new(ChunkError::MissingKey(error)))?;
        let repository = self.repository;
        let affordable = self.affordable(destination, objects, here);
        let count = affordable.len();
        let reads = affordable
            .into_iter()
            .filter(|(object, is_bad)| !is_bad && object.digest.is_some())
            .map(|(object, _)| {
                let (storage, reader) = (storage.clone(), reader.clone());
                async move {
                    let found = read_one(&storage, repository, &object, reader.as_ref()).await;
                    (object.name, found)
                }
            });
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
        let mut unreadable_in_a_row = 0;
        while let Some((name, found)) = reads.next().await {
            let found = found?;
            unreadable_in_a_row = match &found {
                Reread::Unreadable(_) => unreadable_in_a_row + 1,
                _ => 0,
            };
            match found {
                // Not that object: the destination.
                Reread::Unreadable(error) if unreadable_in_a_row > UNREADABLE_IN_A_ROW_MAX => {
                    return Err(error.into());
                }
                Reread::Unreadable(error) => {
                    let fault = Fault::Unreadable(error.to_string());
                    self.found_bad(destination, &name, fault, here).await;
                }
                Reread::Good(bytes) => {
                    here.read += 1;
                    here.bytes_read += bytes;
                }
                Reread::Bad(Fault::Missing) if self.pending.contains(&name) => {}
                // What is missing here was in the destination's list.
                Reread::Bad(fault) => self.found_bad(destination, &name, fault, here).await,
                Reread::Wrong(bytes, problems) => {
                    here.read += 1;
                    here.bytes_read += bytes;
                    here.damaged += 1;
                    for problem in problems {
                        here.problem(problem);
                    }
                }
            }
        }
        Ok(count)
    }

    /// The objects that the budget is enough for, each with whether it is not read: its name or size have told already that it is
    /// bad, or it does not have to be there.
    fn affordable(
        &self,
        destination: &DestinationName,
        objects: Vec<ExpectedObject>,
        here: &DestinationScan,
    ) -> Vec<(ExpectedObject, bool)> {
        let mut left = self
            .options
            .budget_bytes
            .map_or(u64::MAX, |budget| budget.saturating_sub(here.bytes_read));
        let mut affordable = Vec::new();
        for object in objects {
            let is_thinned = self.expected.is_thinned(destination, &object.name);
            let is_bad = self
                .bad
                .get(&object.name)
                .is_some_and(|places| places.contains(destination));
            if is_thinned {
                affordable.push((object, true));
                continue;
            }
            let cost = object.bytes.unwrap_or_default();
            // One at least, or a budget below a pack's size would never get anywhere.
            if cost > left && (here.bytes_read > 0 || !affordable.is_empty()) {
                break;
            }
            left = left.saturating_sub(cost);
            affordable.push((object, is_bad));
        }
        affordable
    }
}

fn names_of(objects: &[ExpectedObject]) -> Vec<ObjectName> {
    objects.iter().map(|object| object.name.clone()).collect()
}

async fn read_one(
    storage: &StorageClient,
    repository: formats::ids::RepositoryId,
    object: &ExpectedObject,
    reader: Option<&ChunkReader>,
) -> Result<Reread, ScanError> {
    let name = &object.name;
    let read = || storage.get(repository, name, ReadRange::All, PACK_BYTES_MAX);
    let mut found = read().await;
    let is_told =
        |error: &StorageError| error.is_absent() || matches!(error, StorageError::TooLong { .. });
    if found.as_ref().is_err_and(|error| !is_told(error)) {
        tokio::time::sleep(ONCE_MORE_AFTER).await;
        found = read().await;
    }
    let bytes = match found {
        Ok(bytes) => bytes,
        Err(StorageError::Absent { .. }) => return Ok(Reread::Bad(Fault::Missing)),
        Err(error @ StorageError::TooLong { .. }) => {
            return Ok(Reread::Bad(Fault::TooLong(error.to_string())));
        }
        Err(error) => return Ok(Reread::Unreadable(error)),
    };
    let length = bytes.len() as u64;
    let hashed = bytes.clone();
    let hashing = tokio::task::spawn_blocking(move || PackId(*blake3::hash(&hashed).as_bytes()));
    let digest = hashing.await.map_err(|_| Arc::new(ChunkError::Stopped))?;
    if object.digest.is_some_and(|expected| expected != digest) {
        return Ok(Reread::Bad(Fault::OtherBytes));
    }
    match (reader, name) {
        (Some(reader), ObjectName::Pack(pack)) => {
            open(reader, *pack, Purpose::Data, bytes, length).await
        }
        (Some(reader), ObjectName::Meta(pack)) => {
            open(reader, *pack, Purpose::Meta, bytes, length).await
        }
        _ => Ok(Reread::Good(length)),
    }
}

async fn open(
    reader: &ChunkReader,
    pack: PackId,
    purpose: Purpose,
    bytes: Bytes,
    length: u64,
) -> Result<Reread, ScanError> {
    let check = check_pack_bytes(reader, pack, purpose, bytes).await?;
    Ok(match check.problems {
        none if none.is_empty() => Reread::Good(length),
        problems => Reread::Wrong(length, problems),
    })
}
