//! A rescue up to the listing that can be restored, on one page: choose the repository, open the meta packs, then
//! the data packs, settle what is in several of them, take the newest entries, and make one listing.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use formats::ids::{PackId, RepositoryId};
use formats::keys::derive::Epoch;
use formats::keys::repository::RepositoryKeys;

use crate::keyring::Keyring;
use crate::rescue::compose::compose;
use crate::rescue::duplicates::settle;
use crate::rescue::entries::{PagesRead, read_index_pieces, take_entries};
use crate::rescue::error::RescueError;
use crate::rescue::kept_pages::KeptPages;
use crate::rescue::latest::latest_intact;
use crate::rescue::opening::RefusalKind;
use crate::rescue::places::Places;
use crate::rescue::pruned::{Pruned, pruned};
use crate::rescue::report::{IntactSnapshot, PacksReport, PagesReport};
use crate::rescue::shelf::{FoundPack, Shelf};
use crate::rescue::shelf_packs::ShelfPacks;
use crate::rescue::store::Store;
use crate::rescue::survey::{Survey, open_all};
use crate::rescue::workspace::Workspace;
use crate::restore::summary::Tally;
use crate::snapshot::chunks::{ChunkReader, ReadLimits};
use crate::snapshot::listing::Listing;
use crate::snapshot::place::{ChunkLocator, PackSource};

/// What to rescue.
#[derive(Debug)]
pub struct RescueRequest<'a> {
    /// Where packs are.
    pub shelf: &'a Shelf,
    /// The kit's keys.
    pub keyring: &'a Keyring,
    /// Whose packs; the only repository's, if there is one.
    pub repository: Option<RepositoryId>,
    /// Which generation of its keys.
    pub epoch: Epoch,
    /// Where the working directory is made.
    pub work: &'a Path,
}

/// What can be restored.
#[derive(Debug)]
pub struct Rescued {
    /// Whose packs.
    pub repository: RepositoryId,
    /// One listing of the newest entries.
    pub listing: Listing,
    /// How the packs were found.
    pub packs: PacksReport,
    /// What of the listings survives.
    pub pages: PagesReport,
    /// The log's last snapshot, where it can be restored as it was.
    pub intact: Option<IntactSnapshot>,
    /// Holds what the listing reads; goes last.
    _workspace: Workspace,
}

/// Looks at everything and makes a listing of what there is. What cannot be in it is told to `tally`.
pub async fn rescue(
    request: &RescueRequest<'_>,
    tally: &Arc<Tally>,
) -> Result<Rescued, RescueError> {
    let repository = request.shelf.choose(request.repository).await?;
    let keys = request.keyring.repository(repository, request.epoch);
    let found = request.shelf.packs(repository).await?;
    let pruned = pruned(request.shelf, &keys).await;
    let workspace = Workspace::create(request.work)?;
    let store = Store::create(&workspace.file("rescue"))?;
    let packs = Arc::new(ShelfPacks {
        repository,
        shelf: request.shelf.clone(),
    });
    let source = Arc::clone(&packs) as Arc<dyn PackSource>;
    let places = Arc::new(Places::new(store.clone()));
    let locator = Arc::clone(&places) as Arc<dyn ChunkLocator>;
    let limits = ReadLimits::default();
    let reader = ChunkReader::new(locator, Arc::clone(&source), keys.clone(), limits)?;
    let (mut survey, mut pages) = (Survey::default(), PagesRead::default());
    for (path, refusal) in found.refused {
        survey.refuse(path, refusal);
    }

    let file = workspace.file("meta");
    let meta = open_all(&packs, found.meta, &keys, (&file, &store), &mut survey).await?;
    places.add(meta);
    let verified = read_index_pieces(&reader, &places, &mut pages).await?;
    let compared = found
        .has_ids
        .then(|| compare(&found.data, &verified, pruned.as_ref()));

    let file = workspace.file("data");
    let data = verified_first(found.data, &verified);
    let data = open_all(&packs, data, &keys, (&file, &store), &mut survey).await?;
    places.add(data);
    refuse_what_is_closed(request.shelf, &keys, &survey)?;
    settle(&places, &store, source, &keys).await?;
    take_entries(&reader, &places, &store, &mut pages, pruned.as_ref()).await?;
    if pages.read == 0 {
        return Err(RescueError::NoListing {
            place: request.shelf.name.clone(),
            repository,
            packs: survey.opened,
        });
    }

    let (kept, counted) = (store.clone(), Arc::clone(tally));
    let chunking = keys.chunking()?.clone();
    let table = tokio::task::spawn_blocking(move || compose(&kept, &chunking, &counted))
        .await
        .map_err(|_| RescueError::Stopped)??;
    let intact = latest_intact(request.shelf, &keys, &reader).await;
    let listing = Listing::of_pages(reader, table, Arc::new(KeptPages(store)));
    Ok(Rescued {
        repository,
        listing,
        packs: packs_report(survey, compared),
        pages: pages_report(&pages),
        intact,
        _workspace: workspace,
    })
}

/// Packs that the coordinator had verified come first: what a run that failed left behind may tell of chunks that
/// it does not hold.
fn verified_first(data: Vec<FoundPack>, verified: &HashSet<PackId>) -> Vec<FoundPack> {
    let (mut first, rest): (Vec<_>, Vec<_>) = data
        .into_iter()
        .partition(|found| verified.contains(&found.pack));
    first.extend(rest);
    first
}

/// What surviving index pieces and the packs that are there say of each other.
#[derive(Debug, Clone, Copy)]
struct Compared {
    known_missing: u64,
    pruned: u64,
    unnamed: u64,
}

fn compare(data: &[FoundPack], verified: &HashSet<PackId>, pruned: Option<&Pruned>) -> Compared {
    let there: HashSet<PackId> = data.iter().map(|found| found.pack).collect();
    let was_pruned = |pack: &&PackId| pruned.is_some_and(|pruned| pruned.packs.contains(*pack));
    let gone = verified.difference(&there);
    let (pruned, missing): (Vec<&PackId>, Vec<&PackId>) = gone.partition(was_pruned);
    Compared {
        known_missing: missing.len() as u64,
        pruned: pruned.len() as u64,
        unnamed: there.difference(verified).count() as u64,
    }
}

/// Ends what cannot come to anything, with the most likely reason.
fn refuse_what_is_closed(
    shelf: &Shelf,
    keys: &RepositoryKeys,
    survey: &Survey,
) -> Result<(), RescueError> {
    if survey.opened > 0 {
        return Ok(());
    }
    let (place, repository) = (shelf.name.clone(), keys.repository);
    let packs = survey.found;
    if survey.kinds.contains_key(&RefusalKind::Keys) {
        return Err(RescueError::OtherKit {
            place,
            repository,
            packs,
        });
    }
    if let Some(found) = survey.other_epoch {
        return Err(RescueError::OtherEpoch { repository, found });
    }
    Err(RescueError::AllDamaged {
        place,
        repository,
        packs,
    })
}

fn packs_report(survey: Survey, compared: Option<Compared>) -> PacksReport {
    PacksReport {
        found: survey.found,
        opened: survey.opened,
        refused: survey.listed,
        refused_count: survey.refused,
        refused_kinds: survey.kinds,
        known_missing: compared.map(|compared| compared.known_missing),
        pruned: compared.map(|compared| compared.pruned),
        unnamed: compared.map(|compared| compared.unnamed),
    }
}

fn pages_report(pages: &PagesRead) -> PagesReport {
    PagesReport {
        read: pages.read,
        damaged: pages.damaged,
        known_missing: pages.lost,
        entries: pages.entries,
        pruned: pages.pruned,
    }
}
