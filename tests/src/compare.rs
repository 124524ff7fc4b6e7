//! Compares two trees, independently of Capstan and of rsync: every fact a restore must bring back, by descriptors and
//! never by path, so that depth past PATH_MAX and names of any bytes are compared too. It never writes to either tree.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, Stat};

use crate::escape::escape;
use crate::processes;

mod contents;
pub mod xattrs;

#[cfg(test)]
mod tests;

/// A restored sparse file may take this much more than its source: block sizes and extent metadata differ.
pub const ALLOCATED_BYTES_TOLERANCE: u64 = 256 * 1024;
/// Messages show this many differences.
const SHOWN_MAX: usize = 40;

/// One fact in which the trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Escaped path below the roots; empty for the roots themselves.
    pub path: String,
    /// Which fact.
    pub fact: Fact,
    /// Its value in the source.
    pub left: String,
    /// Its value in the copy.
    pub right: String,
}

/// The facts that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// Present in one tree only.
    Presence,
    /// Regular file, directory, …
    Type,
    /// Permission bits with setuid, setgid and sticky.
    Mode,
    /// Numeric owner.
    Uid,
    /// Numeric group.
    Gid,
    /// Logical size of a file, length of a symlink.
    Size,
    /// Modification time to the nanosecond.
    Mtime,
    /// Any extended attribute, ACLs and capabilities included.
    Xattr,
    /// Where a symlink points.
    LinkTarget,
    /// Major and minor number.
    Device,
    /// Which names are the same inode.
    HardLinks,
    /// Bytes of a regular file.
    Contents,
    /// Holes that were filled.
    Allocation,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} of /{}: {} | {}",
            self.fact, self.path, self.left, self.right
        )
    }
}

/// Every difference between a source and its copy, the roots themselves included.
pub fn differences(source: &Path, copy: &Path) -> Result<Vec<Difference>> {
    processes::raise_descriptor_limit();
    let mut comparison = Comparison {
        path: Vec::new(),
        found: Vec::new(),
        links: Links::default(),
    };
    let left = open_root(source)?;
    let right = open_root(copy)?;
    comparison.directory_facts(&left, &right)?;
    comparison.children(&left, &right)?;
    Ok(comparison.found)
}

/// Goes on only when the trees are equal; the error lists the first differences.
pub fn expect_equal(source: &Path, copy: &Path) -> Result<()> {
    let found = differences(source, copy)?;
    let shown: Vec<String> = found
        .iter()
        .take(SHOWN_MAX)
        .map(ToString::to_string)
        .collect();
    ensure!(
        found.is_empty(),
        "{} and {} differ in {} facts:\n{}",
        source.display(),
        copy.display(),
        found.len(),
        shown.join("\n")
    );
    Ok(())
}

/// What `rsync -aHAXSn --checksum --delete --itemize-changes SOURCE/ COPY/` prints; empty when it sees no difference.
pub fn rsync_differences(source: &Path, copy: &Path, excludes: &[String]) -> Result<String> {
    let mut command = Command::new("rsync");
    command.args(["-aHAXSn", "--checksum", "--delete", "--itemize-changes"]);
    command.args(
        excludes
            .iter()
            .map(|exclude| format!("--exclude={exclude}")),
    );
    for root in [source, copy] {
        let mut with_slash = root.as_os_str().to_owned();
        with_slash.push("/");
        command.arg(with_slash);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("running rsync")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        text.push_str(&format!("rsync ended with {}\n", output.status));
    }
    Ok(text)
}

/// Device and inode: the identity of a file in one tree.
type Identity = (u64, u64);

/// Which inode of one tree was met under the same name as which inode of the other.
#[derive(Debug, Default)]
struct Links {
    to_right: HashMap<Identity, Identity>,
    to_left: HashMap<Identity, Identity>,
}

#[derive(Debug)]
struct Comparison {
    path: Vec<u8>,
    found: Vec<Difference>,
    links: Links,
}

/// One name of a directory in both trees.
#[derive(Debug)]
struct Pair<'a> {
    name: &'a CStr,
    left: &'a OwnedFd,
    right: &'a OwnedFd,
    left_stat: Stat,
    right_stat: Stat,
}

