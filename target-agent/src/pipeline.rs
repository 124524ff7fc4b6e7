//! Starts every thread of a run and connects them by bounded queues:
//!
//! ```text
//! walk -> (coordinator: verdicts) -> dispatch -> readers -> window -> (coordinator: wanted) -> frames
//!                                                  |  ^                                          |
//!                                                 hashers                                     sealers -> packs -> uploaders
//! ```
//!
//! The end goes the same way: each thread ends when the one before it has, and packs when all is acknowledged.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use formats::chunk::Chunker;
use formats::seal::run_header::RunHeader;
use formats::wire::start::Start;

use crate::batches::{BatchSender, OpenBatches};
use crate::budget::Budget;
use crate::control::incoming::Incoming;
use crate::control::outgoing::Outgoing;
use crate::cpu_limit::CpuLimit;
use crate::dispatch::{self, Dispatcher, Segment};
use crate::facts::SeenIds;
use crate::filter::Filter;
use crate::limits::{
    Limit, PACK_IDLE, PACK_MOVES_BYTES, READERS_MAX, SEGMENTS_WAITING_MAX, UPLOAD_FRAMES_MAX,
    WANTED_WAITING_MAX, WORKERS_MAX,
};
use crate::pack::effort::{Effort, Gauge};
use crate::pack::seal::{self, Sealing};
use crate::pack::{frames, packs};
use crate::read::content::Window as CutWindow;
use crate::read::file::FileReader;
use crate::read::hash::{self, Hashing};
use crate::read::worker::{self, OnRead, Worker};
use crate::streams::Streams;
use crate::threads::spawn;
use crate::totals::Counters;
use crate::upload::sender::{self, Uploader};
use crate::upload::stream::Stream;
use crate::walk::ground::Ground;
use crate::walk::walker::{WalkOptions, walk};
use crate::window::{self, Item, Piece, Window};

/// What a run works with.
pub struct PipelineOptions {
    /// The orders.
    pub start: Start,
    /// The run header of the orders.
    pub header: RunHeader,
    /// The patterns of the orders.
    pub filter: Arc<Filter>,
    /// Upload connections, hands shaken.
    pub connections: Vec<Box<dyn Stream>>,
    /// The tree to walk.
    pub ground: Ground,
    /// How many directories may be open.
    pub open_directories: usize,
    /// From the coordinator.
    pub incoming: Incoming,
    /// To the coordinator.
    pub outgoing: Outgoing,
    /// The run's counts.
    pub counters: Counters,
    /// Called as files are read.
    pub on_read: OnRead,
}

/// Walks, reads and uploads; gives the owners seen when everything is acknowledged.
pub fn run(options: PipelineOptions) -> io::Result<SeenIds> {
    let workers = worker_count(options.start.limits.threads);
    let streams = Arc::new(Streams::new(options.start.streams.clone()));
    let budget = Budget::new();
    let cpu = CpuLimit::new(options.start.limits.cpu_percent);
    let open = OpenBatches::default();
    let (turns, in_turn) = bounded(SEGMENTS_WAITING_MAX);
    let (wanted, wanted_in) = bounded(WANTED_WAITING_MAX);
    let (walked, walked_out) = bounded(1);

    let last = start_packing(
        &options.start,
        options.header,
        workers,
        wanted_in,
        Uploads {
            budget: budget.clone(),
            connections: options.connections,
            outgoing: options.outgoing.clone(),
            counters: options.counters.clone(),
            cpu: cpu.clone(),
        },
    )?;
    start_reading(
        &options.start,
        workers,
        &options.outgoing,
        Reading {
            dispatcher: (options.incoming.verdicts.clone(), open.clone(), walked_out),
            turns,
            budget: budget.clone(),
            counters: options.counters.clone(),
            on_read: options.on_read,
            streams: streams.clone(),
            cpu: cpu.clone(),
        },
    )?;
    let window = Window {
        turns: in_turn,
        answers: options.incoming.answers.clone(),
        wanted,
        outgoing: options.outgoing.clone(),
        budget,
        counters: options.counters.clone(),
        queries_max: options.start.limits.queries_in_flight as usize,
    };
    spawn("window", &options.outgoing, move || window::run(window))?;

    let sink = BatchSender {
        outgoing: options.outgoing,
        open,
        in_flight: Limit::new(options.start.limits.batches_in_flight as usize),
        counters: options.counters,
    };
    let walk_options = WalkOptions {
        ground: &options.ground,
        rules: &options.start.rules,
        filter: &options.filter,
        streams: &streams,
        open_directories: options.open_directories,
        cpu: &cpu,
    };
    let (_, batches, seen) = walk(&walk_options, sink);
    // The dispatcher lives until it has this.
    walked.send(batches).ok();
    last.join().ok();
    Ok(seen)
}

