//! Objects under construction. Nothing half-written ever stands under a final name: files are made without any
//! name (`O_TMPFILE`, open(2)) and get theirs when they are whole; everything else, and files where the filesystem
//! cannot do that, is made in a private directory in the target and moved. What an interrupted restore left is in this one
//! place, from which the next one clears it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::restore::tree::{Directory, Walk, descriptor_path, make_directory, open_child};

/// The private directory's name in the target.
pub(crate) const STAGING_NAME: &str = ".capstan-restore-partial";

/// An object under construction.
#[derive(Debug)]
pub(crate) struct Temporary {
    directory: Arc<Directory>,
    name: Vec<u8>,
    /// Made in the directory it belongs to, so that it may have inherited a default ACL from there.
    pub(crate) may_inherit: bool,
}

impl Temporary {
    /// Where it is made, and its name there.
    pub(crate) fn place(&self) -> (&Directory, &[u8]) {
        (&self.directory, &self.name)
    }

    /// Removes it.
    pub(crate) fn discard(&self) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.directory,
            self.name.as_slice(),
            AtFlags::empty(),
        )?)
    }
}

/// A file being written.
#[derive(Debug)]
pub(crate) struct OpenFile {
    fd: Arc<OwnedFd>,
    /// Its name until it is whole; none where it needs none.
    temporary: Option<Temporary>,
}

impl OpenFile {
    /// Its descriptor.
    pub(crate) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Whether it may have inherited a default ACL.
    pub(crate) fn may_inherit(&self) -> bool {
        self.temporary
            .as_ref()
            .is_some_and(|temporary| temporary.may_inherit)
    }

    /// Removes it.
    pub(crate) fn discard(self) -> io::Result<()> {
        self.temporary
            .map_or(Ok(()), |temporary| temporary.discard())
    }
}

/// Whether a final name may already be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Something there is an error.
    Keep,
    /// What is there is replaced; a directory only if it is empty.
    Replace,
}

/// The private directory. Holds a lock, so that two restores into one target keep out of each other's way.
#[derive(Debug)]
pub(crate) struct Staging {
    root: Arc<Directory>,
    name: Vec<u8>,
    directory: Arc<Directory>,
    /// Files can be made here without a name.
    nameless: bool,
    next: AtomicU64,
    /// Tells this restore's names in other directories from those of an earlier one.
    mark: String,
}

/// Why the private directory could not be had.
#[derive(Debug)]
pub(crate) enum StagingError {
    /// Another restore holds it.
    Busy,
    /// It could not be made.
    Io(io::Error),
}