impl Comparison {
    fn children(&mut self, left: &OwnedFd, right: &OwnedFd) -> Result<()> {
        let left_names = names(left).with_context(|| format!("listing /{}", escape(&self.path)))?;
        let mut right_names =
            names(right).with_context(|| format!("listing /{}", escape(&self.path)))?;
        for name in &left_names {
            let length = self.path.len();
            self.descend(name);
            if !right_names.remove(name) {
                self.note(Fact::Presence, "present", "missing");
            } else {
                self.entry(name, left, right)
                    .with_context(|| format!("comparing /{}", escape(&self.path)))?;
            }
            self.path.truncate(length);
        }
        for name in &right_names {
            let length = self.path.len();
            self.descend(name);
            self.note(Fact::Presence, "missing", "present");
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, name: &CStr, left: &OwnedFd, right: &OwnedFd) -> Result<()> {
        let stat =
            |directory: &OwnedFd| rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let pair = Pair {
            name,
            left,
            right,
            left_stat: stat(left)?,
            right_stat: stat(right)?,
        };
        let kind = kind_of(&pair.left_stat);
        if kind != kind_of(&pair.right_stat) {
            self.note(Fact::Type, kind, kind_of(&pair.right_stat));
            return Ok(());
        }
        if kind == FileType::Directory {
            let left_child = open_directory(left.as_fd(), name)?;
            let right_child = open_directory(right.as_fd(), name)?;
            self.directory_facts(&left_child, &right_child)?;
            return self.children(&left_child, &right_child);
        }
        self.shared_facts(&pair.left_stat, &pair.right_stat);
        self.hard_links(&pair);
        self.compare_xattrs(
            &xattrs::of_entry(left, name)?,
            &xattrs::of_entry(right, name)?,
        );
        match kind {
            FileType::RegularFile => self.file(&pair)?,
            FileType::Symlink => self.symlink(&pair)?,
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.check(
                    Fact::Device,
                    device(&pair.left_stat),
                    device(&pair.right_stat),
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn directory_facts(&mut self, left: &OwnedFd, right: &OwnedFd) -> Result<()> {
        self.shared_facts(&rustix::fs::fstat(left)?, &rustix::fs::fstat(right)?);
        self.compare_xattrs(&xattrs::of_directory(left)?, &xattrs::of_directory(right)?);
        Ok(())
    }

    fn shared_facts(&mut self, left: &Stat, right: &Stat) {
        self.check(Fact::Mode, octal(left.st_mode), octal(right.st_mode));
        self.check(Fact::Uid, left.st_uid, right.st_uid);
        self.check(Fact::Gid, left.st_gid, right.st_gid);
        self.check(Fact::Mtime, time(left), time(right));
    }

    fn hard_links(&mut self, pair: &Pair<'_>) {
        let left = (pair.left_stat.st_dev, pair.left_stat.st_ino);
        let right = (pair.right_stat.st_dev, pair.right_stat.st_ino);
        let expected_right = *self.links.to_right.entry(left).or_insert(right);
        let expected_left = *self.links.to_left.entry(right).or_insert(left);
        if expected_right != right || expected_left != left {
            self.note(
                Fact::HardLinks,
                format!("inode {}", left.1),
                format!("inode {}", right.1),
            );
        }
    }

    fn compare_xattrs(&mut self, left: &xattrs::Xattrs, right: &xattrs::Xattrs) {
        for (name, value) in left {
            let other = right.get(name);
            if other != Some(value) {
                let shown = other.map_or_else(|| "missing".to_owned(), |other| hex(other));
                self.note(
                    Fact::Xattr,
                    format!("{}={}", escape(name), hex(value)),
                    shown,
                );
            }
        }
        for name in right.keys().filter(|name| !left.contains_key(*name)) {
            self.note(Fact::Xattr, "missing", escape(name));
        }
    }

    fn file(&mut self, pair: &Pair<'_>) -> Result<()> {
        self.check(Fact::Size, pair.left_stat.st_size, pair.right_stat.st_size);
        if pair.left_stat.st_size != pair.right_stat.st_size {
            return Ok(());
        }
        let size = u64::try_from(pair.left_stat.st_size)?;
        let open =
            |directory: &OwnedFd| rustix::fs::openat(directory, pair.name, READ, Mode::empty());
        if let Some(offset) =
            contents::first_difference(&open(pair.left)?, &open(pair.right)?, size)?
        {
            self.note(Fact::Contents, format!("byte {offset}"), "differs");
        }
        let (left, right) = (allocated(&pair.left_stat)?, allocated(&pair.right_stat)?);
        if left < size && right > left + ALLOCATED_BYTES_TOLERANCE {
            self.note(Fact::Allocation, left, right);
        }
        Ok(())
    }

    fn symlink(&mut self, pair: &Pair<'_>) -> Result<()> {
        let left = rustix::fs::readlinkat(pair.left, pair.name, Vec::new())?;
        let right = rustix::fs::readlinkat(pair.right, pair.name, Vec::new())?;
        self.check(
            Fact::LinkTarget,
            escape(left.as_bytes()),
            escape(right.as_bytes()),
        );
        Ok(())
    }

    fn check<T: PartialEq + fmt::Display>(&mut self, fact: Fact, left: T, right: T) {
        if left != right {
            self.found.push(Difference {
                path: escape(&self.path),
                fact,
                left: left.to_string(),
                right: right.to_string(),
            });
        }
    }

    fn note(&mut self, fact: Fact, left: impl fmt::Debug, right: impl fmt::Debug) {
        self.found.push(Difference {
            path: escape(&self.path),
            fact,
            left: format!("{left:?}"),
            right: format!("{right:?}"),
        });
    }

    fn descend(&mut self, name: &CStr) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
    }
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOATIME);

fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, READ | OFlags::DIRECTORY, Mode::empty())
        .with_context(|| format!("opening {}", path.display()))
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, READ | OFlags::DIRECTORY, Mode::empty())
}

fn names(directory: &OwnedFd) -> rustix::io::Result<BTreeSet<CString>> {
    let mut found = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            found.insert(entry.file_name().to_owned());
        }
    }
    Ok(found)
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode as RawMode)
}

fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

fn time(stat: &Stat) -> String {
    format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec)
}

fn device(stat: &Stat) -> String {
    format!(
        "{}:{}",
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev)
    )
}

fn allocated(stat: &Stat) -> Result<u64> {
    Ok(u64::try_from(stat.st_blocks)? * 512)
}

fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 48;
    let digits: String = bytes
        .iter()
        .take(SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if bytes.len() > SHOWN {
        format!("{digits}… ({} bytes)", bytes.len())
    } else {
        digits
    }
}
