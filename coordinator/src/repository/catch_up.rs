//! Brings the index up to the log: an index that is new, was deleted, or missed the last commit reads the meta
//! packs and index objects of the records it does not cover. Never takes in a chunk that no record names.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use formats::chunk::ChunkKind;
use formats::codec::DecodeError;
use formats::ids::{PackId, RunId};
use formats::keys::repository::MissingKeyError;
use formats::limits::PACK_BYTES_MAX;
use formats::object::ObjectName;
use formats::pack::index::{IndexedFrames, decode_piece};
use formats::pack::open::{PackError, Trailer, open_frame};
use formats::pack::table::Table;
use formats::seal::frame::{FrameError, FrameOpener};
use formats::seal::run_header::{Purpose, RunHeaderError};
use jiff::Timestamp;

use crate::catalog::{Catalog, CatalogError};
use crate::index::{Index, IndexError, PackFacts};
use crate::repository::Repository;
use crate::repository::packs::pack_name;
use crate::repository::store::{ObjectStore, StoreError};

/// Why the index cannot catch up.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    /// The index itself.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A meta pack cannot be had.
    #[error("cannot read a meta pack to rebuild the index")]
    Store(#[from] StoreError),
    /// The role lacks a key.
    #[error(transparent)]
    MissingKey(#[from] MissingKeyError),
    /// No copy of a meta pack has the bytes that were stored.
    #[error(
        "no copy of meta pack {pack} has the bytes its name says; the index cannot be rebuilt from it"
    )]
    OtherBytes {
        /// The pack.
        pack: PackId,
    },
    /// A meta pack is damaged.
    #[error("meta pack {pack} is damaged; the index cannot be rebuilt from it")]
    Pack {
        /// The pack.
        pack: PackId,
        /// Why.
        source: PackError,
    },
    /// The index pieces do not have all frames of a pack.
    #[error("the index pieces have a gap in pack {pack} at byte {at}")]
    Gap {
        /// The pack.
        pack: PackId,
        /// Where.
        at: u64,
    },
    /// An index piece is damaged.
    #[error("an index piece in meta pack {pack} is damaged")]
    Piece {
        /// The pack.
        pack: PackId,
        /// Why.
        source: DecodeError,
    },
}

impl CatchUpError {
    /// Whether stored data is not what was stored, as opposed to not being reachable now.
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::OtherBytes { .. }
                | Self::Pack { .. }
                | Self::Gap { .. }
                | Self::Piece { .. }
                | Self::Store(StoreError::Missing { .. } | StoreError::TooLarge { .. })
        )
    }
}

/// Packs that are in no index like others.
struct Apart {
    /// Those that are condemned, and the records that say so: nothing of them is taken in.
    condemned: BTreeMap<PackId, u64>,
    /// Those that some destination does not keep.
    thinned: HashSet<PackId>,
}

impl Apart {
    fn of(catalog: &Catalog) -> Result<Self, CatalogError> {
        let condemned = catalog.condemned()?.into_iter();
        let thinned = catalog.thinned()?.into_iter();
        Ok(Self {
            condemned: condemned.map(|row| (row.pack.pack, row.sequence)).collect(),
            thinned: thinned.map(|row| row.pack).collect(),
        })
    }
}

/// A record that names meta packs with index pieces in them.
struct Carrier {
    sequence: u64,
    run: RunId,
    meta_packs: Vec<PackId>,
}

/// Takes in what the records after [`Index::covered`] name, and takes out what they condemn. Where meta packs are missing or
/// damaged, what the others have is taken in, and what is wrong is told; the next time tries again from the first record that
/// lacks some.
pub async fn catch_up<S: ObjectStore>(
    mut index: Index,
    catalog: &Catalog,
    repository: &Repository,
    store: &S,
    now: Timestamp,
) -> Result<(Index, Vec<CatchUpError>), CatchUpError> {
    let covered = index.covered()?;
    // Before what is apart is read: a record that comes in between is followed by the next one who looks, not by this one.
    let last = catalog.last_followed()?;
    let is_spared = catalog.spared_after(covered)?;
    let apart = Apart::of(catalog)?;
    let condemned = &apart.condemned;
    // Before anything is taken in: of two places of a chunk the one that stays is to be found.
    let newest = condemned.values().copied().filter(|at| *at > covered).max();
    if let Some(newest) = newest {
        let packs: Vec<PackId> = condemned.keys().copied().collect();
        index.retire(&packs, newest)?;
    }
    if is_spared || catalog.last_thinning()? > covered {
        index.follow_thinned(&apart.thinned, is_spared)?;
    }
    if !repository.keys.opens() {
        return Ok((without_opening(index, catalog)?, Vec::new()));
    }
    let mut from = covered;
    if index.has_found_again()? || is_spared {
        from = 0;
    }
    let mut problems = Vec::new();
    if last <= covered && from == covered {
        return Ok((index, problems));
    }
    // The newest first: of two places of a chunk the one that is known first counts, and a chunk is stored again when its
    // first place was lost. Until the oldest is taken in, nothing is covered.
    index.leave_gap();
    for carrier in carriers_after(catalog, from)?.into_iter().rev() {
        tracing::info!(record = carrier.sequence, "the index catches up");
        let reading = take_in(
            &mut index,
            repository,
            store,
            &carrier,
            &apart,
            now,
            &mut problems,
        );
        let packs = reading.await?;
        index.mark_committed(carrier.sequence, &packs)?;
    }
    if problems.is_empty() {
        index.close_gap();
        index.mark_committed(last, &[])?;
    }
    Ok((index, problems))
}

