//! Extended attributes as raw bytes; ACLs and capabilities are attributes too. By descriptor for what is
//! open, by `/proc/self/fd/<directory>/<name>` for what must not be opened.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use formats::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_BYTES_MAX, XATTRS_MAX};
use formats::listing::entry::Xattr;
use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

/// The most bytes of a list of names that Linux gives.
const LIST_BYTES_MAX: usize = 64 << 10;

/// Where attributes are read from.
#[derive(Debug, Clone, Copy)]
pub enum XattrsOf<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A name in an open directory, itself not followed.
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// Why attributes are not all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrTrouble {
    /// The kernel refused.
    Errno(Errno),
    /// There are more than an entry can have.
    BeyondLimit,
}

/// Attributes sorted by name, and the first trouble on the way.
pub fn read(of: XattrsOf<'_>) -> (Vec<Xattr>, Option<XattrTrouble>) {
    match of {
        XattrsOf::Open(fd) => read_with(
            |list| flistxattr(fd, list),
            |name, value| fgetxattr(fd, name, value),
        ),
        XattrsOf::Named(directory, name) => {
            let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            read_with(
                |list| llistxattr(path.as_slice(), list),
                |name, value| lgetxattr(path.as_slice(), name, value),
            )
        }
    }
}

fn read_with(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> (Vec<Xattr>, Option<XattrTrouble>) {
    let names = match grown(256, LIST_BYTES_MAX, &list) {
        Ok(names) => names,
        // No attributes on this filesystem, or none for this kind of file.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return (Vec::new(), None),
        Err(error) => return (Vec::new(), Some(XattrTrouble::Errno(error))),
    };
    let mut names: Vec<&[u8]> = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut xattrs = Vec::new();
    let mut trouble = None;
    let mut total = 0;
    for name in names {
        let value = grown(256, XATTR_VALUE_BYTES_MAX as usize, |value| {
            get(name, value)
        });
        match value {
            Ok(value) => {
                total += (name.len() + value.len()) as u64;
                let fits = xattrs.len() as u64 != XATTRS_MAX
                    && total <= XATTRS_BYTES_MAX
                    && name.len() as u64 <= XATTR_NAME_BYTES_MAX;
                if !fits {
                    return (xattrs, Some(XattrTrouble::BeyondLimit));
                }
                xattrs.push(Xattr {
                    name: name.to_vec(),
                    value,
                });
            }
            // Removed since the list was read, or listed by a filesystem that does not give it.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => trouble = trouble.or(Some(XattrTrouble::Errno(error))),
        }
    }
    (xattrs, trouble)
}

/// Reads into a buffer that grows until it fits.
fn grown(
    start: usize,
    bytes_max: usize,
    read: impl Fn(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; start];
    loop {
        match read(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < bytes_max => {
                let bytes = (buffer.len() * 8).min(bytes_max);
                buffer = vec![0; bytes];
            }
            Ok(bytes) => {
                buffer.truncate(bytes);
                return Ok(buffer);
            }
            Err(error) => return Err(error),
        }
    }
}
