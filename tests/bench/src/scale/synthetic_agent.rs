//! A synthetic agent: this program, put on a target in the agent's place, speaks the agent's protocol honestly and tells
//! of a tree that exists only in its words. So a listing of any size can be had without its files. It holds the
//! metadata of the batches under way and nothing else.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context as _, Result, bail, ensure};
use formats::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX};
use formats::listing::entry::{EntryFlags, Stat};
use formats::wire::control::content::{Details, ReadOutcome};
use formats::wire::control::entries::{Block, Entries, EntryRef};
use formats::wire::control::totals::Totals;
use formats::wire::control::{FromAgent, FromCoordinator, Hello};
use formats::wire::facts::HostFacts;
use formats::wire::framing::{LENGTH_BYTES, PROTOCOL_VERSION, frame, frame_length};
use formats::wire::start::{Start, Transport};
use formats::wire::surroundings::Surroundings;

use crate::synthetic_tree::{SyntheticTree, entries_of};

/// What `uname -m` says on a target whose agent is this one.
pub const MACHINE: &str = "synthetic";
/// About what an entry's metadata takes on the wire: batches are cut as the real agent cuts them.
const ENTRY_BYTES: usize = 56;
/// Messages of the coordinator that wait: more than there can be batches without an answer.
const INCOMING_MAX: usize = 256;

/// Plays the agent when this program was deployed as one; otherwise there is nothing to do.
pub fn main_if_deployed() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    if Path::new(&program).file_name()? != "agent" {
        return None;
    }
    let played = match arguments.next()?.to_str()? {
        "--digest" => print_digest(),
        "serve" => serve(),
        _ => return None,
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("synthetic agent: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn print_digest() -> Result<()> {
    println!("{}", formats::ids::to_hex(&own_digest()?));
    Ok(())
}

fn own_digest() -> Result<[u8; 32]> {
    let program = fs::read("/proc/self/exe").context("reading its own file")?;
    Ok(blake3::hash(&program).into())
}

struct Conversation {
    output: BufWriter<io::Stdout>,
    input: Receiver<Result<FromCoordinator>>,
    /// The batches without their details, first to last.
    waiting: VecDeque<Told>,
    entries: u64,
}

/// A batch that was told.
struct Told {
    batch: u64,
    stats: Vec<Stat>,
}

fn serve() -> Result<()> {
    let (sender, input) = sync_channel(INCOMING_MAX);
    std::thread::spawn(move || {
        let mut stdin = BufReader::new(io::stdin());
        loop {
            let message = receive(&mut stdin);
            let over = message.is_err();
            if sender.send(message).is_err() || over {
                return;
            }
        }
    });
    let mut conversation = Conversation {
        output: BufWriter::with_capacity(256 << 10, io::stdout()),
        input,
        waiting: VecDeque::new(),
        entries: 0,
    };
    conversation.hold()
}

fn receive(input: &mut impl Read) -> Result<FromCoordinator> {
    let mut length = [0; LENGTH_BYTES];
    input
        .read_exact(&mut length)
        .context("the coordinator hung up")?;
    let mut body = vec![0; frame_length(length)?];
    input
        .read_exact(&mut body)
        .context("the coordinator hung up")?;
    Ok(FromCoordinator::decode(&body)?)
}

impl Conversation {
    fn hold(&mut self) -> Result<()> {
        self.send(&FromAgent::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            digest: own_digest()?,
            facts: facts(),
        }))?;
        self.send(&FromAgent::Surroundings(Surroundings::default()))?;
        self.output.flush()?;
        let FromCoordinator::Start(start) = self.next()? else {
            bail!("another message came before the orders");
        };
        ensure!(
            start.transport == Transport::Stdio,
            "the synthetic agent stores nothing and opens no tunnel: set transport = \"stdio\""
        );
        remove_itself()?;
        self.send(&FromAgent::Ready)?;
        self.output.flush()?;
        self.tell(&start)?;
        let totals = Totals {
            entries: self.entries,
            memory_peak: own_peak_bytes(),
            ..Totals::default()
        };
        self.send(&FromAgent::Finished(totals))?;
        self.output.flush()?;
        match self.next()? {
            FromCoordinator::Bye => Ok(()),
            other => bail!("instead of the goodbye came {other:?}"),
        }
    }

    /// Tells all batches, as many at once as the orders allow, and the details of what is wanted of them.
    fn tell(&mut self, start: &Start) -> Result<()> {
        let [source] = start.rules.sources.as_slice() else {
            bail!("the synthetic agent has one source");
        };
        let entries = entries_of(source).context("the source is no synthetic tree")?;
        let mut tree = SyntheticTree::new(entries);
        let in_flight_max = start.limits.batches_in_flight as usize;
        let mut batch = 0;
        while let Some((blocks, stats)) = next_batch(&mut tree) {
            if self.waiting.len() == in_flight_max {
                self.answer()?;
            }
            self.entries += stats.len() as u64;
            self.send(&FromAgent::Entries(Entries { batch, blocks }))?;
            self.output.flush()?;
            self.waiting.push_back(Told { batch, stats });
            batch += 1;
        }
        while !self.waiting.is_empty() {
            self.answer()?;
        }
        Ok(())
    }

    /// Takes the verdicts of the first batch that waits and gives the details.
    fn answer(&mut self) -> Result<()> {
        let told = self.waiting.pop_front().context("no batch waits")?;
        let verdicts = match self.next()? {
            FromCoordinator::Verdicts(verdicts) => verdicts,
            other => bail!("instead of verdicts came {other:?}"),
        };
        ensure!(
            verdicts.of == told.batch && verdicts.bits as usize == told.stats.len(),
            "verdicts of another batch"
        );
        for (index, stat) in told.stats.iter().enumerate() {
            if verdicts.get(index) {
                let details = Details {
                    of: EntryRef {
                        batch: told.batch,
                        entry: u32::try_from(index)?,
                    },
                    outcome: ReadOutcome::Read,
                    flags: EntryFlags::default(),
                    stat: *stat,
                    xattrs: Vec::new(),
                    link_target: Vec::new(),
                };
                self.send(&FromAgent::Details(details))?;
            }
        }
        self.output.flush().context("the coordinator hung up")
    }

    fn send(&mut self, message: &FromAgent) -> Result<()> {
        let framed = frame(&message.encode())?;
        self.output
            .write_all(&framed)
            .context("the coordinator hung up")
    }

    fn next(&mut self) -> Result<FromCoordinator> {
        let message = self.input.recv().context("the coordinator hung up")??;
        if let FromCoordinator::Abort(text) = message {
            bail!("the coordinator gave up: {text}");
        }
        Ok(message)
    }
}

