//! One backup run of one host: the main flow of Capstan, on one page. Each step's details are in its own
//! file. Nothing is called a success here that is not committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::ids::RunId;
use formats::keys::secret::{RunToken, random};
use formats::limits::GIB;
use formats::wire::control::FromCoordinator;
use formats::wire::start::Transport;
use formats::wire::upload::OpenRun;
use jiff::Timestamp;
use tracing::{Instrument as _, Span};

use crate::backup::begin::begin_conversation;
use crate::backup::commit::{CommitFacts, CommitTo, Committed, commit};
use crate::backup::control::Outgoing;
use crate::backup::conversation::converse;
use crate::backup::dead_runs::note_dead_of;
use crate::backup::error::RunError;
use crate::backup::guard::{Guard, cut_at};
use crate::backup::hooks::Hooks;
use crate::backup::login::reach;
use crate::backup::prepared::{Prepared, orders, prepare, run_headers, sources};
use crate::backup::progress::{Progress, Step};
use crate::backup::report::{CommittedRun, RunReport, Warning};
use crate::backup::session::{self, Session};
use crate::backup::state_copy::copy_state;
use crate::backup::stored::stored_bytes;
use crate::catalog::state::Outcome as HistoryOutcome;
use crate::catalog::state::results::RunResult;
use crate::clock::from_nanos;
use crate::config::host::Host;
use crate::config::show::standalone_toml;
use crate::coordinator::Coordinator;
use crate::events::Event;
use crate::events::what::What;
use crate::lock::HostLock;
use crate::retention::lock::RepositoryLock;
use crate::safety::quota::Scope;
use crate::storage::StorageError;

/// New bytes of a run without a limit of its own.
const NEW_BYTES_MAX_DEFAULT: u64 = 64 * 1024 * GIB;
/// Packs of a run.
const PACKS_MAX: u64 = 4 << 20;

/// How long the agent may take to hear that it may go.
const GOODBYE_MAX: Duration = Duration::from_secs(30);

/// What is asked of one run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Read every file, whatever the parent snapshot knows.
    pub full_read: bool,
    /// It is asked for whatever the host's window says: it may begin while that is closed, and go on past its end.
    pub outside_window: bool,
    /// What it is called; a name of its own otherwise.
    pub run: Option<RunId>,
}

/// Backs up one host and says what came of it; failures are in the report.
pub async fn run_host(
    coordinator: &Coordinator,
    host: &Host,
    options: RunOptions,
    progress: &Arc<Progress>,
) -> RunReport {
    let began = Instant::now();
    let mut seen = Seen::default();
    let result = run(coordinator, host, options, progress, &mut seen).await;
    RunReport {
        host: host.name.to_string(),
        result: result.map(|committed| CommittedRun {
            id: committed.id,
            sequence: committed.sequence,
            committed_nanos: committed.snapshot.committed_nanos,
            totals: committed.snapshot.totals,
            problems: committed.snapshot.problems,
            held: seen.held.clone(),
            changes: committed.changes,
        }),
        duration: began.elapsed(),
        transport: seen.transport,
        agent_memory: seen.agent_memory,
        agent_cpu: seen.agent_cpu,
        left_behind: seen.left_behind,
        warnings: seen.warnings,
    }
}

/// What is told of a run whether it succeeds or not.
#[derive(Debug, Default)]
struct Seen {
    transport: Option<&'static str>,
    agent_memory: u64,
    agent_cpu: Duration,
    left_behind: Vec<String>,
    warnings: Vec<Warning>,
    /// Why the run looks wrong, if it does.
    held: Option<String>,
    /// What limits the bytes that it may store.
    allowance: Option<Scope>,
}

