//! Reads chunks by their ids: gathers them by frame, reads near frames together and several ranges at once,
//! opens each frame with its run's key, and checks every chunk's keyed id before it is handed out. Never
//! hands out bytes that were not checked, and never more than a bounded amount is in memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use formats::chunk::{ChunkKind, chunk_id};
use formats::ids::ChunkId;
use formats::keys::repository::{MissingKeyError, RepositoryKeys};
use formats::keys::secret::IdKey;
use formats::seal::frame::FrameError;
use tokio::join;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::repository::store::tell_bad_copy;
use crate::snapshot::chunk_error::{ChunkError, FailureClass};
use crate::snapshot::frame_cache::FrameCache;
use crate::snapshot::place::{ChunkLocator, ChunkPlace, PackSource};
use crate::snapshot::plain_buffers::PlainBuffers;
use crate::snapshot::ranges::{FrameRange, WantedFrame, coalesce, group_by_frame};
use crate::snapshot::run_keys::{RunOpener, RunOpeners};

/// Ids are located in groups of this many.
const LOCATE_IDS_MAX: usize = 4_096;

/// Takes chunks as they come, in any order, from several threads.
pub trait ChunkSink: Send + Sync + 'static {
    /// Takes a checked chunk, or why there is none. Called once for each id, on a thread that may block.
    fn chunk(&self, id: ChunkId, found: Result<Bytes, Arc<ChunkError>>);
}

/// How much a reader may take at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Ranges read and opened at the same time; each takes up to 4 MiB, and a frame.
    pub parallel_reads: usize,
    /// Plain bytes of recently opened frames that are kept.
    pub cache_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            parallel_reads: 8,
            cache_bytes: 32 << 20,
        }
    }
}

/// Reads chunks of one repository. Cheap to clone.
#[derive(Clone)]
pub struct ChunkReader {
    shared: Arc<Shared>,
}

struct Shared {
    locator: Arc<dyn ChunkLocator>,
    packs: Arc<dyn PackSource>,
    id_key: IdKey,
    openers: RunOpeners,
    cache: Mutex<FrameCache>,
    buffers: PlainBuffers,
    reads: Arc<Semaphore>,
    /// One for each processor: more threads that open frames would only wait for each other.
    opens: Semaphore,
}

impl std::fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkReader(..)")
    }
}

impl ChunkReader {
    /// A reader with the keys in hand; the id key must be among them.
    pub fn new(
        locator: Arc<dyn ChunkLocator>,
        packs: Arc<dyn PackSource>,
        keys: RepositoryKeys,
        limits: ReadLimits,
    ) -> Result<Self, MissingKeyError> {
        Ok(Self {
            shared: Arc::new(Shared {
                locator,
                packs,
                id_key: keys.id()?.clone(),
                openers: RunOpeners::new(keys),
                cache: Mutex::new(FrameCache::new(limits.cache_bytes)),
                buffers: PlainBuffers::default(),
                reads: Arc::new(Semaphore::new(limits.parallel_reads.max(1))),
                opens: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
            }),
        })
    }

    /// Where packs are read from.
    pub(crate) fn packs(&self) -> &dyn PackSource {
        self.shared.packs.as_ref()
    }

    /// The key of chunk ids.
    pub(crate) fn id_key(&self) -> &IdKey {
        &self.shared.id_key
    }

    /// The runs met so far.
    pub(crate) fn openers(&self) -> &RunOpeners {
        &self.shared.openers
    }

    /// One chunk.
    pub async fn read(&self, kind: ChunkKind, id: ChunkId) -> Result<Bytes, Arc<ChunkError>> {
        let mut chunks = self.read_many(kind, &[id]).await?;
        chunks.pop().ok_or_else(|| Arc::new(ChunkError::Stopped))
    }

    /// Chunks in the order of their ids, or the first failure. All are in memory at once: for listings.
    pub async fn read_many(
        &self,
        kind: ChunkKind,
        ids: &[ChunkId],
    ) -> Result<Vec<Bytes>, Arc<ChunkError>> {
        let gathered = Arc::new(Gathered::default());
        let sink: Arc<dyn ChunkSink> = Arc::clone(&gathered) as Arc<dyn ChunkSink>;
        self.deliver(kind, ids, sink).await?;
        let mut found = lock(&gathered.found);
        let mut chunks = Vec::with_capacity(ids.len());
        for id in ids {
            match found.get_mut(id) {
                Some(Ok(bytes)) => chunks.push(bytes.clone()),
                Some(Err(error)) => return Err(Arc::clone(error)),
                None => return Err(Arc::new(ChunkError::Stopped)),
            }
        }
        Ok(chunks)
    }