/// For keys that open nothing: an index has what their own runs stored. An act of retention that cannot be read may condemn any of
/// it, so that none is answered for any more. What records name that came from elsewhere is not taken in.
fn without_opening(mut index: Index, catalog: &Catalog) -> Result<Index, CatchUpError> {
    let act = catalog.last_unread_act()?;
    if index.empty(act)? {
        tracing::warn!(
            record = act,
            "an act of retention came that these keys cannot read: everything is read and stored anew"
        );
    }
    let last_unread = catalog
        .unread()?
        .last()
        .map_or(0, |(sequence, _)| *sequence);
    if catalog.last_followed()?.max(last_unread) > index.covered()? {
        index.leave_gap();
    }
    Ok(index)
}

/// Snapshots and prunes after a record, in the log's order: forgotten snapshots too, whose packs others need.
fn carriers_after(catalog: &Catalog, sequence: u64) -> Result<Vec<Carrier>, CatchUpError> {
    let mut carriers = Vec::new();
    for row in catalog.snapshots_after(sequence)? {
        if let Some(snapshot) = catalog.snapshot(row.id)? {
            carriers.push(Carrier {
                sequence: row.sequence,
                run: snapshot.run,
                meta_packs: snapshot.meta_packs,
            });
        }
    }
    for row in catalog.prunes_after(sequence)? {
        carriers.push(Carrier {
            sequence: row.sequence,
            run: row.run,
            meta_packs: row.prune.meta_packs,
        });
    }
    carriers.sort_by_key(|carrier| carrier.sequence);
    Ok(carriers)
}