async fn run(
    coordinator: &Coordinator,
    host: &Host,
    options: RunOptions,
    progress: &Arc<Progress>,
    seen: &mut Seen,
) -> Result<Committed, RunError> {
    progress.step(Step::Prepare);
    let run = match options.run {
        Some(run) => run,
        None => RunId(random()?),
    };
    let _lock = HostLock::take(
        &coordinator.state_dir.hosts_dir(),
        &host.name.to_string(),
        run,
        coordinator.clock.now(),
    )?;
    // Hosts that are this machine share one copy of the state, which is read to the run's end.
    let _state_copy = match host.local {
        true => Some(HostLock::take(
            coordinator.state_dir.root(),
            "state-copy",
            run,
            coordinator.clock.now(),
        )?),
        false => None,
    };
    // Held to the run's end: whatever it finds stored is not condemned before its snapshot is there.
    let locks = coordinator.state_dir.locks_dir();
    let repository = host.repository.to_string();
    // Losing the wait is safe: nothing has begun.
    let _in_use = tokio::select! {
        lock = RepositoryLock::share(&locks, &repository) => lock?,
        why = progress.stopped() => return Err(why.into()),
    };
    let name = host.name.to_string();
    // Losing the look is safe: the next run, or the daemon's next start, looks again.
    tokio::select! {
        noted = note_dead_of(coordinator, &name) => noted?,
        why = progress.stopped() => return Err(why.into()),
    };
    let now = coordinator.clock.now();
    coordinator
        .state
        .lock()
        .await
        .run_started(&name, run, now)?;
    let started = What::RunStarted {
        outside_window: options.outside_window,
    };
    let started = Event::of_host(&name, started).in_run(run);
    coordinator.events.tell(started);
    // Of the highest level, so that every line says which run it is of, however little is logged.
    let span = tracing::error_span!("run", %run, host = name, snapshot = tracing::field::Empty);
    let result = run_with_hooks(coordinator, host, options, progress, run, seen)
        .instrument(span)
        .await;
    note_end(coordinator, &name, (run, now), seen, &result).await;
    result
}

/// Writes into the history what a run came to, and tells it.
async fn note_end(
    coordinator: &Coordinator,
    name: &str,
    (run, began): (RunId, Timestamp),
    seen: &Seen,
    result: &Result<Committed, RunError>,
) {
    let (outcome, error) = match result {
        Ok(_) if seen.held.is_some() => (HistoryOutcome::Held, seen.held.clone()),
        Ok(committed)
            if committed.snapshot.totals.problems > 0
                || !seen.warnings.is_empty()
                || !seen.left_behind.is_empty() =>
        {
            (HistoryOutcome::Warnings, None)
        }
        Ok(_) => (HistoryOutcome::Ok, None),
        Err(error @ (RunError::Cancelled | RunError::Ending)) => {
            (HistoryOutcome::Cancelled, Some(error.to_string()))
        }
        Err(error) => (HistoryOutcome::Failed, Some(error.to_string())),
    };
    let finished = coordinator.clock.now();
    let totals = result.as_ref().ok().map(|done| done.snapshot.totals);
    let failure = error.clone().filter(|_| result.is_err());
    let ended = What::run_ended(outcome, totals, finished.duration_since(began), failure);
    let mut state = coordinator.state.lock().await;
    if let Err(error) = state.run_finished(run, finished, outcome, error.as_deref()) {
        tracing::error!(%error, "the run's end is not in the history");
    }
    drop(state);
    if let Err(RunError::Quota { scope, used, limit }) = result {
        let passed = What::QuotaHard {
            scope: scope.as_str().to_owned(),
            used: *used,
            limit: *limit,
        };
        let passed = Event::of_host(name, passed).in_run(run);
        coordinator.events.tell(passed);
    }
    // Whoever hears of it finds it in the history.
    let ended = Event::of_host(name, ended).in_run(run);
    coordinator.events.tell(ended);
}

/// The run's work, dropped when it is to stop while it still connects: connections close with it, and the host removes the
/// agent when its input ends. Later it is the run itself that stops, once what arrived is in the index.
async fn unless_stopped_early(
    work: impl Future<Output = Result<Committed, RunError>>,
    coordinator: &Coordinator,
    progress: &Progress,
    run: RunId,
) -> Result<Committed, RunError> {
    let stopped_early = async {
        let why = progress.stopped().await;
        if progress.counts().step >= Step::BackUp {
            std::future::pending::<()>().await;
        }
        why
    };
    // Losing the work is safe before the agent sends anything, see above; losing the other arm too, it is asked again below.
    let why = tokio::select! {
        result = work => return result,
        why = stopped_early => why,
    };
    if let Err(error) = coordinator.storage.close_run(run).await {
        tracing::debug!(%error, "ending the run's grant, if it had one");
    }
    Err(why.into())
}

