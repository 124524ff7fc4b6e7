//! The spool: where a body is gathered, hashed and made durable before any destination sees it. Bounded; a full
//! spool makes uploads wait. A file that fails in any way is dropped, never written to or synced again.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use formats::ids::PackId;
use rustix::fs::{AtFlags, Mode, OFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::claimed_dir::{ClaimError, ClaimedDir};
use crate::io_faults::{IoFaults, IoStep};
use crate::limits::{IO_BYTES, PIECES_IN_FLIGHT, RESERVE_CHECK_BYTES};

/// The spool's room is counted in units of this many bytes.
const ROOM_UNIT: u64 = 64 << 10;

/// Where the spool is, and its bounds.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Its directory. On a destination's own file system, objects get there by a link and not by a copy.
    pub dir: PathBuf,
    /// The most bytes of all uploads under way.
    pub bytes_max: u64,
    /// What data packs leave free on the file system.
    pub reserve_bytes: u64,
}

/// Whether an object may use the last of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A data pack: leaves the reserve alone.
    Data,
    /// What the coordinator writes to complete a run (listing, log, keys): may use the reserve.
    Commit,
}

/// A directory of bodies being gathered.
#[derive(Debug)]
pub struct Spool {
    dir: ClaimedDir,
    room: Arc<Semaphore>,
    units_max: u32,
    reserve_bytes: u64,
    next: AtomicU64,
    faults: IoFaults,
}

/// The spool did not take a body.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Its directory could not be claimed.
    #[error("could not open the spool; set `spool` to a directory of this server's user")]
    Open(#[source] ClaimError),
    /// The reserve for the log would be used up.
    #[error(
        "the spool's disk has {free_bytes} bytes free and keeps {reserve_bytes} for the log; free space in {}",
        dir.display()
    )]
    ReserveReached {
        /// The spool.
        dir: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What is kept.
        reserve_bytes: u64,
    },
    /// Its disk is full.
    #[error("the spool's disk is full: could not {action} a file in {}; free space there", dir.display())]
    NoSpace {
        /// What was attempted.
        action: &'static str,
        /// The spool.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its disk failed.
    #[error("could not {action} a file in the spool {}; look at its disk", dir.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The spool.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The body ended before it was complete, or the server is ending.
    #[error("the upload was given up before it was complete")]
    Abandoned,
}

impl Spool {
    /// Opens the spool and removes what a crash left in it.
    pub fn open(options: &SpoolOptions, faults: IoFaults) -> Result<Arc<Self>, SpoolError> {
        let dir = ClaimedDir::claim(&options.dir, "spool-").map_err(SpoolError::Open)?;
        let units_max = u32::try_from(options.bytes_max.div_ceil(ROOM_UNIT).max(1))
            .unwrap_or(u32::MAX >> 4)
            .min(u32::MAX >> 4);
        Ok(Arc::new(Self {
            dir,
            room: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            reserve_bytes: options.reserve_bytes,
            next: AtomicU64::new(0),
            faults,
        }))
    }

    /// Whether at least half of the room is free.
    pub fn is_roomy(&self) -> bool {
        self.room.available_permits() >= self.units_max as usize / 2
    }

    /// Begins a file for at most `bytes_max`, once the spool has room for it.
    pub async fn begin(
        self: &Arc<Self>,
        bytes_max: u64,
        purpose: Purpose,
    ) -> Result<SpoolWriter, SpoolError> {
        // A body larger than the whole spool waits for all of it and is then let through.
        let units = u32::try_from(bytes_max.div_ceil(ROOM_UNIT).max(1))
            .unwrap_or(u32::MAX)
            .min(self.units_max);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(units)
            .await
            .map_err(|_| SpoolError::Abandoned)?;
        let (pieces, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let spool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || spool.gather(receiver, purpose, room));
        Ok(SpoolWriter { pieces, task })
    }

