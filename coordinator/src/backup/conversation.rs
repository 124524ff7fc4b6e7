//! The conversation with the agent, from its first entry to its last: answers which entries and chunks are
//! wanted, writes the listing as details come in, has every pack verified. One task owns all of its state.
//!
//! Never believes the agent: order, numbers, sums and names are checked, and content may only name chunks
//! that are verified or that this run was promised.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use append_server::ssh::escape::escape_cut;
use formats::ids::ChunkId;
use formats::keys::secret::ChunkingKey;
use formats::limits::{BATCHES_IN_FLIGHT_MAX, SNAPSHOT_NAMES_MAX, SNAPSHOT_PROBLEMS_MAX};
use formats::listing::content::Extent;
use formats::listing::entry::{Entry, EntryFlags, EntryKind, join};
use formats::listing::order::OrderChecker;
use formats::seal::run_header::Purpose;
use formats::wire::control::bitmap::Bitmap;
use formats::wire::control::chunks::Seen;
use formats::wire::control::content::{ContentPart, Details, ReadOutcome};
use formats::wire::control::entries::{Entries, EntryRef, EntryStat};
use formats::wire::control::names::Names;
use formats::wire::control::problem::{Problem, ProblemKind};
use formats::wire::control::totals::Totals;
use formats::wire::control::{FromAgent, FromCoordinator};

use crate::backup::before::Before;
use crate::backup::carrier::{Carrier, Kept};
use crate::backup::comparison::content_bytes;
use crate::backup::control::{Incoming, Outgoing};
use crate::backup::error::{RunError, TOLD_BYTES_MAX};
use crate::backup::listing_writer::ListingWriter;
use crate::backup::new_chunks::NewChunks;
use crate::backup::parent::Parent;
use crate::backup::pending::{CutPage, Judged, Pending, PendingBlock, PendingEntry, Waiting};
use crate::backup::progress::Progress;
use crate::backup::reuse::Reuse;
use crate::backup::session::StdioTunnel;
use crate::backup::shared_index::SharedIndex;
use crate::backup::sources::Sources;
use crate::backup::streams::Streams;
use crate::backup::verdict::{HardLinks, Verdict, is_unchanged, judge};
use crate::backup::verifier::{Verified, Verifier};
use crate::safety::quota::Scope;

/// Chunks that may be promised and not yet verified: those of the packs under way, with much room.
const PROMISED_MAX: usize = 1 << 20;
/// Chunks remembered as known, so that content is not looked up a second time.
const KNOWN_MAX: usize = 1 << 18;
/// Without any message for this long, the run is given up.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Bytes of problems that are listed, so that long paths cannot make the log record too large.
const PROBLEM_BYTES_MAX: usize = 1 << 20;
/// Hard links to a name that vanished are remembered up to this many.
const GONE_LINKS_MAX: usize = 1 << 16;

/// What the conversation brought.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first problems.
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
    /// Those of them that say that a source is not there, whether or not they are among the first.
    pub sources_missing: u64,
    /// User and group names.
    pub names: Names,
    /// The agent's own counts.
    pub totals: Totals,
    /// Bytes of verified data packs.
    pub bytes_stored: u64,
    /// Plain bytes of chunks that were wanted and are verified.
    pub bytes_new: u64,
}

/// Everything the conversation works on.
pub struct Conversation {
    /// What the agent sends.
    pub incoming: Incoming,
    /// What it is sent.
    pub outgoing: Outgoing,
    /// Upload connections over the conversation, where the transport is stdio.
    pub tunnel: Option<StdioTunnel>,
    /// The parent's listing.
    pub parent: Parent,
    /// Packs that were known to be lost when it began.
    pub lost_count: u64,
    /// Looks for what the parent's entries name, where some may be lost.
    pub reuse: Option<Reuse>,
    /// The new listing.
    pub listing: ListingWriter,
    /// Checks packs.
    pub verifier: Verifier,
    /// Knows chunks.
    pub index: SharedIndex,
    /// Tells how much of what is new explains itself.
    pub new_chunks: NewChunks,
    /// Cuts long content lists.
    pub chunking: ChunkingKey,
    /// Read everything, whatever the parent knows.
    pub full_read: bool,
    /// What was asked for; entries of anything else are refused.
    pub sources: Sources,
    /// The most bytes that its files may have together.
    pub snapshot_bytes_max: Option<u64>,
    /// The streams that were asked for.
    pub streams: Streams,
    /// Carries over what is gone and kept.
    pub carrier: Option<Carrier>,
    /// Told to whoever watches.
    pub progress: Arc<Progress>,
    /// The checks' and answers' own state.
    pub state: State,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").finish_non_exhaustive()
    }
}

