//! Whatever is run, pruned, swept, forgotten and brought back under whichever rules, with a real index and a real catalog: every
//! snapshot that is listed is whole at each destination that it is kept at, and nothing is answered as stored that is not everywhere.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use append_server::destination::DestinationName;
use formats::chunk::ChunkKind;
use formats::ids::{ActId, ChunkId, PackId, RecordId, RepositoryId, RunId};
use formats::log::record::Payload;
use formats::log::retention::{Act, CondemnedPack, Prune, Retention};
use formats::log::snapshot::{Snapshot, SnapshotTotals};
use formats::log::thinning::Thinning;
use formats::pack::table::{Table, TableChunk, TableFrame};
use formats::seal::aead::OVERHEAD;
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::Purpose;
use formats::wire::control::names::Names;
use formats::wire::facts::HostFacts;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use tempfile::TempDir;

use super::choose;
use crate::backup::shared_index::SharedIndex;
use crate::catalog::Catalog;
use crate::catalog::thinning::is_dropped_at;
use crate::clock::SystemClock;
use crate::index::{Index, LiveFrames, PackFacts, PackFrames};
use crate::retention::acts::can_come_back;
use crate::retention::condemn::Plan;
use crate::retention::decide::{Candidate, Policy};
use crate::retention::keep::Keep;
use crate::retention::kept_at::{KeepingPlace, Verdict, decide_at, forgotten};

const REPOSITORY: RepositoryId = RepositoryId([2; 16]);
const HOST: &str = "web1";
const NAMES: [&str; 3] = ["near", "far", "away"];
/// Different pieces of content.
const CHUNKS: u64 = 10;

#[derive(Debug, Clone)]
enum Step {
    /// A run that finds these chunks on the host, as bits.
    Run(u16),
    /// So many of the last snapshots are kept at each destination from now on.
    Rules([u32; 3]),
    Prune,
    /// A prune whose process dies before the index follows its last record.
    PruneThatDies,
    /// What is condemned is swept, everywhere and at single destinations.
    Sweep,
    Undelete,
    /// A person forgets the newest snapshot.
    ForgetNewest,
    /// The index is built anew, the oldest packs first or last.
    Rebuild(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u16>().prop_map(Step::Run),
        2 => proptest::array::uniform3(1u32..6).prop_map(Step::Rules),
        5 => Just(Step::Prune),
        1 => Just(Step::PruneThatDies),
        3 => Just(Step::Sweep),
        1 => Just(Step::Undelete),
        1 => Just(Step::ForgetNewest),
        1 => any::<bool>().prop_map(Step::Rebuild),
    ];
    proptest::collection::vec(step, 8..40)
}

fn chunk(number: u64) -> ChunkId {
    ChunkId(blake3::hash(&number.to_le_bytes()).into())
}

fn names() -> Vec<DestinationName> {
    NAMES.iter().map(|name| name.parse().unwrap()).collect()
}

fn table(chunks: &[ChunkId]) -> Table {
    let frames = chunks.iter().map(|id| TableFrame {
        run_header: 0,
        shape: FrameShape {
            kind: ChunkKind::Data,
            compression: Compression::None,
            plain_bytes: 100,
            sealed_bytes: 100 + OVERHEAD as u32,
        },
        chunks: vec![TableChunk {
            id: *id,
            bytes: 100,
        }],
    });
    Table {
        frames: frames.collect(),
    }
}