    /// Where chunks lie, in the order of their ids.
    pub async fn locate(
        &self,
        ids: Vec<ChunkId>,
    ) -> Result<Vec<Option<ChunkPlace>>, Arc<ChunkError>> {
        let locator = Arc::clone(&self.shared.locator);
        tokio::task::spawn_blocking(move || {
            let mut places = Vec::with_capacity(ids.len());
            for group in ids.chunks(LOCATE_IDS_MAX) {
                places.extend(locator.locate_many(group)?);
            }
            Ok(places)
        })
        .await
        .map_err(|_| Arc::new(ChunkError::Stopped))?
        .map_err(|error| Arc::new(ChunkError::Locate(error)))
    }

    /// Reads every id once and hands it to `sink` as it comes. An error here means that some ids were not
    /// delivered at all; what is wrong with a single chunk goes to the sink.
    pub async fn deliver(
        &self,
        kind: ChunkKind,
        ids: &[ChunkId],
        sink: Arc<dyn ChunkSink>,
    ) -> Result<(), Arc<ChunkError>> {
        let mut seen = HashSet::with_capacity(ids.len());
        let ids: Vec<ChunkId> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
        let places = self.locate(ids.clone()).await?;
        let mut known = Vec::with_capacity(ids.len());
        for (id, place) in ids.into_iter().zip(places) {
            match place {
                None => sink.chunk(id, Err(Arc::new(ChunkError::Unknown { id }))),
                Some(place) if fits(kind, &place) => known.push((id, place)),
                Some(place) => sink.chunk(id, Err(Arc::new(misplaced(id, &place)))),
            }
        }
        let mut tasks = JoinSet::new();
        let (cached, unread) = self.split_cached(group_by_frame(&known));
        if !cached.is_empty() {
            let (reader, sink) = (self.clone(), Arc::clone(&sink));
            tasks.spawn_blocking(move || {
                for (frame, plain) in cached {
                    reader.hand_out(&frame, &plain, sink.as_ref());
                }
            });
        }
        for range in coalesce(unread) {
            let permit = Arc::clone(&self.shared.reads)
                .acquire_owned()
                .await
                .map_err(|_| Arc::new(ChunkError::Stopped))?;
            let (reader, sink) = (self.clone(), Arc::clone(&sink));
            tasks.spawn(async move {
                reader.read_range(range, sink).await;
                drop(permit);
            });
            while let Some(ended) = tasks.try_join_next() {
                ended.map_err(|_| Arc::new(ChunkError::Stopped))?;
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|_| Arc::new(ChunkError::Stopped))?;
        }
        Ok(())
    }

    fn split_cached(
        &self,
        frames: Vec<WantedFrame>,
    ) -> (Vec<(WantedFrame, Bytes)>, Vec<WantedFrame>) {
        let cache = lock(&self.shared.cache);
        let (mut cached, mut unread) = (Vec::new(), Vec::new());
        for frame in frames {
            match cache.get(&(frame.place.pack, frame.place.frame_offset)) {
                Some(plain) => cached.push((frame, plain)),
                None => unread.push(frame),
            }
        }
        (cached, unread)
    }

    async fn read_range(&self, range: FrameRange, sink: Arc<dyn ChunkSink>) {
        let packs = self.shared.packs.as_ref();
        for (frame, error) in self.read_from(packs, range, &sink).await {
            self.read_copies(&frame, &error, &sink).await;
        }
    }

    /// Reads a frame that is damaged, or cannot be read, from one copy after another.
    async fn read_copies(
        &self,
        frame: &WantedFrame,
        error: &Arc<ChunkError>,
        sink: &Arc<dyn ChunkSink>,
    ) {
        let mut told = error;
        let mut unread = None;
        for copy in self.shared.packs.copies() {
            let range = FrameRange {
                offset: frame.place.frame_offset,
                bytes: frame.place.shape.sealed_bytes.into(),
                frames: vec![frame.clone()],
            };
            let failed = self.read_from(copy.as_ref(), range, sink).await;
            let Some((_, other)) = failed.into_iter().next() else {
                tell_bad_copy(error.as_ref());
                return;
            };
            // A copy that cannot be read now may be good: then nothing is known to be lost.
            if other.class() == FailureClass::Storage {
                unread = Some(other);
            }
        }
        if let Some(unread) = &unread {
            told = unread;
        }
        fail_frame(frame, told, sink.as_ref());
    }

    /// Reads a range and hands out what is good; gives the frames that are not.
    async fn read_from(
        &self,
        packs: &dyn PackSource,
        range: FrameRange,
        sink: &Arc<dyn ChunkSink>,
    ) -> Vec<(WantedFrame, Arc<ChunkError>)> {
        let (sealed, openers) = match self.try_read_range(packs, &range).await {
            Ok(read) => read,
            Err(error) => {
                let error = Arc::new(error);
                let frames = range.frames.into_iter();
                return frames.map(|frame| (frame, Arc::clone(&error))).collect();
            }
        };
        // Never closed, so it is always had.
        let turn = self.shared.opens.acquire().await;
        let (reader, sink) = (self.clone(), Arc::clone(sink));
        let opening = tokio::task::spawn_blocking(move || {
            reader.open_range(range, &sealed, &openers, sink.as_ref())
        });
        let opened = opening.await;
        drop(turn);
        match opened {
            Ok(failed) => failed,
            Err(stopped) if stopped.is_panic() => {
                std::panic::resume_unwind(stopped.into_panic());
            }
            Err(_) => Vec::new(),
        }
    }