/// What the conversation remembers.
#[derive(Debug)]
pub struct State {
    order: OrderChecker,
    links: HardLinks,
    pending: Pending,
    /// Verdicts that wait, because as many answered batches as allowed are still open: a slow file holds up
    /// the batches behind it, and the agent goes on walking only when it is answered.
    withheld: VecDeque<Bitmap>,
    /// Chunks that were asked for, and the bytes that the agent says they have.
    promised: HashMap<ChunkId, u32>,
    /// Chunks that are verified, and their bytes.
    known: HashMap<ChunkId, u32>,
    next_query: u64,
    gone: HashSet<Vec<u8>>,
    meta_packs_begun: usize,
    /// Entries that arrived.
    entries: u64,
    /// Bytes of the files among them by what was listed, further names not counted: ends a run early.
    listed_bytes: u64,
    /// Bytes of those that are in the new listing, by their content.
    written_bytes: u64,
    /// Data packs that arrived and were verified.
    data_packs: u64,
    /// Bytes of the problems that are kept.
    problem_bytes: usize,
    outcome: Outcome,
}

impl Default for State {
    fn default() -> Self {
        Self {
            order: OrderChecker::new(),
            links: HardLinks::default(),
            // As many answered as unanswered ones: see `State::withheld`.
            pending: Pending::new(BATCHES_IN_FLIGHT_MAX * 2),
            withheld: VecDeque::new(),
            promised: HashMap::new(),
            known: HashMap::new(),
            next_query: 0,
            gone: HashSet::new(),
            meta_packs_begun: 0,
            entries: 0,
            listed_bytes: 0,
            written_bytes: 0,
            data_packs: 0,
            problem_bytes: 0,
            outcome: Outcome::default(),
        }
    }
}

/// Talks with the agent until it has finished and everything it sent is verified.
pub async fn converse(conversation: &mut Conversation) -> Result<Outcome, RunError> {
    loop {
        let message = next_message(conversation).await?;
        if let FromAgent::Finished(totals) = message {
            note_totals(conversation, totals);
            conversation.state.outcome.totals = totals;
            break;
        }
        take(conversation, message).await?;
    }
    if !conversation.state.pending.is_empty() {
        return Err(RunError::Unexpected {
            what: "finished with entries still waiting",
        });
    }
    for problem in conversation.streams.finish()? {
        note_problem(conversation, problem);
    }
    carry_before(conversation, None).await?;
    settle(conversation).await?;
    check_totals(&conversation.state)?;
    Ok(std::mem::take(&mut conversation.state.outcome))
}

/// The agent's own counts must be what arrived: a difference means that something was lost on the way, or
/// that the agent does not know what it did.
fn check_totals(state: &State) -> Result<(), RunError> {
    let told = &state.outcome.totals;
    if told.entries != state.entries || told.packs != state.data_packs {
        return Err(RunError::Totals {
            told: (told.entries, told.packs),
            found: (state.entries, state.data_packs),
        });
    }
    Ok(())
}

/// The next message, while verified packs are taken note of.
async fn next_message(conversation: &mut Conversation) -> Result<FromAgent, RunError> {
    let silence = tokio::time::sleep(SILENCE_MAX);
    tokio::pin!(silence);
    loop {
        let Conversation {
            incoming, verifier, ..
        } = conversation;
        // Losing `recv` or `next` is safe: both are cancel-safe and give the same item again.
        let verified = tokio::select! {
            message = incoming.recv() => {
                return match message {
                    Some(Ok(message)) => Ok(message),
                    Some(Err(source)) => Err(RunError::Control { stderr: String::new(), source }),
                    None => Err(RunError::AgentEnded { stderr: String::new() }),
                };
            }
            Some(verified) = verifier.next() => verified?,
            () = &mut silence => return Err(RunError::Stalled { waited: SILENCE_MAX }),
        };
        note_verified(conversation, verified)?;
    }
}

