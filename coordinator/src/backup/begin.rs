//! Puts together what a conversation with the agent needs: what the host's last snapshot and the index know, and what takes what comes.

use std::sync::Arc;

use crate::backup::carrier::Carrier;
use crate::backup::conversation::{Conversation, State};
use crate::backup::error::RunError;
use crate::backup::listing_writer::ListingWriter;
use crate::backup::meta_writer::MetaWriter;
use crate::backup::new_chunks::NewChunks;
use crate::backup::newly_excluded::NewlyExcluded;
use crate::backup::parent::{Parent, ReadFor, tell_damaged};
use crate::backup::prepared::{Prepared, RunHeaders, sources};
use crate::backup::progress::Progress;
use crate::backup::remembered::{Memory, Remembered};
use crate::backup::reuse::{Lists, Reuse};
use crate::backup::run::RunOptions;
use crate::backup::session::Session;
use crate::backup::sources::Sources;
use crate::backup::streams::Streams;
use crate::backup::verifier::{Verifier, VerifierKeys};
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::safety::coverage::Coverage;
use crate::safety::kept::KeptPaths;
use crate::safety::path_rules::PathRules;
use crate::snapshot::chunk_error::FailureClass;
use crate::snapshot::listing::Listing;

/// A conversation at its start.
pub(super) async fn begin_conversation(
    coordinator: &Coordinator,
    host: &Host,
    prepared: &Prepared,
    headers: RunHeaders,
    session: &mut Session,
    options: RunOptions,
    progress: &Arc<Progress>,
) -> Result<Conversation, RunError> {
    let repository = prepared.opened.repository.id();
    let id_key = prepared.opened.repository.keys.id()?.clone();
    let chunking = prepared.opened.repository.keys.chunking()?.clone();
    let client = &coordinator.storage;
    let state = coordinator.state.lock().await;
    let usual_streams = state.usual_stream_sizes(host.name.as_str())?;
    drop(state);
    let (meta_header, meta_keys) = headers.meta.clone();
    let meta = MetaWriter::new(meta_header, meta_keys, id_key.clone())?;
    let memory = memory_of(coordinator, host, prepared).await?;
    Ok(Conversation {
        incoming: session.take_incoming(),
        outgoing: session.outgoing.clone(),
        tunnel: None,
        parent: parent_of(
            coordinator,
            host,
            prepared,
            options,
            progress,
            memory.clone(),
        )
        .await?,
        lost_count: prepared.opened.index.lost_count().await?,
        reuse: reuse_of(coordinator, prepared, memory).await?,
        listing: ListingWriter::new(
            repository,
            client.clone(),
            prepared.opened.index.clone(),
            meta,
            &chunking,
        ),
        verifier: Verifier::new(
            repository,
            prepared.run,
            client.clone(),
            prepared.opened.index.clone(),
            VerifierKeys {
                data: headers.data,
                meta: headers.meta,
                id_key,
            },
        ),
        index: prepared.opened.index.clone(),
        new_chunks: new_chunks_of(coordinator, host, prepared).await?,
        chunking,
        full_read: options.full_read,
        sources: Sources::new(&sources(host)),
        snapshot_bytes_max: host.safety.max_snapshot.hard_bytes(),
        streams: Streams::new(&host.streams, &usual_streams),
        carrier: carrier_of(coordinator, host, prepared).await?,
        progress: Arc::clone(progress),
        state: State::default(),
    })
}

/// What runs brought since the parent, and no snapshot has, is new.
async fn new_chunks_of(
    coordinator: &Coordinator,
    host: &Host,
    prepared: &Prepared,
) -> Result<NewChunks, RunError> {
    let Some((_, parent)) = &prepared.parent else {
        return Ok(NewChunks::default()); // Everything of a first run is new, and nobody asks.
    };
    let state = coordinator.state.lock().await;
    let mut runs = state.runs_since_snapshot(host.name.as_str(), prepared.run, parent.run)?;
    drop(state);
    runs.retain(|run| *run != prepared.run);
    let earlier = prepared.opened.index.brought_earlier(runs).await?;
    Ok(NewChunks::new(earlier))
}