fn worker_count(asked: u8) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if asked == 0 { cores } else { asked.into() };
    workers.clamp(1, WORKERS_MAX)
}

struct Uploads {
    budget: Budget,
    connections: Vec<Box<dyn Stream>>,
    outgoing: Outgoing,
    counters: Counters,
    cpu: CpuLimit,
}

/// Starts frames, sealers, packs and uploaders; gives the one that ends last.
fn start_packing(
    start: &Start,
    header: RunHeader,
    workers: usize,
    wanted: Receiver<Vec<Piece>>,
    uploads: Uploads,
) -> io::Result<JoinHandle<()>> {
    let outgoing = uploads.outgoing;
    let (to_seal, sealing) = bounded(workers);
    let (steps, steps_in) = bounded(2 * workers);
    let context = header.context;
    let effort = Effort::new(start.limits.compression_level.into());
    let sealing = Sealing {
        jobs: sealing,
        context,
        key: start.data_key.clone(),
        effort: effort.clone(),
        budget: uploads.budget,
        cpu: uploads.cpu.clone(),
    };
    for index in 0..workers {
        let sealing = sealing.clone();
        spawn(&format!("seal-{index}"), &outgoing, move || {
            seal::run(&sealing)
        })?;
    }
    let frames = frames::Frames {
        wanted,
        to_seal,
        steps,
        idle: PACK_IDLE,
    };
    spawn("frames", &outgoing, move || {
        frames::run(&frames);
        Ok::<(), io::Error>(())
    })?;

    let (idle, idle_out) = bounded(uploads.connections.len());
    let mut connections = Vec::new();
    for (connection, stream) in uploads.connections.into_iter().enumerate() {
        let (parts, parts_out) = bounded(UPLOAD_FRAMES_MAX);
        connections.push(parts);
        idle.send(connection).map_err(io::Error::other)?;
        let uploader = Uploader {
            stream,
            parts: parts_out,
            connection,
            idle: idle.clone(),
            outgoing: outgoing.clone(),
            counters: uploads.counters.clone(),
            cpu: uploads.cpu.clone(),
        };
        spawn(&format!("upload-{connection}"), &outgoing, move || {
            sender::run(uploader)
        })?;
    }
    let packs = packs::Packs {
        steps: steps_in,
        idle: idle_out,
        connections,
        header,
        key: start.table_key.clone(),
        gauge: Gauge::new(effort),
        pace: packs::Pace {
            interval: PACK_IDLE,
            bytes_min: PACK_MOVES_BYTES,
        },
    };
    spawn("packs", &outgoing, move || packs::run(packs))
}

struct Reading {
    dispatcher: (
        Receiver<formats::wire::control::bitmap::Bitmap>,
        OpenBatches,
        Receiver<u64>,
    ),
    turns: Sender<Receiver<Vec<Item>>>,
    budget: Budget,
    counters: Counters,
    on_read: OnRead,
    streams: Arc<Streams>,
    cpu: CpuLimit,
}

/// Starts the dispatcher, the readers and the hashers.
fn start_reading(
    start: &Start,
    workers: usize,
    outgoing: &Outgoing,
    reading: Reading,
) -> io::Result<()> {
    let (work, work_out) = bounded::<Segment>(READERS_MAX);
    let (verdicts, open, walked) = reading.dispatcher;
    let dispatcher = Dispatcher {
        verdicts,
        open,
        walked,
        turns: reading.turns,
        work,
    };
    spawn("dispatch", outgoing, move || dispatch::run(&dispatcher))?;

    let key = Arc::new(start.id_key.clone());
    let (jobs, jobs_out) = bounded(workers);
    for index in 0..workers {
        let (jobs, key, cpu) = (jobs_out.clone(), key.clone(), reading.cpu.clone());
        spawn(&format!("hash-{index}"), outgoing, move || {
            hash::run(&jobs, &key, &cpu);
            Ok::<(), io::Error>(())
        })?;
    }
    let chunker = Arc::new(Chunker::new(&start.chunking_key));
    for index in 0..READERS_MAX {
        let worker = Worker {
            work: work_out.clone(),
            files: FileReader {
                chunker: chunker.clone(),
                window: CutWindow::default(),
            },
            hashing: Hashing {
                key: key.clone(),
                jobs: jobs.clone(),
            },
            budget: reading.budget.clone(),
            counters: reading.counters.clone(),
            on_read: reading.on_read.clone(),
            streams: reading.streams.clone(),
            cpu: reading.cpu.clone(),
        };
        spawn(&format!("read-{index}"), outgoing, move || {
            worker::run(worker);
            Ok::<(), io::Error>(())
        })?;
    }
    Ok(())
}
