//! What a repository should have: its config, its users' bundles, its log, and the packs that the index knows, up to the
//! moment the scan began. What a run adds meanwhile is not looked for.

use std::collections::{BTreeMap, HashMap};

use formats::ids::PackId;
use formats::limits::{KEY_BUNDLE_BYTES_MAX, SMALL_BODY_BYTES_MAX};
use formats::object::{ObjectKind, ObjectName};
use formats::seal::run_header::Purpose;

use crate::coordinator::{Coordinator, HostRepository};
use crate::index::Index;
use crate::repository::check_config;
use crate::scan::ScanError;
use crate::storage::{ReadRange, StorageClient};

/// Packs that are asked of the index at a time.
const PACKS_AT_ONCE: usize = 1_000;

/// One object that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExpectedObject {
    pub(super) name: ObjectName,
    /// Its bytes, where they are known without reading it.
    pub(super) bytes: Option<u64>,
    pub(super) digest: Option<PackId>,
    /// Its row among packs, which grows with time; nothing for what is no pack.
    pub(super) row: i64,
    /// Whether a snapshot's index has it.
    pub(super) is_live: bool,
}

/// What should be there.
pub(super) struct Expected {
    index: Index,
    /// The last pack that was in the index when the scan began.
    pub(super) last_row: i64,
    /// Everything else, in order of names.
    small: BTreeMap<ObjectName, Option<PackId>>,
}

impl Expected {
    pub(super) async fn of(
        coordinator: &Coordinator,
        opened: &HostRepository,
    ) -> Result<Self, ScanError> {
        let repository = &opened.repository;
        let index = repository
            .open_index(&coordinator.state_dir)
            .map_err(crate::coordinator::OpenError::from)?;
        let last_row = index.last_pack_row()?;
        let mut small = BTreeMap::new();
        for (sequence, id) in opened.catalog.record_ids()? {
            small.insert(ObjectName::Log(sequence), Some(PackId(*id.as_bytes())));
        }
        let config = config_digest(coordinator, opened).await;
        small.insert(ObjectName::Config, config);
        small.extend(bundle_digests(&coordinator.storage, opened).await);
        Ok(Self {
            index,
            last_row,
            small,
        })
    }

    /// What an object's bytes should digest to.
    pub(super) fn digest(&self, name: &ObjectName) -> Option<PackId> {
        name.digest()
            .or_else(|| self.small.get(name).copied().flatten())
    }

    /// The last record of the log.
    pub(super) fn last_record(&self) -> u64 {
        let records = self.small.keys().rev();
        let sequences = records.filter_map(|name| match name {
            ObjectName::Log(sequence) => Some(*sequence),
            _ => None,
        });
        sequences.max().unwrap_or_default()
    }

    /// Objects of one kind after a name, in byte order of names; none at the end.
    pub(super) fn page(
        &self,
        kind: ObjectKind,
        after: Option<&ObjectName>,
    ) -> Result<Vec<ExpectedObject>, ScanError> {
        let purpose = match kind {
            ObjectKind::Pack => Purpose::Data,
            ObjectKind::Meta => Purpose::Meta,
            ObjectKind::Config | ObjectKind::Keys | ObjectKind::Log => {
                let small = self.small.iter().filter(|(name, _)| name.kind() == kind);
                let after = small.filter(|(name, _)| after.is_none_or(|after| *name > after));
                return Ok(after
                    .map(|(name, digest)| ExpectedObject {
                        name: name.clone(),
                        bytes: None,
                        digest: *digest,
                        row: 0,
                        is_live: true,
                    })
                    .collect());
            }
        };
        let after = after.and_then(ObjectName::digest);
        let packs = self
            .index
            .packs_by_name(purpose, after, self.last_row, PACKS_AT_ONCE)?;
        Ok(packs
            .into_iter()
            .map(|pack| ExpectedObject {
                name: crate::repository::packs::pack_name(pack.pack, purpose),
                bytes: Some(pack.bytes),
                digest: Some(pack.pack),
                row: pack.row,
                is_live: pack.in_record,
            })
            .collect())
    }
}

/// The digest of a config that the keys vouch for, from whichever destination has it.
async fn config_digest(coordinator: &Coordinator, opened: &HostRepository) -> Option<PackId> {
    let repository = opened.repository.id();
    for storage in coordinator.storage.each() {
        let bytes_max = SMALL_BODY_BYTES_MAX as u64;
        let read = storage.get(repository, &ObjectName::Config, ReadRange::All, bytes_max);
        if let Ok(bytes) = read.await
            && check_config(&coordinator.keyring, "", repository, &bytes).is_ok()
        {
            return Some(PackId(*blake3::hash(&bytes).as_bytes()));
        }
    }
    None
}

/// Users' bundles are sealed under passwords that nobody here knows: what most destinations have is taken to be right.
async fn bundle_digests(
    storage: &StorageClient,
    opened: &HostRepository,
) -> BTreeMap<ObjectName, Option<PackId>> {
    let repository = opened.repository.id();
    let mut seen: BTreeMap<ObjectName, HashMap<PackId, usize>> = BTreeMap::new();
    for copy in storage.each() {
        let Ok(bundles) = copy.list(repository, ObjectKind::Keys).await else {
            continue;
        };
        for (name, _) in bundles {
            let read = copy.get(repository, &name, ReadRange::All, KEY_BUNDLE_BYTES_MAX);
            if let Ok(bytes) = read.await {
                let digest = PackId(*blake3::hash(&bytes).as_bytes());
                *seen.entry(name).or_default().entry(digest).or_default() += 1;
            }
        }
    }
    let most = |digests: HashMap<PackId, usize>| {
        let highest = digests.values().copied().max().unwrap_or_default();
        let mut best = digests.into_iter().filter(|(_, count)| *count == highest);
        // Of two that are as frequent, neither is known to be right.
        best.next()
            .filter(|_| best.next().is_none())
            .map(|(digest, _)| digest)
    };
    seen.into_iter()
        .map(|(name, digests)| (name, most(digests)))
        .collect()
}
