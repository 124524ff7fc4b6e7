//! The fidelity corpus: everything a Linux filesystem can hold and a restore must bring back. Made from a seed, so that
//! the same options give the same tree. It needs root, for devices, owners, trusted attributes and capabilities.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

pub mod bytes;
mod files;
mod links;
mod metadata;
mod names;

#[cfg(test)]
mod tests;

/// How large the corpus is. The shape is always whole.
#[derive(Debug, Clone)]
pub struct CorpusOptions {
    /// Everything that looks random is derived from this.
    pub seed: u64,
    /// Entries of the one wide directory.
    pub wide_entries: u32,
    /// Logical size of the sparse file.
    pub sparse_bytes: u64,
    /// Size of the big file.
    pub big_file_bytes: u64,
    /// Levels of a directory that is deep by number, not by bytes; more than 1,024 exceeds the usual limit of open files.
    pub deep_levels: u32,
    /// Ordinary small files, spread over directories.
    pub small_files: u32,
}

impl CorpusOptions {
    /// For tests of the fixtures themselves.
    pub fn tiny() -> Self {
        Self {
            seed: 1,
            wide_entries: 20,
            sparse_bytes: 64 << 20,
            big_file_bytes: 3 << 20,
            deep_levels: 30,
            small_files: 10,
        }
    }

    /// For tests that need every kind of entry, quickly.
    pub fn small() -> Self {
        Self {
            seed: 2,
            wide_entries: 2_000,
            sparse_bytes: 8 << 30,
            big_file_bytes: 40 << 20,
            deep_levels: 1_200,
            small_files: 500,
        }
    }

    /// What the issue asks for: 200,000 entries, 1 TiB, 5 GiB.
    pub fn full() -> Self {
        Self {
            seed: 3,
            wide_entries: 200_000,
            sparse_bytes: 1 << 40,
            big_file_bytes: 5 << 30,
            deep_levels: 1_200,
            small_files: 5_000,
        }
    }
}

/// A corpus on disk. It is not removed with this value; its directory's owner does that.
#[derive(Debug)]
pub struct Corpus {
    root: PathBuf,
    rsync_excludes: Vec<String>,
}

impl Corpus {
    /// Makes a corpus in a directory that does not exist yet.
    pub fn create(root: &Path, options: &CorpusOptions) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the corpus has devices, owners and trusted attributes: run the system tests as root"
        );
        crate::processes::raise_descriptor_limit();
        if !root.exists() {
            fs::create_dir(root).with_context(|| format!("creating {}", root.display()))?;
        }
        let top = open_directory(CWD, root)?;
        files::create(&directory(&top, c"files")?, options).context("regular files")?;
        links::create_links(&directory(&top, c"links")?).context("links")?;
        links::create_special(&directory(&top, c"special")?).context("special files")?;
        metadata::create(&directory(&top, c"metadata")?).context("metadata")?;
        metadata::create_times(&directory(&top, c"times")?).context("times")?;
        metadata::create_locked(&directory(&top, c"locked")?).context("locked directories")?;
        names::create(&directory(&top, c"names")?, options).context("names")?;
        names::create_wide(&directory(&top, c"wide")?, options.wide_entries)
            .context("the wide directory")?;
        rustix::fs::linkat(
            &top,
            "links/hard-a",
            &top,
            "files/hard-from-elsewhere",
            AtFlags::empty(),
        )?;
        settle_times(&top, options.seed)?;
        set_time(&top, c".", 1_700_000_000, 42)?;
        Ok(Self {
            root: root.to_owned(),
            rsync_excludes: vec!["/names/deep".into(), "/names/deep-many".into()],
        })
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What rsync cannot look at: paths past PATH_MAX, and more than about a thousand levels.
    pub fn rsync_excludes(&self) -> &[String] {
        &self.rsync_excludes
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn open_directory<P: rustix::path::Arg>(
    parent: impl std::os::fd::AsFd,
    name: P,
) -> Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
        .context("opening a directory of the corpus")
}

/// Makes a directory and opens it.
fn directory(parent: &OwnedFd, name: &std::ffi::CStr) -> Result<OwnedFd> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
        .with_context(|| format!("making {name:?}"))?;
    open_directory(parent, name)
}

/// Makes a regular file with these bytes.
fn file(parent: &OwnedFd, name: &std::ffi::CStr, content: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))
        .with_context(|| format!("making {name:?}"))?;
    let mut rest = content;
    while !rest.is_empty() {
        let length = rustix::io::write(&fd, rest)?;
        rest = &rest[length..];
    }
    Ok(fd)
}

/// Sets both times of an entry.
fn set_time(parent: &OwnedFd, name: &std::ffi::CStr, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("setting the time of {name:?}"))
}

/// Gives every entry a time of its own, derived from its name, and directories theirs once nothing in them changes any
/// more. What `times` holds keeps the times it was made with.
fn settle_times(directory: &OwnedFd, seed: u64) -> Result<()> {
    for (name, is_directory) in children(directory)? {
        let name_seed = name
            .as_bytes()
            .iter()
            .fold(seed, |sum, byte| bytes::mix(sum ^ u64::from(*byte)));
        if is_directory {
            let child = open_directory(directory, name.as_c_str())?;
            if name.as_c_str() != c"times" {
                settle_times(&child, name_seed)?;
            }
        }
        let seconds = i64::try_from(name_seed % 2_000_000_000)?;
        let nanoseconds = i64::try_from((name_seed >> 32) % 1_000_000_000)?;
        set_time(directory, &name, seconds, nanoseconds)?;
    }
    Ok(())
}

/// Names in byte order, and which of them are directories.
fn children(directory: &OwnedFd) -> Result<Vec<(CString, bool)>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            found.push((
                entry.file_name().to_owned(),
                entry.file_type() == rustix::fs::FileType::Directory,
            ));
        }
    }
    found.sort();
    Ok(found)
}
