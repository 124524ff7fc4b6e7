//! Gives a restored object its metadata, in the order the kernel needs: owner first, since a change of owner
//! drops capabilities and setuid; then extended attributes; then the mode; times last. What cannot be set is
//! told, never silent. Works on descriptors only, so nothing can be swapped in between.

use std::os::fd::{AsFd, OwnedFd};

use formats::listing::entry::{Entry, EntryKind, Stat, Timestamp};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::restore::decide::mtime;
use crate::restore::options::{MetadataOptions, Owner};
use crate::restore::owners::Owners;
use crate::restore::tree::descriptor_path;
use crate::snapshot::shown::shown_name;

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const CAPABILITY: &[u8] = b"security.capability";
const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// What is set, and for whom.
#[derive(Debug)]
pub(crate) struct MetadataSetter {
    options: MetadataOptions,
    owners: Owners,
    /// Who runs the restore: what new objects belong to.
    me: (u32, u32),
}

/// An object and how it was opened.
#[derive(Debug)]
pub(crate) enum Object<'a> {
    /// A file or directory, open.
    Open(&'a OwnedFd),
    /// Anything else, known by an `O_PATH` descriptor.
    Path(&'a OwnedFd),
}

impl MetadataSetter {
    /// A setter for this process.
    pub(crate) fn new(options: MetadataOptions, owners: Owners) -> Self {
        Self {
            options,
            owners,
            me: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
        }
    }

    /// Sets everything; gives what could not be set. `may_inherit`: the object may have an ACL that it got
    /// from the directory it was made in.
    pub(crate) fn apply(
        &self,
        object: &Object<'_>,
        entry: &Entry,
        may_inherit: bool,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let owned = self.set_owner(object, &entry.stat, &mut problems);
        if may_inherit {
            remove_inherited(object, entry, &mut problems);
        }
        if self.options.xattrs {
            self.set_xattrs(object, entry, &mut problems);
        }
        if entry.stat.kind != EntryKind::Symlink {
            self.set_mode(object, &entry.stat, owned, &mut problems);
        }
        set_times(object, entry.stat.mtime, &mut problems);
        problems
    }

    /// Sets owner and group; gives whether each is now the one wanted.
    fn set_owner(
        &self,
        object: &Object<'_>,
        stat: &Stat,
        problems: &mut Vec<String>,
    ) -> (bool, bool) {
        let wanted = (self.owners.user(stat.uid), self.owners.group(stat.gid));
        if self.options.owner == Owner::Nobody {
            return (wanted.0 == self.me.0, wanted.1 == self.me.1);
        }
        // The number that means "leave it" to the kernel is nobody's.
        if wanted.0 == u32::MAX || wanted.1 == u32::MAX {
            problems.push(format!("owner {}:{} is no owner", wanted.0, wanted.1));
            return (false, false);
        }
        let (user, group) = (Uid::from_raw(wanted.0), Gid::from_raw(wanted.1));
        if object.chown(Some(user), Some(group)).is_ok() {
            return (true, true);
        }
        // A user may not give files away, but may give them to the user's own groups.
        let group_set = object.chown(None, Some(group));
        let user_is_mine = wanted.0 == self.me.0;
        if let (true, Ok(())) = (user_is_mine, group_set) {
            return (true, true);
        }
        let cause = match group_set {
            Err(error) => error,
            Ok(()) => Errno::PERM,
        };
        problems.push(format!("owner {}:{} not set: {cause}", wanted.0, wanted.1));
        (user_is_mine, group_set.is_ok())
    }

    fn set_xattrs(&self, object: &Object<'_>, entry: &Entry, problems: &mut Vec<String>) {
        for xattr in &entry.xattrs {
            if xattr.name == CAPABILITY && !self.options.setuid {
                continue;
            }
            if let Err(error) = object.set_xattr(&xattr.name, &xattr.value) {
                let name = shown_name(&xattr.name);
                problems.push(format!("attribute {name} not set: {error}"));
            }
        }
    }

    fn set_mode(
        &self,
        object: &Object<'_>,
        stat: &Stat,
        owned: (bool, bool),
        problems: &mut Vec<String>,
    ) {
        let mut mode = stat.mode & 0o7777;
        let is_directory = stat.kind == EntryKind::Directory;
        if !self.options.setuid && !is_directory {
            mode &= !(SETUID | SETGID);
        }
        // Setuid for anybody but the owner it was meant for would hand out that one's rights.
        for (bit, is_owned, what) in [(SETUID, owned.0, "setuid"), (SETGID, owned.1, "setgid")] {
            if mode & bit != 0 && !is_owned {
                mode &= !bit;
                problems.push(format!("{what} bit cleared: the owner is another"));
            }
        }
        if let Err(error) = object.chmod(Mode::from_raw_mode(mode.into())) {
            problems.push(format!("mode {mode:04o} not set: {error}"));
        }
    }
}

fn set_times(object: &Object<'_>, time: Timestamp, problems: &mut Vec<String>) {
    if let Err(error) = object.set_mtime(time) {
        problems.push(format!("modification time not set: {error}"));
        return;
    }
    // Filesystems cut times that they cannot hold without an error.
    let common = (0..=i64::from(i32::MAX)).contains(&time.seconds);
    if !common {
        match object.stat() {
            Ok(stat) if mtime(&stat) == time => {}
            _ => problems.push(format!(
                "modification time {} s since 1970 is not one this filesystem can hold",
                time.seconds
            )),
        }
    }
}

/// Removes ACLs that the object has not had on the host.
fn remove_inherited(object: &Object<'_>, entry: &Entry, problems: &mut Vec<String>) {
    for acl in ACLS {
        let has = entry
            .xattrs
            .iter()
            .any(|xattr| xattr.name == acl.as_bytes());
        if has || entry.stat.kind == EntryKind::Symlink {
            continue;
        }
        match object.remove_xattr(acl) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => problems.push(format!("inherited {acl} not removed: {error}")),
        }
    }
}

impl Object<'_> {
    fn fd(&self) -> &OwnedFd {
        match self {
            Self::Open(fd) | Self::Path(fd) => fd,
        }
    }

    fn stat(&self) -> Result<rustix::fs::Stat, Errno> {
        rustix::fs::fstat(self.fd())
    }

    fn chown(&self, user: Option<Uid>, group: Option<Gid>) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, user, group),
            Self::Path(fd) => {
                rustix::fs::chownat(fd.as_fd(), c"", user, group, AtFlags::EMPTY_PATH)
            }
        }
    }

    fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            Self::Path(fd) => rustix::fs::chmod(descriptor_path(*fd), mode),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(fd) => {
                rustix::fs::setxattr(descriptor_path(*fd), name, value, XattrFlags::empty())
            }
        }
    }

    fn remove_xattr(&self, name: &str) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Path(fd) => rustix::fs::removexattr(descriptor_path(*fd), name),
        }
    }

    fn set_mtime(&self, time: Timestamp) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: time.seconds,
                tv_nsec: time.nanoseconds.into(),
            },
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times),
            Self::Path(fd) => {
                rustix::fs::utimensat(CWD, descriptor_path(*fd), &times, AtFlags::empty())
            }
        }
    }
}
