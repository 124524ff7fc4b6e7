//! What a repository should have: its config, its users' bundles, its log, and the packs that the index knows, up to the
//! moment the scan began. What a run adds meanwhile is not looked for.

use std::collections::{BTreeMap, HashMap, HashSet};

use append_server::destination::DestinationName;
use formats::ids::PackId;
use formats::limits::{KEY_BUNDLE_BYTES_MAX, SMALL_BODY_BYTES_MAX};
use formats::object::{ObjectKind, ObjectName};
use formats::seal::run_header::Purpose;

use crate::coordinator::{Coordinator, HostRepository};
use crate::index::{Index, NamedPack};
use crate::repository::checked_config::check_config_with;
use crate::repository::packs::pack_name;
use crate::scan::ScanError;
use crate::storage::ReadRange;

/// Users' bundles of a repository that are looked at; there are a handful.
const BUNDLES_MAX: usize = 64;
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
    pub(super) index: Index,
    /// Packs that no destination had when a scan last looked.
    pub(super) lost: HashSet<PackId>,
    /// Packs that are condemned at a destination, and kept at others: they may be there or not.
    thinned: HashMap<String, HashSet<PackId>>,
    /// The last pack that was in the index when the scan began.
    pub(super) last_row: i64,
    /// Everything else, in order of names.
    small: BTreeMap<ObjectName, Option<PackId>>,
    /// The users' bundles that are the ones this coordinator has.
    own_bundles: HashSet<ObjectName>,
    /// Users' bundles whose copies differ, and of which nobody here knows the right one.
    pub(super) differing: Vec<ObjectName>,
}

impl Expected {
    pub(super) async fn of(
        coordinator: &Coordinator,
        opened: &HostRepository,
        left_out: &HashSet<DestinationName>,
    ) -> Result<Self, ScanError> {
        let repository = &opened.repository;
        let index = repository
            .open_index(&coordinator.state_dir)
            .map_err(crate::coordinator::OpenError::from)?;
        let last_row = index.last_pack_row()?;
        let lost = index.lost()?.into_iter().collect();
        let mut thinned: HashMap<String, HashSet<PackId>> = HashMap::new();
        for row in opened.catalog.thinned()? {
            thinned.entry(row.destination).or_default().insert(row.pack);
        }
        let mut small = BTreeMap::new();
        for (sequence, id) in opened.catalog.record_ids()? {
            small.insert(ObjectName::Log(sequence), Some(PackId(*id.as_bytes())));
        }
        let config = config_digest(coordinator, opened).await;
        small.insert(ObjectName::Config, config);
        let bundles = Bundles::of(coordinator, opened, left_out).await;
        small.extend(bundles.digests);
        Ok(Self {
            index,
            lost,
            thinned,
            last_row,
            small,
            own_bundles: bundles.own,
            differing: bundles.differing,
        })
    }

    /// Whether it is known, and not only thought, what an object should be.
    pub(super) fn is_trusted(&self, name: &ObjectName) -> bool {
        !matches!(name, ObjectName::Keys(_)) || self.own_bundles.contains(name)
    }

    /// Whether a destination does not have to have an object that others have.
    pub(super) fn is_thinned(&self, destination: &DestinationName, name: &ObjectName) -> bool {
        let thinned = self.thinned.get(&destination.to_string());
        let pack = name.digest();
        thinned.is_some_and(|packs| pack.is_some_and(|pack| packs.contains(&pack)))
    }

    /// Packs of both purposes in the order in which they were taken in, after a row.
    pub(super) fn page_by_row(&self, after: i64) -> Result<Vec<ExpectedObject>, ScanError> {
        let packs = self
            .index
            .packs_by_row(after, self.last_row, PACKS_AT_ONCE)?;
        let objects = packs
            .into_iter()
            .map(|(pack, purpose)| of_pack(pack, purpose));
        Ok(objects.collect())
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
        let objects = packs.into_iter().map(|pack| of_pack(pack, purpose));
        Ok(objects.collect())
    }
}

fn of_pack(pack: NamedPack, purpose: Purpose) -> ExpectedObject {
    ExpectedObject {
        name: pack_name(pack.pack, purpose),
        bytes: Some(pack.bytes),
        digest: Some(pack.pack),
        row: pack.row,
        is_live: pack.in_record,
    }
}

/// The digest of a config that the keys vouch for, from whichever destination has it.
async fn config_digest(coordinator: &Coordinator, opened: &HostRepository) -> Option<PackId> {
    let repository = opened.repository.id();
    for storage in coordinator.storage.each() {
        let bytes_max = SMALL_BODY_BYTES_MAX as u64;
        let read = storage.get(repository, &ObjectName::Config, ReadRange::All, bytes_max);
        if let Ok(bytes) = read.await
            && check_config_with(&opened.repository.keys, "", &bytes).is_ok()
        {
            return Some(PackId(*blake3::hash(&bytes).as_bytes()));
        }
    }
    None
}

/// Users' bundles as they are known.
#[derive(Default)]
struct Bundles {
    digests: BTreeMap<ObjectName, Option<PackId>>,
    own: HashSet<ObjectName>,
    differing: Vec<ObjectName>,
}

impl Bundles {
    /// Bundles are sealed under passwords that nobody here knows. The coordinator's own are known by their files; of others
    /// only what every destination that has the repository has alike is taken to be right.
    async fn of(
        coordinator: &Coordinator,
        opened: &HostRepository,
        left_out: &HashSet<DestinationName>,
    ) -> Self {
        let repository = opened.repository.id();
        let mut seen: BTreeMap<ObjectName, HashSet<PackId>> = BTreeMap::new();
        for copy in coordinator.storage.each() {
            if copy.destination().is_some_and(|at| left_out.contains(at)) {
                continue;
            }
            let Ok(bundles) = copy.list(repository, ObjectKind::Keys).await else {
                continue;
            };
            for (name, _) in bundles.into_iter().take(BUNDLES_MAX) {
                let read = copy.get(repository, &name, ReadRange::All, KEY_BUNDLE_BYTES_MAX);
                let found = match read.await {
                    Ok(bytes) => PackId(*blake3::hash(&bytes).as_bytes()),
                    // Unlike any other: one that cannot be read outvotes nobody, and nobody outvotes it.
                    Err(_) => PackId([0; 32]),
                };
                seen.entry(name).or_default().insert(found);
            }
        }
        let mut known = Self::default();
        for (user, sealed) in coordinator.bundles() {
            let keys = &opened.repository.keys;
            let stored = coordinator.keyring.stored_bundle(sealed, keys);
            let digest = PackId(*blake3::hash(&stored).as_bytes());
            let name = ObjectName::Keys(user.clone());
            // After a change of password the file is another than what is stored.
            if seen.get(&name).is_some_and(|found| found.contains(&digest)) {
                known.digests.insert(name.clone(), Some(digest));
                known.own.insert(name);
            }
        }
        for (name, found) in seen {
            if known.own.contains(&name) {
                continue;
            }
            let mut found = found.into_iter();
            let only = found.next().filter(|_| found.next().is_none());
            if only.is_none() {
                known.differing.push(name.clone());
            }
            known.digests.insert(name, only);
        }
        known
    }
}
