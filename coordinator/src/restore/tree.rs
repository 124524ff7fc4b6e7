//! Directories beneath the target, opened by one name at a time and never through a link. Paths are never
//! handed to the kernel, so depth past `PATH_MAX` is nothing special. Keeps few descriptors however deep.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Descriptors of this many directories nearest to the current one are kept.
const KEPT_NEAR: usize = 32;
/// Of those further up, every one at a multiple of this depth.
const KEPT_EVERY: usize = 64;

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    /// Its filesystem.
    pub(crate) device: u64,
    is_setgid: bool,
    has_default_acl: OnceLock<bool>,
}

impl Directory {
    /// Takes a directory's descriptor.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self {
            fd,
            device: stat.st_dev,
            is_setgid: Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID),
            has_default_acl: OnceLock::new(),
        })
    }

    /// Whether what is made in it gets a group or an ACL from it.
    pub(crate) fn hands_on(&self) -> bool {
        self.is_setgid
            || *self.has_default_acl.get_or_init(|| {
                let acl =
                    rustix::fs::fgetxattr(&self.fd, c"system.posix_acl_default", &mut [0u8; 0]);
                !matches!(acl, Err(Errno::NODATA | Errno::OPNOTSUPP))
            })
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What to do on the way to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Make directories that are missing.
    pub(crate) create: bool,
    /// Give the owner access to directories that deny it: as a user, nothing could be written in them.
    pub(crate) make_accessible: bool,
}

#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    directory: Option<Arc<Directory>>,
}

/// A place in the tree below the target, moved from directory to directory.
#[derive(Debug)]
pub(crate) struct DirectoryTree {
    root: Arc<Directory>,
    walk: Walk,
    levels: Vec<Level>,
}

impl DirectoryTree {
    /// At the target itself.
    pub(crate) fn new(root: Arc<Directory>, walk: Walk) -> Self {
        Self {
            root,
            walk,
            levels: Vec::new(),
        }
    }

    /// The directory of a listing's path.
    pub(crate) fn open(&mut self, path: &[u8]) -> io::Result<Arc<Directory>> {
        let names: Vec<&[u8]> = match path {
            [] => Vec::new(),
            path => path.split(|byte| *byte == b'/').collect(),
        };
        let common = self
            .levels
            .iter()
            .zip(&names)
            .take_while(|(level, name)| level.name == **name)
            .count();
        self.levels.truncate(common);
        let mut directory = self.reopen()?;
        for name in names.into_iter().skip(common) {
            directory = Arc::new(open_child(&directory, name, self.walk)?);
            self.levels.push(Level {
                name: name.to_vec(),
                directory: Some(Arc::clone(&directory)),
            });
            let depth = self.levels.len();
            if let Some(far) = depth.checked_sub(KEPT_NEAR + 1)
                && far % KEPT_EVERY != 0
                && let Some(level) = self.levels.get_mut(far)
            {
                level.directory = None;
            }
        }
        Ok(directory)
    }

    /// The directory of the deepest level, opened again from the nearest one that is still open.
    fn reopen(&mut self) -> io::Result<Arc<Directory>> {
        let open = self
            .levels
            .iter()
            .rposition(|level| level.directory.is_some());
        let (mut directory, closed) = match open {
            Some(at) => (
                self.levels
                    .get(at)
                    .and_then(|level| level.directory.clone()),
                at + 1,
            ),
            None => (None, 0),
        };
        for level in self.levels.iter_mut().skip(closed) {
            let parent = directory.as_ref().unwrap_or(&self.root);
            let opened = Arc::new(open_child(parent, &level.name, self.walk)?);
            directory = Some(opened);
        }
        let directory = directory.unwrap_or_else(|| Arc::clone(&self.root));
        if let Some(last) = self.levels.last_mut() {
            last.directory = Some(Arc::clone(&directory));
        }
        Ok(directory)
    }
}

/// Opens a directory by its name in another; anything but a directory is an error, a link to one too.
pub(crate) fn open_child(parent: &Directory, name: &[u8], walk: Walk) -> io::Result<Directory> {
    let opened = match open_directory(parent, name) {
        Err(Errno::NOENT) if walk.create => {
            make_directory(parent, name)?;
            open_directory(parent, name)
        }
        Err(Errno::ACCESS) if walk.make_accessible => {
            give_access(parent, name)?;
            open_directory(parent, name)
        }
        opened => opened,
    };
    let fd = opened.map_err(|error| match error {
        Errno::LOOP => Errno::NOTDIR,
        error => error,
    })?;
    if walk.make_accessible {
        let mode = rustix::fs::fstat(&fd)?.st_mode;
        if mode & 0o700 != 0o700 {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777 | 0o700))?;
        }
    }
    Directory::new(fd)
}

fn open_directory(parent: &Directory, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, OPEN_DIRECTORY, Mode::empty())
}

/// Makes a directory that nobody else can enter until it gets its own mode; one that is there is fine.
pub(crate) fn make_directory(parent: &Directory, name: &[u8]) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::Directory => Ok(()),
                _ => Err(Errno::EXIST.into()),
            }
        }
        made => Ok(made?),
    }
}

fn give_access(parent: &Directory, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let mode = rustix::fs::fstat(&fd)?.st_mode & 0o7777 | 0o700;
    Ok(rustix::fs::chmod(
        descriptor_path(&fd),
        Mode::from_raw_mode(mode),
    )?)
}

/// A path that leads to what a descriptor is open on, whatever its name has become.
pub(crate) fn descriptor_path(fd: &impl std::os::fd::AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
