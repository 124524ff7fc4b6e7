//! Directories whose contents are left out for what is in them: a valid CACHEDIR.TAG, or a name that the
//! configuration gives. The directory itself stays.

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, FileType, OFlags, fstat, statat};
use rustix::io::{pread, retry_on_intr};

use crate::walk::directory::{Directory, open_quietly};

const CACHEDIR_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHEDIR_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Whether the directory has a CACHEDIR.TAG that begins with the specified signature.
pub fn is_cache(directory: &Directory) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let regular = statat(directory, CACHEDIR_TAG, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if !regular {
        return false;
    }
    let Ok(file) = open_quietly(directory.as_fd(), CACHEDIR_TAG, flags) else {
        return false;
    };
    let mut start = [0; CACHEDIR_SIGNATURE.len()];
    let still = fstat(&file)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    still
        && matches!(retry_on_intr(|| pread(&file, &mut start[..], 0)), Ok(read) if read == start.len())
        && start == *CACHEDIR_SIGNATURE
}

/// Whether one of the names is in the directory.
pub fn has_any(directory: &Directory, names: &[Vec<u8>]) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    names
        .iter()
        .any(|name| statat(directory, name.as_slice(), flags).is_ok())
}
