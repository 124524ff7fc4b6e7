//! Appends to the audit log. What [`AuditLog::append`] has taken is durable when it returns, and stays whatever happens to
//! this program; what it did not finish is cut off by whoever appends next.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use formats::audit::AuditHead;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::audit::end::{End, judge, walk};
use crate::audit::record::record_of;
use crate::audit::{AuditFile, AuditLogError, HEAD_FILE, LOCK_FILE, audit_files, read_head};
use crate::events::actor::Actor;
use crate::events::what::What;
use crate::events::{Event, Told};

/// How often the lock is tried, and how long one waits in between.
const LOCK_ATTEMPTS_MAX: u32 = 1_000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The audit log of a state directory, to be appended to.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    coordinator: String,
    file_bytes_max: u64,
    known: Option<Known>,
}

/// The end of the log, as this program left it.
#[derive(Debug)]
struct Known {
    first: u64,
    file: File,
    bytes: u64,
    head: AuditHead,
}

/// Where the next record goes, and what is to be said before it.
struct Place {
    known: Known,
    before: Vec<What>,
}

impl AuditLog {
    /// The log in `dir`, which is made with the first record.
    pub fn new(dir: &Path, coordinator: String, file_bytes_max: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            coordinator,
            file_bytes_max,
            known: None,
        }
    }

    /// Appends a record for each event. All of them are durable when this returns; after an error some may be there.
    pub fn append(&mut self, events: &[Told]) -> Result<AuditHead, AuditLogError> {
        let Some(first) = events.first() else {
            return Ok(read_head(&self.dir).unwrap_or(AuditHead::EMPTY));
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(AuditLogError::access(&self.dir))?;
        let _lock = lock(&self.dir)?;
        // Whatever goes wrong from here on, the end is looked for anew the next time.
        let Place { mut known, before } = self.place(first)?;
        let own = before.into_iter().map(|what| Told {
            at: first.at,
            actor: Actor::Program,
            event: Event::new(what),
        });
        let (mut bytes, mut head) = (Vec::new(), known.head);
        for told in own.collect::<Vec<_>>().iter().chain(events) {
            let (record, id) = record_of(told, &head).encode();
            bytes.extend(record);
            head = AuditHead {
                sequence: head.sequence.saturating_add(1),
                id,
            };
        }
        let path = AuditFile::beginning_at(&self.dir, known.first).path;
        let written = known.file.write_all_at(&bytes, known.bytes);
        written
            .and_then(|()| known.file.sync_data())
            .map_err(AuditLogError::access(&path))?;
        known.bytes += bytes.len() as u64;
        known.head = head;
        self.known = Some(known);
        self.write_head(&head)?;
        Ok(head)
    }

    /// Finds the end of the log, puts it right, and begins another file where that is due.
    fn place(&mut self, first: &Told) -> Result<Place, AuditLogError> {
        let files = audit_files(&self.dir)?;
        let head = read_head(&self.dir);
        let Some(last) = files.last() else {
            let known = head.filter(|head| head.sequence > 0);
            let before = known.map(|head| damaged(&self.dir, head));
            let begun = self.begin(known.unwrap_or(AuditHead::EMPTY), first)?;
            return Ok(Place {
                known: begun,
                before: before.into_iter().collect(),
            });
        };
        if let Some(known) = self.known.take()
            && known.first == last.first
            && known.file.metadata().is_ok_and(|facts| {
                use std::os::unix::fs::MetadataExt as _;
                facts.len() == known.bytes && facts.nlink() > 0
            })
        {
            return self.at_end(known, Vec::new(), first);
        }
        self.look(last, head, first)
    }

    /// Reads the last file, and judges what is behind its last record.
    fn look(
        &self,
        last: &AuditFile,
        head: Option<AuditHead>,
        first: &Told,
    ) -> Result<Place, AuditLogError> {
        let failed = || AuditLogError::access(&last.path);
        let content = last.read_from(0)?;
        let (end, whole, _) = walk(&content, None, drop);
        let tail = content.get(whole..).unwrap_or_default();
        let stands = end.unwrap_or(AuditHead {
            // A file begins with a whole record: this one was there, whatever it was.
            sequence: last.first,
            id: head.unwrap_or(AuditHead::EMPTY).id,
        });
        let verdict = match end {
            None => End::Damaged {
                known: head
                    .filter(|head| head.sequence > stands.sequence)
                    .unwrap_or(stands),
            },
            Some(end) => judge(end, tail, head),
        };
        let mut before = Vec::new();
        match verdict {
            End::Whole => {}
            End::Torn { bytes, digest } => before.push(What::AuditTorn { bytes, digest }),
            End::Damaged { known } => {
                let before = vec![damaged(&last.path, known)];
                let known = self.begin(known, first)?;
                return Ok(Place { known, before });
            }
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&last.path)
            .map_err(failed())?;
        if !before.is_empty() {
            file.set_len(whole as u64).map_err(failed())?;
            file.sync_all().map_err(failed())?;
        }
        let known = Known {
            first: last.first,
            file,
            bytes: whole as u64,
            head: stands,
        };
        self.at_end(known, before, first)
    }

    fn at_end(
        &self,
        known: Known,
        before: Vec<What>,
        first: &Told,
    ) -> Result<Place, AuditLogError> {
        let known = match known.bytes < self.file_bytes_max {
            true => known,
            false => self.begin(known.head, first)?,
        };
        Ok(Place { known, before })
    }

    /// Makes the file that follows `head`, with its first record: it has its name only once that is durable.
    fn begin(&self, head: AuditHead, first: &Told) -> Result<Known, AuditLogError> {
        let begun = Told {
            at: first.at,
            actor: Actor::Program,
            event: Event::new(What::AuditBegun {
                coordinator: self.coordinator.clone(),
            }),
        };
        let (record, id) = record_of(&begun, &head).encode();
        let sequence = head.sequence.saturating_add(1);
        let to = AuditFile::beginning_at(&self.dir, sequence).path;
        let making = self.dir.join("new");
        let failed = || AuditLogError::access(&making);
        let file = create(&making).map_err(failed())?;
        file.write_all_at(&record, 0).map_err(failed())?;
        file.sync_all().map_err(failed())?;
        if head == AuditHead::EMPTY {
            // Durable before there is a log, so that one without a head is one that lost it.
            self.write_head(&head)?;
            let path = self.dir.join(HEAD_FILE);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(AuditLogError::access(&path))?;
        }
        std::fs::rename(&making, &to).map_err(AuditLogError::access(&to))?;
        let directory = File::open(&self.dir).and_then(|directory| directory.sync_all());
        directory.map_err(AuditLogError::access(&self.dir))?;
        Ok(Known {
            first: sequence,
            file,
            bytes: record.len() as u64,
            head: AuditHead { sequence, id },
        })
    }

    /// In place: all of it lies in one sector of a disk, which has the old or the new.
    fn write_head(&self, head: &AuditHead) -> Result<(), AuditLogError> {
        let path = self.dir.join(HEAD_FILE);
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| {
                let bytes = head.encode();
                file.write_all_at(&bytes, 0)?;
                file.set_len(bytes.len() as u64)
            });
        written.map_err(AuditLogError::access(&path))
    }
}

fn damaged(path: &Path, known: AuditHead) -> What {
    tracing::error!(
        path = %path.display(),
        "the audit log is damaged: `coordinator audit verify` says where"
    );
    What::AuditDamaged {
        file: path.display().to_string(),
        record: known.sequence,
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Keeps everybody else from appending for as long as it lives.
#[derive(Debug)]
pub(super) struct AuditLock {
    // Held for its lock alone.
    _file: File,
}

/// Waits for the lock of a log whose directory is there.
pub(super) fn lock(dir: &Path) -> Result<AuditLock, AuditLogError> {
    let path = dir.join(LOCK_FILE);
    let failed = || AuditLogError::access(&path);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed())?;
    for _ in 0..LOCK_ATTEMPTS_MAX {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(AuditLock { _file: file }),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(failed()(errno.into())),
        }
    }
    Err(AuditLogError::Locked { path })
}