async fn take(conversation: &mut Conversation, message: FromAgent) -> Result<(), RunError> {
    match message {
        FromAgent::Entries(entries) => take_entries(conversation, entries).await,
        FromAgent::Content(part) => take_content(conversation, part).await,
        FromAgent::Details(details) => take_details(conversation, details).await,
        FromAgent::Seen(seen) => take_seen(conversation, seen).await,
        FromAgent::PackStored(stored) => {
            conversation
                .verifier
                .begin(stored.pack, Purpose::Data)
                .await
        }
        FromAgent::Problem(problem) => {
            conversation.streams.note(&problem);
            note_problem(conversation, problem);
            Ok(())
        }
        FromAgent::Names(names) => {
            take_names(conversation, names);
            Ok(())
        }
        FromAgent::Progress(totals) => {
            note_totals(conversation, totals);
            Ok(())
        }
        FromAgent::Tunnel(bytes) => match &mut conversation.tunnel {
            Some(tunnel) => tunnel.deliver(bytes).await,
            None => Err(RunError::Unexpected {
                what: "tunnel bytes without a stdio tunnel",
            }),
        },
        FromAgent::Abort(text) => Err(RunError::AgentAborted { text }),
        FromAgent::Hello(_)
        | FromAgent::Surroundings(_)
        | FromAgent::Ready
        | FromAgent::Finished(_) => Err(RunError::Unexpected {
            what: "a message of the beginning in the middle",
        }),
    }
}

async fn take_entries(conversation: &mut Conversation, entries: Entries) -> Result<(), RunError> {
    conversation.state.pending.check_next(entries.batch)?;
    conversation.parent.recall(&entries.blocks).await;
    let mut wanted = Vec::new();
    let mut blocks = Vec::with_capacity(entries.blocks.len());
    let (mut files, mut bytes) = (0u64, 0u64);
    for block in entries.blocks {
        conversation.state.order.block(&block.directory)?;
        let mut judged = Vec::with_capacity(block.entries.len());
        for found in block.entries {
            if found.stat.kind == EntryKind::File {
                files += 1;
                bytes = bytes.saturating_add(found.stat.size);
            }
            let of = EntryRef {
                batch: entries.batch,
                entry: u32::try_from(wanted.len()).unwrap_or(u32::MAX),
            };
            let found = take_entry(conversation, of, &block.directory, found).await?;
            wanted.push(matches!(found.entry, PendingEntry::Waiting(_)));
            judged.push(found);
        }
        blocks.push(PendingBlock {
            directory: block.directory,
            entries: judged,
        });
    }
    let Conversation {
        state,
        progress,
        reuse,
        snapshot_bytes_max,
        ..
    } = conversation;
    if let Some(reuse) = reuse {
        want_lost(reuse, &mut blocks, &mut wanted).await?;
    }
    progress.update(|counts| {
        counts.entries += wanted.len() as u64;
        counts.files += files;
        counts.bytes = counts.bytes.saturating_add(bytes);
    });
    check_snapshot_bytes(state, *snapshot_bytes_max)?;
    state.entries += wanted.len() as u64;
    state.pending.push(blocks);
    let verdicts = Bitmap::new(entries.batch, wanted.into_iter());
    state.withheld.push_back(verdicts);
    answer_batches(conversation).await?;
    write_complete(conversation).await
}

/// Ends a run whose files have more bytes together than they may, by what was listed or by what came.
fn check_snapshot_bytes(state: &State, limit: Option<u64>) -> Result<(), RunError> {
    let used = state.listed_bytes.max(state.written_bytes);
    match limit.filter(|limit| used > *limit) {
        Some(limit) => Err(RunError::Quota {
            scope: Scope::Snapshot,
            used,
            limit,
        }),
        None => Ok(()),
    }
}

/// Checks an entry's place and judges it.
async fn take_entry(
    conversation: &mut Conversation,
    of: EntryRef,
    directory: &[u8],
    found: EntryStat,
) -> Result<Judged, RunError> {
    let Conversation {
        state,
        parent,
        full_read,
        sources,
        streams,
        ..
    } = conversation;
    let found_bytes = found.stat.size;
    state.order.entry(&found.name, found.stat.kind)?;
    let of_streams = streams.check(directory, &found)?;
    if !of_streams {
        sources.check(directory, &found.name)?;
    }
    let known = parent
        .entry_at(directory, &found.name)
        .await
        .map_err(RunError::Parent)?;
    if of_streams {
        streams.listed(of, directory, &found.name, known.as_ref());
    }
    let read_anew = *full_read || of_streams;
    let before = known
        .as_ref()
        .map(|entry| Before::of(entry, !read_anew && is_unchanged(entry, &found.stat)));
    let verdict = judge(directory, &found, known, read_anew, &mut state.links);
    if !matches!(verdict, Verdict::HardLink(_)) {
        state.listed_bytes = state.listed_bytes.saturating_add(found_bytes);
    }
    let entry = match verdict {
        Verdict::Unchanged(entry) | Verdict::HardLink(entry) => PendingEntry::Done(entry),
        Verdict::Wanted => {
            PendingEntry::Waiting(Box::new(Waiting::new(found.name, found.stat.kind)))
        }
    };
    Ok(Judged {
        entry,
        before,
        new_bytes: 0,
    })
}

