//! A host's repository with its caches, caught up with its log on storage. Whoever reads goes on past what is damaged; whoever
//! writes needs a log that is whole.

use std::collections::HashSet;
use std::sync::Arc;

use append_server::destination::DestinationName;
use append_server::fan_out::queue::placing::Keeping;
use formats::ids::{PackId, RecordId};
use formats::keys::repository::MissingKeyError;

use crate::backup::shared_index::SharedIndex;
use crate::catalog::sync::SyncError;
use crate::catalog::{Catalog, CatalogError};
use crate::config::host::Host;
use crate::coordinator::{Coordinator, OpenError, Reading, stored_bundles};
use crate::repository::catch_up::{CatchUpError, catch_up};
use crate::repository::packs::RepositoryPacks;
use crate::repository::{Repository, RepositoryRequest, create_or_open, open};
use crate::scan::ScanState;
use crate::snapshot::chunks::{ChunkReader, ReadLimits};
use crate::snapshot::place::ChunkLocator;
use crate::storage::StorageClient;
use crate::terminal::error_line;

/// A host's repository with its caches, caught up with the log on storage.
#[derive(Debug)]
pub struct HostRepository {
    /// The repository and its keys.
    pub repository: Repository,
    /// Which pack has which chunk.
    pub index: SharedIndex,
    /// Its snapshots.
    pub catalog: Catalog,
    /// Why the end of the log is not known.
    pub log_problem: Option<String>,
    /// Packs that none of the destinations keeps that are read.
    without: HashSet<PackId>,
}