impl From<Errno> for StagingError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<io::Error> for StagingError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Staging {
    /// Makes it in the target, or takes over and empties what an interrupted restore left.
    pub(crate) fn create(root: Arc<Directory>, name: Vec<u8>) -> Result<Self, StagingError> {
        make_directory(&root, &name)?;
        let walk = Walk {
            create: false,
            make_accessible: false,
        };
        let directory = open_child(&root, &name, walk)?;
        let stat = rustix::fs::fstat(&directory)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(StagingError::Io(io::Error::other(format!(
                "{STAGING_NAME} in it belongs to another user: remove it"
            ))));
        }
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(StagingError::Busy),
            locked => locked?,
        }
        for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
            // Without them nothing made here inherits any; most filesystems have none to begin with.
            match rustix::fs::fremovexattr(&directory, acl) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        empty(&directory)?;
        let nameless = can_be_nameless(&directory);
        let mut mark = [0u8; 8];
        getrandom::fill(&mut mark).map_err(|_| io::Error::other("no random numbers"))?;
        Ok(Self {
            root,
            name,
            directory: Arc::new(directory),
            nameless,
            next: AtomicU64::new(0),
            mark: formats::ids::to_hex(&mark),
        })
    }

    /// A fresh name for an object that will be moved into `target`.
    pub(crate) fn temporary(&self, target: &Arc<Directory>) -> Temporary {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if target.device == self.directory.device {
            return Temporary {
                directory: Arc::clone(&self.directory),
                name: number.to_string().into_bytes(),
                may_inherit: false,
            };
        }
        // Another filesystem is mounted below the target: what is moved there must be made there.
        Temporary {
            directory: Arc::clone(target),
            name: format!("{STAGING_NAME}-{}-{number}", self.mark).into_bytes(),
            may_inherit: true,
        }
    }

    /// Makes an empty file that will be published in `target`.
    pub(crate) fn create_file(
        &self,
        target: &Arc<Directory>,
        existing: Existing,
    ) -> io::Result<OpenFile> {
        // Without a name it can only take one that is free. What a directory hands on to all that is made in it
        // would not be the snapshot's.
        let nameless = self.nameless
            && existing == Existing::Keep
            && target.device == self.directory.device
            && !target.hands_on();
        if nameless && let Ok(fd) = create_nameless(target) {
            return Ok(OpenFile {
                fd: Arc::new(fd),
                temporary: None,
            });
        }
        let flags = CREATE_FLAGS | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let temporary = self.temporary(target);
        let (directory, name) = temporary.place();
        let fd = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(OpenFile {
            fd: Arc::new(fd),
            temporary: Some(temporary),
        })
    }

    /// Gives a finished file its final name.
    pub(crate) fn publish_file(
        &self,
        file: &OpenFile,
        target: &Directory,
        name: &[u8],
        existing: Existing,
    ) -> io::Result<()> {
        match &file.temporary {
            Some(temporary) => self.publish(temporary, target, name, existing),
            None => Ok(link_nameless(&file.fd, target, name)?),
        }
    }

    /// Gives a finished object its final name.
    pub(crate) fn publish(
        &self,
        temporary: &Temporary,
        target: &Directory,
        name: &[u8],
        existing: Existing,
    ) -> io::Result<()> {
        let (from, temporary_name) = temporary.place();
        match existing {
            Existing::Keep => {
                let flags = RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(from, temporary_name, target, name, flags) {
                    // Some filesystems cannot refuse to replace; a hard link can.
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        let none = AtFlags::empty();
                        rustix::fs::linkat(from, temporary_name, target, name, none)?;
                        temporary.discard()
                    }
                    renamed => Ok(renamed?),
                }
            }
            Existing::Replace => {
                let rename = || rustix::fs::renameat(from, temporary_name, target, name);
                match rename() {
                    Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
                        // Only an empty directory goes; what a directory holds is never removed.
                        rustix::fs::unlinkat(target, name, AtFlags::REMOVEDIR)?;
                        rename()?;
                    }
                    renamed => renamed?,
                }
                Ok(())
            }
        }
    }

    /// Removes the private directory; what could not be finished is removed with it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        empty(&self.directory)?;
        Ok(rustix::fs::unlinkat(
            &self.root,
            self.name.as_slice(),
            AtFlags::REMOVEDIR,
        )?)
    }
}

const CREATE_FLAGS: OFlags = OFlags::WRONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::LARGEFILE);

fn create_nameless(directory: &Directory) -> Result<OwnedFd, Errno> {
    let flags = CREATE_FLAGS | OFlags::TMPFILE;
    rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR)
}

fn link_nameless(file: &OwnedFd, target: &Directory, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::linkat(file, c"", target, name, AtFlags::EMPTY_PATH) {
        // Only root may name it by its descriptor alone before Linux 6.10.
        Err(Errno::NOENT) => {
            let path = descriptor_path(file);
            rustix::fs::linkat(CWD, path.as_str(), target, name, AtFlags::SYMLINK_FOLLOW)
        }
        linked => linked,
    }
}

/// Tries it out: some filesystems make files without a name and then cannot give them one.
fn can_be_nameless(directory: &Directory) -> bool {
    let name = b"nameless";
    create_nameless(directory)
        .and_then(|file| link_nameless(&file, directory, name))
        .and_then(|()| rustix::fs::unlinkat(directory, name.as_slice(), AtFlags::empty()))
        .is_ok()
}

fn empty(directory: &Directory) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    for name in names {
        rustix::fs::unlinkat(directory, name.as_slice(), AtFlags::empty())?;
    }
    Ok(())
}
