//! What a run knows before the agent is there, and the orders that it gives.

use formats::ids::{RecordId, RunId};
use formats::keys::secret::RunToken;
use formats::log::snapshot::Snapshot;
use formats::seal::run_header::{Purpose, RunContext, RunHeader, RunKeys};
use formats::wire::start::{AgentLimits, Rules, Start};

use crate::backup::error::RunError;
use crate::backup::session::Session;
use crate::backup::streams::Streams;
use crate::catalog::SnapshotRow;
use crate::clock::to_nanos;
use crate::config::host::Host;
use crate::coordinator::{Coordinator, HostRepository};

/// What a run knows before it connects.
pub(super) struct Prepared {
    pub(super) run: RunId,
    pub(super) started_nanos: i64,
    pub(super) opened: HostRepository,
    pub(super) parent: Option<(RecordId, Snapshot)>,
    /// Whether some destination does not keep the parent, so that not all of its chunks may be built upon.
    pub(super) parent_is_dropped: bool,
}

/// Opens the host's repository (the first run makes it), which catches up with its log.
pub(super) async fn prepare(
    coordinator: &Coordinator,
    host: &Host,
    run: RunId,
) -> Result<Prepared, RunError> {
    let started_nanos = to_nanos(coordinator.clock.now());
    if !coordinator.keyring.role().opens() && !host.safety.keep_deleted.is_empty() {
        let user = coordinator.keyring.user().clone();
        return Err(RunError::KeepsDeleted { user });
    }
    let opened = coordinator.create_or_open(host).await?;
    let rows = opened.catalog.snapshots(Some(&host.name.to_string()))?;
    let dropped = opened.catalog.dropped()?;
    let is_dropped = |row: &SnapshotRow| dropped.contains_key(&row.id);
    // What every destination keeps is all at every destination.
    let kept = rows.iter().rfind(|row| !is_dropped(row)).or(rows.last());
    let parent_is_dropped = kept.is_some_and(is_dropped);
    let parent = match kept {
        Some(row) => opened
            .catalog
            .snapshot(row.id)?
            .map(|snapshot| (row.id, snapshot)),
        None => None,
    };
    Ok(Prepared {
        run,
        started_nanos,
        opened,
        parent,
        parent_is_dropped,
    })
}

/// The run headers of the agent's packs and of the coordinator's own.
pub(super) struct RunHeaders {
    pub(super) data: (RunHeader, RunKeys),
    pub(super) meta: (RunHeader, RunKeys),
}

/// New ones, with the run's keys in them.
pub(super) fn run_headers(prepared: &Prepared) -> Result<RunHeaders, RunError> {
    let repository = &prepared.opened.repository;
    let header = |purpose| {
        let context = RunContext {
            repository: repository.id(),
            epoch: repository.config.epoch,
            run: prepared.run,
            purpose,
        };
        RunHeader::create(context, &repository.config.public)
    };
    Ok(RunHeaders {
        data: header(Purpose::Data)?,
        meta: header(Purpose::Meta)?,
    })
}

/// The configured paths as the listing has them: without the slash in front, sorted, each once.
pub(super) fn sources(host: &Host) -> Vec<Vec<u8>> {
    let mut sources: Vec<Vec<u8>> = host
        .paths
        .iter()
        .map(|path| {
            let bytes = path.as_bytes();
            let from = bytes.iter().take_while(|byte| **byte == b'/').count();
            let to = bytes.iter().rev().take_while(|byte| **byte == b'/').count();
            bytes
                .get(from..bytes.len().saturating_sub(to).max(from))
                .unwrap_or_default()
                .to_vec()
        })
        .collect();
    sources.sort();
    sources.dedup();
    sources
}

/// What the agent is told to do.
pub(super) fn orders(
    host: &Host,
    prepared: &Prepared,
    headers: &RunHeaders,
    token: RunToken,
    session: &Session,
    sources: &[Vec<u8>],
) -> Result<Start, RunError> {
    let (header, keys) = &headers.data;
    let repository = &prepared.opened.repository;
    Ok(Start {
        repository: repository.id(),
        epoch: repository.config.epoch,
        run: prepared.run,
        id_key: prepared.opened.repository.keys.id()?.clone(),
        chunking_key: prepared.opened.repository.keys.chunking()?.clone(),
        data_key: keys.data.clone(),
        table_key: keys.table.clone(),
        run_header: header.encode(),
        token,
        transport: session.transport(),
        rules: Rules {
            sources: sources.to_vec(),
            one_file_system: host.one_file_system,
            exclude: host
                .exclude
                .iter()
                .map(|rule| rule.as_str().to_owned())
                .collect(),
            exclude_caches: host.exclude_caches,
            exclude_if_present: host
                .exclude_if_present
                .iter()
                .map(|name| name.as_str().as_bytes().to_vec())
                .collect(),
            fs_snapshot: host.fs_snapshot.order(),
        },
        streams: Streams::orders(&host.streams),
        limits: AgentLimits {
            tunnel_connections: host.limits.tunnel_connections,
            threads: host
                .limits
                .agent_threads
                .map_or(0, |threads| u8::try_from(threads).unwrap_or(u8::MAX)),
            cpu_percent: host.limits.cpu.order(),
            ..AgentLimits::default()
        },
    })
}
