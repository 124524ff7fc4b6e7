//! Reads and writes extended attributes of entries named by directory descriptor and name, through `/proc/self/fd`, the
//! one way that works for symlinks and special files at any depth. ACLs and capabilities are attributes like others.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Names and values.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Attributes of an entry that is not followed if it is a symlink.
pub fn of_entry(directory: &OwnedFd, name: &CStr) -> Result<Xattrs> {
    read(&path_of(directory, name))
}

/// Attributes of an open directory.
pub fn of_directory(directory: &OwnedFd) -> Result<Xattrs> {
    read(&path_of(directory, c"."))
}

/// Sets one attribute of an entry.
pub fn set(
    directory: &OwnedFd,
    name: &CStr,
    attribute: &str,
    value: &[u8],
) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(
        path_of(directory, name),
        attribute,
        value,
        XattrFlags::empty(),
    )
}

/// Removes one attribute of an entry.
pub fn remove(directory: &OwnedFd, name: &CStr, attribute: &str) -> rustix::io::Result<()> {
    rustix::fs::lremovexattr(path_of(directory, name), attribute)
}

/// An entry's short path: the kernel resolves the descriptor, whatever the depth.
pub fn path_of(directory: &OwnedFd, name: &CStr) -> PathBuf {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

fn read(path: &PathBuf) -> Result<Xattrs> {
    const LIST_BYTES: usize = 64 * 1024;
    let mut list = vec![0_u8; LIST_BYTES];
    let length = match rustix::fs::llistxattr(path, &mut list) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        Err(error) => return Err(error).context("listing extended attributes"),
    };
    let mut found = Xattrs::new();
    for name in list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0_u8; LIST_BYTES];
        let length = rustix::fs::lgetxattr(path, name, &mut value)
            .context("reading an extended attribute")?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}