/// Notes at once that a snapshot is committed: what comes after may take minutes, and a run that is not made known here is made
/// again by a coordinator that died meanwhile.
async fn note_committed(coordinator: &Coordinator, committed: &Committed) {
    let snapshot = &committed.snapshot;
    let result = RunResult {
        snapshot: committed.id,
        committed: from_nanos(snapshot.committed_nanos),
        good: committed.held.is_none(),
        verified: snapshot.verified,
        totals: snapshot.totals,
    };
    let mut state = coordinator.state.lock().await;
    // The history is for people: what was committed stays committed when it cannot be written.
    if let Err(error) = state.note_result(&snapshot.host, snapshot.run, &result) {
        tracing::error!(%error, "the run's result is not in the history");
    }
    let changes = committed.changes.as_ref();
    let noted = changes.map(|changes| state.note_changes(&snapshot.host, snapshot.run, changes));
    if let Some(Err(error)) = noted {
        tracing::error!(%error, "what changed in the run is not in the history");
    }
}

/// The run while its host is locked, and the hooks after it, whatever becomes of it.
async fn run_with_hooks(
    coordinator: &Coordinator,
    host: &Host,
    options: RunOptions,
    progress: &Arc<Progress>,
    run: RunId,
    seen: &mut Seen,
) -> Result<Committed, RunError> {
    let mut hooks = Hooks::new(coordinator, host, run);
    let work = run_locked(coordinator, host, options, progress, &mut hooks, run, seen);
    let result = unless_stopped_early(work, coordinator, progress, run).await;
    seen.warnings.extend(hooks.after(result.is_ok()).await);
    result
}

/// Everything that can go wrong here goes into the history.
async fn run_locked(
    coordinator: &Coordinator,
    host: &Host,
    options: RunOptions,
    progress: &Arc<Progress>,
    hooks: &mut Hooks<'_>,
    run: RunId,
    seen: &mut Seen,
) -> Result<Committed, RunError> {
    let mut prepared = prepare(coordinator, host, run).await?;

    copy_state(&coordinator.config, host).await?;
    progress.step(Step::Connect);
    let connection = reach(host).await?;
    progress.step(Step::Hooks);
    hooks.before(&connection).await?;
    progress.step(Step::Deploy);
    let agents = coordinator.config.agents_dir.as_deref();
    let mut session = session::begin(
        &connection,
        host,
        prepared.opened.repository.id(),
        agents,
        &coordinator.ingest,
        Arc::clone(&coordinator.clock),
    )
    .await?;
    seen.transport = Some(transport_name(&session));

    // From here on the agent runs: whatever happens, its grant ends and it is seen off.
    let result = back_up(
        coordinator,
        host,
        options,
        progress,
        &mut prepared,
        &mut session,
        seen,
    )
    .await;
    if let Ok(committed) = &result {
        Span::current().record("snapshot", tracing::field::display(committed.id));
    }
    progress.step(Step::CleanUp);
    let passed_limit = match coordinator.storage.close_run(run).await {
        Err(StorageError::Quota { .. }) => true,
        Err(error) => {
            tracing::warn!(%error, "ending the run's grant");
            false
        }
        Ok(()) => false,
    };
    seen.left_behind = session.end(&connection).await;
    connection.disconnect().await;
    for left in &seen.left_behind {
        tracing::warn!(left, "the run left something on the host");
    }
    match (result, seen.allowance.filter(|_| passed_limit)) {
        // What the agent says of being cut is only that it was.
        (Err(_), Some(scope)) => Err(cut_at(host, scope)),
        (result, _) => result,
    }
}

fn transport_name(session: &Session) -> &'static str {
    match session.transport() {
        Transport::Unix { .. } => "unix",
        Transport::Tcp { .. } => "tcp",
        Transport::Stdio => "stdio",
    }
}