/// What is damaged is noted, and gone on without.
fn noted<T>(
    result: Result<T, CatchUpError>,
    problems: &mut Vec<CatchUpError>,
) -> Result<Option<T>, CatchUpError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_integrity() => {
            problems.push(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A meta pack as it was stored: from another copy when the first is damaged or missing.
async fn get_whole<S: ObjectStore>(
    store: &S,
    repository: &Repository,
    pack: PackId,
    name: &ObjectName,
) -> Result<Bytes, CatchUpError> {
    let is_whole = |bytes: &Bytes| blake3::hash(bytes).as_bytes() == pack.as_bytes();
    let first = store.get(repository.id(), name, PACK_BYTES_MAX).await;
    if first.as_ref().is_ok_and(is_whole) {
        return Ok(first?);
    }
    for copy in store.copies() {
        let bytes = copy.get(repository.id(), name, PACK_BYTES_MAX).await;
        if bytes.as_ref().is_ok_and(is_whole) {
            tracing::warn!(%pack, "a bad copy: another was read instead; `coordinator scan --repair` heals it");
            return Ok(bytes?);
        }
    }
    first?;
    Err(CatchUpError::OtherBytes { pack })
}

async fn take_in<S: ObjectStore>(
    index: &mut Index,
    repository: &Repository,
    store: &S,
    carrier: &Carrier,
    apart: &Apart,
    now: Timestamp,
    problems: &mut Vec<CatchUpError>,
) -> Result<Vec<PackId>, CatchUpError> {
    let condemned = &apart.condemned;
    let mut packs = Vec::new();
    let mut gathered: BTreeMap<PackId, Vec<IndexedFrames>> = BTreeMap::new();
    let lost = index.lost()?;
    let mut passed_over = false;
    for pack in &carrier.meta_packs {
        // What it said of data packs is in a later record. What else a lost one had is looked for by a scan.
        if lost.contains(pack) || condemned.contains_key(pack) {
            passed_over = true;
            continue;
        }
        let name = pack_name(*pack, Purpose::Meta);
        let bytes = get_whole(store, repository, *pack, &name).await;
        let Some(bytes) = noted(bytes, problems)? else {
            continue;
        };
        let Some((run, table, pieces)) = noted(open_meta(*pack, &bytes, repository), problems)?
        else {
            continue;
        };
        let facts = PackFacts {
            pack: *pack,
            bytes: bytes.len() as u64,
            purpose: Purpose::Meta,
            run,
        };
        insert(index, &facts, &table, now)?;
        packs.push(*pack);
        for piece in pieces {
            let groups = decode_piece(&piece).map_err(|source| CatchUpError::Piece {
                pack: *pack,
                source,
            });
            for group in noted(groups, problems)?.unwrap_or_default() {
                gathered.entry(group.pack).or_default().push(group);
            }
        }
    }
    for (pack, groups) in gathered {
        if condemned.contains_key(&pack) {
            continue;
        }
        let whole = match whole_table(pack, groups) {
            // Its other pieces were in a meta pack that is condemned, so that a later record has all of them.
            Err(CatchUpError::Gap { .. }) if passed_over => None,
            whole => noted(whole, problems)?,
        };
        if let Some(whole) = whole {
            insert_data(index, &whole, carrier.run, apart, now)?;
            packs.push(pack);
        }
    }
    Ok(packs)
}

/// Puts the groups of one pack together again, whatever order and how often the pieces had them: they must
/// follow one another from the pack's first byte.
fn whole_table(
    pack: PackId,
    mut groups: Vec<IndexedFrames>,
) -> Result<IndexedFrames, CatchUpError> {
    groups.sort_by_key(|group| group.offset);
    let mut whole = IndexedFrames {
        pack,
        pack_bytes: groups.first().map_or(0, |group| group.pack_bytes),
        offset: 0,
        frames: Vec::new(),
    };
    let mut end = 0u64;
    for group in groups {
        if group.offset < end {
            continue; // A run that died had written the same groups.
        }
        if group.offset > end {
            return Err(CatchUpError::Gap { pack, at: end });
        }
        let sealed = group
            .frames
            .iter()
            .map(|frame| u64::from(frame.shape.sealed_bytes));
        end += sealed.sum::<u64>();
        whole.frames.extend(group.frames);
    }
    Ok(whole)
}

fn insert_data(
    index: &mut Index,
    frames: &IndexedFrames,
    run: RunId,
    apart: &Apart,
    now: Timestamp,
) -> Result<(), CatchUpError> {
    let facts = PackFacts {
        pack: frames.pack,
        bytes: frames.pack_bytes,
        purpose: Purpose::Data,
        run,
    };
    let table = Table {
        frames: frames.frames.clone(),
    };
    if apart.thinned.contains(&frames.pack) {
        return Ok(index.insert_thinned(&facts, &table, now)?);
    }
    insert(index, &facts, &table, now)
}

fn insert(
    index: &mut Index,
    facts: &PackFacts,
    table: &Table,
    now: Timestamp,
) -> Result<(), CatchUpError> {
    match index.insert_pack(facts, table, now) {
        // A run that died wrote it, or it was taken in before: what is known of it stays.
        Ok(()) | Err(IndexError::OtherFacts { .. } | IndexError::Quarantined { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

type OpenedMeta = (RunId, Table, Vec<Vec<u8>>);

/// A meta pack's run, table and index pieces, everything in it checked.
fn open_meta(
    pack: PackId,
    bytes: &Bytes,
    repository: &Repository,
) -> Result<OpenedMeta, CatchUpError> {
    let keys = (repository.keys.meta()?, repository.keys.id()?);
    open_meta_pack(bytes, keys.0, keys.1).map_err(|source| CatchUpError::Pack { pack, source })
}

fn open_meta_pack(
    bytes: &[u8],
    meta: &formats::keys::secret::KemSeed,
    id_key: &formats::keys::secret::IdKey,
) -> Result<OpenedMeta, PackError> {
    let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
    let table = trailer.open_table_with(meta)?;
    let writer = trailer
        .writer()
        .ok_or(PackError::RunHeader(RunHeaderError::Commitment))?;
    let failed = |source: FrameError| PackError::Frame { frame: 0, source };
    let mut opener =
        FrameOpener::new(writer.context, writer.open_data_key(meta)?).map_err(failed)?;
    let mut pieces = Vec::new();
    let mut copy = Vec::new();
    let mut at = 0usize;
    for (place, frame) in table.frames.iter().enumerate() {
        let end = at + frame.shape.sealed_bytes as usize;
        let sealed = bytes.get(at..end).unwrap_or_default();
        at = end;
        if frame.shape.kind != ChunkKind::Index {
            continue;
        }
        copy.clear();
        copy.extend_from_slice(sealed);
        let mut rest = open_frame(&mut opener, id_key, frame, place, &mut copy)?;
        for chunk in &frame.chunks {
            let (piece, after) = rest
                .split_at_checked(chunk.bytes as usize)
                .unwrap_or_default();
            pieces.push(piece.to_vec());
            rest = after;
        }
    }
    Ok((writer.context.run, table, pieces))
}
