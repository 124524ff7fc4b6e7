//! Storing an object in a local destination: durable bytes first, then the name, create-only, then the folder.
//! Nothing half-written ever has an object's name, and nothing is acknowledged before its name is durable.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::claimed_dir::ClaimedDir;
use crate::destination::local::Inner;
use crate::destination::{DAMAGED_FOLDER, DestinationError, ObjectKey, PutOutcome, damaged_name};
use crate::io_faults::IoStep;
use crate::limits::IO_BYTES;
use crate::spool::SpooledObject;

/// The folder of temporary copies beneath the root; no repository can have this name.
pub(super) const TEMPORARY: &str = "tmp";

impl Inner {
    /// Stores the object, by a link when the spool is on this file system and by a copy when not.
    pub(super) fn put(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
    ) -> Result<PutOutcome, DestinationError> {
        let name = key.to_string();
        let (folder_name, leaf) = name.rsplit_once('/').unwrap_or(("", &name));
        let folder = self
            .durable_folder(folder_name)
            .map_err(|error| self.io("make the folder of", name.clone(), error))?;

        let locked = lock(&folder);
        let linked = self.faults.check(IoStep::Publish).and_then(|()| {
            source
                .link_to(folder.as_fd(), leaf)
                .map_err(io::Error::from)
        });
        match linked {
            Ok(()) => return self.settle(&name, leaf, &folder, locked),
            Err(error) if is_errno(&error, Errno::EXIST) => {
                return self.compare(key, source, &folder);
            }
            Err(error) if cannot_link(&error) => {}
            Err(error) => return Err(self.io("link", name, error)),
        }
        // Copying takes its time; others may store in this folder meanwhile.
        unlock(&folder, locked);
        if rustix::fs::statat(&folder, leaf, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return self.compare(key, source, &folder);
        }
        let copy = self
            .copy(source)
            .map_err(|error| self.io("copy", name.clone(), error))?;
        let locked = lock(&folder);
        let published = self
            .faults
            .check(IoStep::Publish)
            .and_then(|()| copy.publish(&folder, leaf));
        match published {
            Ok(()) => self.settle(&name, leaf, &folder, locked),
            Err(error) if is_errno(&error, Errno::EXIST) => self.compare(key, source, &folder),
            Err(error) => Err(self.io("publish", name, error)),
        }
    }

    /// Moves a damaged object into the folder of such, and stores the good one in its place. A crash in between leaves
    /// the name free, which the next repair fills.
    pub(super) fn replace_damaged(
        &self,
        key: &ObjectKey,
        good: &SpooledObject,
    ) -> Result<String, DestinationError> {
        let name = key.to_string();
        let fail = |error: io::Error| self.io("set aside", name.clone(), error);
        let kept = damaged_name(key).map_err(|error| fail(io::Error::other(error)))?;
        let damaged = format!("{}/{DAMAGED_FOLDER}", key.repository);
        let aside = self.durable_folder(&damaged).map_err(fail)?;
        let (folder_name, leaf) = name.rsplit_once('/').unwrap_or(("", &name));
        let folder = self.beneath.open_folder(folder_name).map_err(fail)?;
        rustix::fs::renameat(&folder, leaf, &aside, &kept)
            .and_then(|()| rustix::fs::fsync(&aside))
            .and_then(|()| rustix::fs::fsync(&folder))
            .map_err(|errno| fail(errno.into()))?;
        match self.put(key, good)? {
            PutOutcome::Created | PutOutcome::ExistsSame => Ok(format!("{damaged}/{kept}")),
            PutOutcome::ExistsDifferent => Err(fail(Errno::EXIST.into())),
        }
    }

    /// Makes a new name durable. When that fails, the name is taken back: under the folder's lock nobody can
    /// have acknowledged it meanwhile. Without the lock it is left, unacknowledged.
    fn settle(
        &self,
        name: &str,
        leaf: &str,
        folder: &OwnedFd,
        locked: bool,
    ) -> Result<PutOutcome, DestinationError> {
        let synced = self
            .faults
            .check(IoStep::SyncFolder)
            .and_then(|()| Ok(rustix::fs::fsync(folder)?));
        let Err(error) = synced else {
            return Ok(PutOutcome::Created);
        };
        if locked && let Err(undo) = rustix::fs::unlinkat(folder, leaf, AtFlags::empty()) {
            tracing::warn!(object = name, error = %undo, "could not take back a name that is not durable");
        }
        Err(self.io("make durable the name of", name.to_owned(), error))
    }

