//! A copy of a directory, so that the demo can change it: files, directories, links, modes and times. Never
//! writes into the original; what it cannot read, or is neither, it leaves out and counts.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::demo::error::DemoError;

/// Copies `from` to `to`, which must not exist; gives how many entries were left out.
pub fn copy(from: &Path, to: &Path, stop: &CancellationToken) -> Result<u64, DemoError> {
    let mut left_out = 0;
    let mut names = HashMap::new();
    let mut directories = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        if stop.is_cancelled() {
            return Err(DemoError::Interrupted);
        }
        let (source, target) = (from.join(&relative), to.join(&relative));
        let metadata =
            fs::symlink_metadata(&source).map_err(DemoError::file("look at", &source))?;
        if metadata.is_dir() {
            fs::create_dir(&target).map_err(DemoError::file("create", &target))?;
            match children(&source, &relative) {
                Ok(more) => waiting.extend(more),
                Err(_) => left_out += 1,
            }
            directories.push((target, metadata));
        } else if copy_one(&source, &target, &metadata, &mut names).is_err() {
            left_out += 1;
        }
    }
    // Last and from below, because a directory's time changes with what is put into it.
    for (directory, metadata) in directories.iter().rev() {
        like(directory, metadata).map_err(DemoError::file("finish", directory))?;
    }
    Ok(left_out)
}

fn children(source: &Path, relative: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(source)?
        .map(|entry| Ok(relative.join(entry?.file_name())))
        .collect()
}

fn copy_one(
    source: &Path,
    target: &Path,
    metadata: &Metadata,
    names: &mut HashMap<(u64, u64), PathBuf>,
) -> io::Result<()> {
    if metadata.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    if !metadata.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let inode = (metadata.dev(), metadata.ino());
    if metadata.nlink() > 1
        && let Some(first) = names.get(&inode)
    {
        return fs::hard_link(first, target);
    }
    fs::copy(source, target)?;
    names.insert(inode, target.to_owned());
    like(target, metadata)
}

fn like(target: &Path, metadata: &Metadata) -> io::Result<()> {
    let times = FileTimes::new()
        .set_modified(metadata.modified()?)
        .set_accessed(metadata.accessed()?);
    File::open(target)?.set_times(times)?;
    fs::set_permissions(target, metadata.permissions())
}
