//! A destination in a directory of a local or mounted file system (`file://`). Directories 0700, objects 0400.
//! Never overwrites, never follows a link, and never calls a failure "absent". Roots are opened in
//! `local_root`, objects stored in `local_put`, listed in `local_list`.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use formats::ids::RepositoryId;
use formats::object::{ObjectKind, ObjectName};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::claimed_dir::ClaimedDir;
use crate::destination::beneath::{Beneath, ResolveBy};
use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, ObjectKey, ObjectList, ObjectRead,
    Outlook, PutOutcome, local_list,
};
use crate::grants::{MaintenanceGrant, RepairGrant};
use crate::io_faults::IoFaults;
use crate::limits::IO_BYTES;
use crate::spool::{SpooledObject, is_no_space};

/// A directory of objects.
#[derive(Debug, Clone)]
pub struct LocalDestination(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) name: DestinationName,
    pub(super) path: PathBuf,
    pub(super) beneath: Beneath,
    /// Folders whose own names this process has made durable, all the way up.
    pub(super) durable_folders: Mutex<HashSet<String>>,
    /// For copies from a spool on another file system; made on first use, so that reading needs no writing.
    pub(super) temporary: OnceLock<ClaimedDir>,
    /// How many copies were begun; names the next.
    pub(super) copies: AtomicU64,
    pub(super) faults: IoFaults,
}

/// How a root is opened.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// How names are resolved beneath the root.
    pub resolve: ResolveBy,
    /// Which step fails, if any.
    pub faults: IoFaults,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            resolve: ResolveBy::Kernel,
            faults: IoFaults::none(),
        }
    }
}

impl Destination for LocalDestination {
    fn name(&self) -> &DestinationName {
        &self.0.name
    }

    fn put_if_absent(
        &self,
        key: ObjectKey,
        source: SpooledObject,
    ) -> BoxFuture<'_, Result<PutOutcome, DestinationError>> {
        self.blocking("store", key, move |inner, key| inner.put(key, &source))
    }

    fn get_range(
        &self,
        key: ObjectKey,
        range: ByteRange,
    ) -> BoxFuture<'_, Result<ObjectRead, DestinationError>> {
        Box::pin(async move {
            let (file, total) = self
                .blocking("open", key.clone(), |inner, key| inner.open_object(key))
                .await?;
            let bytes = range.bytes_in(total).ok_or(DestinationError::PastEnd {
                destination: self.0.name.clone(),
                key: key.clone(),
                total,
            })?;
            let reading = Reading {
                inner: Arc::clone(&self.0),
                key,
                file: Arc::new(file),
                offset: range.start,
                left: bytes,
            };
            Ok(ObjectRead {
                total,
                bytes,
                body: stream::try_unfold(reading, Reading::next).boxed(),
            })
        })
    }

    fn head(&self, key: ObjectKey) -> BoxFuture<'_, Result<u64, DestinationError>> {
        self.blocking("look at", key, |inner, key| {
            inner.open_object(key).map(|(_, total)| total)
        })
    }

    fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<ObjectName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ObjectList, DestinationError>> {
        let inner = Arc::clone(&self.0);
        let listing = tokio::task::spawn_blocking(move || {
            let folder = format!("{repository}/{}", kind.folder());
            local_list::list(&inner.beneath, repository, kind, after.as_ref(), limit)
                .map_err(|error| inner.io("list", folder, error))
        });
        Box::pin(async move {
            match listing.await {
                Ok(result) => result,
                Err(error) => Err(self
                    .0
                    .io("list", kind.folder().into(), io::Error::other(error))),
            }
        })
    }

    fn delete<'a>(
        &'a self,
        key: ObjectKey,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        self.blocking("delete", key, |inner, key| inner.delete(key))
    }

    fn extend_lock<'a>(
        &'a self,
        _key: ObjectKey,
        _until_unix_secs: u64,
        _grant: &'a MaintenanceGrant,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        Box::pin(async {
            Err(DestinationError::Unsupported {
                destination: self.0.name.clone(),
                action: "extend an object's lock",
            })
        })
    }

    fn replace_damaged<'a>(
        &'a self,
        key: ObjectKey,
        good: SpooledObject,
        _grant: &'a RepairGrant,
    ) -> BoxFuture<'a, Result<String, DestinationError>> {
        self.blocking("repair", key, move |inner, key| {
            inner.replace_damaged(key, &good)
        })
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepositoryId>, DestinationError>> {
        let inner = Arc::clone(&self.0);
        let listing = tokio::task::spawn_blocking(move || {
            local_list::repositories(&inner.beneath)
                .map_err(|error| inner.io("list", inner.path.display().to_string(), error))
        });
        Box::pin(async move {
            let lost = |error| self.0.io("list", String::new(), io::Error::other(error));
            listing.await.unwrap_or_else(|error| Err(lost(error)))
        })
    }

    fn free_bytes(&self) -> BoxFuture<'_, Result<Option<u64>, DestinationError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let asking = Arc::clone(&inner);
            let facts = tokio::task::spawn_blocking(move || {
                rustix::fs::fstatvfs(asking.beneath.root()).map_err(io::Error::from)
            });
            let facts = facts.await.map_err(io::Error::other);
            match facts.and_then(|facts| facts) {
                Ok(facts) => Ok(Some(facts.f_bavail.saturating_mul(facts.f_frsize))),
                Err(error) => {
                    let root = inner.path.display().to_string();
                    Err(inner.io("look at the free space of", root, error))
                }
            }
        })
    }
}

