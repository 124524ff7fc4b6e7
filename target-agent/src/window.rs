//! The dedup window: takes results in turn, asks the coordinator about chunks in bounded queries, hands wanted
//! chunks on in order, and drops the others. Tells the coordinator each file's content and details. Keeps no
//! memory of chunks: the coordinator's index is the only one.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, never, select};
use formats::ids::ChunkId;
use formats::limits::{CONTENT_EXTENTS_MAX, SEEN_CHUNKS_MAX};
use formats::listing::content::Extent;
use formats::wire::control::FromAgent;
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::chunks::Seen;
use formats::wire::control::content::{ContentPart, Details, ReadOutcome};
use formats::wire::control::entries::EntryRef;
use formats::wire::control::problem::Problem;

use crate::budget::{Budget, Plain};
use crate::control::outgoing::Outgoing;
use crate::dispatch::BlockPlace;
use crate::limits::{HANDFUL_ITEMS_MAX, HELD_MESSAGES_MAX, SEEN_BYTES_TARGET, SEEN_WAIT};
use crate::threads::ThreadError;
use crate::totals::Counters;

/// A named chunk.
#[derive(Debug)]
pub struct Piece {
    /// Its name.
    pub id: ChunkId,
    /// Its bytes.
    pub plain: Plain,
}

/// A result of reading, in order.
#[derive(Debug)]
pub enum Item {
    /// The next chunk of the file.
    Chunk(Piece),
    /// The next chunk, once it has its name.
    Hashing(Receiver<Piece>),
    /// The next bytes are a hole.
    Hole(u64),
    /// The file is read again from its start.
    Restart,
    /// The entry's pieces so far are too many to hold back: they are final.
    Commit(EntryRef),
    /// The entry is done.
    Close(Box<Closing>),
}

/// The end of an entry.
#[derive(Debug)]
pub struct Closing {
    /// What is sent of it.
    pub details: Details,
    /// What else is told of it.
    pub problems: Vec<Problem>,
    /// Keeps the batch in flight until this is sent.
    pub place: Arc<BlockPlace>,
}

/// Why the window ended early.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The coordinator answered a query that does not wait.
    #[error("the coordinator's answer names query {query}, which does not wait for any")]
    UnknownQuery {
        /// The query named.
        query: u64,
    },
    /// The answer has another number of chunks.
    #[error("the coordinator's answer to query {query} has {found} bits for {expected} chunks")]
    Count {
        /// The query.
        query: u64,
        /// Bits given.
        found: u32,
        /// Chunks asked about.
        expected: usize,
    },
    /// The other threads are gone; they have said why.
    #[error("the run is ending")]
    Ending,
}

impl ThreadError for WindowError {
    fn is_echo(&self) -> bool {
        matches!(self, Self::Ending)
    }
}

struct Query {
    number: u64,
    pieces: Vec<Piece>,
    answer: Option<Bitmap>,
}

/// The window and what it is connected to.
pub struct Window {
    /// Groups' results, in turn.
    pub turns: Receiver<Receiver<Vec<Item>>>,
    /// Answers of the coordinator.
    pub answers: Receiver<Bitmap>,
    /// Wanted chunks go here, those of a query together.
    pub wanted: Sender<Vec<Piece>>,
    /// To the coordinator.
    pub outgoing: Outgoing,
    /// Told whose turn it is.
    pub budget: Budget,
    /// The run's counts.
    pub counters: Counters,
    /// How many queries may wait.
    pub queries_max: usize,
}

struct State {
    options: Window,
    /// Chunks of the next query.
    gathering: Vec<Piece>,
    gathered_bytes: usize,
    queries: VecDeque<Query>,
    next_query: u64,
    /// Extents of the file under way that are not sent yet.
    extents: Vec<Extent>,
    /// Messages that name gathered chunks: they follow the query, since content may only name chunks that were
    /// asked about. A closed entry's batch stays in flight until its details are sent.
    held: Vec<(FromAgent, Option<Arc<BlockPlace>>)>,
    turn: u64,
}

/// Runs until every turn is over and every query answered.
pub fn run(options: Window) -> Result<(), WindowError> {
    let mut state = State {
        options,
        gathering: Vec::new(),
        gathered_bytes: 0,
        queries: VecDeque::new(),
        next_query: 0,
        extents: Vec::new(),
        held: Vec::new(),
        turn: 0,
    };
    let mut current: Option<Receiver<Vec<Item>>> = None;
    let mut more = true;
    while more || !state.gathering.is_empty() || !state.queries.is_empty() {
        state.step(&mut current, &mut more)?;
    }
    Ok(())
}

