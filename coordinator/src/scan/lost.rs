//! What no destination has whole, and which files of which snapshots need it. Says nothing is lost while a single copy
//! was not looked at.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use formats::ids::PackId;
use formats::limits::PACK_BYTES_MAX;
use formats::object::ObjectName;

use crate::catalog::SnapshotRow;
use crate::scan::{Depth, RepositoryScan, Scan, ScanError};
use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::named_chunks::NamedChunks;
use crate::snapshot::verification::{ERRORS_LISTED_MAX, Verification, VerifiedSnapshot};
use crate::storage::error::StorageError;
use crate::storage::{ReadRange, StorageClient};

impl Scan<'_> {
    /// Looks for another copy of everything that is bad somewhere. What was found rotten is read there; of the rest it is
    /// enough that it is there with its size.
    pub(super) async fn find_lost(&mut self) {
        let bad = std::mem::take(&mut self.bad);
        for (name, places) in &bad {
            if places.is_empty() {
                continue;
            }
            let Some(digest) = self.expected.digest(name) else {
                continue;
            };
            let mut is_lost = !self.unreadable.contains(name);
            for copy in self.coordinator.storage.each() {
                if copy.destination().is_some_and(|at| places.contains(at)) {
                    continue;
                }
                if !self.is_certainly_bad(&copy, name, digest).await {
                    is_lost = false; // A good copy, or one that does not answer now and may be good.
                    break;
                }
            }
            if is_lost {
                self.lost.insert(name.clone(), digest);
            }
        }
        self.bad = bad;
    }

    async fn is_certainly_bad(
        &self,
        copy: &StorageClient,
        name: &ObjectName,
        digest: PackId,
    ) -> bool {
        if !self.rotten.contains(name) {
            return copy
                .head(self.repository, name)
                .await
                .is_err_and(|error| error.is_absent());
        }
        let read = copy.get(self.repository, name, ReadRange::All, PACK_BYTES_MAX);
        match read.await {
            Ok(bytes) => PackId(*blake3::hash(&bytes).as_bytes()) != digest,
            Err(error) => error.is_absent() || matches!(error, StorageError::TooLong { .. }),
        }
    }

    /// Takes what no destination has any more out of the index, so that nothing is built upon it: the next run reads again
    /// what it held, where the host still has it. What is damaged everywhere stays: parts of it can still be read.
    pub(super) fn give_up_lost(&mut self) -> Result<(), ScanError> {
        let now = self.coordinator.clock.now();
        let is_gone = |name: &&ObjectName| {
            matches!(name, ObjectName::Pack(_) | ObjectName::Meta(_))
                && !self.rotten.contains(*name)
        };
        let gone: Vec<ObjectName> = self.lost.keys().filter(is_gone).cloned().collect();
        let meta: HashSet<PackId> = gone
            .iter()
            .filter(|name| matches!(name, ObjectName::Meta(_)))
            .filter_map(ObjectName::digest)
            .collect();
        // Before anything is given up: a scan that ends in between is repeated, and finds the same.
        if !meta.is_empty() {
            self.record_again(&meta)?;
        }
        for pack in gone.iter().filter_map(ObjectName::digest) {
            if let Some(row) = self.expected.index.give_up(pack, now)? {
                self.state.forget_rows_from(self.repository, row)?;
            }
        }
        Ok(())
    }

    /// Has the next run say again what records said whose index objects may be in these packs.
    fn record_again(&mut self, meta: &HashSet<PackId>) -> Result<(), ScanError> {
        for row in self.opened.catalog.prunes_after(0)? {
            if row.prune.meta_packs.iter().any(|pack| meta.contains(pack)) {
                self.expected.index.record_again(row.sequence)?;
            }
        }
        for row in self.opened.catalog.snapshots_after(0)? {
            let snapshot = self.opened.catalog.snapshot(row.id)?;
            let names_one = snapshot
                .is_some_and(|snapshot| snapshot.meta_packs.iter().any(|pack| meta.contains(pack)));
            if names_one {
                self.expected.index.record_again(row.sequence)?;
            }
        }
        Ok(())
    }

    /// Looks whether packs that were lost are whole where they are listed again; the next command takes them in.
    pub(super) async fn find_again(&mut self) -> Result<Vec<String>, ScanError> {
        let mut found = Vec::new();
        for (name, places) in std::mem::take(&mut self.listed_again) {
            let Some(pack) = name.digest() else { continue };
            for destination in places {
                let copy = self.storage_at(&destination);
                let read = copy.get(self.repository, &name, ReadRange::All, PACK_BYTES_MAX);
                if read
                    .await
                    .is_ok_and(|bytes| blake3::hash(&bytes).as_bytes() == pack.as_bytes())
                {
                    self.expected.index.find_again(pack)?;
                    found.push(name.to_string());
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Whether everything that snapshots name has a place that is not lost. What they name is in their listings: keys that open none
    /// look through none.
    pub(super) async fn check_references(
        &mut self,
        found: &mut RepositoryScan,
    ) -> Result<(), ScanError> {
        if !self.opened.repository.keys.opens() {
            return Ok(());
        }
        let rows = self.opened.catalog.snapshots(None)?;
        let checked = self.state.references_checked(self.repository)?;
        let all = !self.lost.is_empty() || self.options.depth == Depth::Whole;
        let rows: Vec<SnapshotRow> = rows
            .into_iter()
            .filter(|row| all || row.sequence > checked)
            .collect();
        let lost: HashSet<PackId> = self.lost.values().copied().collect();
        let reader = self
            .coordinator
            .chunk_reader(self.opened)
            .map_err(|error| Arc::new(ChunkError::MissingKey(error)))?;
        for row in &rows {
            let elsewhere = self.coordinator.is_kept_elsewhere(self.opened, row.id)?;
            if elsewhere.is_some() {
                continue; // Nothing of it is missing where it is kept.
            }
            let Some(snapshot) = self.opened.catalog.needed_of(row)? else {
                continue;
            };
            let verified = VerifiedSnapshot {
                id: row.id,
                snapshot,
            };
            let (files, more) = missing_of(&reader, &verified, &lost).await?;
            found.lost_file_count += more;
            let room = ERRORS_LISTED_MAX.saturating_sub(found.lost_files.len());
            found.lost_files.extend(files.into_iter().take(room));
            found.snapshots_checked += 1;
        }
        if let Some(last) = rows.last()
            && found.lost_file_count == 0
        {
            self.state
                .note_references_checked(self.repository, last.sequence)?;
        }
        Ok(())
    }
}

/// The files of a snapshot that need what is lost or unknown, and how many there are.
async fn missing_of(
    reader: &crate::snapshot::chunks::ChunkReader,
    verified: &VerifiedSnapshot,
    lost: &HashSet<PackId>,
) -> Result<(Vec<String>, u64), ScanError> {
    let mut told = Verification::default();
    let mut files = BTreeSet::new();
    let mut count = 0;
    let mut last = String::new();
    let mut walk = NamedChunks::new(reader, verified);
    while let Some(named) = walk.next(&mut told).await? {
        for (name, place) in named {
            let is_lost = place.is_none_or(|(_, place)| lost.contains(&place.pack));
            if is_lost && name.owner != last {
                last.clone_from(&name.owner);
                count += 1;
                if files.len() < ERRORS_LISTED_MAX {
                    files.insert(name.owner);
                }
            }
        }
    }
    let mut files: Vec<String> = files.into_iter().collect();
    count += told.error_count;
    files.extend(told.errors);
    Ok((files, count))
}