struct World {
    dir: TempDir,
    index: SharedIndex,
    catalog: Catalog,
    /// What each destination has.
    stored: BTreeMap<DestinationName, BTreeSet<PackId>>,
    /// Every pack there ever was, in the order in which they were stored.
    packs: Vec<(PackFacts, Table)>,
    content: HashMap<RecordId, BTreeSet<ChunkId>>,
    rules: [u32; 3],
    number: u64,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog"), REPOSITORY, 1).unwrap();
        let index = shared(&dir, 0);
        let stored = names().into_iter().map(|name| (name, BTreeSet::new()));
        Self {
            dir,
            index,
            catalog,
            stored: stored.collect(),
            packs: Vec::new(),
            content: HashMap::new(),
            rules: [2, 4, 3],
            number: 1,
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn append(&mut self, payload: &Payload) -> (u64, RecordId) {
        let place = self.catalog.head().unwrap();
        let id = RecordId(blake3::hash(&place.sequence.to_le_bytes()).into());
        self.catalog.append(&place, id, payload).unwrap();
        (place.sequence, id)
    }

    fn act(&mut self, act: Act) -> u64 {
        let number = self.next();
        let retention = Retention {
            id: ActId([number as u8; 16]),
            at_nanos: nanos(number),
            act,
        };
        let payload = Payload::Retention(Box::new(retention));
        self.append(&payload).0
    }

    /// A pack that goes everywhere.
    async fn store(&mut self, chunks: &[ChunkId]) -> PackId {
        let number = self.next();
        let facts = PackFacts {
            pack: PackId(blake3::hash(&number.to_be_bytes()).into()),
            bytes: 1_000,
            purpose: Purpose::Data,
            run: RunId([1; 16]),
        };
        let table = table(chunks);
        for stored in self.stored.values_mut() {
            stored.insert(facts.pack);
        }
        self.packs.push((facts, table.clone()));
        self.index.insert_pack(facts, table).await.unwrap();
        facts.pack
    }

    async fn commit(&self, sequence: u64, packs: Vec<PackId>) {
        let marking = self
            .index
            .with(move |index| index.mark_committed(sequence, &packs));
        marking.await.unwrap();
    }

    async fn run(&mut self, found: u16) {
        let found: BTreeSet<ChunkId> = (0..CHUNKS)
            .filter(|number| found & (1 << number) != 0)
            .map(chunk)
            .collect();
        let rows = self.catalog.snapshots(Some(HOST)).unwrap();
        let dropped = self.catalog.dropped().unwrap();
        let kept = rows
            .iter()
            .rfind(|row| !dropped.contains_key(&row.id))
            .or(rows.last());
        // As runs do: of a parent that every destination keeps nothing is asked.
        let known = kept.filter(|row| !dropped.contains_key(&row.id));
        let known = known
            .map(|row| self.content[&row.id].clone())
            .unwrap_or_default();
        let asked: Vec<ChunkId> = found.difference(&known).copied().collect();
        let there = self.index.contains_many(asked.clone()).await.unwrap();
        let new = asked.into_iter().zip(there).filter(|(_, there)| !there);
        let new: Vec<ChunkId> = new.map(|(id, _)| id).collect();
        let mut packs = Vec::new();
        for some in new.chunks(3) {
            packs.push(self.store(some).await);
        }
        let number = self.next();
        let (sequence, id) = self.append(&snapshot(number));
        self.content.insert(id, found);
        self.commit(sequence, packs).await;
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let rows = self.catalog.snapshots(Some(HOST)).unwrap();
        let candidate = |row: &crate::catalog::SnapshotRow| Candidate {
            id: row.id,
            at: row.started,
            complete: true,
            verified: true,
        };
        let candidates: Vec<Candidate> = rows.iter().map(candidate).collect();
        let (zone, pinned) = (TimeZone::UTC, HashMap::new());
        let policy = Policy {
            keep: None,
            floor: 1,
            zone: &zone,
            now: Timestamp::from_second(nanos(self.number + 1) / 1_000_000_000).unwrap(),
            pinned: &pinned,
            held: None,
        };
        decide_at(&candidates, &policy, &self.places())
    }

    fn places(&self) -> Vec<KeepingPlace> {
        let dropped = self.catalog.dropped().unwrap();
        let place = |(name, last): (DestinationName, u32)| KeepingPlace {
            keep: Some(Keep {
                last: Some(last),
                ..Keep::default()
            }),
            has_own: true,
            may_drop: true,
            dropped: dropped
                .keys()
                .copied()
                .filter(|id| is_dropped_at(&dropped, id, &name))
                .collect(),
            name,
        };
        names().into_iter().zip(self.rules).map(place).collect()
    }

    /// Marks what these snapshots need where some packs are not kept; nothing of it may be missing.
    async fn mark(&self, snapshots: &[RecordId], except: &HashSet<PackId>) -> LiveFrames {
        let mut live = LiveFrames::default();
        for id in snapshots {
            let chunks: Vec<ChunkId> = self.content[id].iter().copied().collect();
            let except = except.clone();
            let marking = self.index.with(move |index| {
                let missing = index.mark(&chunks, &mut live, &except)?;
                assert_eq!(missing, [], "what is kept there is there");
                Ok(live)
            });
            live = marking.await.unwrap();
        }
        live
    }

    async fn prune(&mut self, dies: bool) {
        let verdicts = self.verdicts();
        let gone = forgotten(&verdicts);
        let rows = self.catalog.snapshots(None).unwrap();
        let left: Vec<RecordId> = rows.iter().map(|row| row.id).collect();
        let left: Vec<RecordId> = left.into_iter().filter(|id| !gone.contains(id)).collect();
        let live = self.mark(&left, &HashSet::new()).await;
        let looked = self.index.with(move |index| {
            let page = index.pack_frames(&live, 0, 10_000)?;
            Ok((page, live))
        });
        let (page, live) = looked.await.unwrap();
        let mut plan = Plan::default();
        for pack in page {
            let dead = pack.frames_bytes - pack.live_bytes;
            match pack.live_bytes {
                0 => plan.dead.push(pack),
                _ if !pack.thinned && dead * 2 > pack.frames_bytes => plan.repack.push(pack),
                _ => {
                    plan.needed.insert(pack.facts.pack);
                }
            }
        }
        let mut thinnings = Vec::new();
        for name in names() {
            thinnings.push(self.plan_at(&name, &verdicts, &left, &plan).await);
        }
        if !gone.is_empty() {
            let snapshots = gone.into_iter().collect();
            self.act(Act::Forget {
                by_person: false,
                snapshots,
            });
        }
        self.condemn(plan, live).await;
        for thinning in thinnings.into_iter().flatten() {
            let packs: Vec<PackId> = thinning.condemned.iter().map(|one| one.pack).collect();
            let sequence = self.act(Act::Thin(thinning));
            if dies {
                self.catch_up().await;
                return;
            }
            let thinning = self.index.with(move |index| {
                index.thin(&packs, sequence)?;
                index.mark_committed(sequence, &[])
            });
            thinning.await.unwrap();
        }
    }

    async fn plan_at(
        &self,
        name: &DestinationName,
        verdicts: &[Verdict],
        left: &[RecordId],
        plan: &Plan,
    ) -> Option<Thinning> {
        let drops = verdicts
            .iter()
            .filter(|verdict| verdict.drops.contains(name));
        let drops: Vec<RecordId> = drops.map(|verdict| verdict.candidate.id).collect();
        let dropped = self.catalog.dropped().unwrap();
        let is_there = |id: &&RecordId| !drops.contains(id) && !is_dropped_at(&dropped, id, name);
        let there: Vec<RecordId> = left.iter().filter(is_there).copied().collect();
        if there.len() == left.len() {
            return None;
        }
        let thinned = self.catalog.thinned_at(name).unwrap();
        let live = self.mark(&there, &thinned).await;
        let mut thinning = Thinning {
            destination: name.to_string(),
            dropped: drops,
            ..Thinning::default()
        };
        choose(&self.index, plan, &thinned, live, &mut thinning)
            .await
            .unwrap();
        Some(thinning)
    }

    async fn condemn(&mut self, plan: Plan, live: LiveFrames) {
        let mut live = live;
        let mut new = Vec::new();
        for source in &plan.repack {
            let pack = source.facts.pack;
            let asked = self.index.with(move |index| {
                let found = index.live_frames_of(pack, &live)?;
                Ok((found, live))
            });
            let (found, back) = asked.await.unwrap();
            live = back;
            let (indexed, needed) = found.unwrap();
            let frames = indexed.table.frames.iter().zip(needed);
            let chunks = frames.filter(|(_, needed)| *needed);
            let chunks: Vec<ChunkId> = chunks.map(|(frame, _)| frame.chunks[0].id).collect();
            new.push(self.store(&chunks).await);
        }
        let gone: Vec<PackId> = plan.dead.iter().chain(&plan.repack).map(pack_of).collect();
        if gone.is_empty() {
            return;
        }
        let condemned = gone.iter().map(|pack| CondemnedPack {
            pack: *pack,
            purpose: Purpose::Data,
            bytes: 1_000,
        });
        let sequence = self.act(Act::Prune(Prune {
            condemned: condemned.collect(),
            ..Prune::default()
        }));
        let retiring = self.index.with(move |index| {
            index.retire(&gone, sequence)?;
            index.mark_committed(sequence, &new)
        });
        retiring.await.unwrap();
    }

    /// What a command begins with: the index follows the log.
    async fn catch_up(&mut self) {
        let condemned: Vec<PackId> = self
            .catalog
            .condemned()
            .unwrap()
            .iter()
            .map(|row| row.pack.pack)
            .collect();
        let thinned: HashSet<PackId> = self
            .catalog
            .thinned()
            .unwrap()
            .iter()
            .map(|row| row.pack)
            .collect();
        let last = self.catalog.last_followed().unwrap();
        let packs = self.packs.clone();
        let following = self.index.with(move |index| {
            index.retire(&condemned, u64::MAX >> 2)?;
            index.follow_thinned(&thinned, true)?;
            take_in(index, packs.iter(), &condemned, &thinned)?;
            index.mark_committed(last, &[])
        });
        following.await.unwrap();
    }

    fn sweep(&mut self) {
        let condemned = self.catalog.condemned().unwrap();
        let packs: Vec<PackId> = condemned
            .iter()
            .filter(|row| row.swept.is_none())
            .map(|row| row.pack.pack)
            .collect();
        if !packs.is_empty() {
            self.act(Act::Sweep { packs });
        }
        for name in names() {
            let thinned = self.catalog.thinned().unwrap();
            let packs: Vec<PackId> = thinned
                .iter()
                .filter(|row| row.swept.is_none() && row.destination == name.to_string())
                .map(|row| row.pack)
                .collect();
            if !packs.is_empty() {
                let destination = name.to_string();
                self.act(Act::SweepAt { destination, packs });
            }
        }
        self.remove();
    }

    /// As the append-server does, which sees at the others what goes at one alone.
    fn remove(&mut self) {
        for row in self.catalog.condemned().unwrap() {
            if row.swept.is_some() {
                for stored in self.stored.values_mut() {
                    stored.remove(&row.pack.pack);
                }
            }
        }
        let thinned = self.catalog.thinned().unwrap();
        for row in thinned.iter().filter(|row| row.swept.is_some()) {
            let is_thinned = |name: &DestinationName| {
                let mut rows = thinned.iter().filter(|other| other.pack == row.pack);
                rows.any(|other| other.destination == name.to_string())
            };
            let mut others = self.stored.iter().filter(|(name, _)| !is_thinned(name));
            let seen = others
                .next()
                .is_some_and(|(_, has)| has.contains(&row.pack));
            if seen && others.all(|(_, has)| has.contains(&row.pack)) {
                let name: DestinationName = row.destination.parse().unwrap();
                self.stored.get_mut(&name).unwrap().remove(&row.pack);
            }
        }
    }

    async fn undelete(&mut self) {
        let condemned = self.catalog.condemned().unwrap();
        let back = can_come_back(&self.catalog, HOST, &condemned, &names()).unwrap();
        let back = back.iter().filter(|(_, is_there)| *is_there);
        let snapshots: Vec<RecordId> = back.map(|(row, _)| row.id).collect();
        let unswept = condemned.iter().filter(|row| row.swept.is_none());
        let mut packs: BTreeSet<PackId> = unswept.map(|row| row.pack.pack).collect();
        let thinned = self.catalog.thinned().unwrap();
        let unswept = thinned.iter().filter(|row| row.swept.is_none());
        packs.extend(unswept.map(|row| row.pack));
        if snapshots.is_empty() {
            return;
        }
        let packs = packs.into_iter().collect();
        self.act(Act::Undelete { snapshots, packs });
        self.catch_up().await;
    }

    fn forget_newest(&mut self) {
        let rows = self.catalog.snapshots(Some(HOST)).unwrap();
        if let Some(newest) = rows.last().filter(|_| rows.len() > 1) {
            let snapshots = vec![newest.id];
            self.act(Act::Forget {
                by_person: true,
                snapshots,
            });
        }
    }

    async fn rebuild(&mut self, newest_first: bool) {
        let number = self.next();
        self.index = shared(&self.dir, number);
        if newest_first {
            self.packs.reverse();
        }
        self.catch_up().await;
        let all: Vec<PackId> = self.packs.iter().map(|(facts, _)| facts.pack).collect();
        self.commit(1, all).await;
        if newest_first {
            self.packs.reverse();
        }
    }

    /// What must hold at all times.
    async fn check(&self) {
        let dropped = self.catalog.dropped().unwrap();
        let rows = self.catalog.snapshots(None).unwrap();
        let all: Vec<ChunkId> = (0..CHUNKS).map(chunk).collect();
        let answered = self.index.contains_many(all.clone()).await.unwrap();
        for (id, _) in all.iter().zip(answered).filter(|(_, stored)| *stored) {
            let place = self.locate(*id, HashSet::new()).await.unwrap();
            let everywhere = self.stored.values().all(|has| has.contains(&place));
            assert!(everywhere, "what is answered as stored is everywhere");
        }
        for row in &rows {
            let kept = names();
            let kept = kept
                .iter()
                .filter(|name| !is_dropped_at(&dropped, &row.id, name));
            let kept: Vec<&DestinationName> = kept.collect();
            assert!(!kept.is_empty(), "what is listed is kept somewhere");
            for name in kept {
                let thinned = self.catalog.thinned_at(name).unwrap();
                for id in &self.content[&row.id] {
                    let place = self.locate(*id, thinned.clone()).await;
                    let place = place.expect("a chunk of what is kept there has a place there");
                    assert!(self.stored[name].contains(&place), "and is there");
                }
            }
        }
    }

    async fn locate(&self, id: ChunkId, except: HashSet<PackId>) -> Option<PackId> {
        let locating = self
            .index
            .with(move |index| index.locate_many_but(&[id], &except));
        locating.await.unwrap()[0].map(|place| place.pack)
    }
}

fn pack_of(pack: &PackFrames) -> PackId {
    pack.facts.pack
}

fn take_in<'a>(
    index: &mut Index,
    packs: impl Iterator<Item = &'a (PackFacts, Table)>,
    condemned: &[PackId],
    thinned: &HashSet<PackId>,
) -> Result<(), crate::index::IndexError> {
    for (facts, table) in packs {
        if condemned.contains(&facts.pack) {
            continue;
        }
        match thinned.contains(&facts.pack) {
            true => index.insert_thinned(facts, table, Timestamp::UNIX_EPOCH)?,
            false => index.insert_pack(facts, table, Timestamp::UNIX_EPOCH)?,
        }
        index.mark_committed(1, &[facts.pack])?;
    }
    Ok(())
}