    async fn try_read_range(
        &self,
        packs: &dyn PackSource,
        range: &FrameRange,
    ) -> Result<(Bytes, Vec<Arc<RunOpener>>), ChunkError> {
        let Some(first) = range.frames.first() else {
            return Ok((Bytes::new(), Vec::new()));
        };
        let (pack, purpose) = (first.place.pack, first.place.purpose);
        // Where the keys' places are not known yet, they are read at the same time.
        let reading = packs.read_range(pack, purpose, range.offset, range.bytes);
        let (sealed, openers) = join!(reading, self.openers_of(packs, range));
        let sealed = sealed?;
        if sealed.len() as u64 != range.bytes {
            return Err(ChunkError::ShortRead {
                pack,
                offset: range.offset,
                expected: range.bytes,
                found: sealed.len() as u64,
            });
        }
        Ok((sealed, openers?))
    }

    /// What opens each frame of a range.
    async fn openers_of(
        &self,
        packs: &dyn PackSource,
        range: &FrameRange,
    ) -> Result<Vec<Arc<RunOpener>>, ChunkError> {
        let mut openers = Vec::with_capacity(range.frames.len());
        for frame in &range.frames {
            openers.push(self.shared.openers.get(packs, &frame.place).await?);
        }
        Ok(openers)
    }

    fn open_range(
        &self,
        range: FrameRange,
        sealed: &Bytes,
        openers: &[Arc<RunOpener>],
        sink: &dyn ChunkSink,
    ) -> Vec<(WantedFrame, Arc<ChunkError>)> {
        let mut failed = Vec::new();
        for (frame, opener) in range.frames.into_iter().zip(openers) {
            let place = frame.place;
            let begin = usize::try_from(place.frame_offset - range.offset).unwrap_or(usize::MAX);
            let end = begin.saturating_add(place.shape.sealed_bytes as usize);
            let mut plain = self.shared.buffers.take();
            let opened = match sealed.get(begin..end) {
                Some(sealed) => opener.open(&place.shape, sealed, &mut plain),
                None => Err(FrameError::Seal),
            };
            match opened {
                Ok(()) => {
                    let plain = self.shared.buffers.share(plain);
                    self.hand_out(&frame, &plain, sink);
                    lock(&self.shared.cache).insert((place.pack, place.frame_offset), plain);
                }
                Err(source) => {
                    let error = Arc::new(ChunkError::Frame {
                        pack: place.pack,
                        frame_offset: place.frame_offset,
                        source,
                    });
                    failed.push((frame, error));
                }
            }
        }
        failed
    }

    /// Checks each wanted chunk of an opened frame and hands it out.
    fn hand_out(&self, frame: &WantedFrame, plain: &Bytes, sink: &dyn ChunkSink) {
        let place = &frame.place;
        for chunk in &frame.chunks {
            let begin = chunk.offset as usize;
            let end = begin.saturating_add(chunk.bytes as usize);
            let bytes = (end <= plain.len()).then(|| plain.slice(begin..end));
            let found = match bytes {
                None => Err(Arc::new(ChunkError::Misplaced {
                    pack: place.pack,
                    frame_offset: place.frame_offset,
                    id: chunk.id,
                })),
                Some(bytes)
                    if chunk_id(&self.shared.id_key, place.shape.kind, &bytes) == chunk.id =>
                {
                    Ok(bytes)
                }
                Some(_) => Err(Arc::new(ChunkError::WrongBytes {
                    pack: place.pack,
                    frame_offset: place.frame_offset,
                    id: chunk.id,
                })),
            };
            sink.chunk(chunk.id, found);
        }
    }
}

fn fits(kind: ChunkKind, place: &ChunkPlace) -> bool {
    let end = place.offset_in_frame.checked_add(place.bytes);
    place.shape.kind == kind && end.is_some_and(|end| end <= place.shape.plain_bytes)
}

fn misplaced(id: ChunkId, place: &ChunkPlace) -> ChunkError {
    ChunkError::Misplaced {
        pack: place.pack,
        frame_offset: place.frame_offset,
        id,
    }
}

fn fail_frame(frame: &WantedFrame, error: &Arc<ChunkError>, sink: &dyn ChunkSink) {
    for chunk in &frame.chunks {
        sink.chunk(chunk.id, Err(Arc::clone(error)));
    }
}

#[derive(Default)]
struct Gathered {
    found: Mutex<HashMap<ChunkId, Result<Bytes, Arc<ChunkError>>>>,
}

impl ChunkSink for Gathered {
    fn chunk(&self, id: ChunkId, found: Result<Bytes, Arc<ChunkError>>) {
        lock(&self.found).insert(id, found);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value in here is whole at every step; a panic elsewhere does not make it wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
