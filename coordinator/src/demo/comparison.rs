//! Compares a restored tree with its source, entry by entry and byte by byte. Shares no code with backup or
//! restore, so that an error there cannot hide here.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::demo::error::DemoError;
use crate::terminal::printable;

/// The differences that are listed.
const LISTED_MAX: usize = 20;
/// What is read at once.
const READ_BYTES: usize = 128 << 10;
/// No attribute, and no list of them, is larger on Linux.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Permission bits, setuid, setgid and sticky.
const MODE_BITS: u32 = 0o7777;

/// What was compared and what differs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Comparison {
    /// Entries that are not directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of content that were compared.
    pub bytes: u64,
    /// The first differences.
    pub differences: Vec<String>,
    /// How many there are.
    pub difference_count: u64,
}

impl Comparison {
    /// Whether the trees are the same.
    pub fn identical(&self) -> bool {
        self.difference_count == 0
    }

    fn differs(&mut self, path: &Path, what: &str) {
        self.difference_count += 1;
        if self.differences.len() < LISTED_MAX {
            let path = printable(path.as_os_str().as_bytes());
            self.differences.push(format!("{path}: {what}"));
        }
    }
}

/// Compares two directories and all below them.
pub fn compare(
    expected: &Path,
    found: &Path,
    stop: &CancellationToken,
) -> Result<Comparison, DemoError> {
    let mut comparison = Comparison::default();
    let mut names = HashMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        if stop.is_cancelled() {
            return Err(DemoError::Interrupted);
        }
        let (one, other) = (expected.join(&relative), found.join(&relative));
        let below = compare_one(&one, &other, &relative, &mut comparison, &mut names)
            .map_err(DemoError::file("compare with the restored tree:", &one))?;
        waiting.extend(below);
    }
    Ok(comparison)
}

/// The names that a file with several of them has on the other side.
type Names = HashMap<(u64, u64), (u64, u64)>;

/// Compares one entry; gives what is in it, when it is a directory on both sides.
fn compare_one(
    one: &Path,
    other: &Path,
    relative: &Path,
    comparison: &mut Comparison,
    names: &mut Names,
) -> io::Result<Vec<PathBuf>> {
    let expected = fs::symlink_metadata(one)?;
    let found = match fs::symlink_metadata(other) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            comparison.differs(relative, "was not restored");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    if expected.file_type() != found.file_type() {
        comparison.differs(relative, "is of another type");
        return Ok(Vec::new());
    }
    compare_metadata(&expected, &found, relative, comparison);
    if attributes(one)? != attributes(other)? {
        comparison.differs(relative, "has other extended attributes");
    }
    if expected.is_dir() {
        comparison.directories += 1;
        return compare_names(one, other, relative, comparison);
    }
    comparison.files += 1;
    if expected.is_symlink() {
        if fs::read_link(one)? != fs::read_link(other)? {
            comparison.differs(relative, "leads elsewhere");
        }
    } else if expected.is_file() {
        compare_links(&expected, &found, relative, comparison, names);
        match same_content(one, other)? {
            Some(bytes) => comparison.bytes += bytes,
            None => comparison.differs(relative, "has other content"),
        }
    }
    Ok(Vec::new())
}

fn compare_metadata(
    expected: &Metadata,
    found: &Metadata,
    relative: &Path,
    comparison: &mut Comparison,
) {
    let time = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    // A link's mode means nothing and cannot be set.
    if !expected.is_symlink() && (expected.mode() ^ found.mode()) & MODE_BITS != 0 {
        comparison.differs(relative, "has another mode");
    }
    if time(expected) != time(found) {
        comparison.differs(relative, "has another modification time");
    }
    if (expected.uid(), expected.gid()) != (found.uid(), found.gid()) {
        comparison.differs(relative, "has another owner or group");
    }
    if expected.rdev() != found.rdev() {
        comparison.differs(relative, "is another device");
    }
}

/// Names of one file must be names of one file on the other side too.
fn compare_links(
    expected: &Metadata,
    found: &Metadata,
    relative: &Path,
    comparison: &mut Comparison,
    names: &mut Names,
) {
    if expected.nlink() != found.nlink() {
        comparison.differs(relative, "has another number of names");
    }
    if expected.nlink() > 1 {
        let inode = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let first = *names.entry(inode(expected)).or_insert_with(|| inode(found));
        if first != inode(found) {
            comparison.differs(relative, "is no longer the same file as its other names");
        }
    }
}

fn compare_names(
    one: &Path,
    other: &Path,
    relative: &Path,
    comparison: &mut Comparison,
) -> io::Result<Vec<PathBuf>> {
    let expected = names_in(one)?;
    for surplus in names_in(other)?.difference(&expected) {
        comparison.differs(&relative.join(surplus), "is not in the source");
    }
    Ok(expected.iter().map(|name| relative.join(name)).collect())
}

fn names_in(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

/// Every attribute with its value, sorted; none where the file system has none.
fn attributes(path: &Path) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut list = vec![0u8; XATTR_BYTES_MAX];
    let bytes = match llistxattr(path, &mut list) {
        Ok(bytes) => bytes,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut value = vec![0u8; XATTR_BYTES_MAX];
    let mut all = Vec::new();
    let names = list[..bytes].split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty()) {
        let bytes = lgetxattr(path, name, &mut value)?;
        all.push((OsString::from_vec(name.to_vec()), value[..bytes].to_vec()));
    }
    all.sort();
    Ok(all)
}

/// How many bytes are the same; nothing when one differs.
fn same_content(one: &Path, other: &Path) -> io::Result<Option<u64>> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let mut buffers = (vec![0u8; READ_BYTES], vec![0u8; READ_BYTES]);
    let mut same = 0;
    loop {
        let count = fill(&mut one, &mut buffers.0)?;
        if fill(&mut other, &mut buffers.1)? != count || buffers.0[..count] != buffers.1[..count] {
            return Ok(None);
        }
        if count == 0 {
            return Ok(Some(same));
        }
        same += count as u64;
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