/// The part of a run in which the agent runs: orders, conversation, commit.
async fn back_up(
    coordinator: &Coordinator,
    host: &Host,
    options: RunOptions,
    progress: &Arc<Progress>,
    prepared: &mut Prepared,
    session: &mut Session,
    seen: &mut Seen,
) -> Result<Committed, RunError> {
    progress.step(Step::Handshake);
    let sources = sources(host);
    let stored = stored_bytes(coordinator, host, &prepared.opened).await?;
    let answered = (&session.facts, &session.surroundings);
    let begun = Guard::begin(coordinator, host, prepared.run, &sources, answered, stored);
    let (guard, warnings) = begun.await?;
    seen.warnings = warnings;
    let allowance = guard.allowance()?;
    seen.allowance = allowance.map(|(_, scope)| scope);
    let headers = run_headers(prepared)?;
    let token = open_run(coordinator, host, prepared, allowance).await?;
    let start = orders(host, prepared, &headers, token, session, &sources)?;
    let tunnel = session.start(start).await?;

    progress.step(Step::BackUp);
    let mut conversation = begin_conversation(
        coordinator,
        host,
        prepared,
        headers,
        session,
        options,
        progress,
    )
    .await?;
    conversation.tunnel = tunnel;
    let limit = host.limits.run.duration();
    let outcome = match within(limit, progress, converse(&mut conversation)).await {
        Ok(outcome) => outcome,
        Err(error) => {
            // What is stored and sound stays known, so that the next run does not send it again.
            conversation.verifier.finish().await;
            return Err(with_stderr(error, session));
        }
    };
    seen.agent_memory = outcome.totals.memory_peak;
    seen.agent_cpu = Duration::from_millis(outcome.totals.cpu_millis);
    send_away(&session.outgoing).await;

    progress.step(Step::Commit);
    let facts = CommitFacts {
        host: host.name.to_string(),
        run: prepared.run,
        started_nanos: prepared.started_nanos,
        parent: prepared.parent.as_ref().map(|(id, _)| *id),
        sources: sources.clone(),
        facts: session.facts.clone(),
        agent: session.agent.clone(),
    };
    let to = CommitTo {
        coordinator,
        repository: &prepared.opened.repository,
        settings: standalone_toml(&coordinator.config, host),
        catalog: &mut prepared.opened.catalog,
        index: &prepared.opened.index,
        guard: &guard,
        compared_with: prepared.parent.as_ref().map(|(_, snapshot)| snapshot),
        warnings: &mut seen.warnings,
    };
    let committed = commit(&mut conversation, outcome, facts, to).await?;
    note_committed(coordinator, &committed).await;
    conversation.parent.committed().await;
    seen.held.clone_from(&committed.held);
    Ok(committed)
}

/// Tells the append-server of the run, and how much it may store.
async fn open_run(
    coordinator: &Coordinator,
    host: &Host,
    prepared: &Prepared,
    allowance: Option<(u64, Scope)>,
) -> Result<RunToken, RunError> {
    let token = RunToken::random()?;
    coordinator
        .storage
        .open_run(&OpenRun {
            repository: prepared.opened.repository.id(),
            run: prepared.run,
            token: token.clone(),
            bytes_max: allowance.map_or(NEW_BYTES_MAX_DEFAULT, |(bytes, _)| bytes),
            packs_max: PACKS_MAX,
            seconds_max: host.limits.run.duration().as_secs(),
        })
        .await?;
    Ok(token)
}

/// Nothing more is needed of the agent: whether it hears this changes nothing.
async fn send_away(outgoing: &Outgoing) {
    let goodbye = outgoing.send(FromCoordinator::Bye);
    if !matches!(tokio::time::timeout(GOODBYE_MAX, goodbye).await, Ok(Ok(()))) {
        tracing::warn!("the agent was gone before it was sent away");
    }
}

/// The conversation, unless it takes too long or is to stop.
async fn within<T>(
    limit: Duration,
    progress: &Progress,
    work: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    // Losing the work is safe: what is verified of it is in the index, and nothing else is anywhere.
    tokio::select! {
        result = tokio::time::timeout(limit, work) => match result {
            Ok(result) => result,
            Err(_) => Err(RunError::TooLong { limit }),
        },
        why = progress.stopped() => Err(why.into()),
    }
}

/// An error of the conversation together with what the agent said before it ended.
fn with_stderr(error: RunError, session: &Session) -> RunError {
    match error {
        RunError::Control { source, .. } => RunError::Control {
            stderr: session.stderr(),
            source,
        },
        RunError::AgentEnded { .. } => RunError::AgentEnded {
            stderr: session.stderr(),
        },
        other => other,
    }
}