impl Coordinator {
    fn request<'a>(&'a self, name: &'a str, keeping: &'a Keeping) -> RepositoryRequest<'a> {
        RepositoryRequest {
            name,
            keyring: &self.keyring,
            bundles: &self.bundles,
            now: self.clock.now(),
            keeping,
        }
    }

    /// The host's repository, to be written to; the first run makes it.
    pub async fn create_or_open(&self, host: &Host) -> Result<HostRepository, OpenError> {
        self.keyring.may_write()?;
        let name = host.repository.to_string();
        let mut state = self.state.lock().await;
        let keeping = self.config.keeping(host);
        // Users may have been derived since this was opened.
        let is_there = state
            .repository(&name)?
            .is_some_and(|known| known.established);
        let bundles = match (is_there, &self.config.keys.bundle) {
            (false, Some(bundle)) => stored_bundles(bundle, &self.keyring)?,
            _ => Vec::new(),
        };
        let request = RepositoryRequest {
            bundles: &bundles,
            ..self.request(&name, &keeping)
        };
        let repository = create_or_open(&request, &self.storage, &mut state).await?;
        drop(state);
        self.ready_to_write(repository).await
    }

    /// A repository that was written to before, to be written to again: its log must be whole, everywhere that counts.
    pub async fn open_to_write(&self, name: &str) -> Result<HostRepository, OpenError> {
        self.keyring.may_write()?;
        let repository = self.open_repository(name).await?;
        let repository = repository.ok_or_else(|| OpenError::NoRepository {
            host: name.to_owned(),
        })?;
        self.ready_to_write(repository).await
    }

    async fn ready_to_write(&self, repository: Repository) -> Result<HostRepository, OpenError> {
        let mut opened = self.caught_up_to_write(repository).await?;
        self.check_copies(&opened.repository, &opened.catalog)
            .await?;
        self.hold_lease(&opened.repository, &mut opened.catalog)
            .await?;
        Ok(opened)
    }

    /// The repository of a host that was backed up before.
    pub async fn open_existing(&self, host: &Host) -> Result<HostRepository, OpenError> {
        self.find(host)
            .await?
            .ok_or_else(|| OpenError::NoRepository {
                host: host.name.to_string(),
            })
    }

    /// The names of all repositories that were written to.
    pub async fn repository_names(&self) -> Result<Vec<String>, OpenError> {
        let known = self.state.lock().await.repositories()?;
        let known = known.into_iter().filter(|known| known.established);
        Ok(known.map(|known| known.name).collect())
    }

    /// The repository of such a name.
    pub async fn open_named(&self, name: &str) -> Result<HostRepository, OpenError> {
        let found = self.find_named(name).await?;
        found.ok_or_else(|| OpenError::NoRepository {
            host: name.to_owned(),
        })
    }

    /// The repository of a host, where there is one.
    pub async fn find(&self, host: &Host) -> Result<Option<HostRepository>, OpenError> {
        self.find_named(&host.repository.to_string()).await
    }

    /// The repository of a host's or a group's name, where there is one.
    pub async fn find_named(&self, name: &str) -> Result<Option<HostRepository>, OpenError> {
        match self.open_repository(name).await? {
            Some(repository) => self.caught_up(repository).await.map(Some),
            None => Ok(None),
        }
    }

    /// The repository of a name, to look at what is wrong with it: a log or an index that is damaged is no error, but told
    /// beside what is known without it.
    pub async fn find_damaged(
        &self,
        name: &str,
    ) -> Result<Option<(HostRepository, Vec<String>)>, OpenError> {
        let Some(repository) = self.open_repository(name).await? else {
            return Ok(None);
        };
        let mut problems = Vec::new();
        let opened = self.catch_up_with(repository, |error| {
            let is_damage = error.is_integrity();
            if is_damage {
                problems.push(error_line(error));
            }
            is_damage
        });
        let opened = opened.await?;
        Ok(Some((opened, problems)))
    }

    async fn open_repository(&self, name: &str) -> Result<Option<Repository>, OpenError> {
        let state = self.state.lock().await;
        let request = self.request(name, &Keeping::PLAIN);
        let repository = open(&request, &self.storage, &state).await?;
        Ok(repository)
    }

    /// For reading: what is damaged stops nobody from reading the rest.
    async fn caught_up(&self, repository: Repository) -> Result<HostRepository, OpenError> {
        let mut log_problem = None;
        let opened = self.catch_up_with(repository, |error| {
            let goes_on = match error {
                OpenError::Sync(error) if error.is_damage() => {
                    log_problem = Some(error_line(error));
                    true
                }
                // One that was asked for by name may be behind: what it has can be read.
                OpenError::Sync(SyncError::Rollback { .. }) => self.reading != Reading::Everywhere,
                error => error.is_integrity_of_index(),
            };
            if goes_on {
                tell_reading_on(error);
            }
            goes_on
        });
        let mut opened = opened.await?;
        opened.log_problem = log_problem;
        Ok(opened)
    }

    /// For writing: the log must be whole. What is damaged of the index is only not known, and stored again.
    async fn caught_up_to_write(
        &self,
        repository: Repository,
    ) -> Result<HostRepository, OpenError> {
        self.catch_up_with(repository, |error| {
            let goes_on = error.is_integrity_of_index();
            if goes_on {
                tell_reading_on(error);
            }
            goes_on
        })
        .await
    }

    /// Brings a repository's caches up to its log. A failure that `goes_on` says yes to leaves them as far as they came.
    async fn catch_up_with(
        &self,
        repository: Repository,
        mut goes_on: impl FnMut(&OpenError) -> bool,
    ) -> Result<HostRepository, OpenError> {
        let mut catalog = repository.open_catalog(&self.state_dir)?;
        let before = catalog.last()?.map_or(0, |(sequence, _)| sequence);
        let synced = catalog.sync(&self.storage, &repository.keys).await;
        if let Err(error) = synced.map_err(OpenError::from)
            && !goes_on(&error)
        {
            return Err(error);
        }
        // A catalog that was empty is being read anew, and tells nothing.
        if before > 0 {
            self.note_foreign(&catalog, repository.id(), before).await?;
        }
        let index = repository.open_index(&self.state_dir)?;
        let heeded = index.heeded().map_err(CatchUpError::from)?;
        let now = self.clock.now();
        let (index, problems) = catch_up(index, &catalog, &repository, &self.storage, now).await?;
        if index.heeded().map_err(CatchUpError::from)? > heeded {
            // It was emptied: its rows are counted anew, in which scans say what they have read.
            ScanState::open(&self.state_dir.scan_file())?.forget_rows_from(repository.id(), 1)?;
        }
        catalog.heed()?;
        for problem in problems {
            let error = OpenError::from(problem);
            if !goes_on(&error) {
                return Err(error);
            }
        }
        let without = self.kept_elsewhere(&catalog)?;
        Ok(HostRepository {
            repository,
            without,
            index: SharedIndex::new(index, Arc::clone(&self.clock)),
            catalog,
            log_problem: None,
        })
    }

    /// A reader of the repository's chunks.
    pub fn chunk_reader(&self, host: &HostRepository) -> Result<ChunkReader, MissingKeyError> {
        self.chunk_reader_at(host, &self.storage)
    }

    /// The destinations that are read.
    fn destinations_read(&self) -> Vec<&DestinationName> {
        match &self.reading {
            Reading::One(name) => vec![name],
            Reading::Everywhere => {
                let places = self.config.destinations.iter();
                places.map(|place| &place.name).collect()
            }
        }
    }

    /// The packs that are kept at other destinations alone than those that are read.
    fn kept_elsewhere(&self, catalog: &Catalog) -> Result<HashSet<PackId>, CatalogError> {
        let mut names = self.destinations_read().into_iter();
        let mut packs = match names.next() {
            Some(first) => catalog.thinned_at(first)?,
            None => HashSet::new(),
        };
        for name in names {
            if packs.is_empty() {
                break;
            }
            let there = catalog.thinned_at(name)?;
            packs.retain(|pack| there.contains(pack));
        }
        Ok(packs)
    }

    /// Whether a snapshot is kept at other destinations alone than those that are read; gives the names of these.
    pub fn is_kept_elsewhere(
        &self,
        host: &HostRepository,
        snapshot: RecordId,
    ) -> Result<Option<String>, CatalogError> {
        let dropped = host.catalog.dropped_at(snapshot)?;
        let read = self.destinations_read();
        let mut names = read.iter().map(ToString::to_string);
        let is_elsewhere = !read.is_empty() && names.all(|name| dropped.contains(&name));
        let names: Vec<String> = read.iter().map(ToString::to_string).collect();
        Ok(is_elsewhere.then(|| names.join(", ")))
    }

    /// A reader of the repository's chunks at this storage.
    pub fn chunk_reader_at(
        &self,
        host: &HostRepository,
        storage: &StorageClient,
    ) -> Result<ChunkReader, MissingKeyError> {
        let locator: Arc<dyn ChunkLocator> = match host.without.is_empty() {
            true => Arc::new(host.index.clone()),
            false => Arc::new(host.index.without(host.without.clone())),
        };
        ChunkReader::new(
            locator,
            Arc::new(RepositoryPacks::new(host.repository.id(), storage.clone())),
            host.repository.keys.clone(),
            ReadLimits::default(),
        )
    }
}

fn tell_reading_on(error: &OpenError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "going on with what is sound; `coordinator scan` tells more"
    );
}
