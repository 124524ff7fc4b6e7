//! Verifies snapshots: every chunk that they name is located, every pack that has one is read whole, opened
//! and recomputed, and every located place must be a good one. Names the files that damage reaches.
//!
//! Each pack is read once for all snapshots. What is to be found good is remembered as 16 bytes for each
//! chunk; when that would be too much, packs are examined in shares, one after another.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use formats::ids::{ChunkId, PackId, RecordId};
use formats::log::snapshot::Snapshot;
use formats::seal::run_header::Purpose;
use tokio::task::JoinSet;

use crate::snapshot::chunk_error::ChunkError;
use crate::snapshot::chunks::ChunkReader;
use crate::snapshot::named_chunks::NamedChunks;
use crate::snapshot::pack_check::check_pack;
use crate::snapshot::place::ChunkPlace;

/// The most errors that are listed one by one.
pub const ERRORS_LISTED_MAX: usize = 20;
/// Chunks remembered at once, about 30 bytes each.
const REFERENCES_MAX: usize = 8_000_000;
/// Packs read at once, up to 64 MiB each.
const PACKS_AT_ONCE: usize = 3;

/// A snapshot to verify.
#[derive(Debug, Clone)]
pub struct VerifiedSnapshot {
    /// Its record's name.
    pub id: RecordId,
    /// Its record.
    pub snapshot: Snapshot,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Snapshots examined.
    pub snapshots: u64,
    /// Packs read back.
    pub packs: u64,
    /// Chunks opened and recomputed.
    pub chunks: u64,
    /// Bytes read from the destination in whole packs.
    pub bytes: u64,
    /// What is wrong, one line each, escaped.
    pub errors: Vec<String>,
    /// How many errors there are.
    pub error_count: u64,
}

impl Verification {
    /// Counts an error, and lists it if it is among the first.
    pub(crate) fn error(&mut self, text: String) {
        self.error_count += 1;
        if self.errors.len() < ERRORS_LISTED_MAX {
            self.errors.push(text);
        }
    }
}

/// Verifies snapshots of one repository. An error means that it could not be carried out: storage, index or
/// keys; damage is in the result.
pub async fn verify(
    reader: &ChunkReader,
    snapshots: &[VerifiedSnapshot],
) -> Result<Verification, Arc<ChunkError>> {
    let mut shares = 1u32;
    loop {
        let first = Share { number: 0, shares };
        let mut found = Verification {
            snapshots: snapshots.len() as u64,
            ..Verification::default()
        };
        let gathered = gather(reader, snapshots, first, &mut found).await?;
        let Some(references) = gathered else {
            shares *= 2;
            continue;
        };
        check_share(reader, snapshots, references, &mut found).await?;
        for number in 1..shares {
            // Errors of the listings themselves were told with the first share.
            let mut told = Verification::default();
            let share = Share { number, shares };
            if let Some(references) = gather(reader, snapshots, share, &mut told).await? {
                check_share(reader, snapshots, references, &mut found).await?;
            } else {
                found.error(format!("share {number} of {shares} is too large to verify"));
            }
        }
        return Ok(found);
    }
}

/// One of several parts that packs are divided into by their names.
#[derive(Debug, Clone, Copy)]
struct Share {
    number: u32,
    shares: u32,
}

impl Share {
    fn has(self, pack: PackId) -> bool {
        let [a, b, c, d, ..] = *pack.as_bytes();
        u32::from_le_bytes([a, b, c, d]) % self.shares == self.number
    }
}

/// What must be found good.
#[derive(Debug, Default)]
struct References {
    places: HashSet<u128>,
    packs: BTreeMap<PackId, Purpose>,
}

async fn gather(
    reader: &ChunkReader,
    snapshots: &[VerifiedSnapshot],
    share: Share,
    found: &mut Verification,
) -> Result<Option<References>, Arc<ChunkError>> {
    let mut references = References::default();
    for verified in snapshots {
        for pack in &verified.snapshot.meta_packs {
            if share.has(*pack) {
                references.packs.insert(*pack, Purpose::Meta);
            }
        }
        let mut walk = NamedChunks::new(reader, verified);
        while let Some(named) = walk.next(found).await? {
            for (name, place) in &named {
                match place {
                    None => found.error(format!("{name} is in no known pack")),
                    Some((id, place)) if share.has(place.pack) => {
                        references.places.insert(fingerprint(*id, place));
                        references.packs.insert(place.pack, place.purpose);
                    }
                    Some(_) => {}
                }
            }
            if references.places.len() > REFERENCES_MAX {
                return Ok(None);
            }
        }
    }
    Ok(Some(references))
}

async fn check_share(
    reader: &ChunkReader,
    snapshots: &[VerifiedSnapshot],
    references: References,
    found: &mut Verification,
) -> Result<(), Arc<ChunkError>> {
    let References { mut places, packs } = references;
    let mut waiting = packs.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < PACKS_AT_ONCE
            && let Some((pack, purpose)) = waiting.next()
        {
            let reader = reader.clone();
            running.spawn(async move { check_pack(&reader, pack, purpose).await });
        }
        let Some(checked) = running.join_next().await else {
            break;
        };
        let check = checked.map_err(|_| Arc::new(ChunkError::Stopped))??;
        found.packs += 1;
        found.bytes += check.bytes;
        found.chunks += check.good.len() as u64;
        for (id, place) in check.good {
            places.remove(&fingerprint(id, &place));
        }
        for problem in check.problems {
            found.error(problem);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    name_damaged(reader, snapshots, &places, found).await
}

/// Tells which files of which snapshots need what was not found good.
async fn name_damaged(
    reader: &ChunkReader,
    snapshots: &[VerifiedSnapshot],
    damaged: &HashSet<u128>,
    found: &mut Verification,
) -> Result<(), Arc<ChunkError>> {
    for verified in snapshots {
        // What is missing altogether was told before.
        let mut told = Verification::default();
        let mut walk = NamedChunks::new(reader, verified);
        let mut last = String::new();
        while let Some(named) = walk.next(&mut told).await? {
            for (name, place) in named {
                let Some((id, place)) = place else { continue };
                if damaged.contains(&fingerprint(id, &place)) && name.owner != last {
                    found.error(format!("{} is damaged", name.owner));
                    last.clone_from(&name.owner);
                }
            }
        }
    }
    Ok(())
}

/// A chunk at a place in 16 bytes.
fn fingerprint(id: ChunkId, place: &ChunkPlace) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.as_bytes());
    hasher.update(place.pack.as_bytes());
    hasher.update(&[
        place.shape.kind.tag(),
        place.shape.compression.tag(),
        u8::from(place.purpose == Purpose::Meta),
    ]);
    hasher.update(&place.frame_offset.to_le_bytes());
    for number in [
        place.shape.plain_bytes,
        place.shape.sealed_bytes,
        place.run_header.into(),
        place.offset_in_frame,
        place.bytes,
    ] {
        hasher.update(&number.to_le_bytes());
    }
    let mut half = [0u8; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(half)
}