/// Asks for what is unchanged, and of whose content something is lost.
async fn want_lost(
    reuse: &Reuse,
    blocks: &mut [PendingBlock],
    wanted: &mut [bool],
) -> Result<(), RunError> {
    let judged = blocks.iter().flat_map(|block| &block.entries);
    let done: Vec<&Entry> = judged
        .filter_map(|judged| match &judged.entry {
            PendingEntry::Done(entry) => Some(&**entry),
            _ => None,
        })
        .collect();
    let mut there = reuse.is_there(&done).await?.into_iter();
    let judged = blocks.iter_mut().flat_map(|block| &mut block.entries);
    for (judged, wanted) in judged.zip(wanted) {
        if let PendingEntry::Done(entry) = &mut judged.entry
            && there.next() == Some(false)
        {
            let name = std::mem::take(&mut entry.name);
            judged.entry = PendingEntry::Waiting(Box::new(Waiting::new(name, entry.stat.kind)));
            *wanted = true;
        }
    }
    Ok(())
}

/// Sends the verdicts that are due, in the order of their batches.
async fn answer_batches(conversation: &mut Conversation) -> Result<(), RunError> {
    let state = &mut conversation.state;
    let allowed = BATCHES_IN_FLIGHT_MAX as usize;
    while state.pending.len() - state.withheld.len() < allowed
        && let Some(verdicts) = state.withheld.pop_front()
    {
        conversation
            .outgoing
            .send(FromCoordinator::Verdicts(verdicts))
            .await?;
    }
    Ok(())
}

/// Moves every complete batch into the listing.
async fn write_complete(conversation: &mut Conversation) -> Result<(), RunError> {
    while let Some(blocks) = conversation.state.pending.pop_complete() {
        for block in blocks {
            for judged in block.entries {
                write_entry(conversation, &block.directory, judged).await?;
            }
        }
        check_snapshot_bytes(&conversation.state, conversation.snapshot_bytes_max)?;
        answer_batches(conversation).await?;
    }
    let packs = conversation
        .listing
        .new_packs(conversation.state.meta_packs_begun)
        .to_vec();
    for pack in packs {
        conversation.verifier.begin(pack, Purpose::Meta).await?;
        conversation.state.meta_packs_begun += 1;
    }
    Ok(())
}

/// Writes what is carried over before an entry of the listing, or after all of them.
async fn carry_before(
    conversation: &mut Conversation,
    next: Option<(&[u8], &Entry)>,
) -> Result<(), RunError> {
    loop {
        let Conversation {
            carrier,
            reuse,
            listing,
            ..
        } = &mut *conversation;
        let Some(carrier) = carrier else {
            return Ok(());
        };
        match carrier.next_before(next, reuse.as_ref()).await? {
            Some(Kept::Carried(at, kept)) => listing.push(&at, &kept).await?,
            Some(Kept::Lost { path }) => note_problem(conversation, kept_and_lost(path)),
            None => return Ok(()),
        }
    }
}

/// What was kept and cannot be any longer: only whoever brings its packs back can have it again.
fn kept_and_lost(path: Vec<u8>) -> Problem {
    Problem {
        kind: ProblemKind::Other,
        path,
        errno: 0,
        text: "keep_deleted keeps it, but its content is lost at every destination, so it is in earlier snapshots alone: bring the \
               lost packs back to a destination, run `coordinator scan --repair`, and restore it from the snapshot before this one"
            .to_owned(),
    }
}

async fn write_entry(
    conversation: &mut Conversation,
    directory: &[u8],
    judged: Judged,
) -> Result<(), RunError> {
    let new_bytes = judged.new_bytes;
    match judged.entry {
        PendingEntry::Done(entry) => {
            let entry = without_vanished_link(conversation, directory, *entry);
            let Conversation { state, parent, .. } = conversation;
            parent.settled(
                directory,
                &entry.name,
                Some(&entry),
                judged.before,
                new_bytes,
            );
            parent.note(directory, &entry).await;
            state.written_bytes = state.written_bytes.saturating_add(content_bytes(&entry));
            carry_before(conversation, Some((directory, &entry))).await?;
            conversation.listing.push(directory, &entry).await
        }
        PendingEntry::Gone { name } => {
            let parent = &mut conversation.parent;
            parent.settled(directory, &name, None, judged.before, new_bytes);
            if conversation.state.gone.len() < GONE_LINKS_MAX {
                conversation.state.gone.insert(join(directory, &name));
            }
            Ok(())
        }
        PendingEntry::Waiting(_) => Err(RunError::Unexpected {
            what: "a complete batch with a waiting entry",
        }),
    }
}

