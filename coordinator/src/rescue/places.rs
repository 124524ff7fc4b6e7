//! Where chunks lie, as the packs' own tables tell: two temporary indexes, of meta and of data packs, and beside
//! them the further places of chunks that are in several packs. What a table tells is checked when it is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use formats::chunk::ChunkKind;
use formats::codec::{DecodeError, Put as _, Reader};
use formats::ids::{ChunkId, PackId};
use formats::seal::frame::{Compression, FrameShape};
use formats::seal::run_header::Purpose;
use rusqlite::OptionalExtension as _;

use crate::database::bad_value;
use crate::index::Index;
use crate::rescue::store::Store;
use crate::snapshot::place::{ChunkLocator, ChunkPlace, LocateError};

/// Knows every chunk of the packs that opened.
#[derive(Debug)]
pub(crate) struct Places {
    /// Meta packs first: they are few, and what is looked for first is in them.
    indexes: Mutex<Vec<Index>>,
    store: Store,
    has_chosen: AtomicBool,
}

impl Places {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            indexes: Mutex::default(),
            store,
            has_chosen: AtomicBool::new(false),
        }
    }

    pub(crate) fn add(&self, index: Index) {
        self.lock().push(index);
    }

    /// Some places are to be used instead of the indexes' own.
    pub(crate) fn note_chosen(&self) {
        self.has_chosen.store(true, Ordering::Release);
    }

    /// Looks something up in the index that was added at this place.
    pub(crate) fn with_index<T>(&self, number: usize, look: impl FnOnce(&Index) -> T) -> Option<T> {
        self.lock().get(number).map(look)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Index>> {
        // Only looked into; a panic elsewhere does not make it wrong.
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_up(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, LocateError> {
        let mut places = vec![None; ids.len()];
        for index in self.lock().iter() {
            let open: Vec<usize> = (0..ids.len())
                .filter(|number| matches!(places.get(*number), Some(None)))
                .collect();
            let wanted: Vec<ChunkId> = open
                .iter()
                .filter_map(|number| ids.get(*number).copied())
                .collect();
            let found = index.locate_many(&wanted).map_err(failed)?;
            for (number, place) in open.into_iter().zip(found) {
                if let (Some(slot), Some(place)) = (places.get_mut(number), place) {
                    *slot = Some(place);
                }
            }
        }
        Ok(places)
    }

    fn choose(
        &self,
        ids: &[ChunkId],
        places: &mut [Option<ChunkPlace>],
    ) -> Result<(), LocateError> {
        let changed = self.store.with(|transaction| {
            let mut chosen =
                transaction.prepare_cached("SELECT place FROM chosen WHERE id = ?1")?;
            for (id, place) in ids.iter().zip(places) {
                let found = chosen.query_row([id.as_bytes()], |row| place_at(row, 0));
                if let Some(found) = found.optional()? {
                    *place = Some(found);
                }
            }
            Ok(())
        });
        changed.map_err(failed)
    }
}

impl ChunkLocator for Places {
    fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, LocateError> {
        let mut places = self.look_up(ids)?;
        if self.has_chosen.load(Ordering::Acquire) {
            self.choose(ids, &mut places)?;
        }
        Ok(places)
    }
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> LocateError {
    LocateError {
        source: Box::new(source),
    }
}

/// A place as the working file keeps it.
pub(crate) fn encode_place(place: &ChunkPlace) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.put(place.pack.as_bytes());
    out.put_u64(place.pack_bytes);
    out.put_flag(place.purpose == Purpose::Meta);
    out.put_u64(place.frame_offset);
    out.put_u8(place.shape.kind.tag());
    out.put_u8(place.shape.compression.tag());
    out.put_u32(place.shape.plain_bytes);
    out.put_u32(place.shape.sealed_bytes);
    out.put_u16(place.run_header);
    out.put_u32(place.offset_in_frame);
    out.put_u32(place.bytes);
    out
}

fn decode_place(bytes: &[u8]) -> Result<ChunkPlace, DecodeError> {
    let mut reader = Reader::new(bytes);
    Ok(ChunkPlace {
        pack: PackId::read(&mut reader)?,
        pack_bytes: reader.u64("pack bytes")?,
        purpose: match reader.flag("purpose")? {
            true => Purpose::Meta,
            false => Purpose::Data,
        },
        frame_offset: reader.u64("frame offset")?,
        shape: FrameShape {
            kind: ChunkKind::from_tag(reader.u8("kind")?)?,
            compression: Compression::from_tag(reader.u8("compression")?)?,
            plain_bytes: reader.u32("plain bytes")?,
            sealed_bytes: reader.u32("sealed bytes")?,
        },
        run_header: reader.u16("run header")?,
        offset_in_frame: reader.u32("offset in frame")?,
        bytes: reader.u32("bytes")?,
    })
}

/// A place from a column.
pub(crate) fn place_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<ChunkPlace> {
    let bytes: Vec<u8> = row.get(column)?;
    decode_place(&bytes).map_err(|source| bad_value(column, source))
}