    /// The writer's thread: hashes and writes pieces as they come.
    fn gather(
        self: Arc<Self>,
        mut pieces: mpsc::Receiver<Piece>,
        purpose: Purpose,
        mut room: OwnedSemaphorePermit,
    ) -> Result<SpooledObject, SpoolError> {
        self.check_reserve(purpose)?;
        let file = self.create()?;
        let mut hasher = blake3::Hasher::new();
        let mut pending = Vec::new();
        let (mut bytes, mut checked_at) = (0u64, 0u64);
        loop {
            match pieces.blocking_recv() {
                Some(Piece::Bytes(piece)) => {
                    hasher.update(&piece);
                    bytes += piece.len() as u64;
                    self.write(&file, &mut pending, &piece)?;
                }
                Some(Piece::End) => break,
                // The file is removed as it is dropped.
                None => return Err(SpoolError::Abandoned),
            }
            if bytes - checked_at >= RESERVE_CHECK_BYTES {
                self.check_reserve(purpose)?;
                checked_at = bytes;
            }
        }
        self.flush(&file, &mut pending)?;
        self.sync(&file)?;
        // What the body did not need is room for others while destinations take their time.
        let needed = usize::try_from(bytes.div_ceil(ROOM_UNIT).max(1)).unwrap_or(usize::MAX);
        drop(room.split(room.num_permits().saturating_sub(needed)));
        Ok(SpooledObject(Arc::new(Inner {
            digest: PackId(hasher.finalize().into()),
            bytes,
            link_taken: AtomicBool::new(false),
            file,
            _room: room,
        })))
    }

    fn create(self: &Arc<Self>) -> Result<SpoolFile, SpoolError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{number:016x}");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let opened = self
            .faults
            .check(IoStep::CreateSpoolFile)
            .and_then(|()| {
                Ok(rustix::fs::openat(
                    &self.dir,
                    &name,
                    flags,
                    Mode::RUSR | Mode::WUSR,
                )?)
            })
            .map_err(|error| self.io("create", error))?;
        Ok(SpoolFile {
            file: File::from(opened),
            name,
            spool: Arc::clone(self),
        })
    }

    /// Small pieces are gathered into one write; large ones go straight through.
    fn write(
        &self,
        file: &SpoolFile,
        pending: &mut Vec<u8>,
        piece: &[u8],
    ) -> Result<(), SpoolError> {
        if pending.len() + piece.len() < IO_BYTES {
            pending.extend_from_slice(piece);
            return Ok(());
        }
        self.flush(file, pending)?;
        self.write_now(file, piece)
    }

    fn flush(&self, file: &SpoolFile, pending: &mut Vec<u8>) -> Result<(), SpoolError> {
        if pending.is_empty() {
            return Ok(());
        }
        self.write_now(file, pending)?;
        pending.clear();
        Ok(())
    }

    fn write_now(&self, file: &SpoolFile, bytes: &[u8]) -> Result<(), SpoolError> {
        self.faults
            .check(IoStep::WriteSpoolFile)
            .and_then(|()| (&file.file).write_all(bytes))
            .map_err(|error| self.io("write", error))
    }

    fn sync(&self, file: &SpoolFile) -> Result<(), SpoolError> {
        // Read-only from here on: a destination may link to this very file.
        self.faults
            .check(IoStep::SyncSpoolFile)
            .and_then(|()| Ok(rustix::fs::fchmod(&file.file, Mode::RUSR)?))
            .and_then(|()| file.file.sync_all())
            .map_err(|error| self.io("make durable", error))
    }

    fn check_reserve(&self, purpose: Purpose) -> Result<(), SpoolError> {
        if purpose == Purpose::Commit || self.reserve_bytes == 0 {
            return Ok(());
        }
        let facts = rustix::fs::fstatvfs(&self.dir)
            .map_err(|errno| self.io("look at the free space for", errno.into()))?;
        let free_bytes = facts.f_bavail.saturating_mul(facts.f_frsize);
        if free_bytes < self.reserve_bytes {
            return Err(SpoolError::ReserveReached {
                dir: self.dir.path().to_owned(),
                free_bytes,
                reserve_bytes: self.reserve_bytes,
            });
        }
        Ok(())
    }

    fn io(&self, action: &'static str, source: io::Error) -> SpoolError {
        let dir = self.dir.path().to_owned();
        if is_no_space(&source) {
            SpoolError::NoSpace {
                action,
                dir,
                source,
            }
        } else {
            SpoolError::Io {
                action,
                dir,
                source,
            }
        }
    }
}