/// A further name of a file whose first name vanished before it was read has no content to link to: it is
/// listed without, as a problem, and read by the next run.
fn without_vanished_link(conversation: &mut Conversation, directory: &[u8], entry: Entry) -> Entry {
    let vanished = entry
        .hard_link_to
        .as_ref()
        .is_some_and(|first| conversation.state.gone.contains(first));
    if !vanished {
        return entry;
    }
    note_problem(
        conversation,
        Problem {
            kind: ProblemKind::Vanished,
            path: join(directory, &entry.name),
            errno: 0,
            text: "the name that was to be read vanished; this name of the file is read next time"
                .into(),
        },
    );
    let content = match entry.stat.kind {
        EntryKind::File => formats::listing::content::Content::Missing,
        _ => formats::listing::content::Content::None,
    };
    Entry {
        hard_link_to: None,
        flags: entry.flags.with(EntryFlags::UNREADABLE),
        content,
        ..entry
    }
}

async fn take_content(conversation: &mut Conversation, part: ContentPart) -> Result<(), RunError> {
    check_content(conversation, &part.extents).await?;
    let of = part.of;
    let (at, was) = conversation.state.pending.next_part(of)?;
    let new_bytes = conversation.new_chunks.named(&part.extents, at, was);
    let cut = conversation
        .state
        .pending
        .add_content(part, &conversation.chunking)?;
    conversation.state.pending.note_new(of, new_bytes)?;
    for page in cut {
        store_page(conversation, page).await?;
    }
    Ok(())
}

async fn store_page(conversation: &mut Conversation, page: CutPage) -> Result<(), RunError> {
    let stored = conversation
        .listing
        .store_content_page(&page.extents)
        .await?;
    let parent = &mut conversation.parent;
    parent.note_page(&stored.id, &page.extents).await;
    conversation.state.pending.add_page(page.of, stored)?;
    Ok(())
}