    /// Something of this name is there: is it the same? If so it is made durable before it is acknowledged,
    /// for whoever put it there may not have come to that.
    fn compare(
        &self,
        key: &ObjectKey,
        source: &SpooledObject,
        folder: &OwnedFd,
    ) -> Result<PutOutcome, DestinationError> {
        let name = key.to_string();
        let fail = |error: io::Error| self.io("compare", name.clone(), error);
        let file = File::from(self.beneath.open_file(&name).map_err(fail)?);
        let facts = file.metadata().map_err(fail)?;
        if !facts.is_file() {
            return Err(fail(Errno::INVAL.into()));
        }
        if facts.len() != source.bytes()
            || digest(&file).map_err(fail)? != *source.digest().as_bytes()
        {
            return Ok(PutOutcome::ExistsDifferent);
        }
        self.faults
            .check(IoStep::SyncFolder)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::fsync(folder)?))
            .map_err(fail)?;
        Ok(PutOutcome::ExistsSame)
    }

    /// Opens a folder, making what is missing. Every name on its way is made durable once per process, also
    /// one that was found: whoever made it may have died before syncing, or may be about to.
    fn durable_folder(&self, folder: &str) -> io::Result<OwnedFd> {
        if self.is_durable(folder) {
            match self.beneath.open_folder(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.mark_durable(folder, false);
                }
                other => return other,
            }
        }
        let mut parent = self.beneath.open_folder("")?;
        let mut at = String::new();
        for part in folder.split('/') {
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(part);
            self.faults.check(IoStep::MakeFolder)?;
            match rustix::fs::mkdirat(&parent, part, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let child = self.beneath.open_folder(&at)?;
            if !self.is_durable(&at) {
                self.faults.check(IoStep::SyncParent)?;
                rustix::fs::fsync(&parent)?;
                self.mark_durable(&at, true);
            }
            parent = child;
        }
        Ok(parent)
    }

    /// A durable copy of the spool file on this file system.
    fn copy(&self, source: &SpooledObject) -> io::Result<Copied<'_>> {
        let dir = self.temporary_dir()?;
        self.faults.check(IoStep::CreateTemporary)?;
        let copied = Copied::create(dir, self.copies.fetch_add(1, Ordering::Relaxed))?;
        let mut buffer = vec![0; IO_BYTES];
        let mut offset = 0;
        while offset < source.bytes() {
            let wanted = usize::try_from(source.bytes() - offset)
                .map_or(IO_BYTES, |left| left.min(IO_BYTES));
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            source.file().read_exact_at(piece, offset)?;
            self.faults.check(IoStep::WriteTemporary)?;
            (&copied.file).write_all(piece)?;
            offset += wanted as u64;
        }
        self.faults.check(IoStep::SyncTemporary)?;
        rustix::fs::fchmod(&copied.file, Mode::RUSR)?;
        copied.file.sync_all()?;
        Ok(copied)
    }

    fn temporary_dir(&self) -> io::Result<&ClaimedDir> {
        if let Some(dir) = self.temporary.get() {
            return Ok(dir);
        }
        match rustix::fs::mkdirat(self.beneath.root(), TEMPORARY, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Were the root mounted over since it was opened, renaming from there would fail, not mislead.
        let dir = ClaimedDir::claim(&self.path.join(TEMPORARY), "copy-")
            .map_err(|error| io::Error::new(error.io_error().kind(), error))?;
        // A second thread's directory is dropped, which removes it.
        Ok(self.temporary.get_or_init(|| dir))
    }
}

/// A temporary file that is removed unless it was published by renaming.
struct Copied<'a> {
    dir: &'a ClaimedDir,
    name: String,
    file: File,
}

impl<'a> Copied<'a> {
    fn create(dir: &'a ClaimedDir, number: u64) -> io::Result<Self> {
        let name = format!("{number:016x}");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self {
            dir,
            name,
            file: File::from(file),
        })
    }

    /// Gives it its name, create-only.
    fn publish(&self, folder: &OwnedFd, leaf: &str) -> io::Result<()> {
        match rustix::fs::renameat_with(self.dir, &self.name, folder, leaf, RenameFlags::NOREPLACE)
        {
            // No such rename on this file system; a link does not replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(rustix::fs::linkat(
                self.dir,
                &self.name,
                folder,
                leaf,
                AtFlags::empty(),
            )?),
            other => Ok(other?),
        }
    }
}

impl Drop for Copied<'_> {
    fn drop(&mut self) {
        match rustix::fs::unlinkat(self.dir, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::debug!(name = self.name, %error, "left a temporary copy"),
        }
    }
}

/// Locks a folder against others that publish in it, in this process and in others. Where the file system has
/// no locks the answer is `false`, and names are never taken back.
fn lock(folder: &OwnedFd) -> bool {
    rustix::io::retry_on_intr(|| rustix::fs::flock(folder, FlockOperation::LockExclusive)).is_ok()
}

fn unlock(folder: &OwnedFd, locked: bool) {
    if locked && let Err(error) = rustix::fs::flock(folder, FlockOperation::Unlock) {
        tracing::debug!(%error, "unlocking a folder"); // Closing it unlocks as well.
    }
}

fn digest(file: &File) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; IO_BYTES];
    let mut offset = 0;
    loop {
        let read = match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..read).unwrap_or_default());
        offset += read as u64;
    }
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Whether linking is not possible here at all, rather than failed.
fn cannot_link(error: &io::Error) -> bool {
    [
        Errno::XDEV,
        Errno::PERM,
        Errno::MLINK,
        Errno::NOTSUP,
        Errno::NOSYS,
    ]
    .iter()
    .any(|errno| is_errno(error, *errno))
}
