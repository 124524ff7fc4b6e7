//! What a coordinator whose keys open nothing remembers of a host's files, in the place of the parent's listing: for every path what
//! it was and which chunks it consists of. Found by a keyed hash of the path, and sealed under a key that is made of the path, too:
//! the file says nothing of any path, and of one that somebody guesses and has the repository's id key for, what a listing says.
//!
//! It is a cache. Whether it is behind, of a run that failed, or was deleted, only costs reading: an entry is taken over when what the
//! host lists is the same, and when the index has every chunk of it.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use formats::codec::Reader;
use formats::ids::ChunkId;
use formats::keys::derive::context;
use formats::keys::secret::IdKey;
use formats::listing::content::Extent;
use formats::listing::entry::{Entry, join};
use formats::seal::aead;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::backup::remembered::file::{Change, RememberedFile, Row, RowKey};
use crate::backup::verdict::is_reusable;
use crate::database::DatabaseError;
use crate::snapshot::content::chunk_ids;

/// Rows that are written in one transaction.
const ROWS_AT_ONCE: usize = 4_096;
/// Or fewer, with so many bytes.
const BYTES_AT_ONCE: usize = 4 << 20;
/// The most bytes of an entry that is remembered.
const ENTRY_BYTES_MAX: usize = 64 << 10;
/// Rows that are of use are dated anew after so many days.
const FRESH_DAYS: i64 = 8;
/// Rows that were not of use for so many days go.
const KEPT_DAYS: i64 = 40;
/// Entries between the walk and the new listing whose rows are known to be right; past it they are written again.
const UNDER_WAY_MAX: usize = 1 << 18;
const SECONDS_OF_DAY: i64 = 86_400;

const TAG_PATH: u8 = 1;
const TAG_PAGE: u8 = 2;

/// One host's rows, shared by whoever asks. One that fails is told of once, and is then as if it were empty.
#[derive(Debug, Clone)]
pub struct Memory {
    file: Arc<Mutex<Option<RememberedFile>>>,
    keys: Arc<PathKeys>,
    today: i64,
}

/// What is remembered of files, beside one run: asked for in batches as they are listed, told what became of each.
#[derive(Debug)]
pub struct Remembered {
    memory: Memory,
    /// Entries of the batch at hand, in its order.
    recalled: VecDeque<Option<Entry>>,
    /// Digests of entries whose rows need not be written again.
    fresh: HashMap<RowKey, [u8; 16]>,
    unwritten: Vec<Change>,
    /// Bytes of their values.
    unwritten_bytes: usize,
}

/// Makes rows' keys.
struct PathKeys(blake3::Hasher);

impl std::fmt::Debug for PathKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PathKeys(..)")
    }
}

impl PathKeys {
    fn new(id_key: &IdKey, host: &str) -> Self {
        let key = Zeroizing::new(blake3::derive_key(
            context::REMEMBERED_PATHS,
            id_key.expose(),
        ));
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&(host.len() as u64).to_le_bytes());
        hasher.update(host.as_bytes());
        Self(hasher)
    }

    /// What a path's row is found by, and what it is sealed under.
    fn of_path(&self, path: &[u8]) -> (RowKey, Zeroizing<[u8; 32]>) {
        let mut hasher = self.0.clone();
        hasher.update(&[TAG_PATH]);
        hasher.update(path);
        let mut output = hasher.finalize_xof();
        let (mut row, mut key) = (RowKey::default(), Zeroizing::new([0; 32]));
        output.fill(&mut row);
        output.fill(key.as_mut());
        (row, key)
    }

    /// What a content page's row is found by: it says which chunks the page names, and nothing else.
    fn of_page(&self, page: &ChunkId) -> RowKey {
        let mut hasher = self.0.clone();
        hasher.update(&[TAG_PAGE]);
        hasher.update(page.as_bytes());
        let mut row = RowKey::default();
        hasher.finalize_xof().fill(&mut row);
        row
    }
}

impl Memory {
    /// Opens the file of a host, or begins an empty one.
    pub async fn open(path: &Path, id_key: &IdKey, host: &str, now: Timestamp) -> Self {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || RememberedFile::open(&path)).await;
        let file = match opened {
            Ok(Ok(file)) => Some(file),
            Ok(Err(error)) => {
                tell_failed(&error);
                None
            }
            Err(_) => None, // The program ends.
        };
        Self {
            file: Arc::new(Mutex::new(file)),
            keys: Arc::new(PathKeys::new(id_key, host)),
            today: now.as_second().div_euclid(SECONDS_OF_DAY),
        }
    }

    /// The chunks that a content page names; nothing where that is not known.
    pub async fn chunks_of_page(&self, page: &ChunkId) -> Option<Vec<ChunkId>> {
        let key = self.keys.of_page(page);
        let (value, day) = self.get(vec![key]).await.pop().flatten()?;
        let chunks: Option<Vec<ChunkId>> = value
            .chunks(32)
            .map(|id| id.try_into().ok().map(ChunkId))
            .collect();
        if !self.is_fresh(day) {
            self.change(vec![Change::Put(key, value)]).await;
        }
        chunks
    }

    fn is_fresh(&self, day: i64) -> bool {
        (day..day.saturating_add(FRESH_DAYS)).contains(&self.today)
    }

    async fn get(&self, keys: Vec<RowKey>) -> Vec<Option<Row>> {
        let count = keys.len();
        let found = self.with(move |file| file.get(&keys)).await;
        found.unwrap_or_else(|| vec![None; count])
    }

    async fn change(&self, changes: Vec<Change>) {
        let today = self.today;
        self.with(move |file| file.change(&changes, today)).await;
    }

    /// Works on the file on a thread that may block; nothing once it has failed.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RememberedFile) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Option<T> {
        let file = Arc::clone(&self.file);
        let working = move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            match work(file.as_mut()?) {
                Ok(done) => Some(done),
                Err(error) => {
                    tell_failed(&error);
                    *file = None;
                    None
                }
            }
        };
        tokio::task::spawn_blocking(working).await.ok().flatten()
    }
}

