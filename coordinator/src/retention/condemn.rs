//! Plans which packs go: those without anything that is needed, and those with so little of it that it is copied elsewhere.
//! Reads, and changes nothing.

use std::collections::{BTreeSet, HashSet};

use formats::chunk::ChunkKind;
use formats::ids::{ChunkId, PackId};
use formats::limits::ACT_PACKS_MAX;
use formats::pack::index::decode_piece;
use formats::seal::run_header::Purpose;
use jiff::Timestamp;

use crate::backup::shared_index::SharedIndex;
use crate::config::prune_settings::PruneSettings;
use crate::index::{LiveFrames, PackFrames};
use crate::retention::error::PruneError;
use crate::snapshot::chunks::ChunkReader;

/// Packs that are looked at at a time.
const PACKS_AT_ONCE: usize = 256;
/// Index pieces that are read at a time.
const PIECES_AT_ONCE: usize = 16;
/// Tables and padding of copies: about one byte for so many of frames.
const COPIES_MORE: u64 = 8;
/// Of the packs of one act, room that is left for orphans.
pub(super) const ORPHANS_MAX: usize = 4_096;

/// What goes and what stays.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Packs that nothing needs.
    pub(super) dead: Vec<PackFrames>,
    /// Packs whose live frames are copied into new ones.
    pub(super) repack: Vec<PackFrames>,
    /// Packs that stay and whose tables are in meta packs that go, or in none.
    pub(super) again: BTreeSet<PackId>,
    /// Packs that stay.
    pub(super) packs: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Data packs that stay because something needs them.
    pub(super) needed: HashSet<PackId>,
    /// Packs of runs that died, which may still be of use to the next one.
    pub(super) young: u64,
}

impl Plan {
    fn is_full(&self) -> bool {
        let limit = usize::try_from(ACT_PACKS_MAX).unwrap_or(usize::MAX);
        self.dead.len() + self.repack.len() + ORPHANS_MAX >= limit
    }

    fn keep(&mut self, pack: &PackFrames) {
        self.packs += 1;
        self.bytes += pack.facts.bytes;
        if !pack.in_record && pack.live_bytes > 0 {
            self.again.insert(pack.facts.pack);
        }
    }
}

impl Plan {
    /// How many bytes the copies may take: the live frames, their tables, and what packs are padded with.
    pub(super) fn bytes_written_anew(&self) -> u64 {
        let live: u64 = self.repack.iter().map(|pack| pack.live_bytes).sum();
        live.saturating_add(live / COPIES_MORE)
    }

    /// What cannot be written anew stays as it is. Meta packs that tell of it may be among those that go, as if it did too.
    pub(super) fn keep_what_was_to_be_written_anew(&mut self) {
        for pack in std::mem::take(&mut self.repack) {
            self.keep(&pack);
            if pack.facts.purpose == Purpose::Data {
                self.again.insert(pack.facts.pack);
            }
        }
    }
}

/// Shows every pack of the index, in the order of its rows, with what of each is needed. Gives that back.
pub(super) async fn each_pack(
    index: &SharedIndex,
    mut live: LiveFrames,
    mut look: impl FnMut(PackFrames),
) -> Result<LiveFrames, PruneError> {
    let mut after = 0;
    loop {
        let asked = index.with(move |index| {
            let page = index.pack_frames(&live, after, PACKS_AT_ONCE)?;
            Ok((page, live))
        });
        let (page, back) = asked.await?;
        live = back;
        let Some(last) = page.last() else {
            return Ok(live);
        };
        after = last.row;
        page.into_iter().for_each(&mut look);
    }
}

