//! One run, from Hello to Bye: orders, upload connections, removal from the disk, the walk and everything it
//! sets going, the end. Never reads anything before its file and directory are gone.

use std::io;
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use formats::codec::DecodeError;
use formats::seal::run_header::{Purpose, RunContext, RunHeader};
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::control::{FromAgent, Hello};
use formats::wire::framing::PROTOCOL_VERSION;
use formats::wire::start::{self, Start};

use crate::control::incoming::{self, Incoming};
use crate::control::outgoing::Outgoing;
use crate::facts::{self, SeenIds};
use crate::filter::{Filter, FilterError};
use crate::fs_snapshot::{self, FsSnapshot, SnapshotError, SnapshotOptions};
use crate::hardening;
use crate::limits::PROGRESS_EVERY;
use crate::own_file::{self, OwnDirectory};
use crate::pipeline::{self, PipelineOptions};
use crate::read::worker::OnRead;
use crate::surroundings;
use crate::threads;
use crate::totals::Counters;
use crate::upload::connect::{self, ConnectError};

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the agent cannot read its own file")]
    OwnFile(#[source] io::Error),
    #[error("the coordinator's orders did not come")]
    NoOrders,
    #[error("the run header in the orders cannot be read")]
    RunHeader(#[from] DecodeError),
    #[error("the run header in the orders is of another run")]
    OtherRun,
    #[error("the orders cannot be followed")]
    Filter(#[from] FilterError),
    #[error("the sources cannot be read from filesystem snapshots")]
    FsSnapshot(#[from] SnapshotError),
    #[error("no upload connection")]
    Connect(#[from] ConnectError),
    #[error("a thread cannot be started")]
    Thread(#[from] io::Error),
}

/// Serves one run on stdin and stdout.
pub fn serve() -> ExitCode {
    serve_with(Arc::new(|_: &[u8], _: u64| {}))
}

/// Serves one run, calling `on_read` as files are read.
pub fn serve_with(on_read: OnRead) -> ExitCode {
    hardening::protect_memory();
    std::panic::set_hook(Box::new(|panic| {
        // A thread that is gone would leave the others waiting: the run ends, and the coordinator sees it.
        eprintln!("target-agent: {panic}");
        exit(1);
    }));
    let counters = Counters::default();
    let started = Outgoing::start(counters.clone())
        .and_then(|outgoing| Ok((incoming::start(&outgoing)?, outgoing)));
    let (incoming, outgoing) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("target-agent: cannot start a thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&incoming, &outgoing, &counters, on_read) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => outgoing.abort(&threads::chain(&error)),
    }
}

fn run(
    incoming: &Incoming,
    outgoing: &Outgoing,
    counters: &Counters,
    on_read: OnRead,
) -> Result<(), SessionError> {
    say_hello(outgoing)?;
    let start = incoming.start.recv().map_err(|_| SessionError::NoOrders)?;
    let header = check_orders(&start)?;
    let filter = Arc::new(Filter::new(start.rules.exclude.iter().map(String::as_str))?);
    let connections = connect::connect(&start, incoming, outgoing)?;
    let own = OwnDirectory::find();
    remove_self(own.as_ref(), outgoing);
    outgoing.send(&FromAgent::Ready);

    let (done, is_done) = bounded::<()>(0);
    let progress = {
        let (outgoing, counters) = (outgoing.clone(), counters.clone());
        std::thread::Builder::new()
            .name("progress".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                while is_done.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
                    outgoing.send_if_idle(&FromAgent::Progress(counters.totals()));
                }
            })?
    };
    let snapshot = take_snapshot(&start, &filter, outgoing)?;
    let taken = snapshot.as_ref().map(|snapshot| snapshot.ground.clone());
    let mut ground = taken.unwrap_or_default();
    ground.own_directories.extend(own.map(|own| own.identity()));
    let seen = pipeline::run(PipelineOptions {
        start: *start,
        header,
        filter,
        connections,
        ground,
        open_directories: hardening::open_directories(),
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
        counters: counters.clone(),
        on_read,
    })?;
    if let Some(snapshot) = snapshot {
        for left in snapshot.remove()? {
            outgoing.problem(left);
        }
    }
    drop(done);
    progress.join().ok();
    say_farewell(incoming, outgoing, counters, &seen);
    Ok(())
}

fn say_hello(outgoing: &Outgoing) -> Result<(), SessionError> {
    outgoing.send(&FromAgent::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        digest: own_file::digest().map_err(SessionError::OwnFile)?,
        facts: facts::host_facts(),
    }));
    outgoing.send(&FromAgent::Surroundings(surroundings::look_around()));
    Ok(())
}

/// The run header goes into every pack as it is; it must be this run's, or nothing sealed here would open.
fn check_orders(start: &Start) -> Result<RunHeader, SessionError> {
    let header = RunHeader::decode(&start.run_header)?;
    let expected = RunContext {
        repository: start.repository,
        epoch: start.epoch,
        run: start.run,
        purpose: Purpose::Data,
    };
    if header.context == expected {
        Ok(header)
    } else {
        Err(SessionError::OtherRun)
    }
}

/// The snapshots that the orders ask for, if they do.
fn take_snapshot(
    start: &Start,
    filter: &Arc<Filter>,
    outgoing: &Outgoing,
) -> Result<Option<FsSnapshot>, SnapshotError> {
    if start.rules.fs_snapshot == start::FsSnapshot::None {
        return Ok(None);
    }
    let mut snapshot = fs_snapshot::take(SnapshotOptions {
        repository: start.repository,
        run: start.run,
        rules: start.rules.clone(),
        filter: filter.clone(),
    })?;
    for problem in snapshot.problems.drain(..) {
        outgoing.problem(problem);
    }
    Ok(Some(snapshot))
}

/// Leaves the disk before anything is read. What cannot be removed is told; the coordinator clears up.
fn remove_self(own: Option<&OwnDirectory>, outgoing: &Outgoing) {
    if let Some(Err(error)) = own.map(OwnDirectory::remove) {
        outgoing.problem(Problem {
            kind: ProblemKind::Other,
            path: Vec::new(),
            errno: error.raw_os_error().unwrap_or(0).unsigned_abs(),
            text: "remove the agent's own directory".to_owned(),
        });
    }
}

/// The longest the coordinator may take to commit what it has before the agent goes anyway.
const BYE_WAIT: Duration = Duration::from_secs(600);

fn say_farewell(incoming: &Incoming, outgoing: &Outgoing, counters: &Counters, seen: &SeenIds) {
    outgoing.send(&FromAgent::Names(seen.names()));
    outgoing.send(&FromAgent::Finished(counters.totals()));
    outgoing.flush();
    // Everything is sent and acknowledged: without an answer there is nothing more to do.
    incoming.bye.recv_timeout(BYE_WAIT).ok();
}