fn tell_failed(error: &DatabaseError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "what is remembered of files cannot be used: they are read again"
    );
}

impl Remembered {
    /// What is remembered, for one run.
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            recalled: VecDeque::new(),
            fresh: HashMap::new(),
            unwritten: Vec::new(),
            unwritten_bytes: 0,
        }
    }

    /// Looks for the entries of a batch, which are then asked for one by one, in this order.
    pub async fn recall(&mut self, paths: &[Vec<u8>]) {
        let keys: Vec<_> = paths
            .iter()
            .map(|path| self.memory.keys.of_path(path))
            .collect();
        let rows = keys.iter().map(|(row, _)| *row).collect();
        let found = self.memory.get(rows).await;
        if self.fresh.len() > UNDER_WAY_MAX {
            self.fresh.clear();
        }
        self.recalled.clear();
        for ((row, key), found) in keys.into_iter().zip(found) {
            let opened = found.and_then(|(value, day)| Some((open(&row, &key, &value)?, day)));
            if let Some(((_, digest), day)) = &opened
                && self.memory.is_fresh(*day)
            {
                self.fresh.insert(row, *digest);
            }
            self.recalled.push_back(opened.map(|((entry, _), _)| entry));
        }
    }

    /// The next entry of the batch, if it is remembered under this name.
    pub fn next(&mut self, name: &[u8]) -> Option<Entry> {
        let entry = self.recalled.pop_front().flatten()?;
        (entry.name == name).then_some(entry)
    }

    /// Remembers an entry of the new listing.
    pub async fn note(&mut self, directory: &[u8], entry: &Entry) {
        let (row, key) = self.memory.keys.of_path(&join(directory, &entry.name));
        let fresh = self.fresh.remove(&row);
        let mut plain = Vec::new();
        entry.put(&mut plain);
        if !is_reusable(entry) || plain.len() > ENTRY_BYTES_MAX {
            self.write(Change::Forget(row)).await;
        } else if fresh != Some(digest(&plain)) {
            let mut value = Vec::new();
            let change = match aead::seal(&key, &row, &plain, &mut value) {
                Ok(()) => Change::Put(row, value),
                Err(_) => Change::Forget(row),
            };
            self.write(change).await;
        }
    }

    /// Remembers which chunks a content page names.
    pub async fn note_page(&mut self, page: &ChunkId, extents: &[Extent]) {
        let row = self.memory.keys.of_page(page);
        let chunks: Vec<u8> = chunk_ids(extents).flat_map(|id| id.0).collect();
        self.write(Change::Put(row, chunks)).await;
    }

    /// Writes what is left, and lets go of what was of no use for long.
    pub async fn finish(&mut self) {
        self.flush().await;
        let before = self.memory.today - KEPT_DAYS;
        self.memory.with(move |file| file.sweep(before)).await;
    }

    async fn write(&mut self, change: Change) {
        if let Change::Put(_, value) = &change {
            self.unwritten_bytes += value.len();
        }
        self.unwritten.push(change);
        if self.unwritten.len() >= ROWS_AT_ONCE || self.unwritten_bytes >= BYTES_AT_ONCE {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        let changes = std::mem::take(&mut self.unwritten);
        self.unwritten_bytes = 0;
        if !changes.is_empty() {
            self.memory.change(changes).await;
        }
    }
}

/// A row's entry, and the digest of its plaintext; nothing where it is not what was written.
fn open(row: &RowKey, key: &[u8; 32], value: &[u8]) -> Option<(Entry, [u8; 16])> {
    let mut plain = Vec::new();
    aead::open(key, row, value, &mut plain).ok()?;
    let mut reader = Reader::new(&plain);
    let entry = Entry::read(&mut reader).ok()?;
    reader.finish("remembered entry").ok()?;
    Some((entry, digest(&plain)))
}

fn digest(plain: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    blake3::Hasher::new()
        .update(plain)
        .finalize_xof()
        .fill(&mut digest);
    digest
}