/// Content may only name chunks that are verified, or promised and thus verified before the commit, and in the length that
/// they have: a file's size is what its chunks add up to.
async fn check_content(
    conversation: &mut Conversation,
    extents: &[Extent],
) -> Result<(), RunError> {
    let state = &mut conversation.state;
    let mut unknown = Vec::new();
    for extent in extents {
        let Extent::Chunk { id, bytes } = *extent else {
            continue;
        };
        match state.promised.get(&id).or_else(|| state.known.get(&id)) {
            Some(found) => check_length(id, bytes, *found)?,
            None => unknown.push((id, bytes)),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let ids = unknown.iter().map(|(id, _)| *id).collect();
    let lengths = conversation.index.lengths_of(ids).await?;
    for ((id, bytes), found) in unknown.into_iter().zip(lengths) {
        check_length(id, bytes, found.ok_or(RunError::UnknownChunk { id })?)?;
    }
    Ok(())
}

fn check_length(id: ChunkId, told: u32, found: u32) -> Result<(), RunError> {
    match told == found {
        true => Ok(()),
        false => Err(RunError::ChunkLength { id, told, found }),
    }
}

async fn take_details(
    conversation: &mut Conversation,
    mut details: Details,
) -> Result<(), RunError> {
    if let Some(problem) = conversation.streams.close(&mut details)? {
        note_problem(conversation, problem);
    }
    if details.outcome == ReadOutcome::Read
        && let Some(page) = conversation.state.pending.last_page(details.of)?
    {
        store_page(conversation, page).await?;
    }
    conversation.state.pending.close(details)?;
    write_complete(conversation).await
}

async fn take_seen(conversation: &mut Conversation, seen: Seen) -> Result<(), RunError> {
    let Conversation {
        state,
        index,
        new_chunks,
        outgoing,
        ..
    } = conversation;
    if seen.query != state.next_query {
        return Err(RunError::Unexpected {
            what: "a query out of its number",
        });
    }
    state.next_query += 1;
    let ids: Vec<ChunkId> = seen.chunks.iter().map(|(id, _)| *id).collect();
    if new_chunks.may_be_stored() {
        note_stored(new_chunks, index, &ids).await?;
    }
    let stored = index.lengths_of(ids).await?;
    if state.known.len() > KNOWN_MAX {
        state.known.clear();
    }
    let mut wanted = Vec::with_capacity(seen.chunks.len());
    for ((id, bytes), stored) in seen.chunks.into_iter().zip(stored) {
        let known = stored.or_else(|| state.promised.get(&id).copied());
        if let Some(found) = known {
            check_length(id, bytes, found)?;
        }
        match stored {
            Some(_) => state.known.insert(id, bytes),
            None => state.promised.insert(id, bytes),
        };
        if known.is_none() {
            new_chunks.wanted(id, bytes);
        }
        wanted.push(known.is_none());
    }
    if state.promised.len() > PROMISED_MAX {
        return Err(RunError::TooManyPromised {
            limit: PROMISED_MAX,
        });
    }
    let answer = Bitmap::new(seen.query, wanted.into_iter());
    outgoing.send(FromCoordinator::Wanted(answer)).await?;
    Ok(())
}

/// Chunks that earlier runs brought, of which no snapshot came, are stored and new all the same.
async fn note_stored(
    new_chunks: &mut NewChunks,
    index: &SharedIndex,
    ids: &[ChunkId],
) -> Result<(), RunError> {
    let asked = ids.to_vec();
    let places = index.with(move |index| index.locate_many(&asked)).await?;
    for (id, place) in ids.iter().zip(places) {
        if let Some(place) = place {
            new_chunks.stored(*id, place.bytes, place.pack);
        }
    }
    Ok(())
}

fn take_names(conversation: &mut Conversation, names: Names) {
    let kept = &mut conversation.state.outcome.names;
    for (kept, sent) in [
        (&mut kept.users, names.users),
        (&mut kept.groups, names.groups),
    ] {
        kept.extend(sent);
        kept.sort_unstable();
        kept.dedup_by_key(|(id, _)| *id);
        kept.truncate(usize::try_from(SNAPSHOT_NAMES_MAX).unwrap_or(usize::MAX));
    }
}

fn note_totals(conversation: &Conversation, totals: Totals) {
    conversation.progress.update(|counts| {
        counts.bytes_read = totals.bytes_read;
        counts.bytes_new = totals.bytes_new;
    });
}

fn note_problem(conversation: &mut Conversation, problem: Problem) {
    let state = &mut conversation.state;
    state.problem_bytes += problem.path.len() + problem.text.len();
    let room = state.problem_bytes <= PROBLEM_BYTES_MAX;
    let outcome = &mut state.outcome;
    outcome.problem_count += 1;
    outcome.sources_missing += u64::from(problem.kind == ProblemKind::SourceMissing);
    if room && (outcome.problems.len() as u64) < SNAPSHOT_PROBLEMS_MAX {
        tracing::warn!(
            path = escape_cut(&problem.path, TOLD_BYTES_MAX),
            errno = problem.errno,
            text = escape_cut(problem.text.as_bytes(), TOLD_BYTES_MAX),
            "problem"
        );
        outcome.problems.push(problem);
    }
    let problems = outcome.problem_count;
    conversation
        .progress
        .update(|counts| counts.problems = problems);
}

fn note_verified(conversation: &mut Conversation, verified: Verified) -> Result<(), RunError> {
    let state = &mut conversation.state;
    for (id, bytes) in &verified.chunks {
        if let Some(told) = state.promised.remove(id) {
            check_length(*id, told, *bytes)?;
            state.outcome.bytes_new += u64::from(*bytes);
        }
    }
    if verified.purpose == Purpose::Data {
        state.outcome.bytes_stored += verified.bytes;
        state.data_packs += 1;
    }
    conversation
        .progress
        .update(|counts| counts.bytes_verified += verified.bytes);
    Ok(())
}

/// Waits until every pack is verified; nothing may then be left of what was promised.
async fn settle(conversation: &mut Conversation) -> Result<(), RunError> {
    while let Some(verified) = conversation.verifier.next().await {
        note_verified(conversation, verified?)?;
    }
    match conversation.state.promised.keys().next() {
        Some(example) => Err(RunError::ChunksMissing {
            count: conversation.state.promised.len(),
            example: *example,
        }),
        None => Ok(()),
    }
}

/// Has every meta pack verified that was stored since; the listing is finished.
pub async fn settle_meta(conversation: &mut Conversation) -> Result<(), RunError> {
    write_complete(conversation).await?;
    settle(conversation).await
}
