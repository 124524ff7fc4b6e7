//! Writes one file: chunks in any order and from several threads, holes left as holes. Metadata is set once
//! the content is whole, and only then the file gets its name. A file that failed leaves nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use formats::listing::content::{Content, Extent};
use formats::listing::entry::{Entry, join};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::restore::links::First;
use crate::restore::metadata::Object;
use crate::restore::site::Site;
use crate::restore::staging::{Existing, OpenFile};
use crate::restore::summary::{ProblemKind, Tally};
use crate::restore::tree::Directory;

/// Files from this size on get their blocks at once, so that chunks out of order do not scatter them.
const PREALLOCATE_BYTES_MIN: u64 = 1 << 20;

/// Where a file goes.
#[derive(Debug)]
pub(crate) struct FilePlace {
    /// Its directory.
    pub(crate) directory: Arc<Directory>,
    /// The directory's path in the listing, for messages.
    pub(crate) directory_path: Arc<[u8]>,
    /// Whether its name may be taken.
    pub(crate) existing: Existing,
    /// The path in the listing that further names refer to, if it is not this file's own.
    pub(crate) first_path: Option<Vec<u8>>,
}

/// A file under way.
#[derive(Debug)]
pub(crate) struct FileJob {
    place: FilePlace,
    /// Without its content, which is handed around separately.
    entry: Entry,
    preallocate: bool,
    /// One chunk is all of it: writing that gives the file its size.
    is_one_chunk: bool,
    file: Mutex<Option<OpenFile>>,
    /// Chunks that are still to be written, and one more until all of them are known.
    outstanding: AtomicU64,
    failure: OnceLock<(ProblemKind, String)>,
    written: AtomicU64,
}

impl FileJob {
    /// A file to be written, and its content.
    pub(crate) fn new(place: FilePlace, mut entry: Entry) -> (Arc<Self>, Content) {
        let content = std::mem::replace(&mut entry.content, Content::None);
        let preallocate = entry.stat.size >= PREALLOCATE_BYTES_MIN
            && match &content {
                Content::Extents(extents) => !extents
                    .iter()
                    .any(|extent| matches!(extent, Extent::Hole { .. })),
                _ => false,
            };
        let is_one_chunk = matches!(
            &content,
            Content::Extents(extents) if matches!(extents.as_slice(), [Extent::Chunk { .. }])
        );
        let job = Self {
            place,
            entry,
            preallocate,
            is_one_chunk,
            file: Mutex::new(None),
            outstanding: AtomicU64::new(1),
            failure: OnceLock::new(),
            written: AtomicU64::new(0),
        };
        (Arc::new(job), content)
    }

    /// Its path in the listing.
    pub(crate) fn path(&self) -> Vec<u8> {
        join(&self.place.directory_path, &self.entry.name)
    }

    /// Its entry, without content.
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// One more chunk is to be written.
    pub(crate) fn expect_chunk(&self) {
        self.outstanding.fetch_add(1, Ordering::AcqRel);
    }

    /// One chunk less; true for the last, after which the caller finishes the file.
    pub(crate) fn release(&self) -> bool {
        self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Notes why the file cannot be whole; the first cause counts.
    pub(crate) fn fail(&self, kind: ProblemKind, text: String) {
        self.failure.get_or_init(|| (kind, text));
    }

    /// Writes a chunk at its place.
    pub(crate) fn write(&self, site: &Site, offset: u64, bytes: &[u8]) {
        if self.failure.get().is_some() {
            return;
        }
        if let Some(errno) = site.full.get() {
            // Not written is not whole: without a failure it would be published as it is.
            self.fail_io(site, &(*errno).into());
            return;
        }
        if let Err(error) = self.try_write(site, offset, bytes) {
            self.fail_io(site, &error);
        }
    }

    fn try_write(&self, site: &Site, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fd = self.open(site)?;
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            match rustix::io::pwrite(&fd, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    at += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.written
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn open(&self, site: &Site) -> io::Result<Arc<OwnedFd>> {
        let mut file = self.lock();
        if let Some(open) = file.as_ref() {
            return Ok(Arc::clone(open.fd()));
        }
        let open = site
            .staging
            .create_file(&self.place.directory, self.place.existing)?;
        let fd = Arc::clone(open.fd());
        *file = Some(open);
        let size = self.entry.stat.size;
        if size > 0 && !self.is_one_chunk {
            rustix::fs::ftruncate(&fd, size)?;
        }
        if self.preallocate {
            match rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, 0, size) {
                // Not every filesystem can; then the blocks come as they are written.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(fd)
    }

    /// Gives the whole file its metadata and its name, or removes what failed.
    pub(crate) fn finish(&self, site: &Site) {
        if self.failure.get().is_none()
            && let Err(error) = self.complete(site)
        {
            self.fail_io(site, &error);
        }
        let file = self.lock().take();
        let Some((kind, text)) = self.failure.get() else {
            return;
        };
        if let Some(open) = file
            && let Err(error) = open.discard()
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "a failed file's temporary name stays until the end");
        }
        site.tally.problem(&self.path(), *kind, text.clone());
    }

    fn complete(&self, site: &Site) -> io::Result<()> {
        let fd = self.open(site)?;
        let mut file = self.lock();
        let Some(open) = file.as_ref() else {
            return Ok(());
        };
        let object = Object::Open(&fd);
        let problems = site.setter.apply(&object, &self.entry, open.may_inherit());
        let stat = rustix::fs::fstat(&fd)?;
        site.staging.publish_file(
            open,
            &self.place.directory,
            &self.entry.name,
            self.place.existing,
        )?;
        *file = None;
        drop(file);
        if self.entry.stat.links > 1 || self.place.first_path.is_some() {
            self.remember(site, stat.st_dev, stat.st_ino);
        }
        Tally::add(&site.tally.files, 1);
        Tally::add(&site.tally.bytes, self.written.load(Ordering::Relaxed));
        site.metadata_problems(&self.path(), &problems);
        Ok(())
    }

    fn remember(&self, site: &Site, device: u64, inode: u64) {
        let path = self.path();
        let first = |at| First {
            device,
            inode,
            links: self.entry.stat.links,
            at,
        };
        match &self.place.first_path {
            Some(first_path) => site.firsts.remember(first_path, first(Some(path.into()))),
            None => site.firsts.remember(&path, first(None)),
        }
    }

    fn fail_io(&self, site: &Site, error: &io::Error) {
        // Classified where all other objects are; here only remembered as this file's failure.
        let (kind, text) = site.classify("cannot be written", error);
        self.fail(kind, text);
    }

    fn lock(&self) -> MutexGuard<'_, Option<OpenFile>> {
        // The slot is whole at every step; a panic elsewhere does not make it wrong.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
