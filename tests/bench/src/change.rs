//! Takes a tree from state 0 to state 1 and back, as often as wanted, so that every product of every round sees the
//! same two states. It writes only what `gen.py` saved, and modification times are the same each time; only ctimes
//! move on.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::FallocateFlags;

use crate::set;

/// Products distrust a file that was changed a moment before it was read.
const SETTLE: Duration = Duration::from_secs(3);
/// What can be a hole.
const PAGE_BYTES: u64 = 4096;

/// The two states of one tree.
#[derive(Debug)]
pub struct Change {
    tree: PathBuf,
    save: PathBuf,
}

/// A state, by the name of the directory or file that holds what differs in it.
#[derive(Debug, Clone, Copy)]
enum State {
    Before,
    After,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl Change {
    /// For a tree and what `gen.py` saved of its change.
    pub fn new(tree: &Path, save: &Path) -> Self {
        Self {
            tree: tree.to_owned(),
            save: save.to_owned(),
        }
    }

    /// From state 0 to state 1; dropping the value goes back if [`Applied::revert`] was not called.
    pub fn apply(&self) -> Result<Applied<'_>> {
        fs::write(self.mark(), "")?;
        let applied = Applied { change: Some(self) };
        self.go(State::Before, State::After)?;
        Ok(applied)
    }

    /// From state 1 to state 0.
    pub fn revert(&self) -> Result<()> {
        self.go(State::After, State::Before)?;
        if self.mark().exists() {
            fs::remove_file(self.mark())?;
        }
        Ok(())
    }

    /// Goes back to state 0 when a benchmark ended in state 1.
    pub fn revert_what_was_interrupted(&self) -> Result<()> {
        if self.mark().exists() {
            self.revert()?;
        }
        Ok(())
    }

    fn mark(&self) -> PathBuf {
        self.save.join("applied")
    }

    fn go(&self, from: State, to: State) -> Result<()> {
        let ranges = self.save.join("ranges");
        if ranges.exists() {
            self.overwrite_ranges(&ranges, to)?;
        } else {
            self.exchange_files(from, to)?;
        }
        rustix::fs::sync();
        std::thread::sleep(SETTLE);
        Ok(())
    }

    fn exchange_files(&self, from: State, to: State) -> Result<()> {
        let (old, new) = (self.save.join(from.name()), self.save.join(to.name()));
        for path in files(&old)? {
            if !new.join(&path).exists() {
                remove_if_there(&self.tree.join(&path))?;
            }
        }
        for path in files(&new)? {
            write_like(&new.join(&path), &self.tree.join(&path))
                .with_context(|| format!("writing {}", self.tree.join(&path).display()))?;
        }
        Ok(())
    }

    fn overwrite_ranges(&self, ranges: &Path, to: State) -> Result<()> {
        let saved = self.save.join(format!("{}.bin", to.name()));
        let mut saved =
            File::open(&saved).with_context(|| format!("opening {}", saved.display()))?;
        let image = self.tree.join("disk.img");
        let mut image = OpenOptions::new()
            .write(true)
            .open(&image)
            .with_context(|| format!("opening {}", image.display()))?;
        let mut page = [0_u8; PAGE_BYTES as usize];
        for line in fs::read_to_string(ranges)?.lines() {
            let (offset, length) = parse_range(line).context("a line of `ranges` is no range")?;
            for at in (offset..offset + length).step_by(page.len()) {
                saved.read_exact(&mut page)?;
                if page.iter().all(|byte| *byte == 0) {
                    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    rustix::fs::fallocate(&image, punch, at, PAGE_BYTES)?;
                } else {
                    image.seek(SeekFrom::Start(at))?;
                    image.write_all(&page)?;
                }
            }
        }
        // A change in place moves the modification time on, by the same second each time.
        let seconds = match to {
            State::Before => 1_700_000_000,
            State::After => 1_700_003_600,
        };
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        image.set_times(FileTimes::new().set_modified(time))?;
        Ok(())
    }
}

/// A tree in state 1.
#[derive(Debug)]
pub struct Applied<'a> {
    change: Option<&'a Change>,
}

impl Applied<'_> {
    /// Back to state 0.
    pub fn revert(mut self) -> Result<()> {
        self.change.take().map_or(Ok(()), Change::revert)
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        if let Some(change) = self.change.take()
            && let Err(error) = change.revert()
        {
            eprintln!("bench: a set could not be taken back to its first state: {error:#}");
        }
    }
}

fn files(root: &Path) -> Result<Vec<PathBuf>> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut found = set::entries(root)?;
    found.retain(|entry| entry.metadata.is_file());
    Ok(found.into_iter().map(|entry| entry.path).collect())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes in place, so that an edited file stays the same inode.
fn write_like(copy: &Path, path: &Path) -> Result<()> {
    let metadata = fs::metadata(copy)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    io::copy(&mut File::open(copy)?, &mut file)?;
    chown(path, Some(metadata.uid()), Some(metadata.gid()))?;
    file.set_permissions(metadata.permissions())?;
    file.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
    Ok(())
}

fn parse_range(line: &str) -> Option<(u64, u64)> {
    let (offset, length) = line.split_once(' ')?;
    Some((offset.parse().ok()?, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test at once")]

    use std::fs;

    use super::Change;

    #[test]
    fn both_states_can_be_reached_again_and_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for parent in ["tree/d", "save/before/d", "save/after/d"] {
            fs::create_dir_all(path(parent)).unwrap();
        }
        for (name, text) in [
            ("tree/d/edited", "old"),
            ("tree/d/deleted", "gone"),
            ("tree/d/same", "same"),
            ("save/before/d/edited", "old"),
            ("save/before/d/deleted", "gone"),
            ("save/after/d/edited", "newer"),
            ("save/after/d/added", "added"),
        ] {
            fs::write(path(name), text).unwrap();
        }
        let change = Change::new(&path("tree"), &path("save"));
        let read = |name: &str| fs::read_to_string(path("tree/d").join(name)).ok();
        for _ in 0..2 {
            let applied = change.apply().unwrap();
            assert_eq!(read("edited").as_deref(), Some("newer"));
            assert_eq!(read("added").as_deref(), Some("added"));
            assert_eq!(read("deleted"), None);
            applied.revert().unwrap();
            assert_eq!(read("edited").as_deref(), Some("old"));
            assert_eq!(read("added"), None);
            assert_eq!(read("deleted").as_deref(), Some("gone"));
            assert_eq!(read("same").as_deref(), Some("same"));
        }
    }
}
