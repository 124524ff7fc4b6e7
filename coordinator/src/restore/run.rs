//! One restore, on one page: look everything up, open the target, write window after window, then give
//! directories their metadata and leave nothing of our own behind.

use std::sync::{Arc, OnceLock};

use formats::listing::entry::EntryKind;
use tokio_util::sync::CancellationToken;

use crate::restore::after::AfterWorker;
use crate::restore::directories::DirectoryFinisher;
use crate::restore::error::RestoreError;
use crate::restore::filling::{Filling, FillingParts};
use crate::restore::links::FirstNames;
use crate::restore::metadata::MetadataSetter;
use crate::restore::open_target::{
    check_target, open_target, raise_descriptor_limit, target_error,
};
use crate::restore::options::RestoreOptions;
use crate::restore::owners::Owners;
use crate::restore::patterns::Patterns;
use crate::restore::place::{Batch, Placer};
use crate::restore::plan::{SelectedEntries, Selection};
use crate::restore::site::Site;
use crate::restore::staging::STAGING_NAME;
use crate::restore::summary::{RestoreSummary, Tally};
use crate::restore::tree::{Directory, DirectoryTree, Walk};
use crate::restore::window::WindowLimits;
use crate::snapshot::listing::Listing;

/// Entries placed at once.
const BATCH_ENTRIES_MAX: usize = 256;

/// What a restore reports to while it runs.
#[derive(Debug, Clone, Default)]
pub struct RestoreContext {
    /// Counts as they grow.
    pub tally: Arc<Tally>,
    /// Stops the restore; what is whole by then stays.
    pub cancel: CancellationToken,
}

/// Restores what the options ask for. Problems with single objects are in the summary; an error means that the
/// restore ended early, and that it can be run again with `Overwrite::IfChanged`.
pub async fn restore(
    listing: Listing,
    options: RestoreOptions,
    context: RestoreContext,
) -> Result<RestoreSummary, RestoreError> {
    let selection = Selection::find(listing, &options.paths).await?;
    let patterns = || Patterns::new(&options.include, &options.exclude);
    let (to_place, to_finish) = (patterns()?, patterns()?);
    check_target(&options)?;
    let staging_name = free_staging_name(selection.listing()).await?;
    let (root, staging) = open_target(&options.to, staging_name)?;
    let owners = Owners::local(options.metadata.owner, &options.names);
    let site = Arc::new(Site {
        staging,
        setter: MetadataSetter::new(options.metadata, owners),
        metadata: options.metadata,
        overwrite: options.overwrite,
        tally: Arc::clone(&context.tally),
        firsts: FirstNames::default(),
        full: OnceLock::new(),
    });
    let walk = Walk {
        create: to_place.selects(),
        make_accessible: !rustix::process::geteuid().is_root(),
    };
    let tree = || DirectoryTree::new(Arc::clone(&root), walk);
    let writer = Writer {
        listing: selection.listing().clone(),
        placer: Placer::new(tree(), to_place, Arc::clone(&site)),
        after: AfterWorker::new(tree()),
        site: Arc::clone(&site),
        limits: WindowLimits::for_descriptors(raise_descriptor_limit()),
        options: &options,
        cancel: context.cancel.clone(),
    };
    let written = write_all(writer, selection.entries()).await;
    let removed = site.staging.remove();
    written?;
    removed.map_err(|source| target_error(&options.to, source))?;
    let finisher = DirectoryFinisher::new(Arc::clone(&root), to_finish, site);
    finish_directories(finisher, selection.entries(), &context.cancel).await?;
    if options.sync {
        sync(root, &options).await?;
    }
    Ok(context.tally.summary())
}

/// A name for the private directory that the snapshot does not use itself.
async fn free_staging_name(listing: &Listing) -> Result<Vec<u8>, RestoreError> {
    let mut name = STAGING_NAME.as_bytes().to_vec();
    while listing.entry(&name).await?.is_some() {
        name.push(b'_');
    }
    Ok(name)
}

struct Writer<'a> {
    listing: Listing,
    placer: Placer,
    after: AfterWorker,
    site: Arc<Site>,
    limits: WindowLimits,
    options: &'a RestoreOptions,
    cancel: CancellationToken,
}

async fn write_all(writer: Writer<'_>, mut entries: SelectedEntries) -> Result<(), RestoreError> {
    let mut placer = writer.placer;
    let mut filling = Filling::new(
        FillingParts {
            listing: writer.listing,
            site: writer.site,
            limits: writer.limits,
            target: &writer.options.to,
            cancel: writer.cancel,
        },
        writer.after,
    );
    let mut ahead = entries.next_entry().await?;
    while let Some((directory, first)) = ahead.take() {
        let mut batch = Batch {
            directory,
            entries: vec![first],
        };
        while batch.entries.len() < BATCH_ENTRIES_MAX {
            match entries.next_entry().await? {
                Some((directory, entry)) if directory == batch.directory => {
                    batch.entries.push(entry);
                }
                other => {
                    ahead = other;
                    break;
                }
            }
        }
        if ahead.is_none() {
            ahead = entries.next_entry().await?;
        }
        let placed = tokio::task::spawn_blocking(move || {
            let placed = placer.place(batch);
            (placer, placed)
        });
        let (back, placed) = placed.await.map_err(|_| RestoreError::Stopped)?;
        placer = back;
        filling.count_directory();
        for object in placed {
            filling.add(object).await?;
        }
        filling.resolve_all().await?;
    }
    filling.drain().await
}

async fn finish_directories(
    mut finisher: DirectoryFinisher,
    mut entries: SelectedEntries,
    cancel: &CancellationToken,
) -> Result<(), RestoreError> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut count = 0;
    loop {
        let next = entries.next_entry().await?;
        let ended = next.is_none();
        if let Some((directory, entry)) = next
            && entry.stat.kind == EntryKind::Directory
        {
            count += 1;
            match batches.last_mut() {
                Some(batch) if batch.directory == directory => batch.entries.push(entry),
                _ => batches.push(Batch {
                    directory,
                    entries: vec![entry],
                }),
            }
        }
        if count >= BATCH_ENTRIES_MAX || ended {
            if cancel.is_cancelled() {
                return Err(RestoreError::Cancelled);
            }
            count = 0;
            let ready = std::mem::take(&mut batches);
            let finished = tokio::task::spawn_blocking(move || {
                for batch in ready {
                    finisher.finish(batch);
                }
                if ended {
                    finisher.finish_rest();
                }
                finisher
            });
            finisher = finished.await.map_err(|_| RestoreError::Stopped)?;
        }
        if ended {
            return Ok(());
        }
    }
}

async fn sync(root: Arc<Directory>, options: &RestoreOptions) -> Result<(), RestoreError> {
    tokio::task::spawn_blocking(move || rustix::fs::syncfs(root.fd()))
        .await
        .map_err(|_| RestoreError::Stopped)?
        .map_err(|error| target_error(&options.to, error.into()))
}
