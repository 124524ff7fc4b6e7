//! A reading thread: takes groups of wanted entries and sends what it reads to their turn.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use formats::limits::{CHUNK_BYTES_MIN, CONTENT_EXTENTS_MAX};
use formats::listing::entry::{EntryKind, join};
use formats::wire::control::content::Details;
use formats::wire::control::entries::EntryRef;
use formats::wire::control::problem::Problem;

use crate::budget::Budget;
use crate::cpu_limit::CpuLimit;
use crate::dispatch::{Job, Segment};
use crate::limits::{EXTENTS_HELD_MAX, HANDFUL_BYTES_TARGET, HANDFUL_ITEMS_MAX};
use crate::read::command::read_command;
use crate::read::content::{Ending, Pieces};
use crate::read::entry::{Found, read_other};
use crate::read::file::{FilePieces, FileReader};
use crate::read::hash::{HashJob, Hashing, name};
use crate::streams::Streams;
use crate::totals::Counters;
use crate::window::{Closing, Item};

/// Called as a file is read, with its name and how far; for tests that change it meanwhile.
pub type OnRead = Arc<dyn Fn(&[u8], u64) + Send + Sync>;

/// What a reading thread has.
pub struct Worker {
    /// Groups to read.
    pub work: Receiver<Segment>,
    /// Reads regular files.
    pub files: FileReader,
    /// Names chunks.
    pub hashing: Hashing,
    /// Bounds bytes in flight.
    pub budget: Budget,
    /// The run's counts.
    pub counters: Counters,
    /// Called as files are read.
    pub on_read: OnRead,
    /// What is no file on the disk.
    pub streams: Arc<Streams>,
    /// What the thread keeps to.
    pub cpu: CpuLimit,
}

/// Reads until there is no more work.
pub fn run(mut worker: Worker) {
    let work = worker.work.clone();
    for segment in work {
        let mut results = Results::new(segment.results);
        for job in segment.jobs {
            worker.cpu.pace();
            if worker.read(job, segment.turn, &mut results).is_err() {
                // The run is ending; the thread that ended it has said why.
                return;
            }
        }
        if results.hand_on().is_err() {
            return;
        }
    }
}

/// A group's results on their way to their turn, handed on by the handful.
struct Results {
    sender: Sender<Vec<Item>>,
    gathered: Vec<Item>,
    gathered_bytes: usize,
}

impl Results {
    fn new(sender: Sender<Vec<Item>>) -> Self {
        Self {
            sender,
            gathered: Vec::new(),
            gathered_bytes: 0,
        }
    }

    /// Adds a result that holds so many bytes.
    fn add(&mut self, item: Item, bytes: usize) -> Result<(), Ending> {
        self.gathered.push(item);
        self.gathered_bytes += bytes;
        if self.gathered_bytes >= HANDFUL_BYTES_TARGET || self.gathered.len() >= HANDFUL_ITEMS_MAX {
            return self.hand_on();
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<(), Ending> {
        self.gathered_bytes = 0;
        match std::mem::take(&mut self.gathered) {
            nothing if nothing.is_empty() => Ok(()),
            gathered => self.sender.send(gathered).map_err(|_| Ending),
        }
    }
}

impl Worker {
    fn read(&mut self, job: Job, turn: u64, results: &mut Results) -> Result<(), Ending> {
        let walked = &job.entry.stat;
        let path = join(&job.place.path, &job.entry.name);
        let stream = self.streams.at(&path);
        let found = if stream.is_none() && self.streams.have(&path) {
            // A directory that no disk has.
            Found::read(*walked)
        } else if walked.kind == EntryKind::File {
            let mut pieces = Sending {
                name: &job.entry.name,
                of: job.of,
                turn,
                results: &mut *results,
                hashing: &self.hashing,
                budget: &self.budget,
                counters: &self.counters,
                on_read: &self.on_read,
                cpu: &self.cpu,
                extents: 0,
            };
            let directory = &job.place.directory;
            let found = match stream {
                Some(stream) => read_command(stream, walked, &self.files.chunker, &mut pieces)?,
                None => {
                    let files = &mut self.files;
                    files.read(directory, &job.entry.name, walked, &mut pieces)?
                }
            };
            self.counters.file_read();
            found
        } else {
            read_other(&job.place.directory, &job.entry.name, walked)
        };
        results.add(Item::Close(Box::new(closing(job, &path, found))), 0)
    }
}

fn closing(job: Job, path: &[u8], found: Found) -> Closing {
    Closing {
        problems: found
            .problems
            .into_iter()
            .map(|(kind, errno, text)| Problem {
                kind,
                path: path.to_vec(),
                errno,
                text,
            })
            .collect(),
        details: Details {
            of: job.of,
            outcome: found.outcome,
            flags: found.flags,
            stat: found.stat,
            xattrs: found.xattrs,
            link_target: found.link_target,
        },
        place: job.place,
    }
}

/// Sends one file's pieces to its turn.
struct Sending<'a> {
    name: &'a [u8],
    of: EntryRef,
    turn: u64,
    results: &'a mut Results,
    hashing: &'a Hashing,
    budget: &'a Budget,
    counters: &'a Counters,
    on_read: &'a OnRead,
    cpu: &'a CpuLimit,
    extents: usize,
}

impl Sending<'_> {
    /// Counts an extent, when its time has come; past what can be held back, the ones before it are final.
    fn count_extent(&mut self) -> Result<(), Ending> {
        self.cpu.pace();
        let beyond = self.extents.checked_sub(EXTENTS_HELD_MAX);
        self.extents += 1;
        match beyond {
            Some(beyond) if beyond.is_multiple_of(CONTENT_EXTENTS_MAX as usize) => {
                self.results.add(Item::Commit(self.of), 0)
            }
            _ => Ok(()),
        }
    }
}

impl Pieces for Sending<'_> {
    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        self.count_extent()?;
        let plain = self.budget.take(self.turn, bytes);
        self.counters.bytes_read(bytes.len() as u64);
        if bytes.len() < CHUNK_BYTES_MIN as usize {
            // Not worth another thread.
            let item = Item::Chunk(name(plain, &self.hashing.key));
            return self.results.add(item, bytes.len());
        }
        let (named, waited) = bounded(1);
        let job = HashJob { plain, named };
        self.hashing.jobs.send(job).map_err(|_| Ending)?;
        self.results.add(Item::Hashing(waited), bytes.len())
    }

    fn hole(&mut self, bytes: u64) -> Result<(), Ending> {
        self.count_extent()?;
        self.results.add(Item::Hole(bytes), 0)
    }

    fn read_up_to(&mut self, offset: u64) {
        (self.on_read)(self.name, offset);
    }
}

impl FilePieces for Sending<'_> {
    fn restart(&mut self) -> Result<bool, Ending> {
        if self.extents > EXTENTS_HELD_MAX {
            return Ok(false);
        }
        self.extents = 0;
        self.results.add(Item::Restart, 0)?;
        Ok(true)
    }
}