impl LocalDestination {
    /// Runs file system work on a blocking thread. It runs to its end even when nobody waits for it.
    fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        key: ObjectKey,
        work: impl FnOnce(&Inner, &ObjectKey) -> Result<T, DestinationError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, DestinationError>> {
        let inner = Arc::clone(&self.0);
        let name = key.to_string();
        let task = tokio::task::spawn_blocking(move || work(&inner, &key));
        Box::pin(async move {
            match task.await {
                Ok(result) => result,
                Err(error) => Err(self.0.io(action, name, io::Error::other(error))),
            }
        })
    }
}

/// An object being read, one piece at a time.
struct Reading {
    inner: Arc<Inner>,
    key: ObjectKey,
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, DestinationError> {
        let length = usize::try_from(self.left).map_or(IO_BYTES, |left| left.min(IO_BYTES));
        if length == 0 {
            return Ok(None);
        }
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length];
            // An object that became shorter is an error, never a short answer.
            file.read_exact_at(&mut piece, offset).map(|()| piece)
        });
        let piece = read
            .await
            .map_err(io::Error::other)
            .and_then(|result| result)
            .map_err(|error| self.inner.io("read", self.key.to_string(), error))?;
        self.offset += piece.len() as u64;
        self.left -= piece.len() as u64;
        Ok(Some((Bytes::from(piece), self)))
    }
}

impl Inner {
    /// Opens a regular file and tells its size. "Absent" only when the name, or a folder on its way, is.
    fn open_object(&self, key: &ObjectKey) -> Result<(File, u64), DestinationError> {
        let name = key.to_string();
        let opened = self.beneath.open_file(&name).and_then(|fd: OwnedFd| {
            let file = File::from(fd);
            let facts = file.metadata()?;
            if facts.is_file() {
                Ok((file, facts.len()))
            } else {
                Err(Errno::INVAL.into())
            }
        });
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DestinationError::Absent {
                destination: self.name.clone(),
                key: key.clone(),
            },
            _ => self.io("open", name, error),
        })
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), DestinationError> {
        let name = key.to_string();
        let (folder, leaf) = name.rsplit_once('/').unwrap_or(("", &name));
        let deleted = self.beneath.open_folder(folder).and_then(|folder| {
            let facts = rustix::fs::statat(&folder, leaf, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(facts.st_mode) == FileType::Directory {
                return Err(Errno::ISDIR.into());
            }
            rustix::fs::unlinkat(&folder, leaf, AtFlags::empty())?;
            Ok(rustix::fs::fsync(&folder)?)
        });
        deleted.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DestinationError::Absent {
                destination: self.name.clone(),
                key: key.clone(),
            },
            _ => self.io("delete", name.clone(), error),
        })
    }

    /// The one place where a system error gets its meaning.
    pub(super) fn io(
        &self,
        action: &'static str,
        subject: String,
        error: io::Error,
    ) -> DestinationError {
        let destination = self.name.clone();
        let passing = [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::AGAIN,
            Errno::INTR,
            Errno::TIMEDOUT,
            Errno::STALE,
            Errno::BUSY,
        ];
        let passes = passing
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        let outlook = if is_no_space(&error) {
            Outlook::Full
        } else if passes {
            Outlook::Passes
        } else {
            Outlook::Lasts
        };
        DestinationError::judged(outlook, destination, action, subject, Box::new(error))
    }

    pub(super) fn is_durable(&self, folder: &str) -> bool {
        self.durable_folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(folder)
    }

    pub(super) fn mark_durable(&self, folder: &str, durable: bool) {
        let mut folders = self
            .durable_folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if durable {
            folders.insert(folder.to_owned());
        } else {
            folders.remove(folder);
        }
    }
}