/// What is remembered of the host's files, where the keys do not open what is stored of them.
async fn memory_of(
    coordinator: &Coordinator,
    host: &Host,
    prepared: &Prepared,
) -> Result<Option<Memory>, RunError> {
    let repository = &prepared.opened.repository;
    if repository.keys.opens() {
        return Ok(None);
    }
    let (state_dir, now) = (&coordinator.state_dir, coordinator.clock.now());
    let path = state_dir.remembered_file(repository.id(), &host.name);
    let id_key = repository.keys.id()?;
    Ok(Some(
        Memory::open(&path, id_key, host.name.as_str(), now).await,
    ))
}

/// Only an index that may lack something is asked for what unchanged files consist of, and where they are only remembered.
async fn reuse_of(
    coordinator: &Coordinator,
    prepared: &Prepared,
    memory: Option<Memory>,
) -> Result<Option<Reuse>, RunError> {
    let opened = &prepared.opened;
    if let Some(memory) = memory {
        return Ok(Some(Reuse::new(
            opened.index.clone(),
            Lists::Remembered(memory),
        )));
    }
    if !prepared.parent_is_dropped && !opened.index.may_lack().await? {
        return Ok(None);
    }
    let chunks = coordinator.chunk_reader(opened)?;
    Ok(Some(Reuse::new(
        opened.index.clone(),
        Lists::Stored(chunks),
    )))
}

/// What carries over what the host's configuration keeps of the parent; a full read, too.
async fn carrier_of(
    coordinator: &Coordinator,
    host: &Host,
    prepared: &Prepared,
) -> Result<Option<Carrier>, RunError> {
    let kept = KeptPaths::new(&host.safety.keep_deleted);
    let Some((kept, (_, snapshot))) = kept.zip(prepared.parent.as_ref()) else {
        return Ok(None);
    };
    let reader = coordinator.chunk_reader(&prepared.opened)?;
    let sources = Sources::new(&sources(host));
    match Listing::open(reader, &snapshot.page_index).await {
        Ok(listing) => Ok(Some(Carrier::new(Some(listing.cursor()), kept, sources))),
        Err(error) if error.class() == FailureClass::Integrity => {
            tell_damaged(&error);
            Ok(Some(Carrier::new(None, kept, sources)))
        }
        Err(error) => Err(RunError::Parent(error)),
    }
}

/// The parent's listing, or what is remembered in its place. A full read takes nothing over from it, and is compared with it all the
/// same.
async fn parent_of(
    coordinator: &Coordinator,
    host: &Host,
    prepared: &Prepared,
    options: RunOptions,
    progress: &Progress,
    memory: Option<Memory>,
) -> Result<Parent, RunError> {
    let read_for = match options.full_read {
        true => ReadFor::Comparing,
        false => ReadFor::TakingOver,
    };
    if let Some((_, snapshot)) = &prepared.parent {
        let totals = snapshot.totals;
        let entries = totals.files + totals.directories + totals.others;
        progress.update(|counts| counts.expected = (entries, totals.bytes));
    }
    if let Some(memory) = memory {
        return Ok(Parent::remembered(Remembered::new(memory)));
    }
    let Some((_, snapshot)) = &prepared.parent else {
        return Ok(Parent::new(None, read_for));
    };
    let reader = coordinator.chunk_reader(&prepared.opened)?;
    let listing = Listing::open(reader, &snapshot.page_index).await;
    let parent = Parent::read(listing, read_for).map_err(RunError::Parent)?;
    let newly_excluded = match host.safety.coverage {
        Coverage::Off => None,
        Coverage::Warn | Coverage::Fail => {
            let excludes = PathRules::new(&host.exclude).map_err(RunError::ExcludeRules)?;
            Some(NewlyExcluded::new(excludes))
        }
    };
    Ok(parent.watching(newly_excluded))
}