/// Looks at every pack of the index.
pub(super) async fn plan(
    index: &SharedIndex,
    reader: &ChunkReader,
    live: LiveFrames,
    settings: &PruneSettings,
    now: Timestamp,
) -> Result<(Plan, LiveFrames), PruneError> {
    let mut plan = Plan::default();
    let mut meta = Vec::new();
    let mut stays: HashSet<PackId> = HashSet::new();
    let mut left = settings.repack_max.bytes();
    let looked = each_pack(index, live, |pack| {
        if is_young(&pack, settings, now) {
            plan.young += 1;
            plan.keep(&pack);
            stays.insert(pack.facts.pack);
        } else if pack.facts.purpose == Purpose::Meta {
            meta.push(pack);
        } else if pack.live_bytes == 0 && !plan.is_full() {
            plan.dead.push(pack);
        } else if pack.live_bytes > 0
            // Written anew it would go everywhere again.
            && !pack.thinned
            && is_mostly_dead(pack.live_bytes, &pack, settings)
            && pack.live_bytes <= left
            && !plan.is_full()
        {
            left -= pack.live_bytes;
            plan.repack.push(pack);
        } else {
            plan.keep(&pack);
            stays.insert(pack.facts.pack);
            if pack.live_bytes > 0 {
                plan.needed.insert(pack.facts.pack);
            }
        }
    });
    let live = looked.await?;
    for pack in meta {
        plan_meta(&mut plan, index, reader, pack, &stays, settings, &mut left).await?;
    }
    Ok((plan, live))
}

/// A run that died left packs that the next one takes up, for a while.
fn is_young(pack: &PackFrames, settings: &PruneSettings, now: Timestamp) -> bool {
    let age = now.duration_since(pack.verified_at);
    !pack.in_record && pack.live_bytes == 0 && age.unsigned_abs() < settings.grace.duration()
}

fn is_mostly_dead(live_bytes: u64, pack: &PackFrames, settings: &PruneSettings) -> bool {
    let dead = pack.frames_bytes.saturating_sub(live_bytes);
    dead.saturating_mul(100)
        > pack
            .frames_bytes
            .saturating_mul(settings.repack_above.into())
}

/// A meta pack is needed for its pages, and for the tables of packs that stay.
async fn plan_meta(
    plan: &mut Plan,
    index: &SharedIndex,
    reader: &ChunkReader,
    pack: PackFrames,
    stays: &HashSet<PackId>,
    settings: &PruneSettings,
    left: &mut u64,
) -> Result<(), PruneError> {
    let worth_looking = pack.live_bytes == 0 || is_mostly_dead(pack.live_bytes, &pack, settings);
    if !worth_looking || plan.is_full() {
        plan.keep(&pack);
        return Ok(());
    }
    let Some(told) = packs_told_of(index, reader, &pack).await? else {
        plan.keep(&pack); // Its pieces cannot be read now: what they tell of may be needed.
        return Ok(());
    };
    let needed: Vec<PackId> = told
        .iter()
        .filter(|pack| stays.contains(*pack))
        .copied()
        .collect();
    let share = |part: usize| pack.index_bytes * part as u64 / (told.len().max(1) as u64);
    let live_bytes = pack.live_bytes + share(needed.len());
    let must_go = live_bytes == 0;
    if !must_go && (!is_mostly_dead(live_bytes, &pack, settings) || pack.live_bytes > *left) {
        plan.keep(&pack);
        return Ok(());
    }
    plan.again.extend(needed);
    if pack.live_bytes == 0 {
        plan.dead.push(pack);
    } else {
        *left -= pack.live_bytes;
        plan.repack.push(pack);
    }
    Ok(())
}

/// The packs whose tables are in the pieces of a meta pack; nothing when a piece cannot be read.
async fn packs_told_of(
    index: &SharedIndex,
    reader: &ChunkReader,
    pack: &PackFrames,
) -> Result<Option<BTreeSet<PackId>>, PruneError> {
    let mut told = BTreeSet::new();
    // A run that died wrote it: no record names it, and its pieces tell nobody anything.
    if pack.index_bytes == 0 || !pack.in_record {
        return Ok(Some(told));
    }
    let id = pack.facts.pack;
    let tables = index.with(move |index| index.packs_named(&[id])?.collect::<Result<Vec<_>, _>>());
    let tables = tables.await?;
    let frames = tables.iter().flat_map(|pack| &pack.table.frames);
    let pieces: Vec<ChunkId> = frames
        .filter(|frame| frame.shape.kind == ChunkKind::Index)
        .flat_map(|frame| frame.chunks.iter().map(|chunk| chunk.id))
        .collect();
    for group in pieces.chunks(PIECES_AT_ONCE) {
        let Ok(plains) = reader.read_many(ChunkKind::Index, group).await else {
            return Ok(None);
        };
        for plain in plains {
            let Ok(groups) = decode_piece(&plain) else {
                return Ok(None);
            };
            told.extend(groups.iter().map(|group| group.pack));
        }
    }
    Ok(Some(told))
}