/// Whether the system says that a disk, an inode table or a quota is full.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

enum Piece {
    Bytes(Bytes),
    End,
}

/// A body being gathered. Dropping it drops the file.
#[derive(Debug)]
pub struct SpoolWriter {
    pieces: mpsc::Sender<Piece>,
    task: JoinHandle<Result<SpooledObject, SpoolError>>,
}

impl SpoolWriter {
    /// Hands a piece to the writer's thread; waits while it is behind.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), SpoolError> {
        if self.pieces.send(Piece::Bytes(piece)).await.is_ok() {
            return Ok(());
        }
        // The thread has ended, which before the end of the body means that it failed.
        match (&mut self.task).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(SpoolError::Abandoned),
        }
    }

    /// Makes the file durable.
    pub async fn finish(self) -> Result<SpooledObject, SpoolError> {
        // A thread that has already ended tells why below.
        let _sent = self.pieces.send(Piece::End).await;
        self.task.await.unwrap_or(Err(SpoolError::Abandoned))
    }
}

/// A durable file in the spool, removed when the last holder drops it. What a destination linked stays.
#[derive(Debug, Clone)]
pub struct SpooledObject(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    digest: PackId,
    bytes: u64,
    link_taken: AtomicBool,
    file: SpoolFile,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct SpoolFile {
    file: File,
    name: String,
    spool: Arc<Spool>,
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::unlinkat(&self.spool.dir, &self.name, AtFlags::empty()) {
            // The next start removes it.
            tracing::debug!(name = self.name, %error, "left in the spool");
        }
    }
}

impl SpooledObject {
    /// BLAKE3 of its bytes.
    pub fn digest(&self) -> PackId {
        self.0.digest
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The open file. Read it by offset: holders share it.
    pub fn file(&self) -> &File {
        &self.0.file.file
    }

    /// The bytes from `offset` on, at most so many; fewer at the end. Blocks.
    pub fn read_piece(&self, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let left = self.bytes().saturating_sub(offset);
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max);
        let mut piece = vec![0; bytes];
        self.file().read_exact_at(&mut piece, offset)?;
        Ok(piece)
    }

    /// Links the file to a name in a folder of the same file system. At most one caller ever succeeds: two
    /// destinations that shared one file's blocks would be one copy, not two.
    pub fn link_to(
        &self,
        folder: rustix::fd::BorrowedFd<'_>,
        name: &str,
    ) -> rustix::io::Result<()> {
        if self.0.link_taken.swap(true, Ordering::AcqRel) {
            return Err(rustix::io::Errno::XDEV);
        }
        let spool = self.0.file.spool.dir.as_fd();
        let linked = rustix::fs::linkat(spool, &self.0.file.name, folder, name, AtFlags::empty());
        if linked.is_err() {
            self.0.link_taken.store(false, Ordering::Release);
        }
        linked
    }
}

/// Gathers bytes that are at hand; for programs and tests that have no body to stream.
pub async fn spool_bytes(
    spool: &Arc<Spool>,
    bytes: Bytes,
    purpose: Purpose,
) -> Result<SpooledObject, SpoolError> {
    let mut writer = spool.begin(bytes.len() as u64, purpose).await?;
    writer.write(bytes).await?;
    writer.finish().await
}

impl Spool {
    /// Where this process's files are.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