impl State {
    fn step(
        &mut self,
        current: &mut Option<Receiver<Vec<Item>>>,
        more: &mut bool,
    ) -> Result<(), WindowError> {
        // For a whole handful of results.
        let room = (self.gathering.len() + HANDFUL_ITEMS_MAX) as u64 <= SEEN_CHUNKS_MAX
            && self.held.len() < HELD_MESSAGES_MAX;
        let items = match current {
            Some(items) if room => items.clone(),
            _ => never(),
        };
        let turns = if *more && room && current.is_none() {
            self.options.turns.clone()
        } else {
            never()
        };
        // Without company to wait for, chunks are asked about at once.
        let may_ask = !self.gathering.is_empty() && self.queries.len() < self.options.queries_max;
        let enough = !room || self.gathered_bytes >= SEEN_BYTES_TARGET;
        if may_ask && (enough || (!*more && current.is_none())) {
            self.ask();
            return Ok(());
        }
        let wait = if may_ask {
            SEEN_WAIT
        } else {
            // Something comes, or the process ends with stdin.
            std::time::Duration::from_secs(3_600)
        };
        select! {
            recv(self.options.answers) -> answer => {
                self.answer(answer.map_err(|_| WindowError::Ending)?)?;
            }
            recv(items) -> handful => match handful {
                Ok(items) => self.items(items)?,
                Err(_) => {
                    *current = None;
                    self.turn += 1;
                    self.options.budget.set_head(self.turn);
                }
            },
            recv(turns) -> turn => match turn {
                Ok(items) => *current = Some(items),
                Err(_) => *more = false,
            },
            default(wait) => if may_ask { self.ask() },
        }
        Ok(())
    }

    /// Sends the gathered chunks' names.
    fn ask(&mut self) {
        let pieces = std::mem::take(&mut self.gathering);
        self.gathered_bytes = 0;
        let number = self.next_query;
        self.next_query += 1;
        self.options.outgoing.send(&FromAgent::Seen(Seen {
            query: number,
            chunks: pieces
                .iter()
                .map(|piece| {
                    let bytes = u32::try_from(piece.plain.bytes.len()).unwrap_or(u32::MAX);
                    (piece.id, bytes)
                })
                .collect(),
        }));
        self.queries.push_back(Query {
            number,
            pieces,
            answer: None,
        });
        for (message, place) in self.held.drain(..) {
            self.options.outgoing.send(&message);
            drop(place);
        }
    }

    /// Sends a message now, or after the query for the chunks it names.
    fn send_in_order(&mut self, message: FromAgent, place: Option<Arc<BlockPlace>>) {
        if self.gathering.is_empty() {
            self.options.outgoing.send(&message);
        } else {
            self.held.push((message, place));
        }
    }

    /// Takes an answer; hands on what is wanted, in the order of the queries.
    fn answer(&mut self, answer: Bitmap) -> Result<(), WindowError> {
        let query = answer.of;
        let asked = self
            .queries
            .iter_mut()
            .find(|asked| asked.number == query && asked.answer.is_none())
            .ok_or(WindowError::UnknownQuery { query })?;
        if answer.bits as usize != asked.pieces.len() {
            return Err(WindowError::Count {
                query,
                found: answer.bits,
                expected: asked.pieces.len(),
            });
        }
        asked.answer = Some(answer);
        while self
            .queries
            .front()
            .is_some_and(|query| query.answer.is_some())
        {
            let Some(Query {
                pieces,
                answer: Some(answer),
                ..
            }) = self.queries.pop_front()
            else {
                break;
            };
            let wanted: Vec<Piece> = pieces
                .into_iter()
                .enumerate()
                .filter_map(|(index, piece)| answer.get(index).then_some(piece))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let bytes = wanted.iter().map(|piece| piece.plain.bytes.len() as u64);
            self.options.counters.bytes_new(bytes.sum());
            self.options
                .wanted
                .send(wanted)
                .map_err(|_| WindowError::Ending)?;
        }
        Ok(())
    }

    fn items(&mut self, items: Vec<Item>) -> Result<(), WindowError> {
        for item in items {
            self.item(item)?;
            let may_ask = self.queries.len() < self.options.queries_max;
            if may_ask && self.gathered_bytes >= SEEN_BYTES_TARGET {
                self.ask();
            }
        }
        Ok(())
    }

    fn item(&mut self, item: Item) -> Result<(), WindowError> {
        match item {
            Item::Chunk(piece) => self.piece(piece),
            Item::Hashing(named) => {
                let piece = named.recv().map_err(|_| WindowError::Ending)?;
                self.piece(piece);
            }
            Item::Hole(bytes) => self.extents.push(Extent::Hole { bytes }),
            Item::Restart => self.extents.clear(),
            Item::Commit(of) => {
                self.send_extents(of);
                self.extents.clear();
            }
            Item::Close(closing) => self.close(*closing),
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece) {
        self.extents.push(Extent::Chunk {
            id: piece.id,
            bytes: u32::try_from(piece.plain.bytes.len()).unwrap_or(u32::MAX),
        });
        self.gathered_bytes += piece.plain.bytes.len();
        self.gathering.push(piece);
    }

    fn close(&mut self, closing: Closing) {
        for problem in closing.problems {
            self.options.outgoing.problem(problem);
        }
        if closing.details.outcome == ReadOutcome::Read {
            self.send_extents(closing.details.of);
        }
        self.extents.clear();
        self.send_in_order(FromAgent::Details(closing.details), Some(closing.place));
    }

    fn send_extents(&mut self, of: EntryRef) {
        let extents = std::mem::take(&mut self.extents);
        for extents in extents.chunks(CONTENT_EXTENTS_MAX as usize) {
            let part = ContentPart {
                of,
                extents: extents.to_vec(),
            };
            self.send_in_order(FromAgent::Content(part), None);
        }
    }
}
