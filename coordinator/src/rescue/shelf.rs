//! Where packs are taken from: a destination, or a plain directory of pack files under any names, such as a recovery
//! tool leaves. Only lists; `shelf_packs` reads.

use std::path::Path;
use std::sync::Arc;

use append_server::destination::Destination;
use formats::ids::{PackId, RepositoryId};
use formats::object::{ObjectKind, ObjectName};
use formats::seal::run_header::Purpose;

use crate::rescue::error::RescueError;
use crate::rescue::folder::Folder;
use crate::rescue::opening::Refusal;

/// Names asked for at once.
const LIST_AT_ONCE: usize = 1_000;

/// A place with packs.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// What a person calls it.
    pub(crate) name: String,
    pub(crate) kind: ShelfKind,
}

#[derive(Debug, Clone)]
pub(crate) enum ShelfKind {
    Destination(Arc<dyn Destination>),
    Folder(Arc<Folder>),
}

/// A pack by its name; not opened yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundPack {
    pub(crate) pack: PackId,
    pub(crate) purpose: Purpose,
    pub(crate) bytes: u64,
}

/// What is there of a repository.
#[derive(Debug, Default)]
pub(crate) struct FoundPacks {
    pub(crate) meta: Vec<FoundPack>,
    pub(crate) data: Vec<FoundPack>,
    /// Whether every pack's id is its own, not one that stands for a file's path.
    pub(crate) has_ids: bool,
    /// Files that look like packs and are none, with the reason.
    pub(crate) refused: Vec<(String, Refusal)>,
}

impl Shelf {
    /// A destination.
    pub fn destination(name: String, destination: Arc<dyn Destination>) -> Self {
        Self {
            name,
            kind: ShelfKind::Destination(destination),
        }
    }

    /// A directory; every file in it that ends as a pack does is taken for one. Looks at all of them.
    pub fn folder(path: &Path) -> Result<Self, RescueError> {
        Ok(Self {
            name: path.display().to_string(),
            kind: ShelfKind::Folder(Arc::new(Folder::scan(path)?)),
        })
    }

    /// The repository that is meant: the one asked for, or the only one.
    pub(crate) async fn choose(
        &self,
        wanted: Option<RepositoryId>,
    ) -> Result<RepositoryId, RescueError> {
        let mut found = match &self.kind {
            ShelfKind::Destination(destination) => destination.repositories().await?,
            ShelfKind::Folder(folder) => folder.repositories(),
        };
        found.sort_unstable();
        let place = self.name.clone();
        match (wanted, found.as_slice()) {
            (_, []) => Err(RescueError::NothingThere { place }),
            (None, [only]) => Ok(*only),
            (None, _) => Err(RescueError::Several { place, found }),
            (Some(wanted), found) if found.contains(&wanted) => Ok(wanted),
            (Some(wanted), _) => Err(RescueError::NoSuchRepository {
                place,
                wanted,
                found,
            }),
        }
    }

    /// Every pack of a repository.
    pub(crate) async fn packs(&self, repository: RepositoryId) -> Result<FoundPacks, RescueError> {
        let found = match &self.kind {
            ShelfKind::Folder(folder) => folder.packs(repository),
            ShelfKind::Destination(destination) => {
                let destination = destination.as_ref();
                FoundPacks {
                    meta: list(destination, repository, Purpose::Meta).await?,
                    data: list(destination, repository, Purpose::Data).await?,
                    has_ids: true,
                    refused: Vec::new(),
                }
            }
        };
        match found.meta.is_empty() && found.data.is_empty() && found.refused.is_empty() {
            true => Err(RescueError::NothingThere {
                place: format!("{}, repository {repository}", self.name),
            }),
            false => Ok(found),
        }
    }

    /// What a person finds a pack by.
    pub(crate) fn path_of(&self, found: &FoundPack) -> String {
        let by_name = || crate::repository::packs::pack_name(found.pack, found.purpose).to_string();
        match &self.kind {
            ShelfKind::Destination(_) => by_name(),
            ShelfKind::Folder(folder) => folder.path_of(found.pack).unwrap_or_else(by_name),
        }
    }
}

async fn list(
    destination: &dyn Destination,
    repository: RepositoryId,
    purpose: Purpose,
) -> Result<Vec<FoundPack>, RescueError> {
    let kind = match purpose {
        Purpose::Data => ObjectKind::Pack,
        Purpose::Meta => ObjectKind::Meta,
    };
    let mut packs = Vec::new();
    let mut after: Option<ObjectName> = None;
    loop {
        let page = destination
            .list(repository, kind, after.take(), LIST_AT_ONCE)
            .await?;
        after = page.objects.last().map(|(name, _)| name.clone());
        let named = page.objects.iter().filter_map(|(name, bytes)| {
            let pack = name.digest()?;
            Some(FoundPack {
                pack,
                purpose,
                bytes: *bytes,
            })
        });
        packs.extend(named);
        if !page.more || after.is_none() {
            return Ok(packs);
        }
    }
}