fn shared(dir: &TempDir, number: u64) -> SharedIndex {
    let index = Index::open(&dir.path().join(format!("index-{number}")), REPOSITORY).unwrap();
    SharedIndex::new(index, Arc::new(SystemClock))
}

fn nanos(number: u64) -> i64 {
    number as i64 * 86_400 * 1_000_000_000
}

fn snapshot(number: u64) -> Payload {
    Payload::Snapshot(Box::new(Snapshot {
        host: HOST.into(),
        run: RunId([number as u8; 16]),
        started_nanos: nanos(number),
        committed_nanos: nanos(number),
        parent: None,
        verified: true,
        sources: vec![],
        page_index: vec![],
        index: vec![],
        meta_packs: vec![],
        totals: SnapshotTotals::default(),
        problems: vec![],
        names: Names::default(),
        facts: HostFacts::default(),
        agent: String::new(),
    }))
}

async fn take(world: &mut World, step: Step) {
    match step {
        Step::Run(found) => world.run(found).await,
        Step::Rules(rules) => world.rules = rules,
        Step::Prune => world.prune(false).await,
        Step::PruneThatDies => world.prune(true).await,
        Step::Sweep => world.sweep(),
        Step::Undelete => world.undelete().await,
        Step::ForgetNewest => world.forget_newest(),
        Step::Rebuild(newest_first) => world.rebuild(newest_first).await,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_at_a_destination_is_whole_there_whatever_happens(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                take(&mut world, step).await;
                world.check().await;
            }
        });
    }
}

#[tokio::test]
async fn what_comes_back_after_it_was_dropped_is_stored_anew_everywhere() {
    let mut world = World::new();
    world.rules = [1, 9, 9];
    let near: DestinationName = "near".parse().unwrap();
    for found in [0b0011, 0b0100, 0b0100] {
        world.run(found).await;
    }
    world.prune(false).await;
    let before = world.stored[&near].len();
    world.sweep();
    world.check().await;
    assert!(
        world.stored[&near].len() < before,
        "it is not there any more"
    );
    world.run(0b0111).await;
    world.check().await;
    world.rules = [9, 9, 9];
    world.prune(false).await;
    world.sweep();
    world.check().await;
    let dropped = world.catalog.dropped().unwrap();
    assert_eq!(dropped.len(), 2, "longer rules bring nothing back");
    assert_eq!(world.catalog.snapshots(None).unwrap().len(), 4);
}