/// The next batch of a tree, and the metadata of its entries; none at the end.
fn next_batch(tree: &mut SyntheticTree) -> Option<(Vec<Block>, Vec<Stat>)> {
    let (mut blocks, mut stats, mut bytes) = (Vec::<Block>::new(), Vec::new(), 0);
    let mut folder = Vec::new();
    while bytes < BATCH_BYTES_TARGET && (stats.len() as u64) < BATCH_ENTRIES_MAX {
        let Some(entry) = tree.next_entry(&mut folder) else {
            break;
        };
        bytes += ENTRY_BYTES + entry.name.len();
        stats.push(entry.stat);
        match blocks.last_mut() {
            Some(block) if block.directory == folder => block.entries.push(entry),
            _ => {
                bytes += folder.len() + 8;
                blocks.push(Block {
                    directory: folder.clone(),
                    entries: vec![entry],
                });
            }
        }
    }
    (!stats.is_empty()).then_some((blocks, stats))
}

/// As the real agent: its file and its directory go as soon as it stands.
fn remove_itself() -> Result<()> {
    let program = std::env::current_exe().context("asking for its own path")?;
    fs::remove_file(&program).context("removing its own file")?;
    let directory = program.parent().context("asking for its directory")?;
    fs::remove_dir(directory).context("removing its directory")
}

fn own_peak_bytes() -> u64 {
    tests::processes::peak_rss_bytes(std::process::id()).unwrap_or_default()
}

fn facts() -> HostFacts {
    HostFacts {
        system: "Linux synthetic".into(),
        hostname: "synthetic".into(),
        machine_id: String::new(),
        uid: 0,
        clock_nanos: 0,
    }
}
